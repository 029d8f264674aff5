//! Applies a graph of features to a table: batch by batch through ONNX Runtime, the very operations that a served model runs.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use ort::session::Session;

use super::graph::{NUMBERS, text_output};
use super::op::{Column, Kind};
use crate::dataset::{self, DatasetError};
use crate::model::features::{FeatureError, tensors};
use crate::model::signature::Tensor;
use crate::model::{ModelError, floats, session, texts};
use crate::sink::{FolderSink, SinkError};
use crate::{engine, say};

/// Rows that go through the graph at once, and the values of a matrix that they may make.
const BATCH_ROWS: usize = 8192;
const BATCH_VALUES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the graph of the features cannot be run")]
    Graph(#[source] ModelError),
    #[error("failed to read the data")]
    Read(#[source] ArrowError),
    #[error("failed to put the features together")]
    Assemble(#[source] ArrowError),
    #[error(transparent)]
    Feature(#[from] FeatureError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// A graph that can be run.
pub struct Applier {
    session: Session,
    inputs: Vec<Tensor>,
    outputs: Vec<Column>,
    numbers: usize,
}

impl Applier {
    pub fn open(graph: &Path, inputs: &[Column], outputs: &[Column]) -> Result<Self, ApplyError> {
        let session = session(graph, engine::threads()).map_err(ApplyError::Graph)?;
        let datatype = |kind: Kind| match kind {
            Kind::Number => "FP32",
            Kind::Text => "BYTES",
        };
        let inputs = inputs.iter().map(|input| Tensor {
            name: input.name.clone(),
            datatype: datatype(input.kind).into(),
            shape: vec![-1, 1],
            classes: None,
        });
        let numbers = outputs.iter().filter(|output| output.kind == Kind::Number).count();
        Ok(Self { session, inputs: inputs.collect(), outputs: outputs.to_vec(), numbers })
    }

    /// Writes a table with the columns that are passed on, those that are there, and the features after them. The rows keep
    /// their order.
    pub fn transform(&mut self, from: &Path, passed: &[String], to: &Path) -> Result<u64, ApplyError> {
        let batch_rows = BATCH_ROWS.min(BATCH_VALUES / (self.outputs.len() + self.inputs.len()).max(1)).max(1);
        let mut sink = None;
        let mut at = 0;
        for batch in dataset::batches(from, batch_rows)? {
            let batch = batch.map_err(ApplyError::Read)?;
            let schema = self.schema(&batch, passed);
            let sink = match &mut sink {
                Some(sink) => sink,
                none => none.insert(FolderSink::create(to, &schema)?),
            };
            sink.write(&self.batch(at, &batch, passed, &schema)?)?;
            at += batch.num_rows() as u64;
        }
        match sink {
            Some(sink) => Ok(sink.finish()?),
            // A table without rows gives one.
            None => {
                let empty = RecordBatch::new_empty(Arc::new(dataset::schema(from)?));
                Ok(FolderSink::create(to, &self.schema(&empty, passed))?.finish()?)
            }
        }
    }

    fn schema(&self, batch: &RecordBatch, passed: &[String]) -> Schema {
        let schema = batch.schema();
        let own = passed.iter().filter_map(|name| schema.field_with_name(name).ok().cloned());
        let made = self.outputs.iter().map(|output| {
            let datatype = match output.kind {
                Kind::Number => DataType::Float32,
                Kind::Text => DataType::Utf8,
            };
            Field::new(&output.name, datatype, true)
        });
        Schema::new(own.chain(made).collect::<Vec<_>>())
    }

    fn batch(
        &mut self,
        from: u64,
        batch: &RecordBatch,
        passed: &[String],
        schema: &Schema,
    ) -> Result<RecordBatch, ApplyError> {
        let rows = batch.num_rows();
        let inputs = tensors("fitted graph", from, batch, &self.inputs)?;
        let refused = |error: ort::Error| {
            ApplyError::Graph(ModelError::Run { from, to: from + rows as u64, reason: say::one_line(&error) })
        };
        let made = self.session.run(inputs).map_err(refused)?;
        let numbers = if self.numbers == 0 {
            Vec::new()
        } else {
            floats(NUMBERS, &made[NUMBERS], rows * self.numbers).map_err(ApplyError::Graph)?
        };
        let mut columns: Vec<ArrayRef> = passed.iter().filter_map(|name| batch.column_by_name(name).cloned()).collect();
        let mut number = 0;
        for output in &self.outputs {
            columns.push(match output.kind {
                Kind::Number => {
                    let values = numbers.iter().skip(number).step_by(self.numbers).copied();
                    number += 1;
                    // Missing is what it was before: no value.
                    Arc::new(values.map(|value| (!value.is_nan()).then_some(value)).collect::<Float32Array>())
                }
                Kind::Text => {
                    let name = text_output(&output.name);
                    let values = texts("features", &made[name.as_str()], rows).map_err(ApplyError::Graph)?;
                    Arc::new(values.into_iter().map(|text| (!text.is_empty()).then_some(text)).collect::<StringArray>())
                }
            });
        }
        RecordBatch::try_new(Arc::new(schema.clone()), columns).map_err(ApplyError::Assemble)
    }
}
