//! What routers ask a Prometheus, and what they tell of its answers. They ask, because they are the tenant's: the operator dials no address
//! that a user gives.

use serde::{Deserialize, Serialize};

use crate::security::Entry;

/// A query that every router asks every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Query {
    /// Names all of the rest: answers to another query never count as answers to this one.
    pub id: String,
    /// Where `/api/v1/query` is.
    pub address: String,
    pub query: String,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Entry>,
    /// The certificate authority of an address with `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Entry>,
}

impl Query {
    /// Queries of one model, and bytes of each: they are in the routes of the whole namespace.
    pub const MOST: usize = 32;
    pub const LONGEST: usize = 4096;
}

/// What became of a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryStats {
    /// The number of the last answer; none where that has no finite number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// So many milliseconds ago the question of the last answer was asked. None: there was no answer yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Questions since then that got no answer.
    #[serde(default)]
    pub errors: u64,
    /// Why the last question has no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
