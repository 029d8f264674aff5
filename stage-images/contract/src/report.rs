//! What the agent says when an attempt has ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ArtifactKind;

/// The termination message of a stage's container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always `"v1"`: tells a report from any other text in a termination message.
    pub millrace: String,
    pub run_uid: String,
    pub stage: String,
    /// The attempt that writes this.
    pub attempt: u32,
    pub outcome: Outcome,
    pub reason: ReportReason,
    /// A sentence for people, empty on success.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The command's exit status; 128 + signal if a signal ended it; absent if it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The attempt whose outputs these are: another one if it was complete before this one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Metrics of the model that is deployed now, on the same rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub champion: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputRecord>,
    /// The last lines that the command printed, at most 1 KiB, only on failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tail: String,
    #[serde(default)]
    pub usage: Usage,
}

/// Whether the attempt's outputs may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Succeeded,
    Failed,
}

/// Why an attempt ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReportReason {
    /// Exit 0 with all outputs.
    Completed,
    /// An earlier attempt was complete; its manifest is reported, the command did not run.
    Recovered,
    /// The command ended with another status than 0, or by a signal, or the stage's own processes stopped the agent.
    Error,
    /// The command could not be started (no such file, not executable).
    CannotStart,
    /// The kernel killed the command because memory ran out.
    OOMKilled,
    /// The stage's time ran out, while the command ran or while what it made was hashed and published.
    Timeout,
    /// SIGTERM from outside: the pod was deleted, evicted or its node is shutting down.
    Terminated,
    /// Exit 0, but a declared output is not there, or is not what it should be (a link, not a model).
    OutputMissing,
    /// Results and metrics are too large, have a bad name, or are not what they should be.
    ResultTooLarge,
    /// `metrics.json`, a result, or what else the command did to the stage's folder is not as the contract says.
    BadResult,
    /// An input is missing or is not what its producer reported.
    InputLost,
    /// The store cannot be written; the message has the remedy.
    StoreNotWritable,
    /// The store does not let the agent read; the message has the remedy.
    StoreNotReadable,
    /// The store does not answer, or not well: another attempt may succeed.
    StoreUnreachable,
}

/// One output of a complete attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputRecord {
    #[serde(rename = "type", default)]
    pub kind: ArtifactKind,
    pub digest: String,
    pub size: u64,
    pub files: u64,
    /// How many items it lists, if the task asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Models only: what `signature.json` says, if it fits; the whole is in the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<serde_json::Value>,
    /// Models only: as the task has it, or else `onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// What an attempt used, from the container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub cpu_seconds: f64,
    pub peak_memory_bytes: u64,
    pub wall_seconds: f64,
}
