//! What the status of a run says: its conditions and its progress.

use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;

use super::finish::End;
use super::graph::{self, GATE_REJECTED, WHEN_FALSE};
use super::pass::{Stages, clip, first_line};
use crate::api::ConditionStatus::{self, False, True, Unknown};
use crate::api::{MLPipelineRunStatus, StageState, StageStatus, set_condition};
use crate::expr;
use crate::pipeline::{Frozen, FrozenKind};

/// How many stages a message lists.
const LISTED: usize = 8;

/// One condition of a run: kind, status, reason, message.
type Said<'a> = (&'a str, ConditionStatus, &'a str, &'a str);

/// Sets conditions. As kstatus reads it, `Stalled` and `Reconciling` are there only while they are true.
pub(super) fn say(status: &mut MLPipelineRunStatus, said: &[Said<'_>], now: Timestamp) {
    let generation = status.observed_generation;
    for (kind, value, reason, message) in said {
        set_condition(&mut status.conditions, kind, *value, reason, message, generation, now);
    }
    let passing = |kind: &str| matches!(kind, "Stalled" | "Reconciling");
    status.conditions.retain(|condition| !passing(&condition.type_) || condition.status == "True");
}

/// The conditions of a run that is not there yet: what it runs is missing.
pub(super) fn missing(status: &mut MLPipelineRunStatus, pipeline: &str, there: &[String], now: Timestamp) {
    let reason = "PipelineNotFound";
    let hint = expr::did_you_mean(pipeline, there.iter().map(String::as_str));
    let message =
        format!("spec.pipelineRef.name: there is no MLPipeline {pipeline} ({hint}): the run starts when it is applied");
    let said = [
        ("Accepted", False, reason, message.as_str()),
        ("Succeeded", Unknown, reason, &message),
        ("Ready", False, reason, &message),
        ("Reconciling", True, reason, &message),
        ("Stalled", False, reason, ""),
    ];
    say(status, &said, now);
}

/// The conditions of a run whose pipeline the apiserver does not keep: a quota, or a name that is taken.
pub(super) fn unfrozen(status: &mut MLPipelineRunStatus, reason: &str, message: &str, now: Timestamp) {
    let said = [
        ("Accepted", Unknown, reason, message),
        ("Succeeded", Unknown, reason, message),
        ("Ready", False, reason, message),
        ("Reconciling", True, reason, message),
        ("Stalled", False, reason, ""),
    ];
    say(status, &said, now);
}

/// The conditions of a run that is accepted and waits to begin.
pub(super) fn held(status: &mut MLPipelineRunStatus, reason: &str, message: &str, now: Timestamp) {
    let said = [
        ("Accepted", True, "Accepted", ""),
        ("Succeeded", Unknown, reason, message),
        ("Ready", False, reason, message),
        ("Reconciling", True, reason, message),
        ("Stalled", False, reason, ""),
    ];
    say(status, &said, now);
}

/// The conditions of a run that ended before it began, not by a fault of its own.
pub(super) fn unbegun(status: &mut MLPipelineRunStatus, reason: &str, message: &str, now: Timestamp) {
    let said = [
        ("Succeeded", False, reason, message),
        ("Ready", False, reason, message),
        ("Reconciling", False, reason, ""),
        ("Stalled", True, reason, message),
    ];
    say(status, &said, now);
}

/// The conditions of a run that will never run.
pub(super) fn refused(status: &mut MLPipelineRunStatus, reason: &str, message: &str, all: &str, now: Timestamp) {
    let said = [
        ("Accepted", False, reason, all),
        ("Succeeded", False, reason, message),
        ("Ready", False, reason, message),
        ("Reconciling", False, reason, ""),
        ("Stalled", True, reason, message),
    ];
    say(status, &said, now);
}

/// The conditions of a run that runs or has run.
///
/// `standing` is its reason while it runs, and what it says first. `accepted` is what `Accepted` says: what is not there yet and will be needed, or
/// what of the spec nothing can be done with.
pub(super) fn running(
    status: &mut MLPipelineRunStatus,
    frozen: &Frozen,
    end: Option<&End>,
    standing: &(&str, String),
    accepted: (ConditionStatus, &str, &str),
    now: Timestamp,
) {
    let count = |state: StageState| status.stages.values().filter(|stage| stage.state == state).count();
    let (succeeded, skipped, all) = (count(StageState::Succeeded), count(StageState::Skipped), frozen.stages.len());
    let cached = status.stages.values().filter(|stage| is_cached(stage)).count();
    let apart = [(cached, "cached"), (count(StageState::Failed), "failed"), (skipped, "skipped")];
    let apart = apart.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!(", {count} {word}"));
    status.progress = Some(format!("{succeeded}/{all}{}", apart.collect::<String>()));
    promoted(status, frozen, end, now);
    let message = match end {
        None => {
            let said = [standing.1.clone(), at_work(&status.stages)];
            clip(&said.into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("; "))
        }
        Some(End::Succeeded) => clip(&well(&status.stages, succeeded, skipped)),
        Some(End::Failed { message, .. }) => clip(message),
    };
    let (succeeded, ready, reconciling, stalled, reason) = match end {
        None => (Unknown, False, True, False, standing.0),
        Some(End::Succeeded) => (True, True, False, False, "Succeeded"),
        Some(End::Failed { reason, .. }) => (False, False, False, True, *reason),
    };
    let said = [
        ("Accepted", accepted.0, accepted.1, accepted.2),
        ("Succeeded", succeeded, reason, message.as_str()),
        ("Ready", ready, reason, ""),
        ("Reconciling", reconciling, reason, ""),
        ("Stalled", stalled, reason, if stalled == True { message.as_str() } else { "" }),
    ];
    say(status, &said, now);
}

/// `Promoted`: every gate said yes, everybody approved who was asked, and every `deploy` stage is through. Who says no decides at once.
fn promoted(status: &mut MLPipelineRunStatus, frozen: &Frozen, end: Option<&End>, now: Timestamp) {
    let deciding: Vec<_> = frozen
        .stages
        .iter()
        .filter(|(_, stage)| !stage.finally)
        .filter_map(|(name, stage)| Some((name, &stage.kind, status.stages.get(name)?)))
        .filter(|(_, kind, status)| match kind {
            FrozenKind::Container(container) => container.gate.is_some(),
            // Where its `when` is false nobody is to be asked.
            FrozenKind::Approve(_) => status.reason.as_deref() != Some(WHEN_FALSE),
            FrozenKind::Deploy(_) => true,
            FrozenKind::Pipeline(_) => status.reason.as_deref() == Some(GATE_REJECTED),
            FrozenKind::Register(_) | FrozenKind::Report(_) => false,
        })
        .map(|(name, _, status)| (name, status))
        .collect();
    let done = |stage: &StageStatus| stage.state == StageState::Succeeded;
    let no = deciding.iter().find(|(_, stage)| done(stage) && stage.reason.as_deref() == Some(GATE_REJECTED));
    let disapproved = deciding.iter().find_map(|(name, stage)| Some((name, stage, graph::disapproved(stage)?)));
    let said = if let Some((name, stage, reason)) = disapproved {
        (False, reason, format!("stage `{name}`: {}", first_line(stage)))
    } else if let Some((name, stage)) = no {
        (False, GATE_REJECTED, format!("the gate of stage `{name}` said no: {}", first_line(stage)))
    } else if deciding.is_empty() || (end.is_none() && !deciding.iter().any(|(_, stage)| done(stage))) {
        return;
    } else if let Some((name, stage)) = deciding.iter().find(|(_, stage)| !done(stage)) {
        let reason = if end.is_some() { "NotReached" } else { "InProgress" };
        let value = if end.is_some() { False } else { Unknown };
        (value, reason, format!("stage `{name}` is {:?}", stage.state))
    } else {
        let names: Vec<_> = deciding.iter().map(|(name, _)| format!("`{name}`")).collect();
        (True, "Promoted", format!("through {}", names.join(", ")))
    };
    say(status, &[("Promoted", said.0, said.1, &said.2)], now);
}

/// How many stages succeeded, and why others were skipped in a run that did.
fn well(stages: &Stages, succeeded: usize, skipped: usize) -> String {
    let noun = if stages.len() == 1 { "stage" } else { "stages" };
    let gates = stages
        .iter()
        .filter(|(_, stage)| stage.state == StageState::Succeeded && stage.reason.as_deref() == Some(GATE_REJECTED));
    let mut said: Vec<_> = gates.map(|(name, _)| format!("the gate of stage `{name}` said no")).collect();
    let disapproved = stages.iter().filter(|(_, stage)| graph::disapproved(stage).is_some());
    said.extend(disapproved.map(|(name, stage)| format!("stage `{name}`: {}", first_line(stage))));
    let failed: Vec<_> = stages.iter().filter(|(_, stage)| stage.state == StageState::Failed).collect();
    let mut counts = if succeeded == stages.len() {
        format!("{succeeded} {noun} succeeded")
    } else {
        format!("{succeeded} of {} {noun} succeeded", stages.len())
    };
    if skipped > 0 {
        let _ = write!(counts, ", {skipped} skipped");
    }
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|(name, _)| format!("`{name}`")).collect();
        let _ = write!(counts, ", {} failed with onFailure: Continue ({})", failed.len(), names.join(", "));
    }
    if said.is_empty() { counts } else { format!("{counts}: {}", said.join(", ")) }
}

/// Nothing was run for it.
fn is_cached(stage: &StageStatus) -> bool {
    let taken = stage.cache.as_ref().is_some_and(|cache| cache.from.is_some());
    taken && stage.state == StageState::Succeeded
}

/// What runs, and what waits and why.
fn at_work(stages: &Stages) -> String {
    let busy = stages.iter().filter(|(_, stage)| !stage.state.ended() && stage.state != StageState::Waiting);
    let mut text = String::new();
    for (name, stage) in busy.clone().take(LISTED) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let word = match stage.state {
            StageState::Running => "running",
            StageState::Pending => "pending",
            StageState::BackingOff => "backing off",
            StageState::Waiting | StageState::Succeeded | StageState::Failed | StageState::Skipped => "",
        };
        let _ = write!(text, "{name} is {word}");
        if let Some(reason) = &stage.reason {
            let _ = write!(text, " ({reason}: {})", first_line(stage));
        } else if stage.message.is_some() {
            let _ = write!(text, " ({})", first_line(stage));
        }
    }
    let more = busy.count().saturating_sub(LISTED);
    if more > 0 {
        let _ = write!(text, ", and {more} more");
    }
    clip(&text)
}
