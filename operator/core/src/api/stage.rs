//! A stage of a pipeline, and what stands in it.

use std::collections::BTreeMap;

pub use millrace_contract::ArtifactKind as ArtifactType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Approve, Cache, Container, ForEach, KeyRef, Lock, NestedPipeline, PodSettings, Report, SecretName, TableInput,
    Value, schema,
};

/// One step of a pipeline: exactly one of `uses`, `container`, `pipeline`, `approve`, `register`, `deploy` and `report`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.uses), has(self.container), has(self.pipeline), has(self.approve), has(self.register), has(self.deploy), has(self.report)].filter(x, x).size() == 1", "message": "a stage is exactly one of uses, container, pipeline, approve, register, deploy and report" },
    { "rule": "has(self.uses) || !(has(self.with) || has(self.overrides))", "message": "with and overrides belong to a stage with uses" },
    { "rule": "has(self.container) || !has(self.outputs)", "message": "outputs belong to a stage with container: with uses they come from the StageTemplate" },
    { "rule": "(has(self.uses) || has(self.container)) || !(has(self.gate) || has(self.timeout) || has(self.pendingTimeout))", "message": "gate, timeout and pendingTimeout belong to a stage with uses or container" },
    { "rule": "has(self.uses) || has(self.container) || has(self.pipeline) || !(has(self.inputs) || has(self.retry))", "message": "inputs and retry belong to a stage with uses, container or pipeline" },
    { "rule": "has(self.uses) || has(self.container) || has(self.pipeline) || !has(self.forEach)", "message": "forEach belongs to a stage with uses, container or pipeline" },
    { "rule": "!(has(self.pipeline) && has(self.forEach)) || !has(self.forEach.from)", "message": "with pipeline, forEach has items or a range" },
    { "rule": "has(self.uses) || has(self.container) || !has(self.cache)", "message": "cache belongs to a stage with uses or container" },
    { "rule": "has(self.uses) || has(self.container) || !has(self.code)", "message": "code belongs to a stage with uses or container" },
    { "rule": "(has(self.uses) || has(self.container) || has(self.deploy)) || !has(self.locks)", "message": "locks belong to a stage with uses, container or deploy" }
]))]
pub struct Stage {
    /// Stages that come before this one, besides those it refers to. Each must have succeeded, have been skipped by its own `when`, or
    /// have failed with `onFailure: Continue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub needs: Vec<String>,
    /// CEL over `params`, `run` and earlier `stages`: false skips the stage, and with it those that use what it makes. Naming
    /// `stages.<s>.status` here lets the stage run whatever became of `<s>`: `Succeeded`, `Failed` or `Skipped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// What its failure does to the rest: `Stop` begins nothing new and fails the run; `FailAtEnd` skips what needs it, lets the rest run to its
    /// end and fails the run; `Continue` only skips what uses what it makes. Default: what `defaults` says, else `Stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// A StageTemplate: of the own namespace first, then of the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub uses: Option<String>,
    /// The StageTemplate's parameters. Text may hold templates `$[[ … ]]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub with: BTreeMap<String, Value>,
    /// Pod settings laid over the StageTemplate's: maps by key, the rest as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<PodSettings>,
    /// A program of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Whether the program runs in the folder that `kubectl millrace run --code` brought, where the run has one. Default: with `container` yes, with
    /// `uses` no. A result is taken from the cache only if the folder is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<bool>,
    /// Another pipeline, run as a part of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<NestedPipeline>,
    /// What the stage reads, by name: its program finds the path of `data` in `MILLRACE_INPUT_DATA`. With `pipeline` what that pipeline is given, by the
    /// names of its own `inputs`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub inputs: BTreeMap<String, Input>,
    /// What the stage writes, by name: its program finds the path of `data` in `MILLRACE_OUTPUT_DATA`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub outputs: BTreeMap<String, Output>,
    /// Runs the program once for each item of a list, each in a pod of its own; with `pipeline` that pipeline, each time as a run of its own.
    /// Expressions of the stage know `item` and `index`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// What the stage's metrics must be for those after it to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Whether an earlier result is taken instead of running it. Default: `defaults.cache`. Without that too a stage that has inputs and outputs
    /// is cached like with `mode: Auto`, and any other is not. Only an image by digest is cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Approve>,
    /// Makes an immutable ModelVersion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<Register>,
    /// Sets the version that a ModelDeployment serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    /// Brings the live metrics of a ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// How often a failed stage is tried again. Failures of the infrastructure (an eviction, a lost node) are not counted.
    /// Default: the StageTemplate's, else `defaults.retry`, else none. With `pipeline` each try is another run of it, there is no default, and `limit` and
    /// `backoff` are all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What the stage holds while it runs, by names that all pipelines of the namespace share. Until it has all of them nothing of it begins, and no
    /// `timeout` of the stage counts; it holds them through its retries, to its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub locks: BTreeMap<String, Lock>,
    /// From the start of the program to SIGTERM. Default: `defaults.timeout`, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
    /// How long a pod may wait for a node, its image or its volumes. Default: `defaults.pendingTimeout`, else 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub pending_timeout: Option<String>,
}

/// Where an input comes from: exactly one of `from`, `uri`, `table`, `deployed`, `model` and `input`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.from), has(self.uri), has(self.table), has(self.deployed), has(self.model), has(self.input)].filter(x, x).size() == 1", "message": "exactly one of from, uri, table, deployed, model and input is required" },
    { "rule": "!has(self.default) || has(self.from)", "message": "default belongs to an input with from" },
    { "rule": "has(self.uri) || !(has(self.digest) || has(self.maxAge) || has(self.access))", "message": "digest, maxAge and access belong to an input with uri" },
    { "rule": "!(has(self.uri) || has(self.table)) || !has(self.optional) || !self.optional", "message": "optional belongs to an input with from, deployed, model or input: what a uri or a table names has to be there" },
    { "rule": "!has(self.mode) || self.mode == 'Path' || !(has(self.digest) || has(self.maxAge) || has(self.access))", "message": "with mode: Uri nothing is read: take digest, maxAge and access out" },
    { "rule": "!has(self.mode) || self.mode == 'Path' || !has(self.table)", "message": "a table is read into a folder: take mode out" },
    { "rule": "!has(self.digest) || !has(self.maxAge)", "message": "what has a digest does not age: take maxAge out" },
    { "rule": "!has(self.window) || (has(self.table) && has(self.table.timeColumn))", "message": "window belongs to an input with table, whose timeColumn says when a row was" }
]))]
pub struct Input {
    /// Another stage's output: `<stage>.<output>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 127))]
    pub from: Option<String>,
    /// What is read instead where `from` is not there, because its stage was skipped or left it out, or failed with `onFailure: Continue`.
    /// Without a default, and unless it is `optional`, the stage is skipped too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<InputDefault>,
    /// An address: `https://host/file` (or `http://`), `s3://`, `gs://` or `az://` with a bucket and a path, or `pvc://<claim>/<path>`. In a bucket or on
    /// a claim it is a file or a folder. A stage `<stage>-<input>` of its own brings what lies there into the store before this one begins,
    /// and archives stay as they are. It may hold templates `$[[ … ]]` behind the scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^(https?|s3|gs|az|pvc)://[ -~]+$"))]
    pub uri: Option<String>,
    /// Of `uri`: what has to lie there, as `sha256:<hex>`. Anything else fails the stage. Of a folder it is made as the stage contract says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// Of `uri`: what another run brought is taken if it did so no longer ago than this. Default: every run brings it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub max_age: Option<String>,
    /// Of `uri`: how it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Box<UriAccess>>,
    /// The model that this ModelDeployment serves when the stage starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub deployed: Option<String>,
    /// A registered model, as it is when the stage starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelInput>,
    /// One of the pipeline's own `inputs`: what the run was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub input: Option<String>,
    /// A snapshot of a table, as a folder of Parquet files. It is read when the stage would begin, by a stage of its own that is called
    /// `<stage>-<input>`: its results have the version, and every attempt of this stage sees the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Box<TableInput>>,
    /// Only rows whose `timeColumn` lies in so long a time before the run's: `run.scheduledTime`, else when the table is read. The
    /// end does not belong to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub window: Option<String>,
    /// Run without this input where it is not there: nothing deployed or registered yet, the run was not given it, or neither `from` nor `default` was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What the program is handed: the path of a copy or a mount, which was compared with its digest; or the address, and nothing is read.
    #[serde(default, skip_serializing_if = "is_path")]
    pub mode: InputMode,
}

impl Input {
    /// Whether it is what a gate compares with: any model that is deployed, or the one that the input `champion` names.
    #[must_use]
    pub fn is_champion(&self, name: &str) -> bool {
        self.deployed.is_some() || (self.model.is_some() && name == "champion")
    }
}

/// A ModelVersion of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelInput {
    /// The model, as `register.model` has it.
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Default: the newest that is registered when the stage starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub version: Option<i64>,
}

/// What a program is handed of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InputMode {
    /// The path of a file or a folder.
    #[default]
    Path,
    /// The address. How it is reached is the program's own matter, with its own credentials.
    Uri,
}

fn is_path(mode: &InputMode) -> bool {
    *mode == InputMode::Path
}

/// How an address is reached: what it does not say itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UriAccess {
    /// Of `s3://`, `gs://` and `az://`: a server that is not the cloud's. Without TLS only with `http://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$"))]
    pub endpoint: Option<String>,
    /// Of `s3://`. Default: us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// Of `az://<container>/<path>`: the storage account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 24), regex(pattern = r"^[a-z0-9]+$"))]
    pub account: Option<String>,
    /// A Secret of the namespace. For a bucket its entries are those of a store's; for `https://` it has `HTTP_AUTHORIZATION`, the value of the
    /// header `Authorization`. `ca.crt` is good for all of them. No program of a stage sees it. Default: for a bucket the identity of the
    /// stage's service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
    /// The certificate authority of the server, if it is one of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map: Option<KeyRef>,
    /// Of a bucket that everybody may read: it is asked without a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

/// Another source of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputDefault {
    /// Another stage's output: `<stage>.<output>`.
    #[schemars(length(min = 3, max = 127))]
    pub from: String,
}

/// What the failure of a stage does to the rest of its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Nothing new begins but `finally`, and the run fails.
    #[default]
    Stop,
    /// What does not need it goes on, and the run fails when all has ended.
    FailAtEnd,
    /// The run goes on, and may succeed.
    Continue,
}

pub(crate) fn is_stop(on_failure: &OnFailure) -> bool {
    *on_failure == OnFailure::Stop
}

/// What the program writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    #[serde(rename = "type", default, skip_serializing_if = "is_artifact")]
    #[schemars(with = "String", extend("enum" = ["artifact", "model"]))]
    pub kind: ArtifactType,
    /// Of `type: model`: what the model is, such as `pytorch` or `safetensors`. Default `onnx`, whose folder has to hold `model.onnx` and
    /// `signature.json`; of another one nothing is asked, a ModelVersion has it in its `format`, and a ModelDeployment serves it with a `server.container` of
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9-]+$"))]
    pub format: Option<String>,
    /// The program may leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// The format that Millrace's model server serves.
const ONNX: &str = "onnx";

impl Output {
    /// The format of a model, where it is another than the usual one.
    #[must_use]
    pub fn other_format(&self) -> Option<&str> {
        self.format.as_deref().filter(|format| *format != ONNX)
    }
}

pub(super) fn is_artifact(kind: &ArtifactType) -> bool {
    *kind == ArtifactType::Artifact
}

/// A judgement on the stage's own metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// CEL over `metrics`, `champion` (or null) and `params`.
    #[schemars(length(min = 1, max = 1024))]
    pub pass: String,
    /// `Reject` skips what depends on the stage and the run succeeds with `Promoted=False`; `Fail` fails the stage.
    #[serde(default)]
    pub otherwise: Otherwise,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Otherwise {
    #[default]
    Reject,
    Fail,
}

/// Makes an immutable ModelVersion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// The model's name. Its versions are numbered in the namespace.
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: String,
    /// The output that is the model: `<stage>.<output>`.
    #[schemars(length(min = 3, max = 127))]
    pub from: String,
    /// The stage whose metrics the version carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub metrics: Option<String>,
    /// Which versions of the model stay once this one is registered. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}

/// The newest versions of a model stay, and of the older ones those that somebody needs: a ModelDeployment that serves it, is to serve it or has pods
/// of it, a run that has not ended and reads it or has registered it, and a pipeline that reads it by its number. The others are deleted when the
/// stage has registered its version; what they point to stays in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keep {
    /// How many of the newest stay, the one that is registered among them.
    #[schemars(range(min = 1, max = 1000))]
    pub last: u32,
    /// Those too that a ModelDeployment has in its `status.history`, to which one may go back.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub deployed: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands over references.
fn is_yes(value: &bool) -> bool {
    *value
}

/// Sets the version that a ModelDeployment serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    #[schemars(length(min = 1, max = 63))]
    pub model_deployment: String,
    /// The stage that registered the version.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    #[serde(default)]
    pub wait: WaitFor,
    /// Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
}

/// When a `deploy` stage is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WaitFor {
    /// The address answers with the version.
    #[default]
    Promoted,
    /// The version is set.
    Accepted,
}

/// How often and when a failed stage is tried again. Failures of the infrastructure (eviction, a lost node) are not
/// counted; they have a bound of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts after the first. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// CEL that says whether a failure is worth another attempt: `reason != 'Timeout' && exitCode != 2`. False fails the stage at once. It knows
    /// `exitCode` (-1 if no program ended), `reason` and `attempt` (of the one that failed), `run` and, but for a StageTemplate's, `params`. Reasons: `Error`, `OOMKilled`, `Timeout`, `CannotStart`,
    /// `OutputMissing`, `ResultTooLarge`, `BadResult`, `StoreNotWritable`, `StoreNotReadable`, `NoReport`, `BadReport`, `DeadlineExceeded`, `AgentNotDelivered`, and the
    /// kubelet's `StartError` and `ContainerCannotRun`. Failures of the infrastructure are tried again without being asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// After an attempt that ran out of memory the next one gets more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_growth: Option<MemoryGrowth>,
}

/// After `OOMKilled` the next attempt gets memory, limit and request, times `factor`, at most `max`. The stage needs a memory limit to grow from. An
/// attempt that runs out of `max` is followed by others with as much, within the `limit` of `retry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryGrowth {
    /// Default 1.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.1, max = 10.0))]
    pub factor: Option<f64>,
    /// The largest limit, such as `64Gi`.
    #[schemars(schema_with = "schema::quantity")]
    pub max: Value,
}

/// The wait before attempt n+1 is `initial * factor^(n-1)`, at most `max`, with a jitter of ±10 %.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub initial: Option<String>,
    /// Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 10.0))]
    pub factor: Option<f64>,
    /// Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub max: Option<String>,
}
