//! Writes a table as a folder of Parquet files, row group by row group, in bounded memory. The same batches give the same
//! bytes, so that a stage that is run again has the same digest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("failed to create {}", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: ParquetError,
    },
    #[error("failed to bring a batch into the table's types")]
    Cast(#[source] ArrowError),
}

/// A row group's buffered bytes, and a file's bytes, before the next one is begun.
const ROW_GROUP_BYTES: usize = 32 << 20;
const FILE_BYTES: usize = 512 << 20;
const ROW_GROUP_ROWS: usize = 1 << 17;

/// A folder `part-00000.parquet`, `part-00001.parquet`, …: sorted by name they are in order.
pub struct FolderSink {
    folder: PathBuf,
    schema: SchemaRef,
    writer: ArrowWriter<File>,
    part: usize,
    /// From which size of a file on another one is begun.
    file_bytes: usize,
    rows: u64,
}

impl FolderSink {
    pub fn create(folder: &Path, schema: &Schema) -> Result<Self, SinkError> {
        Self::begin(folder, 0, schema, FILE_BYTES)
    }

    /// Only the file with this number, of whatever size: others write the rest of the folder at the same time.
    pub fn part(folder: &Path, part: usize, schema: &Schema) -> Result<Self, SinkError> {
        Self::begin(folder, part, schema, usize::MAX)
    }

    fn begin(folder: &Path, part: usize, schema: &Schema, file_bytes: usize) -> Result<Self, SinkError> {
        std::fs::create_dir_all(folder).map_err(|source| SinkError::Create { path: folder.into(), source })?;
        let schema = Arc::new(plain_schema(schema));
        let writer = open_part(folder, part, &schema)?;
        Ok(Self { folder: folder.into(), schema, writer, part, file_bytes, rows: 0 })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        if self.writer.bytes_written() > self.file_bytes {
            self.part += 1;
            let next = open_part(&self.folder, self.part, &self.schema)?;
            let full = std::mem::replace(&mut self.writer, next);
            full.close().map_err(|source| SinkError::Write { path: part_path(&self.folder, self.part - 1), source })?;
        }
        let batch = plain_batch(batch, &self.schema)?;
        self.rows += batch.num_rows() as u64;
        let path = part_path(&self.folder, self.part);
        self.writer.write(&batch).map_err(|source| SinkError::Write { path: path.clone(), source })?;
        // Wide rows fill memory long before the row count does.
        if self.writer.in_progress_size() > ROW_GROUP_BYTES {
            self.writer.flush().map_err(|source| SinkError::Write { path, source })?;
        }
        Ok(())
    }

    /// Ends the last file. The number of rows in all files.
    pub fn finish(self) -> Result<u64, SinkError> {
        let path = part_path(&self.folder, self.part);
        self.writer.close().map_err(|source| SinkError::Write { path, source })?;
        Ok(self.rows)
    }
}

fn part_path(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("part-{part:05}.parquet"))
}

fn open_part(folder: &Path, part: usize, schema: &SchemaRef) -> Result<ArrowWriter<File>, SinkError> {
    let path = part_path(folder, part);
    let file = File::create(&path).map_err(|source| SinkError::Create { path: path.clone(), source })?;
    let level = ZstdLevel::try_new(1).map_err(|source| SinkError::Write { path: path.clone(), source })?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by("millrace".into())
        .build();
    ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|source| SinkError::Write { path, source })
}

/// Views and dictionaries become plain: not every reader of Parquet knows them from the embedded Arrow schema.
fn plain_schema(schema: &Schema) -> Schema {
    let plain = |field: &Arc<Field>| {
        Field::new(field.name(), plain_type(field.data_type()), true).with_metadata(field.metadata().clone())
    };
    Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>())
}

fn plain_type(arrow: &DataType) -> DataType {
    match arrow {
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => plain_type(value),
        // A column that is NULL in every row has no type: text, so that it can be read back everywhere.
        DataType::Null | DataType::Utf8View => DataType::Utf8,
        other => other.clone(),
    }
}

fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SinkError> {
    let columns =
        batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(column.clone())
                } else {
                    cast(column, field.data_type())
                }
            })
            .collect::<Result<Vec<ArrayRef>, ArrowError>>()
            .map_err(SinkError::Cast)?;
    RecordBatch::try_new(schema.clone(), columns).map_err(SinkError::Cast)
}
