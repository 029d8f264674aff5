//! `forEach`: a stage that runs once for each item of a list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Value, schema};

/// Runs the stage's program once for each item of a list of at most 10,000: exactly one of `items`, `range` and `from`. The stage is over when
/// every item is, and its outputs are folders with an entry for each item, named by its index. With `pipeline` there are at most 1,000 items, no
/// `from`, and one output, `items`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!(has(self.range) && has(self.from))", "message": "exactly one of items, range and from is required" }
]))]
pub struct ForEach {
    /// A list of any values, or an expression that gives one: `$[[ params.regions ]]`. 900 KiB at most; a longer one comes `from` a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_value")]
    pub items: Option<Value>,
    /// Numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<ItemRange>,
    /// An earlier stage's output, `<stage>.<output>`: a file with one JSON value in each line, or with one JSON list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 127))]
    pub from: Option<String>,
    /// So many items run at a time.
    #[serde(default = "parallelism", skip_serializing_if = "is_usual")]
    #[schemars(range(min = 1, max = 1000))]
    pub parallelism: u32,
    /// Once an item has failed for good the others are stopped. Otherwise they all run; the stage has failed in both cases.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub fail_fast: bool,
}

/// The numbers `start`, `start + step`, … : `count` of them. Each is a number, or an expression `$[[ … ]]` that gives one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemRange {
    /// A whole number from 0 to 10,000.
    #[schemars(schema_with = "schema::any_value")]
    pub count: Value,
    /// Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_value")]
    pub start: Option<Value>,
    /// Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_value")]
    pub step: Option<Value>,
}

fn parallelism() -> u32 {
    32
}

// What is not written is not kept: a release with other defaults starts no run.
fn is_usual(number: &u32) -> bool {
    *number == parallelism()
}

fn yes() -> bool {
    true
}

fn is_true(yes: &bool) -> bool {
    *yes
}

impl Default for ForEach {
    fn default() -> Self {
        Self { items: None, range: None, from: None, parallelism: parallelism(), fail_fast: yes() }
    }
}
