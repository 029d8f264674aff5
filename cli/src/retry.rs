//! `retry`: a run that has ended begins again, with what it was frozen with.

use clap::Args;
use millrace_core::api::{MLPipelineRun, RetryFrom};
use millrace_core::expr;
use serde_json::{Value, json};

use crate::connect::Cluster;
use crate::error::Error;
use crate::{Answer, logs, output, patch, tree};

/// Begin a run that has ended again: what failed, or from a stage on
#[derive(Args)]
pub struct Retry {
    run: String,
    /// The stages that failed, and those that were not begun because of it: the default
    #[arg(long, conflicts_with = "stage")]
    failed: bool,
    /// This stage, all that depend on it, and those that failed
    #[arg(long)]
    stage: Option<String>,
    /// Follow the logs until its end
    #[arg(short, long)]
    follow: bool,
}

pub async fn retry(cluster: &Cluster, command: &Retry) -> Result<Answer, Error> {
    let run = cluster.get::<MLPipelineRun>(&command.run).await?;
    let spec = spec(&run, &command.run, command.stage.as_deref()).map_err(Error::Said)?;
    patch::spec::<MLPipelineRun>(cluster, &command.run, &spec).await?;
    let what =
        command.stage.as_ref().map_or_else(|| "with what failed".to_owned(), |stage| format!("from stage {stage}"));
    output::line(&format!("run {} begins again {what}, with its pipeline as it was when the run began", command.run))?;
    if run.spec.suspend {
        output::warn(&format!("it is suspended: kubectl millrace resume {}{}", command.run, cluster.options));
    }
    if command.follow { Box::pin(logs::until_end(cluster, &command.run)).await } else { Ok(Answer::Yes) }
}

/// What to patch into the spec, or why the run does not begin again.
fn spec(run: &MLPipelineRun, name: &str, stage: Option<&str>) -> Result<Value, String> {
    let status = run.status.clone().unwrap_or_default();
    let Some(succeeded) = tree::end(run) else {
        return Err(format!("run {name} has not ended: wait for its end, or end it with cancel"));
    };
    match stage {
        None if succeeded => return Err(format!("run {name} has succeeded: name the --stage to run again")),
        Some(stage) if !status.stages.is_empty() && !status.stages.contains_key(stage) => {
            let hint = expr::did_you_mean(stage, status.stages.keys().map(String::as_str));
            return Err(format!("run {name} has no stage {stage}: {hint}"));
        }
        Some(_) | None => {}
    }
    let asked = RetryFrom { failed: stage.is_none(), stage: stage.map(str::to_owned), number: None };
    // The same once more needs another number.
    let before = run.spec.retry_from.as_ref().or(status.retry_from.as_ref());
    let same = before.filter(|before| before.failed == asked.failed && before.stage == asked.stage);
    let number = same.map(|before| before.number.unwrap_or(1) + 1);
    let failed = asked.failed.then_some(true);
    // Null takes a field out.
    Ok(json!({ "cancel": null, "retryFrom": { "failed": failed, "stage": asked.stage, "number": number } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(succeeded: &str, retry_from: &Value) -> MLPipelineRun {
        let condition = json!({
            "type": "Succeeded", "status": succeeded, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
        });
        let ended = (succeeded != "Unknown").then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": "r" },
            "spec": { "retryFrom": retry_from },
            "status": {
                "conditions": [condition], "completionTime": ended, "retryFrom": retry_from,
                "stages": { "train": { "state": "Failed" } },
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_same_once_more_gets_another_number() {
        let asked =
            |before: &Value, stage: Option<&str>| spec(&run("False", before), "r", stage).unwrap()["retryFrom"].clone();
        let failed = |number: &Value| json!({ "failed": true, "stage": null, "number": number });
        assert_eq!(asked(&json!(null), None), failed(&json!(null)));
        assert_eq!(asked(&json!({ "failed": true }), None), failed(&json!(2)));
        assert_eq!(asked(&json!({ "failed": true, "number": 2 }), None), failed(&json!(3)));
        let stage = json!({ "failed": null, "stage": "train", "number": null });
        assert_eq!(asked(&json!({ "failed": true, "number": 2 }), Some("train")), stage);
    }

    #[test]
    fn what_cannot_begin_again_says_why() {
        let said = |status: &str, stage: Option<&str>| spec(&run(status, &json!(null)), "r", stage).unwrap_err();
        assert!(said("Unknown", None).contains("has not ended"));
        assert!(said("True", None).contains("name the --stage"));
        assert!(said("False", Some("trian")).contains("did you mean `train`?"));
    }
}
