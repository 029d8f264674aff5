//! Labels, and the names of what Millrace makes. A child's name follows from what it is for, so that making it twice
//! meets itself.

use sha2::{Digest, Sha256};

/// The pipeline a run belongs to.
pub const PIPELINE_LABEL: &str = "millrace.dev/pipeline";
/// The uid of the pipeline that a Job or pod looks for data for.
pub const PIPELINE_UID_LABEL: &str = "millrace.dev/pipeline-uid";
/// The trigger that it looks for.
pub const TRIGGER_LABEL: &str = "millrace.dev/trigger";
/// As the value of that label: it looks for no data, it keeps the store in order. No trigger has a name with a capital.
pub const SWEEP: &str = "Archive";
/// Begins the label of a pod that mounts a claim, behind it comes the claim's name: see [`claim_label`].
pub const CLAIM_LABEL: &str = "claim.millrace.dev/";
/// The run a Job, a pod or a ModelVersion belongs to (its name, shortened to fit a label).
pub const RUN_LABEL: &str = "millrace.dev/run";
/// The run's uid: the label that decides.
pub const RUN_UID_LABEL: &str = "millrace.dev/run-uid";
pub const STAGE_LABEL: &str = "millrace.dev/stage";
pub const ATTEMPT_LABEL: &str = "millrace.dev/attempt";
/// On a pod that runs one of a stage's items. Nobody watches these: there may be ten thousand. On a run that is for an item it is the item's index.
pub const ITEM_LABEL: &str = "millrace.dev/item";
/// Where the Job controller writes which item of an Indexed Job a pod is for.
pub const ITEM_INDEX_ANNOTATION: &str = "batch.kubernetes.io/job-completion-index";
/// The same as a label, which pods can be asked for by.
pub const ITEM_INDEX_LABEL: &str = ITEM_INDEX_ANNOTATION;
/// How often `retryFrom` had begun the stage again that made a ModelVersion; none for the first time.
pub const RETRY_LABEL: &str = "millrace.dev/retry";
/// The model a ModelVersion is of.
pub const MODEL_LABEL: &str = "millrace.dev/model";
/// The ModelDeployment that a Deployment, Service or pod belongs to.
pub const DEPLOYMENT_LABEL: &str = "millrace.dev/model-deployment";
/// The InferenceGraph that a Service belongs to.
pub const GRAPH_LABEL: &str = "millrace.dev/inference-graph";
pub const REVISION_LABEL: &str = "millrace.dev/revision";
/// A pod of a revision that fetches its model.
pub const FETCHES_LABEL: &str = "millrace.dev/fetches-model";
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub const MANAGED_BY: &str = "millrace";

/// On what writes a ModelDeployment's payload log into a table, with its name: the pods have it instead of [`DEPLOYMENT_LABEL`].
pub const LOG_WRITER_LABEL: &str = "millrace.dev/payload-log";

/// On everything that is for a namespace's routers, with the value [`ROUTER`].
pub const ROUTER_LABEL: &str = "millrace.dev/router";
/// The Deployment of a namespace's routers, and what stands beside it.
pub const ROUTER: &str = "millrace-router";
/// The ConfigMap of their routes.
pub const ROUTES: &str = "millrace-routes";

/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "millrace";
/// Field manager of a `deploy` stage for `spec.model.version`.
pub const DEPLOY_MANAGER: &str = "millrace-deploy";

/// The longest name of a Job whose pods' names still are labels.
const MAX_NAME: usize = 57;

/// The longest value of a label.
const MAX_LABEL: usize = 63;
const STAGE_HASH: usize = 4;
/// Hex characters of a digest that stand in names.
const SHORT: usize = 8;

/// SHA-256 in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Joins parts to a name of at most 57 characters. What is too long is cut and gets a hash of the whole.
#[must_use]
pub fn joined(parts: &[&str]) -> String {
    cut(&parts.join("-"), MAX_NAME)
}

fn cut(whole: &str, limit: usize) -> String {
    if whole.len() <= limit {
        return whole.to_owned();
    }
    let hash = &sha256_hex(whole.as_bytes())[..SHORT];
    let head: String = whole.chars().take(limit - SHORT - 1).collect();
    format!("{}-{hash}", head.trim_end_matches(['-', '.']))
}

/// The Job of one attempt. A stage with a hyphen adds a hash: stage `b-c` of run `a` is not stage `c` of run `a-b`.
#[must_use]
pub fn job(run: &str, stage: &str, attempt: u32) -> String {
    let attempt = attempt.to_string();
    if stage.contains('-') {
        let hash = &sha256_hex(stage.as_bytes())[..STAGE_HASH];
        return joined(&[run, stage, hash, &attempt]);
    }
    joined(&[run, stage, &attempt])
}

/// What writes a ModelDeployment's payload log into a table. With a hash: `a-log` may be another ModelDeployment.
#[must_use]
pub fn log_writer(deployment: &str) -> String {
    let hash = &sha256_hex(deployment.as_bytes())[..STAGE_HASH];
    joined(&[deployment, "log", hash])
}

/// The run of an item, of a stage that runs a pipeline for each of them.
#[must_use]
pub fn item_run(run: &str, stage: &str, attempt: u32, index: u32) -> String {
    joined(&[&job(run, stage, attempt), &index.to_string()])
}

/// A value that fits a label: names may be longer (253) than label values (63).
#[must_use]
pub fn label_value(name: &str) -> String {
    cut(name, MAX_LABEL)
}

/// The label of the pods that mount this claim. A pod may mount several.
#[must_use]
pub fn claim_label(claim: &str) -> String {
    format!("{CLAIM_LABEL}{}", cut(claim, MAX_LABEL))
}

/// The folder of all runs in a store.
pub const RUNS: &str = "runs";

/// The folder of a run in its store. The uid keeps a run that was made again under an old name away from old artifacts.
#[must_use]
pub fn run_folder(run: &str, uid: &str) -> String {
    format!("{RUNS}/{run}-{}", uid.get(..SHORT).unwrap_or(uid))
}

/// The folder in a store in which a pipeline's finished runs are recorded. The uid keeps a pipeline that was made again under an old name away
/// from what is another's.
#[must_use]
pub fn history_folder(pipeline: &str, uid: &str) -> String {
    format!("history/{pipeline}-{}", uid.get(..SHORT).unwrap_or(uid))
}

/// Claim and path of `pvc://<claim>/<path>`. A path that climbs is none.
#[must_use]
pub fn claim_and_path(uri: &str) -> Option<(&str, &str)> {
    root_and_path(uri.strip_prefix("pvc://")?)
}

/// What stands before the first slash and after it, both not empty. A path that climbs is none.
#[must_use]
pub fn root_and_path(text: &str) -> Option<(&str, &str)> {
    let (root, path) = text.split_once('/')?;
    let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (!root.is_empty() && plain).then_some((root, path))
}

/// A DNS label that begins with a letter, as the name of a Service must.
#[must_use]
pub fn is_label(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= MAX_LABEL
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || c == '-')
}

/// A ModelVersion.
#[must_use]
pub fn model_version(model: &str, version: i64) -> String {
    format!("{model}-v{version}")
}

/// The run that a trigger starts: the same trigger meets its own run.
#[must_use]
pub fn triggered_run(pipeline: &str, key: &str) -> String {
    joined(&[pipeline, &sha256_hex(key.as_bytes())[..SHORT]])
}

/// The Job that keeps a pipeline's store in order.
#[must_use]
pub fn sweep(pipeline: &str, key: &str) -> String {
    joined(&[pipeline, "archive", &sha256_hex(key.as_bytes())[..SHORT]])
}

/// The Job that looks for data for a trigger. What it is told is in `key`: told anything else it is another Job.
#[must_use]
pub fn look(pipeline: &str, key: &str) -> String {
    joined(&[pipeline, "look", &sha256_hex(key.as_bytes())[..SHORT]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_stays_unique() {
        let (a, b) = (job(&"r".repeat(60), "train", 1), job(&"r".repeat(60), "train", 2));
        assert!(a.len() <= MAX_NAME && b.len() <= MAX_NAME, "{a} {b}");
        assert_ne!(a, b);
        assert_eq!(job("penguins-1", "train", 1), "penguins-1-train-1");
        assert_ne!(job("nightly", "eval-fit", 1), job("nightly-eval", "fit", 1));
        assert_eq!(item_run("penguins-1", "train", 1, 7), "penguins-1-train-1-7");
        assert_ne!(item_run("r", "train", 1, 1), job("r", "train-1", 1));
    }

    #[test]
    fn a_name_that_fits_a_label_is_its_label() {
        assert_eq!(label_value(&"d".repeat(63)), "d".repeat(63));
        assert!(label_value(&"d".repeat(64)).len() <= 63);
    }
}
