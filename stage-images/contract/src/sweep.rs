//! A pod that keeps a pipeline's store in order: it writes the records of finished runs there, and takes out artifacts that nobody needs.
//!
//! ```text
//! <prefix>/runs/<run>-<uid>/…                     what stages write
//! <prefix>/history/<pipeline>-<uid>/runs/*.jsonl  records of runs that have ended, one in a line; written once
//! <prefix>/history/<pipeline>-<uid>/folders.json  the folders below runs/ that were this pipeline's, as far as they are not empty
//! ```

use serde::{Deserialize, Serialize};

use crate::TaskSource;

/// The [`SweepTask`] as JSON, in as many variables as it takes: this, with 0, 1, … behind it.
pub const SWEEP_ENV: &str = "MILLRACE_SWEEP_";
/// Of a claim: the folders of the runs.
pub const SWEEP_RUNS_DIR: &str = "/millrace/sweep/runs";
/// Of a claim: the pipeline's own folder of `history`.
pub const SWEEP_HISTORY_DIR: &str = "/millrace/sweep/history";
/// Below the pipeline's folder of `history`.
pub const SWEEP_FOLDERS: &str = "folders.json";
/// As above: the folder of the records.
pub const SWEEP_RECORDS: &str = "runs";
/// Hex characters that name a record in a report.
pub const RECORD_KEY: usize = 8;
/// So many runs are recorded by one pod at most: what it says of them has to fit a report.
pub const MOST_RECORDS: usize = 200;

/// What the pod is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SweepTask {
    /// The pipeline's folder below `history`.
    pub folder: String,
    /// Counts what was said before. Pods of one task are one look, however many of them begin.
    #[serde(default)]
    pub look: u64,
    /// When it was read what is needed, in Unix seconds: the pod's own clock does not count.
    #[serde(default)]
    pub now: u64,
    /// The store's root, unless it is a claim: that is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<TaskSource>,
    /// Folders below `runs` of the pipeline's runs that there are. Nothing in them is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Files and folders below `runs` that something else needs: a ModelVersion, a run that took them from the cache. An empty one is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Without it nothing is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<SweepArtifacts>,
    /// Runs to record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<SweepRecord>,
}

/// Which artifacts are taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SweepArtifacts {
    /// So long nobody must have needed them.
    pub grace_seconds: u64,
    /// Only tells.
    #[serde(default)]
    pub dry_run: bool,
}

/// A run to record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SweepRecord {
    /// Names run and end: hex.
    pub key: String,
    /// JSON without a line break.
    pub line: String,
}

/// What the pod says, in its termination message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SweepReport {
    #[serde(rename_all = "camelCase")]
    Done {
        /// Keys of the records that are written.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        recorded: Vec<String>,
        /// How many folders it was told to keep.
        kept: u64,
        /// Folders of runs that are gone in which something is left: its time has not come, or something needs it.
        left: u64,
        /// Seconds until the first of those may be taken out for which only time is to pass.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<u64>,
        /// What was taken out, or would have been.
        removed: Removed,
        /// It was not: only told.
        #[serde(default)]
        dry_run: bool,
        /// Why something that was to go is there yet. All else is done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_removed: Option<String>,
    },
    /// One word, and a sentence that says what to do.
    #[serde(rename_all = "camelCase")]
    Failed {
        reason: String,
        message: String,
        /// As above: what was done before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        recorded: Vec<String>,
    },
}

/// Artifacts that were taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removed {
    /// Folders of runs of which something went.
    pub runs: u64,
    pub files: u64,
    pub bytes: u64,
    /// The first of those folders, five at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
}
