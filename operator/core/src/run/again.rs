//! `retryFrom`: a run that has ended begins again. What it needs to know is its status: stages that succeeded stay as they are, the others
//! wait as at the start, and count their attempts on, so that no name is used twice.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pass::Stages;
use super::{finish, graph, hold};
use crate::api::{CacheStatus, MLPipelineRun, MLPipelineRunStatus, RetryFrom, StageState, StageStatus};
use crate::expr;
use crate::pipeline::{Frozen, FrozenKind, FrozenStage};

/// What a run that has ended is asked for, and has not done yet.
#[must_use]
pub fn asked(run: &MLPipelineRun) -> Option<&RetryFrom> {
    let status = run.status.as_ref().filter(|status| status.completion_time.is_some())?;
    run.spec.retry_from.as_ref().filter(|asked| status.retry_from.as_ref() != Some(asked))
}

/// When a run ended that is not asked to begin again.
#[must_use]
pub fn ended(run: &MLPipelineRun) -> Option<&Time> {
    let ended = run.status.as_ref()?.completion_time.as_ref()?;
    asked(run).is_none().then_some(ended)
}

/// The status with which the run begins again, or the path and the reason why it does not.
pub(super) fn begin(
    old: &MLPipelineRunStatus,
    frozen: Option<&Frozen>,
    asked: &RetryFrom,
    time: Time,
) -> Result<MLPipelineRunStatus, (&'static str, String)> {
    let mut new = MLPipelineRunStatus {
        observed_generation: old.observed_generation,
        number: old.number,
        // Whether it was promoted is to be seen anew.
        conditions: old.conditions.iter().filter(|condition| condition.type_ != "Promoted").cloned().collect(),
        retry_from: Some(asked.clone()),
        retry_time: Some(time),
        ..MLPipelineRunStatus::default()
    };
    let Some(frozen) = frozen else {
        let Some(name) = &old.frozen else {
            // It was refused, and never began: it begins from the beginning.
            return Ok(new);
        };
        let message =
            format!("the ControllerRevision {name} that holds what this run ran was deleted: create another run");
        return Err(("FrozenLost", message));
    };
    if let Some(stage) = asked.stage.as_ref().filter(|stage| !frozen.stages.contains_key(*stage)) {
        let hint = expr::did_you_mean(stage, frozen.stages.keys().map(String::as_str));
        return Err(("UnknownStage", format!("spec.retryFrom.stage: there is no stage `{stage}`: {hint}")));
    }
    let again = stages(frozen, &old.stages, asked);
    if asked.stage.is_none() && !old.stages.values().any(fell) {
        let message = "spec.retryFrom.failed: no stage failed: write stage: <name> to run one of them again";
        return Err(("NothingFailed", message.to_owned()));
    }
    new.frozen.clone_from(&old.frozen);
    new.stages.clone_from(&old.stages);
    for (name, anew) in again {
        if let Some(status) = new.stages.get_mut(name) {
            let retries = status.retries + u32::from(anew);
            // Items that are done read what they read.
            let inputs =
                if anew || status.items.is_none() { BTreeMap::new() } else { std::mem::take(&mut status.inputs) };
            // Who names a stage wants it run.
            let CacheStatus { key, lost, mixed, .. } = status.cache.take().map(|cache| *cache).unwrap_or_default();
            let (key, mixed) = if anew || status.items.is_none() { (None, false) } else { (key, mixed) };
            let refresh = asked.stage.as_deref() == Some(name);
            let cache = CacheStatus { key, refresh, mixed, lost, ..CacheStatus::default() };
            let cache = Some(Box::new(cache)).filter(|cache| **cache != CacheStatus::default());
            // The other items get runs of other names.
            let of_items = frozen.stages.get(name).is_some_and(FrozenStage::runs_pipeline_for_items);
            let attempts = status.attempts + u32::from(of_items && status.attempts > 0);
            let (usage, memory) = (status.usage.take(), status.memory.take());
            *status = StageStatus { attempts, retries, memory, inputs, usage, cache, ..StageStatus::default() };
        }
    }
    Ok(new)
}

/// The stages that are run again, and whether from nothing: what is left of earlier attempts is not looked at where it is complete, or made of
/// something that is made again. A stage that failed finds its checkpoints.
fn stages<'a>(frozen: &'a Frozen, old: &Stages, asked: &RetryFrom) -> BTreeMap<&'a str, bool> {
    let mut again = BTreeMap::new();
    for name in graph::order(&frozen.stages) {
        let (Some(stage), Some(status)) = (frozen.stages.get(name), old.get(name)) else { continue };
        let below = stage.needs.iter().any(|need| again.contains_key(need.as_str()));
        let by_name = asked.stage.as_deref() == Some(name);
        // What was skipped may have been because of a stage that is run again, and what was approved is not any more.
        let asks = matches!(stage.kind, FrozenKind::Approve(_));
        let follows = below && (asked.stage.is_some() || asks || status.state == StageState::Skipped);
        if stage.finally || fell(status) || by_name || follows {
            let complete = status.state == StageState::Succeeded || status.exit_code == Some(0);
            let anew = match stage.kind {
                FrozenKind::Container(_) => status.attempts > 0 && (complete || below || by_name),
                // The runs of items that succeeded are kept.
                FrozenKind::Pipeline(ref nested) if nested.items().is_some() => {
                    status.attempts > 0 && (status.state == StageState::Succeeded || below || by_name)
                }
                // Who asks again gets another answer.
                FrozenKind::Pipeline(_) | FrozenKind::Approve(_) | FrozenKind::Register(_) => {
                    status.start_time.is_some()
                }
                FrozenKind::Deploy(_) | FrozenKind::Report(_) => false,
            };
            again.insert(name, anew);
        }
    }
    again
}

/// It failed, or was not begun because of what failed or ended the run.
fn fell(status: &StageStatus) -> bool {
    let reason = status.reason.as_deref().unwrap_or_default();
    match status.state {
        StageState::Succeeded => false,
        StageState::Skipped => graph::fell(reason) || finish::by_the_run(reason) || reason == hold::FORBIDDEN,
        StageState::Failed
        | StageState::Waiting
        | StageState::Pending
        | StageState::Running
        | StageState::BackingOff => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run_again(asked: &serde_json::Value) -> Vec<String> {
        let stage = |needs: &[&str], finally: bool| json!({ "needs": needs, "finally": finally, "kind": { "register": { "model": "m", "from": "a.b" } } });
        let frozen: Frozen = serde_json::from_value(json!({ "params": {}, "stages": {
            "ingest": stage(&[], false), "train": stage(&["ingest"], false), "evaluate": stage(&["train"], false),
            "mend": stage(&["train"], false), "apart": stage(&[], false), "tell": stage(&[], true),
        } }))
        .unwrap();
        let old: Stages = serde_json::from_value(json!({
            "ingest": { "state": "Succeeded", "attempts": 1 }, "train": { "state": "Failed", "attempts": 2 },
            "evaluate": { "state": "Skipped", "reason": "UpstreamFailed" }, "mend": { "state": "Skipped", "reason": "WhenFalse" },
            "apart": { "state": "Skipped", "reason": "WhenFalse" }, "tell": { "state": "Succeeded", "attempts": 1 },
        }))
        .unwrap();
        let asked = serde_json::from_value(asked.clone()).unwrap();
        stages(&frozen, &old, &asked).into_keys().map(str::to_owned).collect()
    }

    #[test]
    fn what_a_refused_retry_left_out_is_run_by_the_next() {
        let refused = StageStatus {
            state: StageState::Skipped,
            reason: Some(hold::FORBIDDEN.to_owned()),
            ..StageStatus::default()
        };
        assert!(fell(&refused));
    }

    #[test]
    fn what_succeeded_is_kept_unless_it_is_named_or_comes_after_what_is() {
        assert_eq!(run_again(&json!({ "failed": true })), ["evaluate", "mend", "tell", "train"]);
        assert_eq!(run_again(&json!({ "stage": "ingest" })), ["evaluate", "ingest", "mend", "tell", "train"]);
        assert_eq!(run_again(&json!({ "stage": "apart" })), ["apart", "evaluate", "mend", "tell", "train"]);
    }
}
