//! `ingest`: brings data in. Finds the source, learns its types over all rows, writes one table as Parquet.

mod columns;
mod csv;
mod database;
pub mod http;
mod infer;
mod jsonl;
mod layout;
mod lines;
mod params;
mod parquet;
mod records;
pub mod s3;
mod source;
mod text;
pub mod values;

use std::path::Path;
use std::sync::Arc;

use ::arrow::datatypes::Schema;
use serde_json::json;

use database::Address;
use params::Format;
pub use params::{Params, S3Params};
use source::{Source, SourceError};

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
    Source(#[from] SourceError),
    #[error(transparent)]
    Csv(#[from] csv::CsvError),
    #[error(transparent)]
    Jsonl(#[from] jsonl::JsonlError),
    #[error(transparent)]
    Parquet(#[from] parquet::ParquetSourceError),
}

/// Runs the stage.
pub async fn run(params: &Params, place: &Workplace) -> Result<(), IngestError> {
    match Address::parse(&params.source)? {
        Some(address) => from_database(&address, params, place).await,
        None => from_files(params, place).await,
    }
}

async fn from_files(params: &Params, place: &Workplace) -> Result<(), IngestError> {
    let to = place.output("data")?.to_path_buf();
    let source = source::resolve(params).await?;
    let format = source::format(params, &source.files)?;
    let (rows, schema) = write(&source, format, params, &to)?;
    place.write_result("source_digest", &json!(source.digest))?;
    if let Some(version) = &source.version {
        place.write_result("source_version", &json!(version))?;
    }
    report(place, &say::names(source.files.iter().map(|file| &file.name)), rows, &schema)
}

async fn from_database(address: &Address, params: &Params, place: &Workplace) -> Result<(), IngestError> {
    let read = database::ingest(address, params, place.output("data")?).await?;
    if let Some(watermark) = &read.watermark {
        place.write_result("watermark", &json!(watermark))?;
    }
    report(place, &address.name(), read.rows, &read.schema)
}

/// Reads and writes on this thread: nothing else runs in this process meanwhile.
fn write(source: &Source, format: Format, params: &Params, to: &Path) -> Result<(u64, Arc<Schema>), IngestError> {
    let files = &source.files;
    Ok(match format {
        Format::Csv | Format::Auto => csv::ingest(files, params, to)?,
        Format::Jsonl => jsonl::ingest(files, params, to)?,
        Format::Parquet => parquet::ingest(files, params, to)?,
    })
}

fn report(place: &Workplace, from: &str, rows: u64, schema: &Schema) -> Result<(), IngestError> {
    place.write_result("rows", &json!(rows))?;
    place.write_result("columns", &json!(schema.fields().len()))?;
    say::line(format!("{rows} rows, {} columns from {from}", schema.fields().len()));
    for field in schema.fields() {
        say::line(format!("  {}: {}", field.name(), types::word(field.data_type())));
    }
    Ok(())
}
