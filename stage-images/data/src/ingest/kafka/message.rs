//! A message into a line of JSON: its value, and what was asked for of the rest. Pure.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::ingest::params::Metadata;
use crate::ingest::values;
use crate::types::ColumnType;

/// A message that has a value.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub partition: i32,
    pub offset: i64,
    /// In ms since 1970; negative if there is none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

/// Why a value is no row.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    NotText,
    NotJson {
        reason: String,
    },
    NotObject {
        found: &'static str,
    },
    /// It has a value of the name that a column of metadata has.
    Taken {
        column: &'static str,
    },
}

impl Metadata {
    pub fn column(self) -> &'static str {
        match self {
            Self::Partition => "_partition",
            Self::Offset => "_offset",
            Self::Timestamp => "_timestamp",
            Self::Key => "_key",
        }
    }

    pub fn column_type(self) -> ColumnType {
        match self {
            Self::Partition | Self::Offset => ColumnType::Integer,
            Self::Timestamp => ColumnType::Timestamp,
            Self::Key => ColumnType::String,
        }
    }

    fn of(self, message: Message) -> Value {
        match self {
            Self::Partition => message.partition.into(),
            Self::Offset => message.offset.into(),
            Self::Timestamp => {
                let time = jiff::Timestamp::from_millisecond(message.timestamp).ok();
                time.filter(|_| message.timestamp >= 0).map_or(Value::Null, |time| json!(time.to_string()))
            }
            Self::Key => message.key.map_or(Value::Null, |key| json!(text(key))),
        }
    }
}

/// Bytes as text: what is no UTF-8 as `\x` and hex digits.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => values::hex(bytes),
    }
}

/// Appends the line, with its end.
pub fn line(message: Message, metadata: &[Metadata], into: &mut Vec<u8>) -> Result<(), Unfit> {
    let value = std::str::from_utf8(message.value).map_err(|_| Unfit::NotText)?;
    let Keys { any, taken } = keys(value, metadata)?;
    if let Some(column) = taken {
        return Err(Unfit::Taken { column });
    }
    let open = value.trim_ascii().strip_suffix('}').unwrap_or_default();
    // A line end can only stand between values: inside of one it is escaped.
    into.extend(open.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    for (index, fact) in metadata.iter().enumerate() {
        if any || index > 0 {
            into.push(b',');
        }
        into.extend_from_slice(format!("\"{}\":{}", fact.column(), fact.of(message)).as_bytes());
    }
    into.extend_from_slice(b"}\n");
    Ok(())
}

/// What is to be known of the keys of an object.
struct Keys {
    any: bool,
    taken: Option<&'static str>,
}

fn keys(value: &str, metadata: &[Metadata]) -> Result<Keys, Unfit> {
    struct Names(Vec<String>);
    impl<'de> Deserialize<'de> for Names {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Object)
        }
    }
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = Names;

        fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                names.push(name);
            }
            Ok(Names(names))
        }
    }
    let Names(names) = serde_json::from_str(value).map_err(|error| {
        if error.is_data() {
            return Unfit::NotObject { found: kind(value) };
        }
        Unfit::NotJson { reason: error.to_string() }
    })?;
    let taken = metadata.iter().map(|fact| fact.column()).find(|column| names.iter().any(|name| name == column));
    Ok(Keys { any: !names.is_empty(), taken })
}

/// What a JSON text that is no object is, by how it begins.
fn kind(value: &str) -> &'static str {
    match value.trim_ascii_start().as_bytes().first() {
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Metadata; 4] = [Metadata::Partition, Metadata::Offset, Metadata::Timestamp, Metadata::Key];

    fn lined(value: &[u8], key: Option<&[u8]>, metadata: &[Metadata]) -> Result<String, Unfit> {
        let mut into = Vec::new();
        let message = Message { partition: 3, offset: 41, timestamp: 1_790_000_000_123, key, value };
        line(message, metadata, &mut into).map(|()| String::from_utf8(into).unwrap())
    }

    #[test]
    fn a_value_is_one_line_and_keeps_its_text() {
        let value = b" {\n \"b\": 1.10,\r\n \"a\": \"x\\ny\"\n} ";
        assert_eq!(lined(value, None, &[]).unwrap(), "{  \"b\": 1.10,   \"a\": \"x\\ny\" }\n");
        assert_eq!(lined(b"{}", None, &[]).unwrap(), "{}\n");
    }

    #[test]
    fn what_is_asked_for_of_the_message_comes_behind_its_value() {
        let facts = r#""_partition":3,"_offset":41,"_timestamp":"2026-09-21T14:13:20.123Z","_key":"#;
        assert_eq!(lined(b"{\"a\":1}", Some(b"k\"1"), &ALL).unwrap(), format!("{{\"a\":1,{facts}\"k\\\"1\"}}\n"));
        assert_eq!(lined(b"{}", Some(b"\x00\xff"), &ALL).unwrap(), format!("{{{facts}\"\\\\x00ff\"}}\n"));
        assert_eq!(lined(b"{}", None, &[Metadata::Key]).unwrap(), "{\"_key\":null}\n");
    }

    #[test]
    fn what_is_no_row_is_told() {
        assert_eq!(lined(b"\xff", None, &[]), Err(Unfit::NotText));
        assert!(matches!(lined(b"{\"a\": }", None, &[]), Err(Unfit::NotJson { .. })));
        assert!(matches!(lined(b"{\"a\": 1} x", None, &[]), Err(Unfit::NotJson { .. })));
        assert!(matches!(lined(b"", None, &[]), Err(Unfit::NotJson { .. })));
        for (value, found) in [("[1]", "a list"), ("\"x\"", "a string"), ("7", "a number"), ("null", "null")] {
            assert_eq!(lined(value.as_bytes(), None, &[]), Err(Unfit::NotObject { found }));
        }
        assert_eq!(lined(b"{\"_offset\":1}", None, &ALL), Err(Unfit::Taken { column: "_offset" }));
        assert_eq!(lined(b"{\"_offset\":1}", None, &[]).unwrap(), "{\"_offset\":1}\n");
    }
}
