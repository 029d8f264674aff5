//! The end of a run: of its time, of its stages, of itself.

use std::time::Duration;

use super::pass::{Effects, Pass, Stages, first_line};
use super::{attempt, container, graph, locks};
use crate::api::{MLPipelineRun, MLPipelineRunStatus, StageState, StageStatus};
use crate::duration;
use crate::pipeline::{Frozen, FrozenKind};
use crate::plan::{Delete, DeleteKind, Plan};
use k8s_openapi::jiff::Timestamp;

/// Failed because the run's time was over: its Jobs are deleted.
pub(super) const RUN_TIMEOUT: &str = "RunTimeout";
/// Failed because a person canceled the run.
pub(super) const CANCELED: &str = "Canceled";
/// Failed because a newer run of its pipeline takes its place.
pub(super) const REPLACED: &str = "Replaced";
/// Stages that are named beside the first that failed.
const OTHERS_NAMED: usize = 5;
/// All went well before `finally`, and something in it failed.
const FINALLY_FAILED: &str = "FinallyFailed";

/// The run ended the stage, not the stage itself.
pub(super) fn by_the_run(reason: &str) -> bool {
    matches!(reason, RUN_TIMEOUT | CANCELED | REPLACED)
}

/// A person ended it, or a newer run, and not a failure.
pub(super) fn by_hand(reason: &str) -> bool {
    matches!(reason, CANCELED | REPLACED)
}

/// How a run ended, or its stages before `finally` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed { reason: &'static str, message: String },
}

impl End {
    /// `run.status`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed { reason, .. } if by_hand(reason) => CANCELED,
            Self::Failed { .. } => "Failed",
        }
    }

    /// `run.reason` and `run.message`: empty where nothing failed.
    pub fn said(&self) -> (&'static str, &str) {
        match self {
            Self::Succeeded => ("", ""),
            Self::Failed { reason, message } => (reason, message),
        }
    }
}

/// Ends every stage before `finally` of a run that has `used` up its time.
pub(super) fn out_of_time(pass: &Pass<'_>, used: Duration, stages: &mut Stages, effects: &mut Effects) {
    let Some(limit) = pass.frozen.timeout_seconds.map(Duration::from_secs) else { return };
    let main = |name: &String| !pass.is_finally(name);
    if time_left(pass, used, stages).is_none_or(|left| !left.is_zero()) {
        return;
    }
    let message = format!("the run's timeout of {} is over", duration::format(limit));
    give_up(pass, RUN_TIMEOUT, &message, main, stages, effects);
}

/// How much of its time is left to a run that has a timeout and stages before `finally` to go.
pub(super) fn time_left(pass: &Pass<'_>, used: Duration, stages: &Stages) -> Option<Duration> {
    let limit = Duration::from_secs(pass.frozen.timeout_seconds?);
    let mut main = pass.frozen.stages.keys().filter(|name| !pass.is_finally(name));
    let goes_on = main.any(|name| stages.get(name).is_none_or(|status| !status.state.ended()));
    goes_on.then(|| limit.saturating_sub(used))
}

/// Ends the stages that `which` names and that have not ended: the run goes no further.
pub(super) fn give_up(
    pass: &Pass<'_>,
    reason: &'static str,
    message: &str,
    which: impl Fn(&String) -> bool,
    stages: &mut Stages,
    effects: &mut Effects,
) {
    for name in pass.frozen.stages.keys().filter(|name| which(name)) {
        let status = stages.entry(name.clone()).or_default();
        if status.state == StageState::Waiting || locks::waits(status) {
            status.state = StageState::Skipped;
            status.reason = Some(reason.to_owned());
            status.message = Some(message.to_owned());
        } else if status.state == StageState::Running && registered(pass, name, status) {
            // What is left of it is to let older versions go, which the next one does.
            status.state = StageState::Succeeded;
            status.completion_time = Some(pass.time());
        } else if !status.state.ended() {
            *status = attempt::fail(pass, name, status.clone(), reason, message, effects);
        }
    }
}

/// A stage that has registered its model.
fn registered(pass: &Pass<'_>, stage: &str, status: &StageStatus) -> bool {
    let registers = pass.frozen.stages.get(stage).is_some_and(|stage| matches!(stage.kind, FrozenKind::Register(_)));
    registers && status.model_version.is_some()
}

/// How the stages before `finally` ended, if every one has.
pub(super) fn end_of_stages(frozen: &Frozen, stages: &Stages) -> Option<End> {
    let of = |name: &String| frozen.stages.get(name).is_none_or(|stage| !stage.finally);
    let main = || stages.iter().filter(|(name, _)| of(name));
    if !main().all(|(_, status)| status.state.ended()) {
        return None;
    }
    if let Some(end) = ended_by_hand(main(), frozen) {
        return Some(end);
    }
    let timeout = main().any(|(_, status)| status.reason.as_deref() == Some(RUN_TIMEOUT));
    Some(match first_failed(frozen, main()) {
        Some((name, status)) => {
            let reason = status.reason.as_deref().unwrap_or("Failed");
            let others = others_failed(frozen, name, main());
            let message = format!("stage `{name}` failed: {reason}: {}{others}", first_line(status));
            End::Failed { reason: if timeout { RUN_TIMEOUT } else { "StageFailed" }, message }
        }
        None if timeout => {
            End::Failed { reason: RUN_TIMEOUT, message: "the run's timeout was over before a stage began".to_owned() }
        }
        None => End::Succeeded,
    })
}

/// How the run ended, if every stage has. What fails in `finally` hides nothing.
pub(super) fn end(frozen: &Frozen, stages: &Stages) -> Option<End> {
    let end = end_of_stages(frozen, stages)?;
    let finally = || stages.iter().filter(|(name, _)| frozen.stages.get(*name).is_some_and(|stage| stage.finally));
    if !finally().all(|(_, status)| status.state.ended()) {
        return None;
    }
    // Canceled while `finally` ran.
    if let (End::Succeeded, Some(canceled)) = (&end, ended_by_hand(finally(), frozen)) {
        return Some(canceled);
    }
    let Some((name, status)) = first_failed(frozen, finally()) else { return Some(end) };
    let reason = status.reason.as_deref().unwrap_or("Failed");
    let failed = format!("in finally, stage `{name}` failed: {reason}: {}", first_line(status));
    Some(match end {
        End::Succeeded => {
            End::Failed { reason: FINALLY_FAILED, message: format!("{failed} (the stages before had succeeded)") }
        }
        End::Failed { reason, message } => End::Failed { reason, message: format!("{message}; {failed}") },
    })
}

/// The end of stages of which a person ended one.
fn ended_by_hand<'a>(
    stages: impl Iterator<Item = (&'a String, &'a StageStatus)> + Clone,
    frozen: &Frozen,
) -> Option<End> {
    let by_hand = |status: &StageStatus| status.reason.as_deref().is_some_and(by_hand);
    let (_, canceled) = stages.clone().find(|(_, status)| by_hand(status))?;
    let count = |state: StageState| stages.clone().filter(|(_, s)| by_hand(s) && s.state == state).count();
    let (stopped, unbegun) = (count(StageState::Failed), count(StageState::Skipped));
    let mut message = format!("{}: {stopped} stopped, {unbegun} not begun", first_line(canceled));
    if let Some((name, status)) = first_failed(frozen, stages.filter(|(_, status)| !by_hand(status))) {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        message = format!("{message}; before that stage `{name}` failed: {reason}: {}", first_line(status));
    }
    let reason = if canceled.reason.as_deref() == Some(REPLACED) { REPLACED } else { CANCELED };
    Some(End::Failed { reason, message })
}

/// The first that failed is the cause; what came after it may be its consequence. One that may fail is none, unless the run ended it.
fn first_failed<'a>(
    frozen: &Frozen,
    stages: impl Iterator<Item = (&'a String, &'a StageStatus)>,
) -> Option<(&'a String, &'a StageStatus)> {
    let counts = |name: &str, status: &StageStatus| {
        let by_the_run = status.reason.as_deref().is_some_and(by_the_run);
        status.state == StageState::Failed && (by_the_run || !graph::may_fail(&frozen.stages, name))
    };
    stages
        .filter(|(name, status)| counts(name, status))
        .min_by_key(|(_, status)| status.completion_time.as_ref().map(|time| time.0))
}

/// Names some of the stages that failed besides the first, each by itself.
fn others_failed<'a>(
    frozen: &Frozen,
    first: &str,
    stages: impl Iterator<Item = (&'a String, &'a StageStatus)>,
) -> String {
    let fell = |name: &str, status: &StageStatus| {
        let by_the_run = status.reason.as_deref().is_some_and(by_the_run);
        name != first && status.state == StageState::Failed && !by_the_run && !graph::may_fail(&frozen.stages, name)
    };
    let others: Vec<&String> = stages.filter(|(name, status)| fell(name, status)).map(|(name, _)| name).collect();
    let named: Vec<String> = others.iter().take(OTHERS_NAMED).map(|name| format!("`{name}`")).collect();
    match others.len() {
        0 => String::new(),
        count if count > named.len() => format!("; failed too: {} and {} more", named.join(", "), count - named.len()),
        _ => format!("; failed too: {}", named.join(", ")),
    }
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
