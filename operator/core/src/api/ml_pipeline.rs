//! `MLPipeline`: what to run and when.

use std::collections::BTreeMap;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Archive, ArchiveStatus, Artifacts, Cache, Condition, Lock, OnFailure, ParamSpec, PipelineInput, Retry, Stage,
    Store, Triggers, TriggersStatus, schema,
};

/// A graph of stages with parameters, and what starts a run of it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "MLPipeline",
    plural = "mlpipelines",
    shortname = "mlp",
    category = "millrace",
    namespaced,
    status = "MLPipelineStatus",
    derive = "Default",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = r#".status.conditions[?(@.type=="Ready")].lastTransitionTime"#
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Last Run", type_ = "string", json_path = ".status.lastRun"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.history) || !has(self.history.archive) || has(self.store)", "message": "history.archive writes into the store: write store, or take archive out" }
]))]
pub struct MLPipelineSpec {
    /// Parameters by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub params: BTreeMap<String, ParamSpec>,
    /// Artifacts that a run is given, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub inputs: BTreeMap<String, PipelineInput>,
    /// Where artifacts lie. Needed as soon as a stage has an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// What starts a run by itself. Without it runs are created by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
    /// How many runs of it run at a time. Default: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Locks that a run holds from its beginning to its end, by names that all pipelines of the namespace share. Until it has all of them a run does
    /// not begin. A stage's own locks are in its `locks`; a pipeline has these or those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub locks: BTreeMap<String, Lock>,
    /// Which finished runs are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// What a stage has unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// From the start of a run to the end of its `stages`, without the time in which it is suspended, or waits for people and nothing of it runs.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
    /// Stages by name.
    #[schemars(extend("maxProperties" = 256, "minProperties" = 1))]
    pub stages: BTreeMap<String, Stage>,
    /// Stages, with the same fields, that run when all others have ended, however that was: after a failure, a timeout and `cancel: Graceful` too.
    /// They see
    /// `run.status` (`Succeeded`, `Failed` or `Canceled`), `run.reason`, `run.message` and `stages.<s>.status`. The run's `timeout` does not count for them, and one that
    /// fails fails the run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub finally: BTreeMap<String, Stage>,
}

/// How many runs of a pipeline run at a time. A run that has not begun, because it waits or is suspended, does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.max) || self.policy != 'Allow'", "message": "Allow has no bound: leave max out, or write the policy Queue, Forbid or Replace" }
]))]
pub struct Concurrency {
    pub policy: ConcurrencyPolicy,
    /// Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<u32>,
    /// Of a run that has no `priority` of its own. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: Option<i32>,
}

/// What becomes of a run when as many run already as may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// There is no bound.
    #[default]
    Allow,
    /// It waits its turn: the highest priority first, then the oldest.
    Queue,
    /// It ends at once, as `ConcurrencyForbidden`.
    Forbid,
    /// The oldest is canceled, as by `cancel: Graceful`, and it begins when that has ended.
    Replace,
}

/// Which finished runs are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.artifacts) || has(self.archive)", "message": "artifacts are taken out by the pod of the archive: write archive too, archive: {} is enough" }
]))]
pub struct History {
    /// Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub keep_succeeded: Option<u32>,
    /// Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub keep_failed: Option<u32>,
    /// A finished run is deleted after this time. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub ttl: Option<String>,
    /// Finished runs are written into the store. Default: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// Artifacts of deleted runs are taken out of the store. Default: they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
}

/// What a stage has unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// How often a failed stage is tried again, for one that has no `retry`, nor its StageTemplate. Failures of the
    /// infrastructure (an eviction, a lost node) are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// For a stage that has no `timeout`, nor its StageTemplate: from the start of its program to SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
    /// For a stage that has no `pendingTimeout`: how long its pod may wait for a node, its image or its volumes. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub pending_timeout: Option<String>,
    /// For a stage of `stages` that has no `onFailure`; `FailAtEnd` is what `failFast: false` is elsewhere. A stage that asks a person stops the run
    /// whatever this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// For a stage of `stages` that has no `cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// As a stage's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MLPipelineStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, and kstatus's `Ready`, `Reconciling`, `Stalled`; `TriggersReady` and `Archived` where there is something to say of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The run that was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Key of the last change that started a run: the digest of what it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change: Option<String>,
    /// How far the other triggers have come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<TriggersStatus>,
    /// The numbers of its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_numbers: Option<RunNumbers>,
    /// How far `history.archive` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Box<ArchiveStatus>>,
}

/// How the runs of a pipeline are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunNumbers {
    /// The last number that was given.
    pub last: i64,
    /// The last ones by the uid of their run, which takes its own before it begins.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<String, i64>,
}
