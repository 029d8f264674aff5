//! The names that a run's expressions may use.

use serde_json::{Map, Value, json};

use super::nested;
use super::pass::{Pass, Stages, number};
use crate::api::StageStatus;
use crate::expr::Scope;

/// `params`, `run` and `stages`.
pub(super) fn of_run(pass: &Pass<'_>, stages: &Stages) -> Scope {
    names(pass, stages).into_iter().fold(Scope::new(), |scope, (name, value)| scope.with(&name, value))
}

/// The same, with names as they were declared.
pub(super) fn names(pass: &Pass<'_>, stages: &Stages) -> Map<String, Value> {
    let stages: Map<String, Value> = stages.iter().map(|(name, status)| (name.clone(), stage(status))).collect();
    let params: Map<String, Value> = pass.params.clone().into_iter().collect();
    [("run", run(pass)), ("params", params.into()), ("stages", stages.into())]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// `params` and `run`: what says whether a failure is worth another attempt.
pub(super) fn without_stages(pass: &Pass<'_>) -> Scope {
    with_run(pass).with("params", Map::from_iter(pass.params.clone()).into())
}

/// Only `run`: what a StageTemplate sees besides its own names.
pub(super) fn with_run(pass: &Pass<'_>) -> Scope {
    Scope::new().with("run", run(pass))
}

fn run(pass: &Pass<'_>) -> Value {
    let trigger = pass.run.spec.trigger.as_ref();
    let nested = nested::parent(pass.run).map(|_| "Run");
    let mut run = json!({
        "name": pass.run_name(),
        "namespace": pass.namespace(),
        "uid": pass.run_uid(),
        // It is text, for one that is written in place too.
        "pipeline": pass.pipeline_name().unwrap_or_default(),
        "number": number(pass.run, pass.observed),
        "trigger": trigger.map(|trigger| trigger.kind.as_str()).or(nested),
        "scheduledTime": pass.run.spec.scheduled_time,
        "upstream": trigger.and_then(|trigger| trigger.run.as_deref()),
        "dataVersion": trigger.and_then(|trigger| trigger.version.as_deref()),
    });
    if let Some(end) = pass.end {
        let (reason, message) = end.said();
        run["status"] = json!(end.word());
        run["reason"] = json!(reason);
        run["message"] = json!(message);
    }
    run
}

fn stage(status: &StageStatus) -> Value {
    // The scope renames one level; the names of outputs are two levels further down.
    let outputs: Map<String, Value> = status
        .outputs
        .iter()
        .map(|(name, output)| (name.replace('-', "_"), json!({ "uri": output.uri, "digest": output.digest })))
        .collect();
    let items = status.items.as_ref().map_or((0, 0, 0), |items| (items.total, items.succeeded, items.failed));
    json!({
        "status": format!("{:?}", status.state),
        "reason": status.reason.as_deref().unwrap_or_default(),
        "message": status.message.as_deref().unwrap_or_default(),
        "results": status.results,
        "metrics": status.metrics,
        "outputs": outputs,
        // Of one that was skipped there are none. Nothing but `forEach` may be asked for them.
        "items": { "total": items.0, "succeeded": items.1, "failed": items.2 },
    })
}
