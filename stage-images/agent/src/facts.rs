//! The small facts that a program leaves below `MILLRACE_OUT`: metrics, the champion's metrics, and results.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millrace_contract::{FACTS_LIMIT, NESTING_LIMIT, is_fact_name, nesting};
use millrace_files::regular::{self, ReadError};
use serde_json::Value;
use thiserror::Error;

use crate::names::Names;

/// Longer files are not read. A file may be longer than its compact JSON (indentation), but not by this much.
const FILE_LIMIT: u64 = 64 * 1024;

#[derive(Debug, Error)]
pub enum FactsError {
    #[error("{file} is not as it should be: {found}; {remedy}")]
    Bad { file: String, found: String, remedy: &'static str },
    #[error("failed to read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{file} has {size} bytes; results and metrics of a stage are at most {FACTS_LIMIT} bytes as JSON: write the rest into an output"
    )]
    FileTooLarge { file: String, size: u64 },
    #[error(
        "results ({results} bytes), metrics ({metrics}) and champion ({champion}) are {} bytes as JSON; together they are at most \
         {FACTS_LIMIT}: write the rest into an output", results + metrics + champion
    )]
    TooLarge { results: usize, metrics: usize, champion: usize },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub results: BTreeMap<String, Value>,
    pub metrics: BTreeMap<String, f64>,
    pub champion: BTreeMap<String, f64>,
}

/// Reads everything below `MILLRACE_OUT`, and refuses what is too large in all.
pub fn collect(out: &Path) -> Result<Facts, FactsError> {
    let facts = Facts {
        results: results(&out.join("results"))?,
        metrics: metrics(out, "metrics.json")?,
        champion: metrics(out, "champion.json")?,
    };
    let (results, metrics, champion) =
        (json_size(&facts.results), json_size(&facts.metrics), json_size(&facts.champion));
    if results + metrics + champion > FACTS_LIMIT {
        return Err(FactsError::TooLarge { results, metrics, champion });
    }
    Ok(facts)
}

/// Bytes as JSON; an empty map is not written at all.
fn json_size<T: serde::Serialize>(map: &BTreeMap<String, T>) -> usize {
    if map.is_empty() { 0 } else { serde_json::to_string(map).map_or(usize::MAX / 4, |text| text.len()) }
}

const FLAT: &str = "write one flat object of numbers, such as {\"accuracy\": 0.98}";

fn metrics(out: &Path, file: &str) -> Result<BTreeMap<String, f64>, FactsError> {
    let bad = |found: String| FactsError::Bad { file: file.to_owned(), found, remedy: FLAT };
    let Some(text) = read(&out.join(file), file)? else { return Ok(BTreeMap::new()) };
    let value: Value = serde_json::from_str(&text).map_err(|error| match not_finite(&text) {
        _ if too_deep(&error) => bad(DEEP.to_owned()),
        Some(word) => bad(format!("it has {word}, which is no number in JSON ({error})")),
        None => bad(format!("it is not JSON ({error})")),
    })?;
    let Value::Object(object) = value else { return Err(bad(format!("it holds {}", kind(&value)))) };
    // Of a name that stands there twice the last value would win, and nobody would know.
    if let Some(name) = serde_json::from_str::<Names>(&text).ok().and_then(Names::twice) {
        return Err(bad(format!("it has {name:?} twice")));
    }
    let mut metrics = BTreeMap::new();
    for (name, value) in object {
        check_name(&name, &format!("metric {name:?} of {file}"))?;
        let number = value.as_f64().ok_or_else(|| bad(format!("{name:?} is {}", kind(&value))))?;
        metrics.insert(name, number);
    }
    Ok(metrics)
}

const DEEP: &str = "its lists and objects are more than 128 deep";

/// The parser gives up at 128 levels. Its error has no kind of its own for that.
fn too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit exceeded")
}

/// What Python's `json` writes for what is not finite.
fn not_finite(text: &str) -> Option<&'static str> {
    ["NaN", "Infinity", "nan", "inf"].into_iter().find(|word| text.contains(word))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn results(folder: &Path) -> Result<BTreeMap<String, Value>, FactsError> {
    let failed = |source| FactsError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // A program may remove what it was given.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut results = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = format!("results/{name}");
        check_name(&name, &file)?;
        if let Some(text) = read(&entry.path(), &file)? {
            results.insert(name, result(&text, &file)?);
        }
    }
    Ok(results)
}

/// JSON if it parses as JSON, else text.
fn result(text: &str, file: &str) -> Result<Value, FactsError> {
    let deep = |found: String| FactsError::Bad { file: file.to_owned(), found, remedy: SHALLOW };
    match serde_json::from_str(text) {
        Ok(value) if nesting(&value) > NESTING_LIMIT => {
            Err(deep(format!("its lists and objects are {} deep", nesting(&value))))
        }
        Ok(value) => Ok(value),
        Err(error) if too_deep(&error) => Err(deep(DEEP.to_owned())),
        Err(_) => Ok(Value::String(without_line_end(text).to_owned())),
    }
}

const SHALLOW: &str = "write lists and objects that are at most 16 deep, or put it into an output";
const _: () = assert!(NESTING_LIMIT == 16, "the sentence above has the figure");

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn check_name(name: &str, what: &str) -> Result<(), FactsError> {
    if is_fact_name(name) {
        return Ok(());
    }
    Err(FactsError::Bad {
        file: what.chars().take(160).collect(),
        found: "the name is not allowed".to_owned(),
        remedy: "use a name of a-z, 0-9 and _ that begins with a letter, of at most 63 characters",
    })
}

/// The text of a small regular file; none if there is no such file.
fn read(path: &Path, file: &str) -> Result<Option<String>, FactsError> {
    let bad = |found: &str, remedy| FactsError::Bad { file: file.to_owned(), found: found.to_owned(), remedy };
    let bytes = match regular::read(path, FILE_LIMIT) {
        Ok(bytes) => bytes,
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(ReadError::Io(source)) => return Err(FactsError::Read { path: path.to_owned(), source }),
        Err(ReadError::NotRegular) => {
            return Err(bad("it is no regular file", "write a file, neither a folder nor a link"));
        }
        Err(ReadError::TooLarge { size, limit: _ }) => {
            return Err(FactsError::FileTooLarge { file: file.to_owned(), size });
        }
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| bad("it is not UTF-8", "write text, or put the bytes into an output"))
}
