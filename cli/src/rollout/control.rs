//! `rollout promote` and `rollout abort`: `spec.control`, which is said of one revision.

use clap::Args;
use millrace_core::api::{ModelDeployment, RolloutAction, RolloutStatus};
use millrace_core::deployment::Version;
use serde_json::{Value, json};

use super::status::watch;
use super::{Standing, standing};
use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::{output, patch};

/// Give the new revision all requests as soon as its pods answer, whatever steps and analyses say
#[derive(Args)]
pub struct Promote {
    #[arg(value_name = "MODELDEPLOYMENT")]
    name: String,
    /// Wait until it was promoted
    #[arg(short, long)]
    watch: bool,
    /// Take the field over from whoever owns it; what a person set with kubectl is taken over anyway
    #[arg(long)]
    force_conflicts: bool,
}

/// Give the promoted revision all requests back
#[derive(Args)]
pub struct Abort {
    #[arg(value_name = "MODELDEPLOYMENT")]
    pub name: String,
    /// Take the field over from whoever owns it; what a person set with kubectl is taken over anyway
    #[arg(long)]
    pub force_conflicts: bool,
}

pub async fn promote(cluster: &Cluster, command: &Promote) -> Result<Answer, Error> {
    let found = cluster.get::<ModelDeployment>(&command.name).await?;
    let rollout = under_way(&found, &command.name).map_err(Error::Said)?;
    say(cluster, &found, &spec(rollout, RolloutAction::Promote, None), command.force_conflicts).await?;
    output::line(&format!("{}: {} gets all requests when its pods answer", command.name, what(rollout)))?;
    end(cluster, &command.name, command.watch).await
}

pub async fn abort(cluster: &Cluster, command: &Abort) -> Result<Answer, Error> {
    let found = cluster.get::<ModelDeployment>(&command.name).await?;
    let rollout = under_way(&found, &command.name).map_err(Error::Said)?;
    if let Some(rejected) = &rollout.rejected {
        return Err(Error::said(format!(
            "{} was given up already ({}): {}",
            what(rollout),
            rejected.reason,
            rejected.message
        )));
    }
    say(cluster, &found, &spec(rollout, RolloutAction::Abort, None), command.force_conflicts).await?;
    output::line(&format!("{}: back from {} to what was promoted", command.name, what(rollout)))?;
    Ok(Answer::Yes)
}

/// Waits for the end of the rollout if that is wanted.
pub async fn end(cluster: &Cluster, name: &str, wanted: bool) -> Result<Answer, Error> {
    if !wanted {
        return Ok(Answer::Yes);
    }
    let found = watch(cluster, name, None, false).await?;
    Ok((standing(&found) == Standing::Promoted).into())
}

/// The rollout that something may be said of, or why there is none.
pub fn under_way<'a>(deployment: &'a ModelDeployment, name: &str) -> Result<&'a RolloutStatus, String> {
    // One that was rolled back is still there when `rollout` was taken out since.
    if let Some(rollout) = deployment.status.as_ref().and_then(|status| status.rollout.as_ref()) {
        return Ok(rollout);
    }
    Err(if deployment.spec.rollout.is_none() {
        format!(
            "ModelDeployment {name} has no spec.rollout: a new revision gets all requests as soon as its pods answer, and waits for nobody"
        )
    } else {
        format!("no rollout of ModelDeployment {name} is under way: ask for another version first")
    })
}

/// The revision as people call it.
pub fn what(rollout: &RolloutStatus) -> String {
    match Version::of(rollout.version, rollout.artifact.as_ref()) {
        Some(version) => format!("version {version} (revision {})", rollout.revision),
        None => format!("revision {}", rollout.revision),
    }
}

/// The field that says it.
pub fn spec(rollout: &RolloutStatus, action: RolloutAction, step: Option<i32>) -> Value {
    let mut control = json!({ "revision": rollout.revision, "action": action });
    if let Some(step) = step {
        control["step"] = json!(step);
    }
    json!({ "control": control })
}

pub async fn say(cluster: &Cluster, found: &ModelDeployment, spec: &Value, force: bool) -> Result<(), Error> {
    patch::own(cluster, found, patch::MANAGER, "spec.control", spec, force).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_names_the_revision_and_only_an_approval_a_step() {
        let rollout = RolloutStatus { revision: "m-1a2b".into(), ..RolloutStatus::default() };
        assert_eq!(
            spec(&rollout, RolloutAction::Approve, Some(2)),
            json!({ "control": { "revision": "m-1a2b", "action": "Approve", "step": 2 } })
        );
        assert_eq!(
            spec(&rollout, RolloutAction::Abort, None),
            json!({ "control": { "revision": "m-1a2b", "action": "Abort" } })
        );
    }

    #[test]
    fn without_a_rollout_it_says_what_is_missing() {
        let spec = json!({ "model": { "name": "m" } });
        let mut deployment = ModelDeployment::new("m", serde_json::from_value(spec).unwrap());
        assert!(under_way(&deployment, "m").unwrap_err().contains("has no spec.rollout"));
        deployment.spec.rollout = Some(millrace_core::api::Rollout::default());
        assert!(under_way(&deployment, "m").unwrap_err().contains("ask for another version"));
    }
}
