//! `history.archive` and `history.artifacts`: what stays of runs that are over, and what becomes of their artifacts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AgentImage, schema};

/// Finished runs are written into the store, one line of JSON each. A pod of the namespace does that, for all that have ended since the last
/// one. A run that is not wanted any more is deleted when it is written. Where that fails it waits for a day from the first failure on, and more than 500
/// runs do not wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// The least time between two pods. `10s` to `30d`. Default `1d`. While there is nothing to do there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub every: Option<String>,
}

/// Artifacts of runs that are deleted are taken out of the store once nothing has needed them for a while. What a ModelVersion names, a run that is
/// there, or anything else of the namespace that has the address, stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifacts {
    /// So long nothing must have needed them. `0s` to `1000d`. Default `7d`. It begins when a pod of the archive first finds them so, and another
    /// one takes them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub grace_period: Option<String>,
    /// Takes nothing out: `status.archive.artifacts` says what would go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// How far `history.archive` and `history.artifacts` are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveStatus {
    /// When it was first seen that runs are to be archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last pod ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// Pods that ended, well or not, and said so.
    #[serde(default)]
    pub reports: i64,
    /// Runs that were written.
    #[serde(default)]
    pub runs: i64,
    /// Of the runs that are there, those that are written: the first characters of a digest of uid and end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4000), inner(length(max = 8)), extend("x-kubernetes-list-type" = "atomic"))]
    pub done: Vec<String>,
    /// How many runs were there for the last pod.
    #[serde(default)]
    pub kept: i64,
    /// Of runs that are gone: how many of their folders have something in them yet.
    #[serde(default)]
    pub left: i64,
    /// From when on it is worth while to look at those again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// What the last pod that found anything took out, or would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<RemovedArtifacts>,
    /// Which store it is, by a digest of where it lies. In another one everything begins anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub store: String,
    /// The agent's image: `kubectl millrace history` reads by it, also when no run is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentImage>,
    /// Since when runs could not be written: the first failure after the last pod that ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
    /// What keeps the pod from its work, or something from being taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ArchiveError>,
}

/// Artifacts that were taken out of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovedArtifacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// They were not: this is what would go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Runs of whose artifacts something went.
    #[serde(default)]
    pub runs: i64,
    #[serde(default)]
    pub files: i64,
    #[serde(default)]
    pub bytes: i64,
    /// The first of those folders below `runs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 300)), extend("x-kubernetes-list-type" = "atomic"))]
    pub first: Vec<String>,
}

/// Why runs cannot be archived, or artifacts not be taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    #[schemars(length(max = 64))]
    pub reason: String,
    #[schemars(length(max = 1024))]
    pub message: String,
}
