//! Where things lie inside a stage's pod.

/// The stage's own folder of the store (or an `emptyDir` when the run has no store).
pub const STAGE_DIR: &str = "/millrace/stage";
/// The claim of the store, of which a pod that puts together what lies elsewhere in it has the folder of runs. No program of a person's runs there.
pub const CLAIM_DIR: &str = "/millrace/claim";
/// Inputs are mounted here, one folder or file each.
pub const INPUTS_DIR: &str = "/millrace/inputs";
/// The list that a stage with `forEach` runs over: one JSON value in each line, or one JSON list.
pub const ITEMS_PATH: &str = "/millrace/items/list";
/// The init container copies the agent here, for images that do not carry it.
pub const AGENT_COPY_DIR: &str = "/millrace/bin";
/// Where the agent's own image has it.
pub const AGENT_PROGRAM: &str = "/millrace-agent";
/// The folder that the program of a stage runs in, if the run has code.
pub const CODE_DIR: &str = "/millrace/code/work";
/// The archive of that folder. On a claim the folder above is mounted; from a bucket the agent brings it.
pub const CODE_ARCHIVE: &str = "/millrace/code/archive/files.tar";
/// The folder for small facts, below an attempt's folder.
pub const OUT_DIR: &str = "out";

/// The folder for what the program printed, below an attempt's folder.
pub const LOG_DIR: &str = "log";

/// The folder of one attempt.
#[must_use]
pub fn attempt_dir(attempt: u32) -> String {
    format!("{STAGE_DIR}/attempts/{attempt}")
}

/// The path where the program writes an output.
#[must_use]
pub fn output_path(attempt: u32, output: &str) -> String {
    format!("{}/outputs/{output}", attempt_dir(attempt))
}

/// The folder of one attempt's checkpoints.
#[must_use]
pub fn checkpoint_dir(attempt: u32) -> String {
    format!("{}/checkpoint", attempt_dir(attempt))
}

/// The folder of what the program of one attempt printed.
#[must_use]
pub fn log_dir(attempt: u32) -> String {
    format!("{}/{LOG_DIR}", attempt_dir(attempt))
}

/// The stage's manifest: made once, by the first complete attempt.
#[must_use]
pub fn manifest_path() -> String {
    format!("{STAGE_DIR}/manifest.json")
}

/// The folder of one item, below its stage's.
#[must_use]
pub fn item_folder(index: impl std::fmt::Display) -> String {
    format!("items/{index}")
}

/// A name as it stands in an environment variable: `test-data` becomes `TEST_DATA`.
#[must_use]
pub fn env_name(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}
