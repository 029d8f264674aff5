//! The parameters of `ingest`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kafka::Offsets;
use crate::objects::{Access, AzureParams, GcsParams, S3Params};
use crate::types::ColumnType;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    /// A path (file, folder, pattern), an `http(s)://` address, `s3://bucket/key`, a database, or a topic.
    pub source: String,
    #[serde(default)]
    pub format: Option<Format>,
    #[serde(default)]
    pub csv: Option<CsvParams>,
    /// Types of columns; the others are inferred over all rows.
    #[serde(default)]
    pub schema: Option<BTreeMap<String, ColumnType>>,
    /// The columns to keep, in this order.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    #[serde(default)]
    pub s3: Option<S3Params>,
    #[serde(default)]
    pub gcs: Option<GcsParams>,
    #[serde(default)]
    pub azure: Option<AzureParams>,
    /// What is read of a database.
    #[serde(default)]
    pub sql: Option<SqlParams>,
    /// What is read of a topic.
    #[serde(default)]
    pub kafka: Option<KafkaParams>,
    /// What is read of a Delta table.
    #[serde(default)]
    pub delta: Option<DeltaParams>,
    /// The Delta table that the rows are appended to.
    #[serde(default)]
    pub table: Option<TableParams>,
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Auto,
    Csv,
    Jsonl,
    Parquet,
    Delta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CsvParams {
    #[serde(default)]
    pub delimiter: Option<OneByte>,
    #[serde(default)]
    pub header: Option<bool>,
    /// Names of the columns where there is no header.
    #[serde(default)]
    pub column_names: Option<Vec<String>>,
    #[serde(default)]
    pub quote: Option<OneByte>,
    #[serde(default)]
    pub null_values: Option<Vec<String>>,
    #[serde(default)]
    pub encoding: Option<Encoding>,
}

/// A character of the ASCII range, written as a string of one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OneByte(pub u8);

impl TryFrom<String> for OneByte {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_bytes() {
            [b'\n' | b'\r'] => Err("found a line end, expected another character, as \",\"".into()),
            [byte] if byte.is_ascii() => Ok(Self(*byte)),
            // People write what they would write in a shell or a language.
            br"\t" => Ok(Self(b'\t')),
            _ => Err(format!("found {text:?}, expected one ASCII character, as \";\" or \"\\t\"")),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Encoding {
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "latin1")]
    Latin1,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SqlParams {
    /// A query that selects.
    #[serde(default)]
    pub query: Option<String>,
    /// A table, or `schema.table`.
    #[serde(default)]
    pub table: Option<String>,
    /// Only rows that are new since another run.
    #[serde(default)]
    pub watermark: Option<Watermark>,
    /// No TLS: for a server that only this cluster reaches.
    #[serde(default)]
    pub allow_plaintext: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermark {
    /// A column whose values grow with time: a key that counts, or when a row was written.
    pub column: String,
    /// The value that the last run reached; empty for the first.
    #[serde(default)]
    pub above: Option<Bound>,
}

/// A value of a column as text: a number may be written as one.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Bound(pub String);

impl TryFrom<serde_json::Value> for Bound {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(format!("found {}, expected a number or a text", crate::params::kind(&other))),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KafkaParams {
    /// The first offset to read, by partition: the result `offsets` of an earlier run. Of a partition that is not named all is read.
    #[serde(default)]
    pub from: Option<Offsets>,
    /// Of partitions that `from` does not name only messages that are not older than this time.
    #[serde(default)]
    pub since: Option<String>,
    /// At most so many messages; the next run goes on behind them.
    #[serde(default)]
    pub max_messages: Option<u64>,
    /// What messages have beside their value, as columns.
    #[serde(default)]
    pub metadata: Option<Vec<Metadata>>,
    /// What is done where messages of `from` are deleted already.
    #[serde(default)]
    pub deleted: Option<Deleted>,
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// No TLS: for brokers that only this cluster reaches.
    #[serde(default)]
    pub allow_plaintext: Option<bool>,
    /// Files in PEM, for brokers that tell clients by their certificates.
    #[serde(default)]
    pub client_certificate: Option<String>,
    #[serde(default)]
    pub client_key: Option<String>,
}

/// A fact of a message; its column is named `_partition`, `_offset`, `_timestamp` or `_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    Partition,
    Offset,
    Timestamp,
    Key,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deleted {
    /// The stage fails and says what is missing.
    #[default]
    Fail,
    /// It goes on with the oldest message that is there.
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Sasl {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    Scram256,
    #[serde(rename = "SCRAM-SHA-512")]
    Scram512,
}

/// What is read of a Delta table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DeltaParams {
    /// A snapshot; empty for the last one.
    #[serde(default)]
    pub version: Option<Bound>,
    /// Only rows that came after this version; empty for the first run, which reads all.
    #[serde(default)]
    pub after: Option<Bound>,
    /// A column of type date or timestamp.
    #[serde(default)]
    pub time_column: Option<String>,
    /// Rows of so long before `until`.
    #[serde(default)]
    pub window: Option<String>,
    /// The end of the window, which does not belong to it; empty for the time at which it is read.
    #[serde(default)]
    pub until: Option<String>,
}

/// The Delta table that the rows are appended to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TableParams {
    /// In a bucket, as `s3://bucket/path`, or a mounted path. It is made by the first rows.
    pub uri: String,
    /// Whose position the table keeps: rows of the same name go on where the last ones ended.
    #[serde(default)]
    pub position: Option<String>,
    /// How its bucket is reached; otherwise as the source's.
    #[serde(default)]
    pub s3: Option<S3Params>,
    #[serde(default)]
    pub gcs: Option<GcsParams>,
    #[serde(default)]
    pub azure: Option<AzureParams>,
}

impl Params {
    /// The source, or the table that it is appended to, is at such an address.
    pub fn is_at(&self, schemes: &[&str]) -> bool {
        let both = std::iter::once(&self.source).chain(self.table.as_ref().map(|table| &table.uri));
        both.into_iter().any(|address| schemes.iter().any(|scheme| address.starts_with(scheme)))
    }

    /// How the bucket of the source is reached.
    pub fn access(&self) -> Access {
        Access {
            s3: self.s3.clone().unwrap_or_default(),
            gcs: self.gcs.clone().unwrap_or_default(),
            azure: self.azure.clone().unwrap_or_default(),
        }
    }
}

impl TableParams {
    /// How the table's bucket is reached.
    pub fn access(&self, source: &Params) -> Access {
        let Access { s3, gcs, azure } = source.access();
        Access {
            s3: self.s3.clone().unwrap_or(s3),
            gcs: self.gcs.clone().unwrap_or(gcs),
            azure: self.azure.clone().unwrap_or(azure),
        }
    }
}

impl CsvParams {
    /// What stands for "no value" where nothing else is said.
    pub const NULL_VALUES: [&str; 7] = ["", "NA", "N/A", "NaN", "nan", "NULL", "null"];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::parse;

    #[test]
    fn a_delimiter_is_one_character() {
        let read = |text: &str| {
            parse::<Params>("ingest", &format!(r#"{{"source": "x", "csv": {{"delimiter": {text}}}}}"#))
                .map(|params| params.csv.unwrap().delimiter.unwrap().0)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(r#"";""#), Ok(b';'));
        assert_eq!(read(r#""\t""#), Ok(b'\t'));
        assert_eq!(read(r#""\\t""#), Ok(b'\t'));
        assert!(read(r#"";;""#).unwrap_err().contains("csv.delimiter: found \";;\", expected one ASCII character"));
    }

    #[test]
    fn an_unknown_format_or_type_names_the_known_ones() {
        let message = |json: &str| parse::<Params>("ingest", json).unwrap_err().to_string();
        assert!(
            message(r#"{"source": "x", "format": "xml"}"#)
                .contains("expected one of `auto`, `csv`, `jsonl`, `parquet`, `delta`")
        );
        let wrong = message(r#"{"source": "x", "schema": {"mass": "float"}}"#);
        assert!(wrong.contains("schema.mass: unknown variant `float`, expected one of `string`, `integer`"), "{wrong}");
    }
}
