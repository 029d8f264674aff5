//! `approve` and `reject`: what people decide of the `approve` stages of a run.

use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::PostParams;
use millrace_core::api::{Approval, Decision, MLPipelineRun, StageState};
use millrace_core::expr;
use millrace_core::pipeline::{Frozen, FrozenKind};
use serde_json::json;

use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
use crate::{output, patch, tree};

/// Let a run go on that waits for a person
#[derive(Args)]
pub struct Approve {
    #[command(flatten)]
    said: Said,
}

/// Do not let a run go on that waits for a person: what depends on the stage is skipped
#[derive(Args)]
pub struct Reject {
    #[command(flatten)]
    said: Said,
}

#[derive(Args)]
struct Said {
    run: String,
    /// Default: the one that waits. One that was not reached yet is decided ahead
    stage: Option<String>,
    /// Why; it is kept in the run
    #[arg(long)]
    comment: Option<String>,
}

pub async fn approve(cluster: &Cluster, command: &Approve) -> Result<Answer, Error> {
    say(cluster, &command.said, Decision::Approve).await
}

pub async fn reject(cluster: &Cluster, command: &Reject) -> Result<Answer, Error> {
    say(cluster, &command.said, Decision::Reject).await
}

async fn say(cluster: &Cluster, said: &Said, decision: Decision) -> Result<Answer, Error> {
    let name = &said.run;
    let run = cluster.get::<MLPipelineRun>(name).await?;
    tree::not_ended(&run, name)?;
    let frozen = tree::frozen(cluster, &run).await;
    let stage = stage(&run, frozen.as_ref(), name, said.stage.as_deref()).map_err(Error::Said)?;
    let status = run.status.as_ref().and_then(|status| status.stages.get(&stage));
    let retries = status.map_or(0, |status| status.retries);
    let by = whoami(cluster).await?;
    let comment = said.comment.clone();
    let approval = Approval { decision, by, comment, retries };
    // Null takes away what an earlier decision said.
    let spec = json!({ "approvals": { &stage: {
        "decision": approval.decision, "by": approval.by, "comment": approval.comment, "retries": (retries > 0).then_some(retries),
    } } });
    patch::spec::<MLPipelineRun>(cluster, name, &spec).await?;
    let word = match decision {
        Decision::Approve => "approved",
        Decision::Reject => "rejected",
    };
    let ahead =
        if status.is_some_and(|status| status.approval.is_some()) { "" } else { ", for when the run comes to it" };
    output::line(&format!("stage {stage} of run {name} is {word} by {}{ahead}", approval.by))?;
    Ok(Answer::Yes)
}

/// The name under which the apiserver knows whoever asks.
async fn whoami(cluster: &Cluster) -> Result<String, Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.map_err(|error| Error::request("ask", "the cluster who you are", error))?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    user.ok_or_else(|| Error::said("the cluster does not say who you are"))
}

/// The stage that is decided, or why none can be.
fn stage(run: &MLPipelineRun, frozen: Option<&Frozen>, name: &str, named: Option<&str>) -> Result<String, String> {
    let stages = run.status.as_ref().map(|status| status.stages.clone()).unwrap_or_default();
    let waits: Vec<&str> = stages
        .iter()
        .filter(|(_, status)| status.state == StageState::Pending && status.approval.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    let asked: Vec<&str> = frozen.map_or_else(Vec::new, |frozen| {
        let asked = frozen.stages.iter().filter(|(_, stage)| matches!(stage.kind, FrozenKind::Approve(_)));
        asked.map(|(name, _)| name.as_str()).collect()
    });
    let Some(named) = named else {
        return match waits.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] if asked.is_empty() => Err(format!("run {name} waits for nobody")),
            [] => {
                Err(format!("run {name} waits for nobody now: to decide ahead, name the stage: {}", asked.join(", ")))
            }
            more => Err(format!("run {name} waits for more than one decision: name the stage: {}", more.join(", "))),
        };
    };
    let known = stages.contains_key(named) || stages.is_empty();
    if !known {
        let hint = expr::did_you_mean(named, asked.iter().copied());
        return Err(format!("run {name} has no stage {named}: {hint}"));
    }
    if frozen.is_some() && !asked.contains(&named) {
        let hint = expr::did_you_mean(named, asked.iter().copied());
        return Err(format!("stage {named} of run {name} asks nobody, it has no approve: {hint}"));
    }
    if let Some(status) = stages.get(named).filter(|status| status.state.ended()) {
        let message = status.message.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        let reason = status.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
        return Err(format!("stage {named} of run {name} has ended ({:?}{reason}): {message}", status.state));
    }
    Ok(named.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn run(stages: &Value) -> MLPipelineRun {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": "r" },
            "spec": {}, "status": { "stages": stages },
        }))
        .unwrap()
    }

    fn frozen() -> Frozen {
        let approve = json!({ "needs": [], "kind": { "approve": { "message": "?" } } });
        let register = json!({ "needs": [], "kind": { "register": { "model": "m", "from": "a.b" } } });
        let stages = json!({ "sign-off": approve, "second": approve, "train": register });
        serde_json::from_value(json!({ "params": {}, "stages": stages })).unwrap()
    }

    fn found(stages: &Value, named: Option<&str>) -> Result<String, String> {
        stage(&run(stages), Some(&frozen()), "r", named)
    }

    #[test]
    fn the_stage_that_waits_is_decided_unless_another_is_named() {
        let asked = json!({ "state": "Pending", "approval": {} });
        let one = json!({ "sign-off": asked, "second": { "state": "Waiting" }, "train": { "state": "Succeeded" } });
        assert_eq!(found(&one, None), Ok("sign-off".to_owned()));
        assert_eq!(found(&one, Some("second")), Ok("second".to_owned()), "ahead");
        let two = json!({ "sign-off": asked, "second": asked });
        assert!(found(&two, None).unwrap_err().ends_with("name the stage: second, sign-off"));
        let none = json!({ "sign-off": { "state": "Waiting" } });
        assert!(found(&none, None).unwrap_err().contains("waits for nobody now: to decide ahead"));
        assert_eq!(stage(&run(&json!({})), None, "r", Some("any")), Ok("any".to_owned()), "it has not begun");
    }

    #[test]
    fn what_cannot_be_decided_says_why() {
        let over = json!({ "state": "Succeeded", "message": "approved by anna", "approval": { "by": "anna" } });
        let stages = json!({ "sign-off": over, "train": { "state": "Running" } });
        assert!(found(&stages, Some("sing-off")).unwrap_err().contains("no stage sing-off: did you mean `sign-off`?"));
        assert!(found(&stages, Some("train")).unwrap_err().contains("asks nobody"));
        assert!(found(&stages, Some("sign-off")).unwrap_err().ends_with("(Succeeded): approved by anna"));
        assert_eq!(stage(&run(&json!({})), None, "r", None), Err("run r waits for nobody".to_owned()));
    }
}
