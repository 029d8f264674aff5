//! JSON lines into a table: once over the file to learn the types and to check every line, once more to write.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema_from_iterator;
use serde_json::Value;

use super::layout::{LayoutError, choose};
use super::lines::{LineError, Lines};
use super::params::{Encoding, Params};
use super::source::{SourceError, SourceFile};
use super::text::Utf8Reader;
use crate::params::kind;
use crate::say;
use crate::sink::{FolderSink, SinkError};

#[derive(Debug, thiserror::Error)]
pub enum JsonlError {
    #[error("{name}")]
    Line {
        name: String,
        #[source]
        source: LineError,
    },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("{name}, line {line}: no JSON ({reason}); the line is '{content}'")]
    NotJson { name: String, line: u64, reason: String, content: String },
    #[error(
        "{name}, line {line}: found {found}, expected one JSON object a line; of one large array `jq -c '.[]'` makes lines"
    )]
    NotObject { name: String, line: u64, found: &'static str },
    #[error("{name} is empty: expected one JSON object a line")]
    Empty { name: String },
    #[error("{name}: the values of a column do not go together")]
    Infer {
        name: String,
        #[source]
        source: ArrowError,
    },
    #[error(
        "{name}, line {line}: a value does not have its column's type; correct it, or declare the column in schema; the line is '{content}'"
    )]
    Value {
        name: String,
        line: u64,
        content: String,
        #[source]
        source: ArrowError,
    },
}

/// Lines are decoded together up to these bounds.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 8 << 20;

/// Writes all files as one table. The columns and their types.
pub fn ingest(files: &[SourceFile], params: &Params, to: &Path) -> Result<(u64, Arc<Schema>), JsonlError> {
    write(files, params, survey(files, params, Declared::AreThere)?, to)
}

/// The same for a part of what there is: it may have no rows, and no value in any row for a column that is declared.
pub fn ingest_any(files: &[SourceFile], params: &Params, to: &Path) -> Result<(u64, Arc<Schema>), JsonlError> {
    write(files, params, survey(files, params, Declared::MayMiss)?, to)
}

fn write(files: &[SourceFile], params: &Params, schema: Schema, to: &Path) -> Result<(u64, Arc<Schema>), JsonlError> {
    let schema = Arc::new(schema);
    let mut sink = FolderSink::create(to, &schema)?;
    for file in files {
        let mut lines = open(file, params)?;
        let mut held = Held::default();
        let mut text = Vec::new();
        while let Some(line) = next(file, &mut lines, &mut text)? {
            held.push(line, &text);
            if held.lines.len() == BATCH_ROWS || held.bytes.len() > BATCH_BYTES {
                held.write(file, &schema, &mut sink)?;
            }
        }
        held.write(file, &schema, &mut sink)?;
    }
    Ok((sink.finish()?, schema))
}

/// Lines that are not decoded yet.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// The number of each line, and where it ends in `bytes`.
    lines: Vec<(u64, usize)>,
}

impl Held {
    fn push(&mut self, line: u64, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.bytes.push(b'\n');
        self.lines.push((line, self.bytes.len()));
    }

    fn write(&mut self, file: &SourceFile, schema: &Arc<Schema>, sink: &mut FolderSink) -> Result<(), JsonlError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        match decode(schema, &self.bytes) {
            Ok(Some(batch)) => sink.write(&batch)?,
            Ok(None) => {}
            Err(error) => return Err(self.blame(file, schema, error)),
        }
        self.bytes.clear();
        self.lines.clear();
        Ok(())
    }

    /// The decoder does not say which line it refuses: the first that it also refuses alone.
    fn blame(&self, file: &SourceFile, schema: &Arc<Schema>, error: ArrowError) -> JsonlError {
        let mut from = 0;
        let (mut line, mut text, mut source) = (self.lines[0].0, &self.bytes[..], error);
        for (number, to) in &self.lines {
            let one = &self.bytes[from..*to];
            from = *to;
            if let Err(error) = decode(schema, one) {
                (line, text, source) = (*number, one, error);
                break;
            }
        }
        let content = say::excerpt(String::from_utf8_lossy(text).trim_end(), 120);
        JsonlError::Value { name: file.name.clone(), line, content, source }
    }
}

fn decode(schema: &Arc<Schema>, bytes: &[u8]) -> Result<Option<RecordBatch>, ArrowError> {
    let mut decoder = ReaderBuilder::new(schema.clone())
        .with_batch_size(BATCH_ROWS + 1)
        .with_coerce_primitive(true)
        .build_decoder()?;
    decoder.decode(bytes)?;
    decoder.flush()
}

fn open(file: &SourceFile, params: &Params) -> Result<Lines, JsonlError> {
    let encoding = params.csv.as_ref().and_then(|csv| csv.encoding).unwrap_or(Encoding::Utf8);
    Ok(Lines::new(Utf8Reader::new(file.open()?, encoding)))
}

fn next(file: &SourceFile, lines: &mut Lines, text: &mut Vec<u8>) -> Result<Option<u64>, JsonlError> {
    lines.next(text).map_err(|source| JsonlError::Line { name: file.name.clone(), source })
}

/// Reads all lines of all files, one object each.
struct Objects<'a> {
    files: &'a [SourceFile],
    params: &'a Params,
    lines: Option<Lines>,
    text: Vec<u8>,
    rows: u64,
    /// Columns in the order of their first appearance.
    order: Vec<String>,
    known: HashSet<String>,
    failed: Option<JsonlError>,
}

impl Objects<'_> {
    fn read(&mut self) -> Result<Option<Value>, JsonlError> {
        loop {
            let Some(file) = self.files.first() else { return Ok(None) };
            if self.lines.is_none() {
                self.lines = Some(open(file, self.params)?);
            }
            let Some(lines) = &mut self.lines else { return Ok(None) };
            let Some(line) = next(file, lines, &mut self.text)? else {
                self.files = &self.files[1..];
                self.lines = None;
                continue;
            };
            let value: Value = serde_json::from_slice(&self.text).map_err(|error| JsonlError::NotJson {
                name: file.name.clone(),
                line,
                reason: format!("column {}: {}", error.column(), syntax(&error)),
                content: say::excerpt(&String::from_utf8_lossy(&self.text), 120),
            })?;
            let Value::Object(object) = &value else {
                return Err(JsonlError::NotObject { name: file.name.clone(), line, found: kind(&value) });
            };
            if !object.keys().all(|key| self.known.contains(key)) {
                for key in keys_in_order(&self.text) {
                    if self.known.insert(key.clone()) {
                        self.order.push(key);
                    }
                }
            }
            self.rows += 1;
            return Ok(Some(value));
        }
    }
}

impl Iterator for Objects<'_> {
    type Item = Result<Value, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(value) => value.map(Ok),
            Err(error) => {
                self.failed = Some(error);
                Some(Err(ArrowError::JsonError("a line was refused".into())))
            }
        }
    }
}

fn syntax(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]).to_owned()
}

/// The keys of an object as the text has them; `serde_json`'s own map sorts them.
fn keys_in_order(text: &[u8]) -> Vec<String> {
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Keys;

                fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                    formatter.write_str("an object")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_slice::<Keys>(text).map(|keys| keys.0).unwrap_or_default()
}

/// What is expected of the columns that the parameters declare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declared {
    AreThere,
    MayMiss,
}

fn survey(files: &[SourceFile], params: &Params, expected: Declared) -> Result<Schema, JsonlError> {
    let name = &files[0].name;
    let mut objects = Objects {
        files,
        params,
        lines: None,
        text: Vec::new(),
        rows: 0,
        order: Vec::new(),
        known: HashSet::new(),
        failed: None,
    };
    let inferred = infer_json_schema_from_iterator(&mut objects);
    if let Some(error) = objects.failed {
        return Err(error);
    }
    if expected == Declared::MayMiss {
        let declared = params.schema.iter().flat_map(|schema| schema.keys());
        objects.order.extend(declared.filter(|column| !objects.known.contains(*column)).cloned());
    } else if objects.rows == 0 {
        return Err(JsonlError::Empty { name: name.clone() });
    }
    let inferred = inferred.map_err(|source| JsonlError::Infer { name: name.clone(), source })?;
    let chosen = choose(name, params, &objects.order)?;
    let field = |index: usize| {
        let column = &objects.order[index];
        let declared = params.schema.as_ref().and_then(|schema| schema.get(column));
        let seen = || inferred.field_with_name(column).map_or(DataType::Utf8, |field| sorted(field.data_type()));
        Field::new(column, declared.map_or_else(seen, |declared| declared.arrow()), true)
    };
    Ok(Schema::new(chosen.into_iter().map(field).collect::<Vec<_>>()))
}

/// The inferred fields of nested objects are in the order of a hash map: sorted, the same file gives the same bytes.
fn sorted(arrow: &DataType) -> DataType {
    match arrow {
        DataType::Struct(fields) => {
            let mut fields: Vec<Field> =
                fields.iter().map(|field| Field::new(field.name(), sorted(field.data_type()), true)).collect();
            fields.sort_by(|a, b| a.name().cmp(b.name()));
            DataType::Struct(Fields::from(fields))
        }
        DataType::List(item) => DataType::List(Arc::new(Field::new(item.name(), sorted(item.data_type()), true))),
        // Only nulls were seen.
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_the_text() {
        assert_eq!(keys_in_order(br#"{"b": 1, "a": {"z": 2}, "c": null}"#), ["b", "a", "c"]);
    }
}
