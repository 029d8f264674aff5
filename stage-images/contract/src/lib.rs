//! What the operator says to what runs in pods, and what it hears: the task that goes into a stage's pod, the report that comes out,
//! the manifest that stays in the store; what a pod looks for and finds, or takes out of a store; what a model server counted for drift. Only data types, their names and bounds; no I/O.
//!
//! The words for people are in `docs/stage-contract.md`.

mod drift;
mod facts;
mod items;
mod look;
mod manifest;
mod model_cache;
mod parts;
mod paths;
mod report;
mod store;
mod sweep;
mod task;

pub use drift::{
    Counted, CountedKind, DRIFT_PATH, DriftCounts, LONGEST_NAME, MILLIONTHS, MOST_CELLS, MOST_FEATURES,
    SERVER_ADMIN_PORT,
};
pub use facts::{NESTING_LIMIT, flaw, is_fact_name, nesting};
pub use items::{
    ITEM_ENV, ITEM_GIVEN_UP, ITEM_INDEX_ENV, ITEM_RETRIES_ENV, ITEMS_OUTPUT, ItemSource, MOST_ITEMS, TOLD_OUTPUTS,
    TaskItems, Told, ToldItem, ToldOutput, in_range,
};
pub use look::{LONGEST_VERSION, LOOK_DIR, LookAccess, LookFault, LookKnown, LookReport, LookTask};
pub use manifest::{BlobFile, Manifest, ManifestOutput};
pub use model_cache::{
    MODEL_CACHE_DIR, MODEL_CACHE_FOLDER, MODEL_CACHE_MODELS, ModelCacheTask, NEEDED_MODELS, NEEDED_MODELS_DIR,
    NeededModels,
};
pub use parts::{ArtifactHead, FilePart, LogPart, WantedLog};
pub use paths::{
    AGENT_COPY_DIR, AGENT_PROGRAM, CLAIM_DIR, CODE_ARCHIVE, CODE_DIR, INPUTS_DIR, ITEMS_PATH, LOG_DIR, OUT_DIR,
    STAGE_DIR, attempt_dir, checkpoint_dir, env_name, item_folder, log_dir, manifest_path, output_path,
};
pub use report::{Outcome, OutputRecord, Report, ReportReason, Usage};
pub use store::{
    CODE_ENV, FETCH_ENV, Fetch, FetchSource, GET_ENV, GET_FINAL, GET_KNOWN_ENV, GET_VALIDATOR, Keep, READ_ENV,
    ReadTask, STORE_ENV, StoreKind, TaskSource, TaskStore, WebFile, output_key,
};
pub use sweep::{
    MOST_RECORDS, RECORD_KEY, Removed, SWEEP_ENV, SWEEP_FOLDERS, SWEEP_HISTORY_DIR, SWEEP_RECORDS, SWEEP_RUNS_DIR,
    SweepArtifacts, SweepRecord, SweepReport, SweepTask,
};
pub use task::{ArtifactKind, BACKSTOP_SECONDS, REPORT_SECONDS, Task, TaskCode, TaskInput, TaskOutput};

/// The environment variable in which the pod gets its [`Task`] as JSON.
pub const TASK_ENV: &str = "MILLRACE_TASK";

/// A report in the termination message is at most this many bytes (the kubelet's own limit).
pub const REPORT_LIMIT: usize = 4096;

/// Results, metrics and champion's metrics of one stage together are at most this many bytes as JSON.
pub const FACTS_LIMIT: usize = 1024;
