//! `transform`: one query over the inputs, and a split of its result into train, validation and test.
//!
//! The query runs on one partition: its rows then come in the same order every time, which makes the split and the
//! outputs' digests the same. What does not fit in memory spills.

mod fractions;
mod params;
mod split;

use std::path::Path;

use arrow::array::{RecordBatch, UInt8Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::StreamExt;
use serde_json::json;

use fractions::{FractionError, PARTS, fractions};
pub use params::Params;
use params::Split;
use split::{Keys, SplitError};

use crate::dataset::{self, DatasetError};
use crate::engine::{self, EngineError};
use crate::say;
use crate::sink::{FolderSink, SinkError};
use crate::workplace::{Workplace, WorkplaceError};

#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error("the stage has no inputs; give it at least one table in `inputs`")]
    NoInputs,
    #[error("parameter sql: it is needed because there are {count} inputs ({names}); write a query over them")]
    NoSql { count: usize, names: String },
    #[error("parameter sql: the query cannot be planned; the tables are: {tables}")]
    Plan {
        tables: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("parameter sql: the result has two columns `{column}`; name one of them with AS")]
    SameColumn { column: String },
    #[error(
        "parameter sql: the query needs more memory than the stage has; raise resources.limits.memory, or join and group less at once"
    )]
    Memory(#[source] Box<DataFusionError>),
    #[error("parameter sql: the query failed")]
    Run(#[source] Box<DataFusionError>),
    #[error("parameter sql: the result has no rows; correct the query, or set allowEmpty: true if that is right")]
    Empty,
    #[error("failed to make a table of the input `{name}`")]
    Table {
        name: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("failed to make a temporary folder")]
    Temporary(#[source] std::io::Error),
    #[error("failed to read back the result")]
    ReadBack(#[source] ArrowError),
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Fraction(#[from] FractionError),
    #[error(transparent)]
    Split(#[from] SplitError),
}

/// Runs the stage.
pub async fn run(params: &Params, place: &Workplace) -> Result<(), TransformError> {
    let fractions = params.split.as_ref().map(fractions).transpose()?;
    let context = engine::start_ordered()?;
    let result = query(&context, params, place).await?;
    let allow_empty = params.allow_empty.unwrap_or(false);
    match (&params.split, fractions) {
        (Some(split), Some(fractions)) => parts(&context, result, split, fractions, allow_empty, place).await,
        _ => whole(result, allow_empty, place).await,
    }
}

async fn query(context: &SessionContext, params: &Params, place: &Workplace) -> Result<DataFrame, TransformError> {
    let mut tables = Vec::new();
    for (name, path) in place.inputs() {
        let table = dataset::open(context, path).await?;
        let columns = say::names(table.schema().fields().iter().map(|field| field.name()));
        tables.push(format!("{name} ({columns})"));
        context
            .register_table(name.as_str(), table.into_view())
            .map_err(|source| TransformError::Table { name: name.clone(), source: Box::new(source) })?;
    }
    let names: Vec<&String> = place.inputs().keys().collect();
    let sql = match (&params.sql, names.as_slice()) {
        (_, []) => return Err(TransformError::NoInputs),
        (Some(sql), _) => sql.clone(),
        (None, [only]) => format!("SELECT * FROM \"{only}\""),
        (None, several) => {
            return Err(TransformError::NoSql { count: several.len(), names: say::names(several) });
        }
    };
    let planned = engine::query(context, &sql)
        .await
        .map_err(|source| TransformError::Plan { tables: tables.join(", "), source: Box::new(source) })?;
    let columns: Vec<&String> = planned.schema().fields().iter().map(|field| field.name()).collect();
    if let Some((_, column)) = columns.iter().enumerate().find(|(index, column)| columns[..*index].contains(column)) {
        return Err(TransformError::SameColumn { column: (*column).clone() });
    }
    Ok(planned)
}

async fn whole(result: DataFrame, allow_empty: bool, place: &Workplace) -> Result<(), TransformError> {
    let to = place.output("data")?;
    let schema = result.schema().as_arrow().clone();
    let mut sink = FolderSink::create(to, &schema)?;
    each_batch(result, |batch| Ok(sink.write(batch)?)).await?;
    let rows = sink.finish()?;
    if rows == 0 && !allow_empty {
        return Err(TransformError::Empty);
    }
    place.write_result("rows", &json!(rows))?;
    say::line(format!("{rows} rows, {} columns", schema.fields().len()));
    Ok(())
}

async fn parts(
    context: &SessionContext,
    result: DataFrame,
    split: &Split,
    fractions: [f64; 3],
    allow_empty: bool,
    place: &Workplace,
) -> Result<(), TransformError> {
    // First of all: a missing output should not be told after an hour.
    let mut outputs = Vec::new();
    for (part, fraction) in PARTS.into_iter().zip(fractions) {
        outputs.push(if fraction > 0.0 { Some((part, place.output(part)?)) } else { None });
    }
    let temporary = tempfile::tempdir().map_err(TransformError::Temporary)?;
    let (rows_folder, keys_folder) = (temporary.path().join("rows"), temporary.path().join("keys"));
    let schema = result.schema().as_arrow().clone();
    let mut rows_sink = FolderSink::create(&rows_folder, &schema)?;
    let mut keys = Keys::create(&keys_folder, split, &schema)?;
    each_batch(result, |batch| {
        rows_sink.write(batch)?;
        Ok(keys.take(batch)?)
    })
    .await?;
    let rows = rows_sink.finish()?;
    if rows == 0 && !allow_empty {
        return Err(TransformError::Empty);
    }
    let assigned = keys.assign(context, &keys_folder, split, fractions).await?;
    for (index, output) in (0_u8..).zip(&outputs) {
        let Some((part, _)) = output else { continue };
        if !allow_empty && !assigned.contains(&index) {
            return Err(SplitError::EmptyPart { part, rows }.into());
        }
    }
    let counts = route(&rows_folder, &schema, &assigned, &outputs)?;
    place.write_result("rows", &json!(rows))?;
    for (part, count) in counts {
        place.write_result(&format!("{part}_rows"), &json!(count))?;
        say::line(format!("{part}: {count} of {rows} rows"));
    }
    Ok(())
}

type Output<'a> = Option<(&'static str, &'a Path)>;

/// Writes each row to its part, in the query's order.
fn route(
    from: &Path,
    schema: &Schema,
    assigned: &[u8],
    outputs: &[Output],
) -> Result<Vec<(&'static str, u64)>, TransformError> {
    let mut sinks = Vec::new();
    for (index, output) in (0_u8..).zip(outputs) {
        if let Some((part, path)) = output {
            sinks.push((index, *part, FolderSink::create(path, schema)?));
        }
    }
    let mut at = 0;
    for batch in dataset::batches(from, 8192)? {
        let batch = batch.map_err(TransformError::ReadBack)?;
        let here = UInt8Array::from(assigned[at..at + batch.num_rows()].to_vec());
        at += batch.num_rows();
        for (index, _, sink) in &mut sinks {
            let mask = here.iter().map(|part| Some(part == Some(*index))).collect();
            sink.write(&filter_record_batch(&batch, &mask).map_err(TransformError::ReadBack)?)?;
        }
    }
    sinks.into_iter().map(|(_, part, sink)| Ok((part, sink.finish()?))).collect()
}

async fn each_batch(
    frame: DataFrame,
    mut take: impl FnMut(&RecordBatch) -> Result<(), TransformError>,
) -> Result<(), TransformError> {
    let failed = |source: DataFusionError| match source.find_root() {
        DataFusionError::ResourcesExhausted(_) => TransformError::Memory(Box::new(source)),
        _ => TransformError::Run(Box::new(source)),
    };
    let mut stream = frame.execute_stream().await.map_err(failed)?;
    while let Some(batch) = stream.next().await {
        take(&batch.map_err(failed)?)?;
    }
    Ok(())
}
