//! `triggers.onPipeline`: the success of another pipeline starts a run.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Value, schema};

/// Each run of another pipeline that succeeds starts a run of this one, once. Its stages read the name of that run as `run.upstream`, and its
/// `run.scheduledTime` is that run's. Runs that have succeeded before the trigger is there start nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineTrigger {
    /// Another MLPipeline of the namespace. Pipelines that start each other in a circle are refused.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub pipeline: String,
    /// Which of its runs count. Default `Succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<UpstreamOutcome>,
    /// Starts nothing. What succeeds meanwhile was not missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Values for the pipeline's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
}

/// How a run has to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpstreamOutcome {
    /// It succeeded, whatever its gates and approvals said.
    #[default]
    Succeeded,
    /// It succeeded, and no gate rejected, nobody disapproved, and every `deploy` stage was reached.
    Promoted,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineTriggerStatus {
    /// Pipeline and outcome that this is said of. With others it begins anew.
    #[serde(default)]
    pub rule: String,
    /// When the trigger was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Of the other pipeline's runs that are there, those that start nothing any more: the last 200, by uid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000), inner(length(max = 64)), extend("x-kubernetes-list-type" = "atomic"))]
    pub done: Vec<String>,
    /// Where there are more, the last one of the others: up to it none starts anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_until: Option<EndedRun>,
    /// Runs that were started.
    #[serde(default)]
    pub runs: i64,
    /// When the last run was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Why nothing can start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A run, and when it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedRun {
    pub time: Time,
    #[schemars(length(max = 64))]
    pub uid: String,
}
