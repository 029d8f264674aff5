//! A list of items in a file: one JSON value in each line, or one JSON list.

use std::path::Path;

use millrace_files::regular::{self, ReadError};
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

/// Ten thousand items of 6 KiB each.
const SIZE_LIMIT: u64 = 64 * 1024 * 1024;

#[derive(Debug, Error)]
pub enum ListError {
    #[error("it cannot be read as a list of items: {0}")]
    Unreadable(#[from] ReadError),
    #[error("it is no text: write one JSON value in each line")]
    NotText,
    #[error("line {line} is no JSON value ({source}): write one in each line, text in double quotes, or one JSON list")]
    Line { line: usize, source: serde_json::Error },
    #[error("it lists {count} items, and none has the index {index}")]
    Short { count: usize, index: u64 },
}

/// How many items a file lists.
pub fn count(path: &Path) -> Result<u64, ListError> {
    read(path, |values| Ok(values.len() as u64))
}

/// One item of a file.
pub fn item(path: &Path, index: u64) -> Result<Value, ListError> {
    read(path, |values| {
        let short = || ListError::Short { count: values.len(), index };
        let (line, raw) = usize::try_from(index).ok().and_then(|index| values.get(index)).ok_or_else(short)?;
        serde_json::from_str(raw.get()).map_err(|source| ListError::Line { line: *line, source })
    })
}

/// Every item, in its text.
pub fn each(path: &Path) -> Result<Vec<String>, ListError> {
    read(path, |values| Ok(values.iter().map(|(_, raw)| raw.get().to_owned()).collect()))
}

/// Hands over the values with their lines.
fn read<T>(path: &Path, take: impl Fn(&[(usize, &RawValue)]) -> Result<T, ListError>) -> Result<T, ListError> {
    let bytes = regular::read(path, SIZE_LIMIT)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ListError::NotText)?;
    // Lines may be lists too: only what is one list as a whole is meant as one.
    if text.trim_start().starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(text)
    {
        let values: Vec<_> = values.into_iter().map(|value| (1, value)).collect();
        return take(&values);
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let values: Result<Vec<_>, _> = lines
        .map(|(at, line)| {
            let line_number = at + 1;
            serde_json::from_str(line)
                .map(|value| (line_number, value))
                .map_err(|source| ListError::Line { line: line_number, source })
        })
        .collect();
    take(&values?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_list_is_lines_of_values_or_one_json_list() {
        for (text, values) in [
            ("1\n\n\"a b\"\r\n{\"x\": [1]}", vec![json!(1), json!("a b"), json!({ "x": [1] })]),
            (" [1,\n \"a\"]\n", vec![json!(1), json!("a")]),
            ("[1]\n[2]\n", vec![json!([1]), json!([2])]),
            ("", vec![]),
            ("[]", vec![]),
        ] {
            let file = file(text);
            assert_eq!(count(file.path()).unwrap(), values.len() as u64, "{text:?}");
            for (index, value) in values.iter().enumerate() {
                assert_eq!(item(file.path(), index as u64).unwrap(), *value, "{text:?}");
            }
            assert!(item(file.path(), values.len() as u64).is_err());
        }
    }

    #[test]
    fn what_is_no_list_is_told_with_its_line() {
        let error = count(file("1\neast\n").path()).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("double quotes"), "{error}");
        let not_text = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(not_text.path(), [0xff, 0xfe]).unwrap();
        assert!(count(not_text.path()).unwrap_err().to_string().contains("no text"));
        let link = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", link.path().join("l")).unwrap();
        assert!(count(&link.path().join("l")).is_err());
    }
}
