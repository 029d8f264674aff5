//! What of a model's requests and answers routers send to a sink, as CloudEvents, and what they tell of it. Routers send it, because they are
//! the tenant's: the operator dials no address that a user gives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::security::Entry;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Log {
    /// Names where events come from, beside the name of the model in the routes.
    pub namespace: String,
    /// What the model is called.
    pub model: String,
    /// Its registered version in each revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, i64>,
    /// Its digest in each revision that serves one which is not registered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// The share of requests that is sent, over 0 to 1.
    pub sampling: f64,
    /// A longer body is left out.
    pub body_bytes: u64,
    pub sink: Sink,
}

/// Where events go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sink {
    pub address: String,
    /// Many events in a request, as CloudEvents' batched mode has them.
    #[serde(default)]
    pub batched: bool,
    /// It is Millrace's own and says in a line why it takes nothing. What any other answers is nobody's to read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tells: bool,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Entry>,
    /// The certificate authority of an address with `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Entry>,
}

impl Log {
    /// Bytes of a body that may be sent.
    pub const LONGEST_BODY: u64 = 1 << 20;
}

/// What became of the events of a model. A request is one, its answer another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStats {
    pub delivered: u64,
    /// There was no room for them: they come faster than the sink takes them.
    pub dropped: u64,
    /// The sink would not take them, or could not be reached.
    pub failed: u64,
    /// Why the last one that failed did, until one is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
