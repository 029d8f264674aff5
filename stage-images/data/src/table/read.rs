//! A snapshot, or what is new since another one, as a folder of Parquet files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::Schema;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::snapshot::{Add, Snapshot};
use super::{Table, TableError, Window};
use crate::dataset::{DatasetError, check_magic};
use crate::ingest::source::check_size;
use crate::say;
use crate::sink::FolderSink;

const BATCH_ROWS: usize = 8192;

/// What is wanted of a table.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// Only rows that came after this version.
    pub since: Option<u64>,
    pub columns: Option<&'a [String]>,
    pub window: Option<&'a Window>,
    /// Bytes of files.
    pub limit: Option<u64>,
}

/// What was read.
pub struct Found {
    pub rows: u64,
    pub schema: Arc<Schema>,
    pub version: u64,
    /// Of the files that the rows are in.
    pub digest: String,
}

impl Table {
    /// The snapshot that is asked for, or the last one.
    pub async fn wanted(&self, version: Option<u64>) -> Result<Snapshot, TableError> {
        let listing = self.listing().await?;
        let last = listing.last().ok_or_else(|| TableError::NoTable { name: self.name.clone() })?;
        match version {
            Some(version) if version > last => Err(TableError::NoVersion { name: self.name.clone(), version }),
            _ => self.snapshot(version.unwrap_or(last)).await,
        }
    }

    /// Writes the rows of a snapshot that are asked for to a folder.
    pub async fn read(&self, snapshot: &Snapshot, ask: &Ask<'_>, to: &Path) -> Result<Found, TableError> {
        self.readable(snapshot)?;
        let (_, all) = self.columns(snapshot)?;
        let wanted = self.wanted_columns(&all, ask)?;
        let read = all.project(&wanted.read)?;
        if let Some(window) = ask.window {
            window.check(&all)?;
        }
        let mut files = self.files(snapshot, ask.since).await?;
        files.sort_by(|a, b| (a.modification_time, &a.path).cmp(&(b.modification_time, &b.path)));
        files.retain(|file| ask.window.is_none_or(|window| window.may_have(file)));
        check_size(&self.name, files.iter().map(|file| file.size).sum(), ask.limit)?;
        let schema = Arc::new(all.project(&wanted.kept)?);
        let kept: Vec<usize> = (0..wanted.kept.len()).collect();
        let work = TempDir::new().map_err(|source| TableError::Write { name: self.name.clone(), source })?;
        let mut sink = FolderSink::create(to, &schema)?;
        for file in &files {
            self.rows(file, &Arc::new(read.clone()), work.path(), |batch| {
                let batch = ask.window.map_or_else(|| Ok(batch.clone()), |window| window.keep(&batch))?;
                // The column of the window may be none that is wanted.
                Ok(sink.write(&batch.project(&kept)?)?)
            })
            .await?;
        }
        Ok(Found { rows: sink.finish()?, schema, version: snapshot.version, digest: digest(&files) })
    }

    fn wanted_columns(&self, all: &Schema, ask: &Ask<'_>) -> Result<Wanted, TableError> {
        let find = |column: &String| {
            all.index_of(column).map_err(|_| TableError::NoColumn {
                name: self.name.clone(),
                column: say::excerpt(column, 60),
                known: say::names(all.fields().iter().map(|field| field.name())),
            })
        };
        let every = || (0..all.fields().len()).collect();
        let kept = ask
            .columns
            .map_or_else(|| Ok(every()), |columns| columns.iter().map(find).collect::<Result<Vec<_>, _>>())?;
        let mut read = kept.clone();
        let time = ask.window.map(|window| find(&window.column)).transpose()?;
        read.extend(time.filter(|time| !kept.contains(time)));
        Ok(Wanted { kept, read })
    }

    /// The files that count, in the order in which they came: all of them where nothing was read before.
    async fn files(&self, snapshot: &Snapshot, since: Option<u64>) -> Result<Vec<Add>, TableError> {
        let Some(since) = since else { return Ok(snapshot.files.values().cloned().collect()) };
        let (name, last) = (self.name.clone(), snapshot.version);
        if since > last {
            return Err(TableError::Behind { name, since, last });
        }
        let mut files = Vec::new();
        for version in since + 1..=last {
            let changes = self.changes(version).await?;
            let changes = changes.ok_or_else(|| TableError::LogGone { name: name.clone(), version, since })?;
            if changes.removes {
                return Err(TableError::Removed { name, version, since });
            }
            let paths: BTreeSet<String> = changes.added.into_iter().collect();
            if paths.iter().all(|path| snapshot.files.contains_key(path)) {
                files.extend(paths.iter().filter_map(|path| snapshot.files.get(path)).cloned());
            } else {
                // What was put together with others since then is in the snapshot of its commit.
                let then = self.snapshot(version).await?;
                files.extend(paths.iter().filter_map(|path| then.files.get(path)).cloned());
            }
        }
        Ok(files)
    }

    /// The rows of one file in the table's types, with the values of its partition.
    async fn rows(
        &self,
        file: &Add,
        schema: &Arc<Schema>,
        work: &Path,
        mut each: impl FnMut(RecordBatch) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        let below = percent_decode_str(&file.path).decode_utf8_lossy();
        if is_elsewhere(&below) {
            return Err(TableError::Elsewhere { name: self.name.clone(), path: say::excerpt(&file.path, 200) });
        }
        let path = self.local(&below, work).await?;
        check_magic(&path)?;
        let opened = std::fs::File::open(&path).map_err(|source| DatasetError::Read { path: path.clone(), source })?;
        let damaged = |source| DatasetError::Damaged { path: path.clone(), source };
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(damaged)?;
        let there = builder.schema().fields().iter().enumerate();
        let there = there.filter(|(_, field)| schema.column_with_name(field.name()).is_some());
        let mask = ProjectionMask::roots(builder.parquet_schema(), there.map(|(index, _)| index));
        for batch in builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(damaged)? {
            each(conform(&batch?, file, schema)?)?;
        }
        Ok(())
    }
}

/// The indexes of the columns that are kept, and of those that are read: the last may be the window's.
struct Wanted {
    kept: Vec<usize>,
    read: Vec<usize>,
}

/// Whether a path, without escapes, leads out of the table.
fn is_elsewhere(below: &str) -> bool {
    below.contains("://") || below.starts_with('/') || below.split('/').any(|part| part == "..")
}

/// Columns in the table's order and types; one that the file does not have has the value of its partition, or none.
fn conform(batch: &RecordBatch, file: &Add, schema: &Arc<Schema>) -> Result<RecordBatch, TableError> {
    let rows = batch.num_rows();
    let column = |field: &Arc<arrow::datatypes::Field>| -> Result<ArrayRef, TableError> {
        let wanted = field.data_type();
        if let Some(value) = file.partition_values.get(field.name()) {
            // An empty text is how a missing value is written.
            let value = value.as_deref().filter(|value| !value.is_empty());
            return Ok(cast(&StringArray::from(vec![value; rows]), wanted)?);
        }
        match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(wanted, rows)),
            Some(found) if found.data_type() == wanted => Ok(found.clone()),
            Some(found) => Ok(cast(found, wanted)?),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

fn digest(files: &[Add]) -> String {
    let mut lines: Vec<String> = files.iter().map(|file| format!("{}\t{}\n", file.path, file.size)).collect();
    lines.sort();
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(line);
    }
    format!("sha256:{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_of_a_table_are_known() {
        for (path, elsewhere) in [
            ("part-0.parquet", false),
            ("day=2026-11-01/part..0.parquet", false),
            ("/etc/part-0.parquet", true),
            ("s3://other/part-0.parquet", true),
            ("../other/part-0.parquet", true),
            ("day=1/../../other/part-0.parquet", true),
        ] {
            assert_eq!(is_elsewhere(path), elsewhere, "{path}");
        }
    }
}
