//! Tables between stages: a Parquet file, or a folder of them. This file finds the files, checks that they are what they
//! should be, and gives them to the engine as a table.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, ParquetReadOptions, SessionContext};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use crate::say;

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the folder {} has no Parquet file, found: {found}; a table is a folder of .parquet files, as `ingest` and `transform` write", path.display())]
    NoFiles { path: PathBuf, found: String },
    #[error("{} is no complete Parquet file ({found}); bring other formats in with the stage `ingest`", path.display())]
    NotParquet { path: PathBuf, found: String },
    #[error("failed to open the Parquet files of {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("failed to read {}: the file is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: ParquetError,
    },
    #[error("the path {} is not UTF-8", path.display())]
    Name { path: PathBuf },
}

/// Opens a table.
pub async fn open(context: &SessionContext, path: &Path) -> Result<DataFrame, DatasetError> {
    let mut urls = Vec::new();
    for file in files(path)? {
        check_magic(&file)?;
        // As an URL: a path with `*` or `[` in it would be taken for a pattern.
        let absolute =
            std::path::absolute(&file).map_err(|source| DatasetError::Read { path: file.clone(), source })?;
        let url = url::Url::from_file_path(&absolute).map_err(|()| DatasetError::Name { path: file.clone() })?;
        urls.push(url.to_string());
    }
    context
        .read_parquet(urls, ParquetReadOptions::new().file_extension(""))
        .await
        .map_err(|source| DatasetError::Open { path: path.into(), source: Box::new(source) })
}

/// The columns of a table, as its first file has them.
pub fn schema(path: &Path) -> Result<Schema, DatasetError> {
    let files = files(path)?;
    let Some(first) = files.first() else {
        return Err(DatasetError::NoFiles { path: path.into(), found: "nothing".into() });
    };
    check_magic(first)?;
    let opened = File::open(first).map_err(|source| DatasetError::Read { path: first.clone(), source })?;
    let damaged = |source| DatasetError::Damaged { path: first.clone(), source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(damaged)?;
    Ok(builder.schema().as_ref().clone())
}

/// The rows of a table in the order of its files, without the engine.
pub fn batches(
    path: &Path,
    batch_rows: usize,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, DatasetError> {
    let mut readers = Vec::new();
    for file in files(path)? {
        check_magic(&file)?;
        let opened = File::open(&file).map_err(|source| DatasetError::Read { path: file.clone(), source })?;
        let damaged = |source| DatasetError::Damaged { path: file.clone(), source };
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(damaged)?;
        readers.push(builder.with_batch_size(batch_rows).build().map_err(damaged)?);
    }
    Ok(readers.into_iter().flatten())
}

/// The Parquet files of a table, sorted by path; what is called by a number, as the folders of a `forEach` are, in the order of the numbers. Hidden files and marker files (`_SUCCESS`) are none.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let metadata = std::fs::metadata(path).map_err(|source| DatasetError::Read { path: path.into(), source })?;
    if metadata.is_file() {
        return Ok(vec![path.into()]);
    }
    let all = walk(path).map_err(|source| DatasetError::Read { path: path.into(), source })?;
    let is_parquet = |file: &PathBuf| {
        file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet") || extension == "pq")
    };
    let parquet: Vec<PathBuf> = all.iter().filter(|file| is_parquet(file)).cloned().collect();
    if parquet.is_empty() {
        let found = say::names(all.iter().map(|file| file.strip_prefix(path).unwrap_or(file).to_string_lossy()));
        let found = if found.is_empty() { "nothing".to_owned() } else { found };
        return Err(DatasetError::NoFiles { path: path.into(), found });
    }
    Ok(parquet)
}

/// All files below a folder, sorted as people count, without those whose name or folder begins with `.` or `_`.
pub fn walk(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
                || path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"));
            if hidden {
                continue;
            }
            // Follows links: a mounted ConfigMap's files are links.
            if std::fs::metadata(&path)?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort_by_cached_key(|path| counted(path));
    Ok(found)
}

/// The parts of a path, of those that are numbers the shorter one first.
fn counted(path: &Path) -> Vec<(usize, OsString)> {
    let part = |part: &OsStr| {
        let text = part.to_string_lossy();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (if is_number { text.len() } else { 0 }, part.to_owned())
    };
    path.iter().map(part).collect()
}

/// A Parquet file begins and ends with `PAR1`. The engine's own words for a truncated one do not name the file.
pub fn check_magic(path: &Path) -> Result<(), DatasetError> {
    let read = || -> std::io::Result<Option<String>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        if size == 0 {
            return Ok(Some("it is empty".into()));
        }
        let mut head = vec![0; usize::try_from(size.min(4)).unwrap_or(4)];
        file.read_exact(&mut head)?;
        if head != b"PAR1" {
            let mut rest = vec![0; 24];
            let read = file.read(&mut rest)?;
            rest.truncate(read);
            head.extend(rest);
            return Ok(Some(format!("it begins with '{}'", say::excerpt(&String::from_utf8_lossy(&head), 24))));
        }
        if size < 12 {
            return Ok(Some(format!("it is truncated: it has {size} bytes")));
        }
        file.seek(SeekFrom::End(-4))?;
        file.read_exact(&mut head)?;
        Ok((head != b"PAR1").then(|| format!("it is truncated or damaged: its {size} bytes do not end with PAR1")))
    };
    match read() {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(DatasetError::NotParquet { path: path.into(), found }),
        Err(source) => Err(DatasetError::Read { path: path.into(), source }),
    }
}
