//! From the parameter `source` to files on this machine: paths as they are, the rest fetched into a temporary folder.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::http::{self, HttpError};
use super::params::{Format, Params};
use crate::objects::{self, Fetched, ObjectError};
use crate::{dataset, say};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(
        "parameter source: there is nothing at {path}; mount the data into the stage with `volumes`, or correct the path"
    )]
    NoSuchPath { path: String },
    #[error("parameter source: no file matches {pattern}")]
    NoMatch { pattern: String },
    #[error("parameter source: {pattern} is no pattern")]
    BadPattern {
        pattern: String,
        #[source]
        source: glob::PatternError,
    },
    #[error("parameter source: the folder {path} has no files")]
    EmptyFolder { path: String },
    #[error(
        "parameter source: `{scheme}://` is not supported, expected a path, http://, https://, s3://, gs://, az://, abfs://, kafka://, postgresql://, mysql:// or sqlite:"
    )]
    Scheme { scheme: String },
    #[error("failed to read {name}")]
    Read {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{name}: {found} bytes, but maxBytes is {limit}; raise maxBytes or take a smaller source")]
    TooLarge { name: String, found: u64, limit: u64 },
    #[error("parameter format: the format of {name} cannot be told from its name; set format to csv, jsonl or parquet")]
    UnknownFormat { name: String },
    #[error("parameter format: {first} and {other} are of different formats; a source is of one format")]
    MixedFormats { first: String, other: String },
    #[error("failed to make a temporary folder")]
    Temporary(#[source] std::io::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Objects(#[from] ObjectError),
    #[error(
        "parameter sql: it is for databases, but the source is none; leave it out, or write postgresql://…, mysql://… or sqlite:…"
    )]
    NoDatabase,
    #[error("parameter {parameter}: it is for {expected} addresses, but the source is another; leave it out")]
    OtherCloud { parameter: &'static str, expected: &'static str },
    #[error(
        "parameter kafka: it is for topics, but the source is none; leave it out, or write kafka://broker:9092/topic"
    )]
    NoTopic,
}

/// One file of the source.
#[derive(Debug)]
pub struct SourceFile {
    /// As people know it: a path or an address without secrets.
    pub name: String,
    pub path: PathBuf,
}

impl SourceFile {
    /// The file's bytes, unpacked if they are gzip.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, SourceError> {
        let failed = |source| SourceError::Read { name: self.name.clone(), source };
        let mut magic = Vec::new();
        File::open(&self.path).map_err(failed)?.take(2).read_to_end(&mut magic).map_err(failed)?;
        let file = BufReader::with_capacity(1 << 16, File::open(&self.path).map_err(failed)?);
        if magic == [0x1F, 0x8B] { Ok(Box::new(MultiGzDecoder::new(file))) } else { Ok(Box::new(file)) }
    }
}

/// What `source` named.
#[derive(Debug)]
pub struct Source {
    pub files: Vec<SourceFile>,
    /// What the origin calls this state of the data: an `ETag`.
    pub version: Option<String>,
    /// SHA-256 over the bytes of all files.
    pub digest: String,
    /// Keeps what was fetched until the stage ends.
    _fetched: Option<TempDir>,
}

/// Finds and fetches the source.
pub async fn resolve(params: &Params) -> Result<Source, SourceError> {
    let source = params.source.as_str();
    if params.sql.is_some() {
        return Err(SourceError::NoDatabase);
    }
    if params.kafka.is_some() {
        return Err(SourceError::NoTopic);
    }
    let scheme = source.split_once("://").map_or("", |(scheme, _)| scheme);
    if params.gcs.is_some() && scheme != "gs" {
        return Err(SourceError::OtherCloud { parameter: "gcs", expected: "gs://" });
    }
    if params.azure.is_some() && !matches!(scheme, "az" | "abfs" | "abfss") {
        return Err(SourceError::OtherCloud { parameter: "azure", expected: "az:// and abfs://" });
    }
    let (files, version, fetched) = match source.split_once("://") {
        Some(("http" | "https", _)) => {
            let folder = TempDir::new().map_err(SourceError::Temporary)?;
            let (file, version) = http::fetch(source, folder.path(), params.max_bytes).await?;
            (vec![file], version, Some(folder))
        }
        Some(("file", path)) => (local(path)?, None, None),
        Some((scheme, _)) => {
            let scheme = || SourceError::Scheme { scheme: say::excerpt(scheme, 20) };
            let place = objects::open(source, &params.access()).ok_or_else(scheme)??;
            let found = place.find().await?;
            check_size(&place.name(), found.iter().map(|object| object.size).sum(), params.max_bytes)?;
            let folder = TempDir::new().map_err(SourceError::Temporary)?;
            let files = place.fetch(&found, folder.path()).await?;
            let files = files.into_iter().map(|Fetched { name, path }| SourceFile { name, path }).collect();
            (files, objects::version(&found), Some(folder))
        }
        None => (local(source)?, None, None),
    };
    let digest = digest(&files, params.max_bytes)?;
    Ok(Source { files, version, digest, _fetched: fetched })
}

/// A file, all files of a folder, or all that a pattern matches, sorted.
fn local(source: &str) -> Result<Vec<SourceFile>, SourceError> {
    let named = |path: PathBuf| SourceFile { name: path.display().to_string(), path };
    let path = Path::new(source);
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let files =
                dataset::walk(path).map_err(|error| SourceError::Read { name: source.into(), source: error })?;
            if files.is_empty() {
                return Err(SourceError::EmptyFolder { path: source.into() });
            }
            Ok(files.into_iter().map(named).collect())
        }
        Ok(_) => Ok(vec![named(path.into())]),
        Err(_) if source.contains(['*', '?', '[']) => {
            let matches = glob::glob(source)
                .map_err(|error| SourceError::BadPattern { pattern: source.into(), source: error })?;
            let mut files: Vec<PathBuf> = matches.filter_map(Result::ok).filter(|path| path.is_file()).collect();
            files.sort();
            if files.is_empty() {
                return Err(SourceError::NoMatch { pattern: source.into() });
            }
            Ok(files.into_iter().map(named).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(SourceError::NoSuchPath { path: source.into() })
        }
        Err(error) => Err(SourceError::Read { name: source.into(), source: error }),
    }
}

fn digest(files: &[SourceFile], limit: Option<u64>) -> Result<String, SourceError> {
    let mut hash = Sha256::new();
    let mut total = 0;
    let mut buffer = vec![0; 1 << 16];
    for file in files {
        let failed = |source| SourceError::Read { name: file.name.clone(), source };
        let mut input = File::open(&file.path).map_err(failed)?;
        loop {
            let read = input.read(&mut buffer).map_err(failed)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            check_size(&file.name, total, limit)?;
            hash.update(&buffer[..read]);
        }
    }
    Ok(format!("sha256:{:x}", hash.finalize()))
}

/// Fails if more bytes were found than the parameters allow.
pub fn check_size(name: &str, found: u64, limit: Option<u64>) -> Result<(), SourceError> {
    match limit {
        Some(limit) if found > limit => Err(SourceError::TooLarge { name: name.into(), found, limit }),
        _ => Ok(()),
    }
}

/// The format that the parameters name, or that the files' names do.
pub fn format(params: &Params, files: &[SourceFile]) -> Result<Format, SourceError> {
    if let Some(format) = params.format.filter(|format| *format != Format::Auto) {
        return Ok(format);
    }
    let mut known: Option<(Format, &str)> = None;
    for file in files {
        let format = format_of(&file.name).ok_or_else(|| SourceError::UnknownFormat { name: file.name.clone() })?;
        match known {
            Some((first, name)) if first != format => {
                return Err(SourceError::MixedFormats { first: name.into(), other: file.name.clone() });
            }
            _ => known = Some((format, &file.name)),
        }
    }
    known.map(|(format, _)| format).ok_or_else(|| SourceError::UnknownFormat { name: params.source.clone() })
}

fn format_of(name: &str) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" | "tsv" | "tab" | "txt" => Some(Format::Csv),
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        "parquet" | "pq" => Some(Format::Parquet),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_comes_from_the_name() {
        assert_eq!(format_of("/x/Penguins.CSV.gz"), Some(Format::Csv));
        assert_eq!(format_of("a.ndjson"), Some(Format::Jsonl));
        assert_eq!(format_of("part-0.parquet"), Some(Format::Parquet));
        assert_eq!(format_of("data.xlsx"), None);
        assert_eq!(format_of("data"), None);
    }

    #[test]
    fn a_pattern_takes_what_it_matches_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "c.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let pattern = folder.path().join("*.csv").display().to_string();
        let names: Vec<String> = local(&pattern).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].ends_with("a.csv") && names[1].ends_with("b.csv"));
        let nothing = folder.path().join("*.parquet").display().to_string();
        assert!(local(&nothing).unwrap_err().to_string().contains("no file matches"));
    }

    #[test]
    fn a_file_whose_name_looks_like_a_pattern_is_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data[1].csv");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(local(path.to_str().unwrap()).unwrap().len(), 1);
    }
}
