//! The small facts that a program leaves below `MILLRACE_OUT`: metrics, the champion's metrics, and results.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millrace_contract::FACTS_LIMIT;
use serde_json::Value;
use thiserror::Error;

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
        Some(word) => bad(format!("it has {word}, which is no number in JSON ({error})")),
        None => bad(format!("it is not JSON ({error})")),
    })?;
    let Value::Object(object) = value else { return Err(bad(format!("it holds {}", kind(&value)))) };
    let mut metrics = BTreeMap::new();
    for (name, value) in object {
        check_name(&name, &format!("metric {name:?} of {file}"))?;
        let number = value.as_f64().ok_or_else(|| bad(format!("{name:?} is {}", kind(&value))))?;
        metrics.insert(name, number);
    }
    Ok(metrics)
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
            let value =
                serde_json::from_str(&text).unwrap_or_else(|_| Value::String(without_line_end(&text).to_owned()));
            results.insert(name, value);
        }
    }
    Ok(results)
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn check_name(name: &str, what: &str) -> Result<(), FactsError> {
    let good = name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if good {
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
    let failed = |source| FactsError::Read { path: path.to_owned(), source };
    let bad = |found: &str, remedy| FactsError::Bad { file: file.to_owned(), found: found.to_owned(), remedy };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() {
        return Err(bad("it is no regular file", "write a file, neither a folder nor a link"));
    }
    if metadata.len() > FILE_LIMIT {
        return Err(FactsError::FileTooLarge { file: file.to_owned(), size: metadata.len() });
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| bad("it is not UTF-8", "write text, or put the bytes into an output"))
}
