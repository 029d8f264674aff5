//! `rollout rollback`: away from what was asked for last. While that comes it is given up, as `abort` does it; else the version that was promoted
//! before is asked for, as `undo` does it.

use clap::Args;
use millrace_core::api::ModelDeployment;

use super::control::{Abort, abort};
use super::status::watch;
use super::undo::{Undo, undo};
use super::{Standing, standing};
use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;

/// Give up the revision that comes; where none does, go back to the version that was promoted before
#[derive(Args)]
pub struct Rollback {
    #[arg(value_name = "MODELDEPLOYMENT")]
    name: String,
    /// Wait until the requests are back, or the version before was promoted
    #[arg(short, long)]
    watch: bool,
    /// Take the field over from whoever owns it; what a person set with kubectl is taken over anyway
    #[arg(long)]
    force_conflicts: bool,
}

pub async fn rollback(cluster: &Cluster, command: &Rollback) -> Result<Answer, Error> {
    let Rollback { name, watch: waits, force_conflicts } = command;
    let found = cluster.get::<ModelDeployment>(name).await?;
    let (name, waits, force_conflicts) = (name.clone(), *waits, *force_conflicts);
    if !comes(&found) {
        return Box::pin(undo(cluster, &Undo { name, to_version: None, watch: waits, force_conflicts })).await;
    }
    abort(cluster, &Abort { name: name.clone(), force_conflicts }).await?;
    if !waits {
        return Ok(Answer::Yes);
    }
    let found = watch(cluster, &name, None, false).await?;
    Ok((standing(&found) == Standing::RolledBack).into())
}

/// A rollout is under way.
fn comes(deployment: &ModelDeployment) -> bool {
    let rollout = deployment.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.is_some_and(|rollout| rollout.rejected.is_none())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(rollout: Option<&Value>) -> ModelDeployment {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "m" },
            "spec": { "model": { "name": "m", "version": 2 } }, "status": { "rollout": rollout },
        }))
        .unwrap()
    }

    #[test]
    fn what_comes_is_given_up_and_what_was_given_up_is_not_given_up_again() {
        assert!(comes(&of(Some(&json!({ "revision": "m-2", "step": 1 })))));
        assert!(comes(&of(Some(&json!({ "revision": "m-2", "paused": { "reason": "Approval", "message": "" } })))));
        let rejected = json!({ "reason": "AnalysisFailed", "message": "" });
        assert!(!comes(&of(Some(&json!({ "revision": "m-2", "rejected": rejected })))));
        assert!(!comes(&of(None)));
    }
}
