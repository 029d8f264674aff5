//! `MLPipelineRun`: one execution of a pipeline.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::approve;
use super::stage::is_artifact;
use super::{
    Approval, ApprovalStatus, ArtifactType, CacheStatus, Condition, LocksStatus, MLPipelineSpec, RunCache, RunInput,
    StoreAccess, Value, schema,
};

/// One execution of a pipeline: by `pipelineRef`, or of a whole pipeline written in place.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "MLPipelineRun",
    plural = "mlpipelineruns",
    shortname = "mlr",
    category = "millrace",
    namespaced,
    status = "MLPipelineRunStatus",
    derive = "Default",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    selectable = ".spec.pipelineRef.name",
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.pipelineRef.name"),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].reason"#),
    printcolumn(name = "Stages", type_ = "string", json_path = ".status.progress"),
    printcolumn(
        name = "Promoted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Promoted")].status"#
    ),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime"),
    printcolumn(name = "Completed", type_ = "date", json_path = ".status.completionTime"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger.kind", priority = 1),
    printcolumn(name = "Scheduled", type_ = "string", json_path = ".spec.scheduledTime", priority = 1),
    printcolumn(name = "Number", type_ = "integer", json_path = ".status.number", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Succeeded")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.scheduledTime) || (self.scheduledTime >= timestamp('1970-01-01T00:00:00Z') && self.scheduledTime <= timestamp('3000-01-01T00:00:00Z'))", "message": "scheduledTime must lie in the years 1970 to 2999" },
    { "rule": "has(self.pipelineRef) != has(self.pipeline)", "message": "exactly one of pipelineRef and pipeline is required" },
    { "rule": "!has(self.pipeline) || !(has(self.pipeline.triggers) || has(self.pipeline.history) || has(self.pipeline.concurrency))", "message": "triggers, history and concurrency belong to an MLPipeline: take them out" },
    { "rule": "has(self.pipelineRef) == has(oldSelf.pipelineRef) && (!has(self.pipelineRef) || self.pipelineRef == oldSelf.pipelineRef) && has(self.pipeline) == has(oldSelf.pipeline) && (!has(self.pipeline) || self.pipeline == oldSelf.pipeline) && has(self.params) == has(oldSelf.params) && (!has(self.params) || self.params == oldSelf.params) && has(self.inputs) == has(oldSelf.inputs) && (!has(self.inputs) || self.inputs == oldSelf.inputs) && has(self.trigger) == has(oldSelf.trigger) && (!has(self.trigger) || self.trigger == oldSelf.trigger) && has(self.scheduledTime) == has(oldSelf.scheduledTime) && (!has(self.scheduledTime) || self.scheduledTime == oldSelf.scheduledTime) && has(self.ttl) == has(oldSelf.ttl) && (!has(self.ttl) || self.ttl == oldSelf.ttl) && has(self.cache) == has(oldSelf.cache) && (!has(self.cache) || self.cache == oldSelf.cache) && has(self.code) == has(oldSelf.code) && (!has(self.code) || self.code == oldSelf.code)", "message": "the spec of a run cannot be changed, but for priority, suspend, cancel, retryFrom and approvals: create another run" }
]))]
pub struct MLPipelineRunSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_ref: Option<PipelineRef>,
    /// A whole pipeline, for a run without an MLPipeline: without triggers, history and concurrency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<MLPipelineSpec>,
    /// Values for the pipeline's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
    /// What it is given for the pipeline's `inputs`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub inputs: BTreeMap<String, RunInput>,
    /// Of all its stages, and of the runs that belong to it. Default: as the pipeline says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<RunCache>,
    /// The folder that programs of stages run in. `kubectl millrace run --code` writes it, and puts the folder into the pipeline's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<RunCode>,
    /// What started the run; set by the operator. Absent for a run that a person created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<RunTrigger>,
    /// The time that the run is for, which its stages read as `run.scheduledTime`: of the schedule that started it, or what a person writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
    /// The run is deleted this long after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub ttl: Option<String>,
    /// Where it waits, in the queue of its pipeline or for a lock, the higher goes first, and of equals the older. It ends nothing that runs. Default: the
    /// pipeline's `concurrency.priority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: Option<i32>,
    /// Begin nothing new; what runs goes on. False goes on with the run, whose `timeout` does not count in between. A stage's `timeout` and
    /// `pendingTimeout` do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Ends the run. It cannot be taken back, but `Graceful` can be made `Now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Cancel>,
    /// Begins a run that has ended again, with what it was frozen with. What succeeded is not run again; `finally` is. Takes `cancel` out first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_from: Option<RetryFrom>,
    /// What people decide, by `approve` stage. A decision may be there before the stage is reached, and counts then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub approvals: BTreeMap<String, Approval>,
}

/// A folder of a person's, as an archive below `code/` of the pipeline's store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunCode {
    /// Of the archive, whose name follows from it: `code/<hex>/files.tar`. The same files make the same archive.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Bytes of the archive.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub size: u64,
    /// The git commit that was checked out there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-f]{7,64}$"))]
    pub commit: Option<String>,
    /// Something there was other than in that commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dirty: bool,
}

/// How a run is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cancel {
    /// What runs gets SIGTERM and its grace period, nothing new begins, and then `finally` runs.
    Graceful,
    /// Programs get a second, and `finally` does not run.
    Now,
}

/// What of a run that has ended is run again: exactly one of `failed` and `stage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "(has(self.failed) && self.failed) != has(self.stage)", "message": "write failed: true, or stage: <name>" }
]))]
pub struct RetryFrom {
    /// The stages that failed, and those that were not begun because of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// This stage, all that depend on it, and those that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub stage: Option<String>,
    /// To ask for the same once more, write another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub number: Option<u32>,
}

/// Rules that look at spec and status together.
pub(super) fn rules() -> Value {
    let mut rules = serde_json::json!([
        {
            "rule": "!has(oldSelf.spec.cancel) || (has(self.spec.cancel) && (self.spec.cancel == oldSelf.spec.cancel || self.spec.cancel == 'Now')) || (has(oldSelf.status) && has(oldSelf.status.completionTime))",
            "message": "spec.cancel cannot be taken back: wait for the end of the run, and begin it again with retryFrom"
        },
        {
            "rule": "!has(self.spec.retryFrom) || (has(oldSelf.spec.retryFrom) && self.spec.retryFrom == oldSelf.spec.retryFrom) || (has(oldSelf.status) && has(oldSelf.status.completionTime))",
            "message": "spec.retryFrom begins a run again that has ended: wait for its end, or end it with cancel"
        },
        {
            "rule": "!has(self.spec.retryFrom) || !has(self.spec.cancel) || (has(oldSelf.spec.retryFrom) && self.spec.retryFrom == oldSelf.spec.retryFrom)",
            "message": "take spec.cancel out to begin the run again with retryFrom"
        }
    ]);
    rules.as_array_mut().into_iter().for_each(|rules| rules.extend(approve::rules()));
    rules
}

/// An MLPipeline of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRef {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunTrigger {
    /// `Change`, `Schedule`, `Backfill`, `Model`, `Pipeline` or `Data`.
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Which one of that kind, as the pipeline's `triggers` have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub name: Option<String>,
    /// One trigger starts one run: the same key is the same trigger.
    #[schemars(length(max = 128))]
    pub key: String,
    /// Of `Pipeline`: the run of the other pipeline, which stages read as `run.upstream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub run: Option<String>,
    /// Of `Data`: what the data were called, which stages read as `run.dataVersion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MLPipelineRunStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Succeeded` (Unknown while it runs), `Promoted`, and kstatus's `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Which run of its pipeline it is, counted from 1, which stages read as `run.number`. No other run of the pipeline ever has the same. There is none
    /// where nothing asks for it, and where the pipeline is written in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// When it began, or was begun again by `retryFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The `retryFrom` that was done last, and when it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_from: Option<RetryFrom>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_time: Option<Time>,
    /// Since when it is suspended, after it began, or waits for people and nothing else of it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_time: Option<Time>,
    /// How long it was so before: time that does not count for its `timeout`.
    #[serde(default, skip_serializing_if = "is_none_of")]
    pub suspended_seconds: u64,
    /// Its own locks: those it waits for, or holds since it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locks: Option<LocksStatus>,
    /// The ControllerRevision that holds what this run runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
    /// Stages that succeeded of all: `3/7`. Those that failed, were skipped or were taken from the cache are told too: `3/7, 1 failed, 3 skipped`,
    /// `3/7, 2 cached`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// What all stages used together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<StageUsage>,
    /// Of a run with a store: what reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentImage>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, StageStatus>,
}

/// Where a stage stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StageState {
    /// Waits for other stages.
    #[default]
    Waiting,
    /// An attempt was made and its pod has not started, or it waits for a person or a lock. Reason and message say what it waits for.
    Pending,
    Running,
    /// An attempt failed; another will be made at `nextAttemptTime`.
    BackingOff,
    Succeeded,
    Failed,
    Skipped,
}

impl StageState {
    #[must_use]
    pub fn ended(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Skipped => true,
            Self::Waiting | Self::Pending | Self::Running | Self::BackingOff => false,
        }
    }
}

/// One stage of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    pub state: StageState,
    /// Why, in one word: the report's, the kubelet's or the scheduler's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence, with the last lines of a program that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Attempts made so far. The current one has this number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// How often `retryFrom` began it again from nothing. What it writes then has a folder of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// Attempts that failed and count against `retry.limit`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Attempts that the infrastructure ended; not counted against `retry.limit`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disruptions: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// When the current attempt was made; `pendingTimeout` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The memory limit of the current or next attempt, where it is not the stage's own: one before it ran out of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The Job of the current attempt. Its uid is known once it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRef>,
    /// Of a stage with `pipeline` and without `forEach`: its run. The uid is known once it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRef>,
    /// Digest of the image that ran, as the kubelet reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Which models the inputs with `deployed` or `model` were when the current attempt was made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, ResolvedInput>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub results: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Metrics of the deployed model on the same rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub champion: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputStatus>,
    /// `register`: the ModelVersion. `deploy`: the version that was set. `report`: the version that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<StageUsage>,
    /// `forEach`: how far its items are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemsStatus>,
    /// Its locks: those it waits for, or holds until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locks: Option<LocksStatus>,
    /// Of an `approve` stage, once it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalStatus>,
    /// What the cache knows of it, or has given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Box<CacheStatus>>,
    /// How often the run made it again because what it had made was lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub remade: u32,
}

/// How far the items of a stage with `forEach` are. Written every few seconds at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemsStatus {
    pub total: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub succeeded: u32,
    /// For good.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub running: u32,
    /// Of a stage with `pipeline`: of the items before this one each has had its run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begun: u32,
    /// When these counts were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Every item is done, and the current attempt collects what they made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collecting: bool,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_none_of(n: &u64) -> bool {
    *n == 0
}

/// The Job of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// The MLPipelineRun of a stage with `pipeline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRef {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// Which model, or which artifact that the run was given, an input was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedInput {
    /// The ModelVersion, or nothing if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How its store is reached, unless it is a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
}

/// One output of a stage that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    #[serde(rename = "type", default, skip_serializing_if = "is_artifact")]
    #[schemars(with = "String", extend("enum" = ["artifact", "model"]))]
    pub kind: ArtifactType,
    /// `pvc://<claim>/<path>`, or `s3://`, `gs://` or `az://`, the bucket and the path.
    pub uri: String,
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Of an address that is no claim: how its store is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_value")]
    pub signature: Option<Value>,
    /// How many items it lists, where a `forEach` runs over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub items: Option<u64>,
}

/// What the attempts of a stage used, all of them together, those that failed too; or the stages of a run. Of an attempt that was ended before its
/// agent could report nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageUsage {
    pub cpu_seconds: f64,
    /// The most that one pod had at once.
    pub peak_memory_bytes: u64,
    /// How long programs ran, those of items and of stages that ran side by side added up.
    pub wall_seconds: f64,
    /// Devices times how long a program had them, by resource such as `nvidia.com/gpu`: as `resources` asks for them, used or not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub device_seconds: BTreeMap<String, f64>,
}

/// The image of the agent, as it was when the run began. `kubectl millrace logs` and `cp` read by it what lies in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentImage {
    #[schemars(length(max = 1024))]
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub pull_policy: Option<String>,
    /// Secrets with credentials for its registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pull_secrets: Vec<String>,
}
