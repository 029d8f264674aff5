//! Which part each row goes to. A row's place in the query's result and the seed decide, nothing else: not threads, not
//! files, not time.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{ident, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::StreamExt;
use twox_hash::XxHash3_128;

use super::fractions::{counts, stratified_counts};
use super::params::Split;
use crate::dataset::{self, DatasetError};
use crate::say;
use crate::sink::{FolderSink, SinkError};

#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error("parameter split.{parameter}: the result has no column `{column}`; its columns are: {known}")]
    NoColumn { parameter: &'static str, column: String, known: String },
    #[error("parameter split.time: the column `{column}` is null in {rows} rows; filter them out in sql, or fill them")]
    NoTime { column: String, rows: u64 },
    #[error(
        "parameter split: {part} would have none of the {rows} rows; take more rows, another fraction, or set allowEmpty"
    )]
    EmptyPart { part: &'static str, rows: u64 },
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("failed to order the rows for the split")]
    Order(#[source] Box<DataFusionError>),
}

impl From<DataFusionError> for SplitError {
    fn from(source: DataFusionError) -> Self {
        Self::Order(Box::new(source))
    }
}

/// One small row for each row of the result: its number, its draw, and the column that the split looks at.
pub struct Keys {
    sink: FolderSink,
    schema: Arc<Schema>,
    by: Option<usize>,
    seed: u64,
    rows: u64,
    nulls: u64,
}

impl Keys {
    pub fn create(folder: &Path, split: &Split, result: &Schema) -> Result<Self, SplitError> {
        let named = split.stratify.as_ref().map(|column| ("stratify", column));
        let by = match named.or(split.time.as_ref().map(|column| ("time", column))) {
            None => None,
            Some((parameter, column)) => Some(result.index_of(column).map_err(|_| SplitError::NoColumn {
                parameter,
                column: say::excerpt(column, 60),
                known: say::names(result.fields().iter().map(|field| field.name())),
            })?),
        };
        let mut fields = vec![Field::new("number", DataType::UInt64, true), Field::new("draw", DataType::UInt64, true)];
        if let Some(by) = by {
            fields.push(Field::new("by", result.field(by).data_type().clone(), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let sink = FolderSink::create(folder, &schema)?;
        Ok(Self { sink, schema, by, seed: split.seed.unwrap_or(0), rows: 0, nulls: 0 })
    }

    /// Takes the next rows of the result.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<(), SplitError> {
        let numbers = self.rows..self.rows + batch.num_rows() as u64;
        self.rows = numbers.end;
        #[allow(clippy::cast_possible_truncation, reason = "half of the hash is enough to shuffle; ties go by number")]
        let draw = |number: u64| XxHash3_128::oneshot_with_seed(self.seed, &number.to_le_bytes()) as u64;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(numbers.clone())),
            Arc::new(UInt64Array::from_iter_values(numbers.map(draw))),
        ];
        if let Some(by) = self.by {
            self.nulls += batch.column(by).logical_null_count() as u64;
            columns.push(batch.column(by).clone());
        }
        let keys = RecordBatch::try_new(self.schema.clone(), columns).map_err(SinkError::Cast)?;
        Ok(self.sink.write(&keys)?)
    }

    /// The part of every row, by its number: 0 train, 1 validation, 2 test. Takes one byte a row.
    pub async fn assign(
        self,
        context: &SessionContext,
        folder: &Path,
        split: &Split,
        fractions: [f64; 3],
    ) -> Result<Vec<u8>, SplitError> {
        let Self { sink, rows, nulls, .. } = self;
        sink.finish()?;
        if let (Some(column), true) = (&split.time, nulls > 0) {
            return Err(SplitError::NoTime { column: column.clone(), rows: nulls });
        }
        let keys = dataset::open(context, folder).await?;
        let (by, draw, number) = (ident("by").sort(true, true), ident("draw"), ident("number"));
        let (order, runs) = if split.stratify.is_some() {
            let strata = strata(&keys).await?;
            let runs = stratified_counts(&strata, fractions);
            (vec![by, draw.sort(true, true), number.sort(true, true)], runs)
        } else if split.time.is_some() {
            (vec![by, number.sort(true, true)], vec![counts(rows, fractions)])
        } else {
            (vec![draw.sort(true, true), number.sort(true, true)], vec![counts(rows, fractions)])
        };
        let mut parts = runs.iter().flatten().zip([0_u8, 1, 2].into_iter().cycle());
        let mut assigned = vec![0_u8; usize::try_from(rows).unwrap_or(usize::MAX)];
        let (mut part, mut left) = (0, 0);
        let mut stream = keys.sort(order)?.select(vec![ident("number")])?.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            for number in batch?.column(0).as_primitive::<UInt64Type>().values() {
                while left == 0 {
                    let Some((run, next)) = parts.next() else { break };
                    (part, left) = (next, *run);
                }
                left = left.saturating_sub(1);
                if let Some(row) = usize::try_from(*number).ok().and_then(|row| assigned.get_mut(row)) {
                    *row = part;
                }
            }
        }
        Ok(assigned)
    }
}

/// Rows of each value of the column, in the values' order. A missing value is a stratum of its own.
async fn strata(keys: &DataFrame) -> Result<Vec<u64>, DataFusionError> {
    let counted = keys
        .clone()
        .aggregate(vec![ident("by")], vec![count(lit(1)).alias("rows")])?
        .sort(vec![ident("by").sort(true, true)])?
        .select(vec![ident("rows")])?
        .collect()
        .await?;
    let counts = counted.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().iter());
    Ok(counts.map(|rows| rows.unsigned_abs()).collect())
}
