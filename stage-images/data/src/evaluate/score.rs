//! Runs a model over all rows and keeps what the metrics need: the truth, what was predicted, and to which slice each
//! row belongs.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;

use super::labels::ClassCollector;
use crate::dataset::{self, DatasetError};
use crate::model::features::{FeatureError, tensors};
use crate::model::signature::Kind;
use crate::model::{Answer, Model, ModelError};
use crate::say;
use crate::types::{ColumnType, word};

#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("failed to read the data")]
    Read(#[source] ArrowError),
    #[error(transparent)]
    Feature(#[from] FeatureError),
    #[error("{who}")]
    Model {
        who: &'static str,
        #[source]
        source: ModelError,
    },
    #[error("parameter {parameter}: the data has no column `{column}`; its columns are: {known}")]
    NoColumn { parameter: &'static str, column: String, known: String },
    #[error("the data has no rows")]
    NoRows,
    #[error("the target {column} has no value in row {row}; leave such rows out in the stage that prepares the data")]
    NoTruth { column: String, row: u64 },
    #[error("the target {column} is of type {found}, expected {expected}")]
    TargetType { column: String, found: String, expected: &'static str },
    #[error("the target {column} has labels that the {who} does not know: {labels}; its classes are: {classes}")]
    UnknownLabels { who: &'static str, column: String, labels: String, classes: String },
    #[error("the {who} predicted the label `{label}` in row {row}, which is none of its classes: {classes}")]
    StrangeLabel { who: &'static str, label: String, row: u64, classes: String },
    #[error("the {who} gave {found} in row {row}, expected {expected}")]
    NotFinite { who: &'static str, row: u64, found: f64, expected: &'static str },
}

/// A classifier's answers. Labels beyond the model's own classes (a champion may be older than the data's newest class)
/// come after them and have the probability 0.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    pub labels: Vec<String>,
    /// How many of the labels are the model's own.
    pub known: usize,
    pub truth: Vec<u32>,
    pub predicted: Vec<u32>,
    /// `known` for each row.
    pub probabilities: Option<Vec<f32>>,
}

#[derive(Clone, Debug, Default)]
pub struct Values {
    pub truth: Vec<f64>,
    pub predicted: Vec<f64>,
}

#[derive(Clone, Debug)]
pub enum Scored {
    Classes(Classes),
    Values(Values),
}

/// The values of a column, as text, and which one each row has.
#[derive(Clone, Debug)]
pub struct SliceColumn {
    pub name: String,
    pub values: Vec<String>,
    pub of_row: Vec<u32>,
}

/// Who is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Candidate,
    Champion,
}

impl Who {
    pub fn word(self) -> &'static str {
        match self {
            Self::Candidate => "model",
            Self::Champion => "champion",
        }
    }
}

/// Scores all rows of the table at `path`.
pub fn score(
    who: Who,
    model: &mut Model,
    path: &Path,
    target: &str,
    slices: &[String],
    batch_rows: usize,
) -> Result<(Scored, Vec<SliceColumn>), ScoreError> {
    let mut cutters: Vec<Slicer> = slices.iter().map(|name| Slicer::new(name)).collect();
    let mut scored = match &model.kind {
        Kind::Classifier { classes, probabilities, .. } => {
            Collector::Classes(ClassCollector::new(classes, *probabilities))
        }
        Kind::Regressor => Collector::Values(Values::default()),
    };
    let mut at = 0;
    for batch in dataset::batches(path, batch_rows)? {
        let batch = batch.map_err(ScoreError::Read)?;
        let rows = batch.num_rows();
        if rows == 0 {
            continue;
        }
        let truth = find(&batch, "target", target)?;
        if let Some(row) = (0..rows).find(|row| truth.is_null(*row)) {
            return Err(ScoreError::NoTruth { column: target.into(), row: at + row as u64 });
        }
        for slicer in &mut cutters {
            let column = find(&batch, "slices", &slicer.column.name)?.clone();
            slicer.take(&column)?;
        }
        let inputs = tensors(who.word(), at, &batch, &model.signature.inputs)?;
        let answer = model.score(at, rows, inputs).map_err(|source| ScoreError::Model { who: who.word(), source })?;
        match (&mut scored, answer) {
            (Collector::Classes(classes), Answer::Classes { labels, probabilities }) => {
                classes.take(who, at, target, truth, labels, probabilities)?;
            }
            (Collector::Values(values), Answer::Values(predicted)) => {
                take_values(who, at, target, truth, &predicted, values)?;
            }
            // A model's answers are of its own kind.
            (Collector::Classes(_), Answer::Values(_)) | (Collector::Values(_), Answer::Classes { .. }) => {}
        }
        at += rows as u64;
    }
    if at == 0 {
        return Err(ScoreError::NoRows);
    }
    let scored = match scored {
        Collector::Classes(classes) => Scored::Classes(classes.finish(who, target)?),
        Collector::Values(values) => Scored::Values(values),
    };
    Ok((scored, cutters.into_iter().map(|slicer| slicer.column).collect()))
}

enum Collector {
    Classes(ClassCollector),
    Values(Values),
}

fn take_values(
    who: Who,
    at: u64,
    target: &str,
    truth: &ArrayRef,
    predicted: &[f32],
    into: &mut Values,
) -> Result<(), ScoreError> {
    let wrong = || ScoreError::TargetType { column: target.into(), found: word(truth.data_type()), expected: "number" };
    if !matches!(ColumnType::of(truth.data_type()), Some(ColumnType::Integer | ColumnType::Number)) {
        return Err(wrong());
    }
    let truth = cast(truth, &DataType::Float64).map_err(|_| wrong())?;
    for (row, truth) in (at..).zip(truth.as_primitive::<Float64Type>().values()) {
        if !truth.is_finite() {
            return Err(ScoreError::NoTruth { column: target.into(), row });
        }
        into.truth.push(*truth);
    }
    for (row, predicted) in (at..).zip(predicted) {
        let predicted = f64::from(*predicted);
        if !predicted.is_finite() {
            let expected = "a finite number";
            return Err(ScoreError::NotFinite { who: who.word(), row, found: predicted, expected });
        }
        into.predicted.push(predicted);
    }
    Ok(())
}

struct Slicer {
    column: SliceColumn,
    index: HashMap<String, u32>,
}

impl Slicer {
    fn new(name: &str) -> Self {
        let column = SliceColumn { name: name.into(), values: Vec::new(), of_row: Vec::new() };
        Self { column, index: HashMap::new() }
    }

    fn take(&mut self, column: &ArrayRef) -> Result<(), ScoreError> {
        let texts = cast(column, &DataType::Utf8).map_err(ScoreError::Read)?;
        for text in texts.as_string::<i32>() {
            let text = text.unwrap_or("(missing)");
            let index = if let Some(index) = self.index.get(text) {
                *index
            } else {
                let index = u32::try_from(self.column.values.len()).unwrap_or(u32::MAX);
                self.column.values.push(text.to_owned());
                self.index.insert(text.to_owned(), index);
                index
            };
            self.column.of_row.push(index);
        }
        Ok(())
    }
}

fn find<'a>(batch: &'a RecordBatch, parameter: &'static str, column: &str) -> Result<&'a ArrayRef, ScoreError> {
    batch.column_by_name(column).ok_or_else(|| ScoreError::NoColumn {
        parameter,
        column: say::excerpt(column, 60),
        known: say::names(batch.schema().fields().iter().map(|field| field.name())),
    })
}
