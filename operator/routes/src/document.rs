//! The document of routes. Strict: a field that is not known is an error, so that a typing error is never a silent default.

use serde::{Deserialize, Serialize};

use crate::graph::Graph;
use crate::log::Log;
use crate::query::Query;
use crate::security::Security;
use crate::stream::Stream;

/// The key of the document in its ConfigMap, and the name of its file where that is mounted.
pub const ROUTES_KEY: &str = "routes.json";

/// Weights are drawn in this many buckets.
pub const BUCKETS: u16 = 10_000;

/// All that one router serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Routes {
    pub models: Vec<Model>,
}

/// One model: a port of its own, and where its requests go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Model {
    pub name: String,
    /// The router listens for this model here.
    pub port: u16,
    /// Counts the changes of its weights: the router says which of them it has in force.
    #[serde(default)]
    pub generation: u64,
    /// Where none has a weight above 0, every request that no rule decides is answered 503.
    pub revisions: Vec<Revision>,
    /// The first rule that matches decides, before stickiness and weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    #[serde(default)]
    pub queue: Queue,
    #[serde(default)]
    pub limits: Limits,
    /// Default: whoever comes is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// What is asked of a Prometheus for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<Query>,
    /// What of its requests and answers is sent to a sink. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// The messages that it answers. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// It is no model: its answers are made of those of models. Default: its revisions answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Graph>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Revision {
    pub name: String,
    /// The Service whose EndpointSlices hold this revision's pods.
    pub service: String,
    /// The pods' port.
    pub port: u16,
    /// Its share of the sum of all weights. 0: only header rules and the shadow lead to it.
    pub weight: u32,
    /// Requests that one pod takes at once. Default: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The Deployment that the first request scales from 0 to 1. Default: somebody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// What a pod answers with 200 when it can serve. While requests are held, a pod that does so is used before the kubelet has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_path: Option<String>,
    #[serde(default)]
    pub protocol: Protocol,
}

/// How the router speaks to pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// gRPC goes by HTTP/2, everything else by HTTP/1.1.
    #[default]
    Auto,
    Http1,
    Http2,
}

/// Requests whose header has exactly this value go to this revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderRule {
    pub header: String,
    pub value: String,
    pub revision: String,
}

/// Requests with the same value of this header are drawn alike, as long as the weights stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sticky {
    pub header: String,
}

/// Copies of requests go to this revision as well; its answers are compared, and nobody waits for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Shadow {
    pub revision: String,
    /// The share of requests that is copied, over 0 to 1.
    pub sample: f64,
    /// A request or an answer with a longer body is not copied.
    #[serde(default = "Shadow::default_body_bytes")]
    pub body_bytes: u64,
}

impl Shadow {
    #[must_use]
    pub fn default_body_bytes() -> u64 {
        1 << 20
    }
}

/// Requests that wait for a pod, for each revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Queue {
    /// One more is answered 503.
    pub max: u32,
    /// One that waited so long is answered 504.
    pub timeout_ms: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { max: 1000, timeout_ms: 120_000 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Limits {
    /// A longer request body is answered 413. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// A pod that has not begun to answer after this time is given up: 504. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<u64>,
}
