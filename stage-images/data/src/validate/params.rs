//! The parameters of `validate`: a list of expectations, each with exactly one check.

use serde::Deserialize;
use serde_json::Value;

use crate::types::ColumnType;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    pub expectations: Vec<Expectation>,
}

/// One expectation as it is written. Which check it is follows from the keys that are there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    pub name: Option<String>,
    #[serde(default)]
    pub severity: Severity,
    pub column: Option<String>,
    pub columns: Option<Columns>,
    #[serde(rename = "type")]
    pub column_type: Option<ColumnType>,
    pub not_null: Option<bool>,
    pub max_null_fraction: Option<f64>,
    pub min: Option<Value>,
    pub max: Option<Value>,
    pub unique: Option<bool>,
    pub allowed: Option<Vec<Value>>,
    pub matches: Option<String>,
    pub rows: Option<Bounds>,
    pub freshness: Option<Freshness>,
    pub sql: Option<String>,
    pub max_rows: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The stage fails.
    #[default]
    Error,
    /// The report says so.
    Warn,
}

/// A list of columns (with `unique`), or what the table's columns must be.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a list of columns (with `unique`), or {exactly: […]} or {include: […]}")]
pub enum Columns {
    Names(Vec<String>),
    Rule(ColumnRule),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum ColumnRule {
    Exactly(Vec<String>),
    Include(Vec<String>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    pub min: Option<u64>,
    pub max: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Freshness {
    pub column: String,
    /// A duration: `24h`, `7d`, `90m`.
    pub max_age: String,
}
