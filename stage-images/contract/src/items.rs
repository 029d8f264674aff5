//! A stage that runs once for each item of a list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::TaskSource;

/// A list has at most this many items.
pub const MOST_ITEMS: u64 = 10_000;
/// The output that lists every item with its results and metrics, one JSON object in each line.
pub const ITEMS_OUTPUT: &str = "items";
/// The item, for the program: text as it is, anything else as JSON.
pub const ITEM_ENV: &str = "MILLRACE_ITEM";
/// The place of the item in the list, from 0.
pub const ITEM_INDEX_ENV: &str = "MILLRACE_ITEM_INDEX";
/// How often the item was tried before, as the Job counts: failures of its own, and of the infrastructure.
pub const ITEM_RETRIES_ENV: [&str; 2] = ["MILLRACE_ITEM_FAILURES", "MILLRACE_ITEM_DISRUPTIONS"];

/// How the agent of an item ends where `retry.when` lets there be no other attempt: the Job gives the item up.
pub const ITEM_GIVEN_UP: u8 = 79;

/// What a pod of such a stage is told of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskItems {
    pub total: u64,
    pub source: ItemSource,
    /// What is filled in for the item, as `millrace-core` writes and reads it. Without it the pod collects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Value>,
    /// What became of the items is known already: the list is what the output `items` is to be, each line a [`ToldItem`] besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
}

/// The store of a stage whose items are runs: what they made lies elsewhere in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Told {
    /// Begins the address of all that is in it: `pvc://artifacts/`, `s3://bucket/`.
    pub store: String,
    /// The stage's folder below that.
    pub folder: String,
}

/// The field of [`ToldItem`], which is for the agent alone: it is not in the output `items`.
pub const TOLD_OUTPUTS: &str = "outputs";

/// What a line says of outputs, among other things.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldItem {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, ToldOutput>,
}

/// Where an output lies that a stage of another run made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldOutput {
    pub uri: String,
    pub digest: String,
}

/// Where the items are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ItemSource {
    /// At [`crate::ITEMS_PATH`].
    File {
        digest: String,
        size: u64,
        /// The agent brings it from here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<TaskSource>,
    },
    /// `start + index * step`.
    Range { start: f64, step: f64 },
}

/// An item of a range. A whole number is written as one.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub fn in_range(start: f64, step: f64, index: u64) -> Value {
    let number = start + step * index as f64;
    if number.fract() == 0.0 && number.abs() < 9.0e15 { Value::from(number as i64) } else { Value::from(number) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_of_a_range_are_whole_where_they_can_be() {
        assert_eq!(in_range(0.0, 1.0, 3), json!(3));
        assert_eq!(in_range(1.0, 0.25, 2), json!(1.5));
        assert_eq!(in_range(10.0, -2.0, 6), json!(-2));
    }
}
