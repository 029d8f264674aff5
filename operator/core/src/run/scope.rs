//! The names that a run's expressions may use.

use serde_json::{Map, Value, json};

use super::pass::{Pass, Stages};
use crate::api::StageStatus;
use crate::expr::Scope;

/// `params`, `run` and `stages`.
pub(super) fn of_run(pass: &Pass<'_>, stages: &Stages) -> Scope {
    let stages = stages.iter().map(|(name, status)| (name.clone(), stage(status)));
    with_run(pass)
        .with("params", Value::Object(pass.params.clone().into_iter().collect()))
        .with("stages", Value::Object(stages.collect()))
}

/// Only `run`: what a StageTemplate sees besides its own names.
pub(super) fn with_run(pass: &Pass<'_>) -> Scope {
    let trigger = pass.run.spec.trigger.as_ref().map(|trigger| trigger.kind.as_str());
    let mut run = json!({
        "name": pass.run_name(),
        "namespace": pass.namespace(),
        "uid": pass.run_uid(),
        "pipeline": pass.pipeline_name(),
        "trigger": trigger,
        "scheduledTime": pass.run.spec.scheduled_time,
    });
    if let Some(end) = pass.end {
        run["status"] = json!(end);
    }
    Scope::new().with("run", run)
}

fn stage(status: &StageStatus) -> Value {
    // The scope renames one level; the names of outputs are two levels further down.
    let outputs: Map<String, Value> = status
        .outputs
        .iter()
        .map(|(name, output)| (name.replace('-', "_"), json!({ "uri": output.uri, "digest": output.digest })))
        .collect();
    json!({
        "status": format!("{:?}", status.state),
        "results": status.results,
        "metrics": status.metrics,
        "outputs": outputs,
    })
}
