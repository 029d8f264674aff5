//! What the operator asks of the agent in one attempt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{TaskItems, TaskSource};

/// How much longer than its program the agent lives, in seconds: to hash, to sync and to report.
pub const REPORT_SECONDS: u64 = 15;
/// What the Job's own deadline adds to all others, in seconds: it only ends what nobody else did.
pub const BACKSTOP_SECONDS: u64 = 60;

/// One attempt of one stage. Templates are already rendered. The command is not in here: it is the agent's own
/// arguments after `--`, so that `kubectl describe` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    pub namespace: String,
    pub run: String,
    pub run_uid: String,
    pub stage: String,
    /// Counts from 1.
    pub attempt: u32,
    /// A script with an interpreter line, run instead of a command: it is written to a file and executed with the
    /// arguments after `--`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, TaskInput>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, TaskOutput>,
    /// Inputs of which the program gets the address, in the place of a path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handed: BTreeMap<String, String>,
    /// The archive of the folder that the program runs in. Without it the working directory is the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<TaskCode>,
    /// Seconds from the start of the command until SIGTERM; what it made has to be hashed and published within them too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
    /// Whether `/millrace/stage` outlives the pod. Without a store there is nothing to recover from.
    pub durable: bool,
    /// The stage's folder in a store of objects, whose key the agent extends. `/millrace/stage` then ends with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<TaskSource>,
    /// The stage runs once for each item of a list: for one of them here, or this pod collects what all have made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<TaskItems>,
}

/// An input at `path`: mounted there, or brought there. An optional input that is absent is not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskInput {
    pub path: String,
    /// What the producer reported; the agent compares before it starts the command.
    pub digest: String,
    /// Bytes of all files together.
    pub size: u64,
    /// The agent brings it from here to `path`. Without it, it is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<TaskSource>,
}

/// The archive of a folder, which the agent unpacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskCode {
    /// Of the archive.
    pub digest: String,
    pub size: u64,
    /// The agent brings it from here. Without it, it is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<TaskSource>,
}

/// An output that the command has to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskOutput {
    #[serde(rename = "type")]
    pub kind: ArtifactKind,
    /// The command may leave it out (a transform without a split has no `test`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// It is a list of items for a later stage: the report says how many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub items: bool,
    /// Of a model that is not ONNX: what it is. Nothing is known of what its folder holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// Any file or folder.
    #[default]
    Artifact,
    /// A folder as `docs/stage-contract.md` describes it; its signature comes back in the report.
    Model,
}
