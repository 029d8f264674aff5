//! What `-o json` says: the same as the tables, with the names that the status has.

use millrace_core::api::{MLPipelineRun, ModelDeployment};
use serde_json::{Value, json};

use super::condition;
use crate::rollout::standing;

/// A rollout.
pub fn rollout(deployment: &ModelDeployment) -> Value {
    let status = deployment.status.clone().unwrap_or_default();
    let ready = condition(&status.conditions, "Ready");
    json!({
        "name": deployment.metadata.name,
        "standing": standing(deployment),
        "reason": ready.map(|ready| &ready.reason),
        "message": ready.map(|ready| &ready.message),
        "model": deployment.model_name(),
        "version": deployment.spec.model.version,
        "uri": deployment.spec.model.uri,
        "digest": deployment.spec.model.digest,
        "servedVersion": status.served_version,
        "servedDigest": status.served_digest,
        "rollout": status.rollout,
        "revisions": status.revisions,
    })
}

/// A run with its stages.
pub fn run(run: &MLPipelineRun) -> Value {
    let status = run.status.clone().unwrap_or_default();
    let succeeded = condition(&status.conditions, "Succeeded");
    json!({
        "name": run.metadata.name,
        "number": status.number,
        "succeeded": succeeded.map(|succeeded| &succeeded.status),
        "reason": succeeded.map(|succeeded| &succeeded.reason),
        "message": succeeded.map(|succeeded| &succeeded.message),
        "startTime": status.start_time,
        "completionTime": status.completion_time,
        "progress": status.progress,
        "usage": status.usage,
        "stages": status.stages,
    })
}
