//! The end of a run: of its time, of its stages, of itself.

use std::time::Duration;

use super::pass::{Effects, Pass, Stages, first_line};
use super::{attempt, container};
use crate::api::{MLPipelineRun, MLPipelineRunStatus, StageState};
use crate::duration;
use crate::plan::{Delete, DeleteKind, Plan};
use k8s_openapi::jiff::Timestamp;

/// Failed because the run's time was over: its Jobs are deleted.
pub(super) const RUN_TIMEOUT: &str = "RunTimeout";

/// How the stages of a run ended together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed { reason: &'static str, message: String },
}

/// Ends every stage of a run whose time is over. Whether it was.
pub(super) fn out_of_time(pass: &Pass<'_>, start: Timestamp, stages: &mut Stages, effects: &mut Effects) -> bool {
    let Some(limit) = pass.frozen.timeout_seconds.map(Duration::from_secs) else { return false };
    let gone = super::pass::since(start, pass.now);
    if let Some(left) = limit.checked_sub(gone).filter(|left| !left.is_zero()) {
        effects.again(left);
        return false;
    }
    let message = format!("the run's timeout of {} is over", duration::format(limit));
    for (name, status) in stages.iter_mut().filter(|(_, status)| !status.state.ended()) {
        if status.state == StageState::Waiting {
            status.state = StageState::Skipped;
            status.reason = Some(RUN_TIMEOUT.to_owned());
            status.message = Some(message.clone());
        } else {
            *status = attempt::fail(pass, name, status.clone(), RUN_TIMEOUT, &message, effects);
        }
    }
    let abandoned = stages.iter().filter_map(|(name, status)| container::abandoned(pass, name, status));
    effects.delete.extend(abandoned);
    true
}

/// How the run ended, if every stage has.
pub(super) fn end(stages: &Stages) -> Option<End> {
    if !stages.values().all(|status| status.state.ended()) {
        return None;
    }
    // The first that failed is the cause; what came after it may be its consequence.
    let failed = stages.iter().filter(|(_, status)| status.state == StageState::Failed);
    let first = failed.min_by_key(|(_, status)| status.completion_time.as_ref().map(|time| time.0));
    let timeout = stages.values().any(|status| status.reason.as_deref() == Some(RUN_TIMEOUT));
    Some(match first {
        Some((name, status)) => {
            let reason = status.reason.as_deref().unwrap_or("Failed");
            let message = format!("stage `{name}` failed: {reason}: {}", first_line(status));
            End::Failed { reason: if timeout { RUN_TIMEOUT } else { "StageFailed" }, message }
        }
        None if timeout => {
            End::Failed { reason: RUN_TIMEOUT, message: "the run's timeout was over before a stage began".to_owned() }
        }
        None => End::Succeeded,
    })
}

/// What is left to do for a run that has ended: Jobs that were given up, and the run itself after its time to live.
/// Nothing is ever written to it again.
pub(super) fn afterwards(
    run: &MLPipelineRun,
    status: &MLPipelineRunStatus,
    observed: &super::Observed,
    now: Timestamp,
) -> Plan<MLPipelineRunStatus> {
    let mut plan = Plan::default();
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    for (name, stage) in &status.stages {
        plan.delete.extend(container::given_up(uid, observed, name, stage));
    }
    let ended = status.completion_time.as_ref().map(|time| time.0);
    let ttl = run.spec.ttl.as_deref().and_then(duration::parse);
    if let (Some(ended), Some(ttl)) = (ended, ttl) {
        match ttl.checked_sub(super::pass::since(ended, now)).filter(|left| !left.is_zero()) {
            Some(left) => plan.requeue = Some(left),
            None => plan.delete.push(Delete {
                kind: DeleteKind::Run,
                name: run.metadata.name.clone().unwrap_or_default(),
                uid: uid.to_owned(),
            }),
        }
    }
    plan
}
