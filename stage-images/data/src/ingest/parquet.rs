//! Parquet into a table: the columns wanted, batch by batch, in the types declared.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::layout::{LayoutError, check_names, choose};
use super::params::Params;
use super::source::SourceFile;
use crate::dataset::{DatasetError, check_magic};
use crate::sink::{FolderSink, SinkError};
use crate::{say, types};

#[derive(Debug, thiserror::Error)]
pub enum ParquetSourceError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{name} is not what it should be")]
    NotParquet {
        name: String,
        #[source]
        source: DatasetError,
    },
    #[error("failed to open {name}")]
    Open {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read {name}: the file is damaged, or uses what this reader does not know")]
    Read {
        name: String,
        #[source]
        source: ParquetError,
    },
    #[error("failed to read {name}")]
    Batch {
        name: String,
        #[source]
        source: ArrowError,
    },
    #[error(
        "{name}, column {column}: a value of type {found} cannot become {expected}; declare another type in schema"
    )]
    Cast {
        name: String,
        column: String,
        found: String,
        expected: String,
        #[source]
        source: ArrowError,
    },
    #[error(
        "{name}: its columns are [{found}], but in {first_name} they are [{expected}]; all files of a source have the same columns"
    )]
    OtherColumns { name: String, first_name: String, found: String, expected: String },
    #[error("{name} has columns but no rows")]
    NoRows { name: String },
}

/// Writes all files as one table. The columns and their types.
pub fn ingest(files: &[SourceFile], params: &Params, to: &Path) -> Result<(u64, Arc<Schema>), ParquetSourceError> {
    let mut sink: Option<FolderSink> = None;
    let mut first: Option<(Vec<String>, Arc<Schema>)> = None;
    for file in files {
        let builder = open(file)?;
        let header: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        check_names(&file.name, &header)?;
        let chosen = choose(&file.name, params, &header)?;
        let schema = match &first {
            None => {
                let schema = Arc::new(target(builder.schema(), &header, &chosen, params));
                first = Some((header, schema.clone()));
                schema
            }
            Some((expected, schema)) if *expected == header => schema.clone(),
            Some((expected, _)) => {
                return Err(ParquetSourceError::OtherColumns {
                    name: file.name.clone(),
                    first_name: files[0].name.clone(),
                    found: say::names(&header),
                    expected: say::names(expected),
                });
            }
        };
        let sink = match &mut sink {
            Some(sink) => sink,
            None => sink.insert(FolderSink::create(to, &schema)?),
        };
        let mask = ProjectionMask::roots(builder.parquet_schema(), chosen.iter().copied());
        let reader = builder.with_projection(mask).build().map_err(|source| failed(file, source))?;
        for batch in reader {
            let batch = batch.map_err(|source| ParquetSourceError::Batch { name: file.name.clone(), source })?;
            sink.write(&conform(file, &batch, &schema)?)?;
        }
    }
    let rows = sink.map_or(Ok(0), FolderSink::finish)?;
    match first {
        Some((_, schema)) if rows > 0 => Ok((rows, schema)),
        _ => Err(ParquetSourceError::NoRows { name: files[0].name.clone() }),
    }
}

fn open(file: &SourceFile) -> Result<ParquetRecordBatchReaderBuilder<File>, ParquetSourceError> {
    check_magic(&file.path).map_err(|source| ParquetSourceError::NotParquet { name: file.name.clone(), source })?;
    let opened =
        File::open(&file.path).map_err(|source| ParquetSourceError::Open { name: file.name.clone(), source })?;
    ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|source| failed(file, source))
}

fn failed(file: &SourceFile, source: ParquetError) -> ParquetSourceError {
    ParquetSourceError::Read { name: file.name.clone(), source }
}

fn target(source: &Schema, header: &[String], chosen: &[usize], params: &Params) -> Schema {
    let field = |index: &usize| {
        let declared = params.schema.as_ref().and_then(|schema| schema.get(&header[*index]));
        let own = source.field(*index);
        declared
            .map_or_else(|| own.clone().with_nullable(true), |declared| Field::new(own.name(), declared.arrow(), true))
    };
    Schema::new(chosen.iter().map(field).collect::<Vec<_>>())
}

/// Columns in the order wanted (the reader gives them in the file's), in the types wanted.
fn conform(file: &SourceFile, batch: &RecordBatch, schema: &Arc<Schema>) -> Result<RecordBatch, ParquetSourceError> {
    // A value that does not fit is an error, not a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &Arc<Field>| {
        let cast = |column: &ArrayRef| {
            cast_with_options(column, field.data_type(), &options).map_err(|source| ParquetSourceError::Cast {
                name: file.name.clone(),
                column: field.name().clone(),
                found: types::word(column.data_type()),
                expected: types::word(field.data_type()),
                source,
            })
        };
        match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => cast(column),
            None => Err(ParquetSourceError::Batch {
                name: file.name.clone(),
                source: ArrowError::SchemaError(format!("the column {} is not read", field.name())),
            }),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|source| ParquetSourceError::Batch { name: file.name.clone(), source })
}
