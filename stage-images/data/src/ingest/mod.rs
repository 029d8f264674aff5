//! `ingest`: brings data in. Finds the source, learns its types over all rows, writes one table as Parquet.

pub mod append;
mod columns;
mod csv;
mod database;
mod delta;
pub mod http;
mod infer;
mod jsonl;
mod kafka;
mod layout;
mod lines;
mod params;
mod parquet;
pub mod position;
mod records;
pub mod source;
mod text;
pub mod values;

use std::path::Path;
use std::sync::Arc;

use ::arrow::datatypes::Schema;
use serde_json::{Value, json};

use database::Address;
use kafka::Topic;
use params::Format;
pub use params::Params;
use position::Since;
use source::{Source, SourceError};

use crate::table::TableError;
use crate::workplace::{Workplace, WorkplaceError};
use crate::{say, types};

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error(transparent)]
    Address(#[from] database::AddressError),
    #[error(transparent)]
    Database(#[from] database::DatabaseError),
    #[error(transparent)]
    TopicAddress(#[from] kafka::AddressError),
    #[error(transparent)]
    Kafka(#[from] kafka::KafkaError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Csv(#[from] csv::CsvError),
    #[error(transparent)]
    Jsonl(#[from] jsonl::JsonlError),
    #[error(transparent)]
    Parquet(#[from] parquet::ParquetSourceError),
    #[error(transparent)]
    Delta(#[from] delta::DeltaError),
    #[error(transparent)]
    Append(#[from] append::AppendError),
    #[error(transparent)]
    Table(#[from] TableError),
}

/// What a source has brought: its rows are in a folder.
pub struct Read {
    pub rows: u64,
    pub schema: Arc<Schema>,
    /// What was read, for people.
    pub from: String,
    /// Where the next run goes on, as JSON of the source's own. None: nobody can say.
    pub position: Option<Value>,
    /// Results besides `rows` and `columns`.
    pub results: Vec<(&'static str, Value)>,
}

/// Runs the stage.
pub async fn run(params: &Params, place: &Workplace) -> Result<(), IngestError> {
    if let Some(target) = &params.table {
        return append::run(params, target, place).await;
    }
    let read = read(params, &Since::default(), place.output("data")?).await?;
    report(place, &read)
}

/// Brings what is new since a position into a folder.
async fn read(params: &Params, since: &Since, to: &Path) -> Result<Read, IngestError> {
    if let Some(topic) = Topic::parse(&params.source)? {
        return from_topic(&topic, params, since, to).await;
    }
    if params.format == Some(Format::Delta) {
        return Ok(delta::read(params, since, to).await?);
    }
    if params.delta.is_some() {
        return Err(delta::DeltaError::NoDelta.into());
    }
    match Address::parse(&params.source)? {
        Some(address) => from_database(&address, params, since, to).await,
        None => from_files(params, to).await,
    }
}

async fn from_files(params: &Params, to: &Path) -> Result<Read, IngestError> {
    let source = source::resolve(params).await?;
    if params.table.is_some() && source.files.len() > 1 {
        return Err(append::AppendError::SeveralFiles { count: source.files.len() }.into());
    }
    let format = source::format(params, &source.files)?;
    let (rows, schema) = write(&source, format, params, to)?;
    let from = say::names(source.files.iter().map(|file| &file.name));
    let mut results = vec![("source_digest", json!(source.digest))];
    if let Some(version) = &source.version {
        results.push(("source_version", json!(version)));
    }
    Ok(Read { rows, schema, from, position: Some(json!({ "digest": source.digest })), results })
}

async fn from_database(address: &Address, params: &Params, since: &Since, to: &Path) -> Result<Read, IngestError> {
    let read = database::ingest(address, params, since, to).await?;
    let position = read.position(params).map(|position| json!(position));
    let results = read.watermark.iter().map(|watermark| ("watermark", json!(watermark))).collect();
    Ok(Read { rows: read.rows, schema: read.schema, from: address.name(), position, results })
}

/// The offsets of a topic as a result: all facts of a stage together may have 1 KiB.
const OFFSETS_BYTES: usize = 700;

async fn from_topic(topic: &Topic, params: &Params, since: &Since, to: &Path) -> Result<Read, IngestError> {
    let kafka::Read { rows, schema, position } = kafka::ingest(topic, params, since, to).await?;
    let offsets = json!(position.offsets);
    let fits = offsets.to_string().len() <= OFFSETS_BYTES;
    if !fits {
        say::line(format!("the result offsets is left out, because it is too long for a status: {offsets}"));
    }
    let results = fits.then_some(("offsets", offsets)).into_iter().collect();
    Ok(Read { rows, schema, from: topic.name(), position: Some(json!(position)), results })
}

/// Reads and writes on this thread: nothing else runs in this process meanwhile.
fn write(source: &Source, format: Format, params: &Params, to: &Path) -> Result<(u64, Arc<Schema>), IngestError> {
    let files = &source.files;
    Ok(match format {
        Format::Csv | Format::Auto | Format::Delta => csv::ingest(files, params, to)?,
        Format::Jsonl => jsonl::ingest(files, params, to)?,
        Format::Parquet => parquet::ingest(files, params, to)?,
    })
}

fn report(place: &Workplace, read: &Read) -> Result<(), IngestError> {
    let Read { rows, schema, from, results, .. } = read;
    place.write_result("rows", &json!(rows))?;
    place.write_result("columns", &json!(schema.fields().len()))?;
    for (name, value) in results {
        place.write_result(name, value)?;
    }
    say::line(format!("{rows} rows, {} columns from {from}", schema.fields().len()));
    for field in schema.fields() {
        say::line(format!("  {}: {}", field.name(), types::word(field.data_type())));
    }
    Ok(())
}
