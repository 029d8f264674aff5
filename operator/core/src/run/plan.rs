//! The plan of one run.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::finish::End;
use super::pass::{Effects, Pass, clip, refusal, whole_seconds};
use super::start::{self, Start};
use super::{Observed, advance, awaited, finish, status};
use crate::api::{MLPipelineRun, MLPipelineRunStatus};
use crate::config::Config;
use crate::pipeline::{Frozen, bind_params, foreign};
use crate::plan::{Event, Plan};
use crate::problem;

/// What a run refers to may reach the operator a moment after the run: before this age nothing is held against it.
const SETTLING: Duration = Duration::from_secs(3);
/// How soon to try again to keep a pipeline that the apiserver refused to keep.
const REFUSED: Duration = Duration::from_secs(10);

/// Decides for one run.
#[must_use]
pub fn plan(run: &MLPipelineRun, observed: &Observed, config: &Config, now: Timestamp) -> Plan<MLPipelineRunStatus> {
    let old = run.status.clone().unwrap_or_default();
    if run.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    if old.completion_time.is_some() {
        return finish::afterwards(run, &old, observed, now);
    }
    let mut plan = match (&old.frozen, &observed.frozen) {
        (None, _) => begin(run, old, observed, config, now),
        // It is made before the status names it, and read without a cache when it is not held: so it was deleted.
        (Some(name), None) => {
            let message = format!(
                "the ControllerRevision {name} that holds what this run runs was deleted: create the run again"
            );
            refuse(old.clone(), "FrozenLost", &message, &message, now)
        }
        (Some(name), Some(frozen)) => resume(run, &old, name, frozen, observed, config, now),
    };
    plan.status = plan.status.filter(|new| run.status.as_ref() != Some(new));
    plan
}

fn begin(
    run: &MLPipelineRun,
    mut status: MLPipelineRunStatus,
    observed: &Observed,
    config: &Config,
    now: Timestamp,
) -> Plan<MLPipelineRunStatus> {
    status.observed_generation = run.metadata.generation;
    match start::start(run, observed, config) {
        Start::Frozen { frozen, params, revision } => {
            let name = revision.metadata.name.clone().unwrap_or_default();
            if let Some(refusal) = refusal(observed, &format!("ControllerRevision {name}")) {
                status::unfrozen(&mut status, &refusal.reason, &clip(&refusal.message), whole_seconds(now));
                return Plan { status: Some(status), requeue: Some(REFUSED), ..Plan::default() };
            }
            status.frozen = Some(name.clone());
            let pass = Pass { run, observed, config, now, frozen: &frozen, frozen_name: &name, params: &params, end: None };
            status.start_time = Some(pass.time());
            let mut plan = advanced(&pass, status);
            plan.events.splice(0..0, begun(&pass));
            Plan { freeze: Some(revision), ..plan }
        }
        Start::Missing(pipeline) => {
            status::missing(&mut status, &pipeline, &observed.pipelines, whole_seconds(now));
            Plan { status: Some(status), ..Plan::default() }
        }
        Start::Refused(problems) => {
            if let Some(left) = settling(run, now) {
                return Plan { requeue: Some(left), ..Plan::default() };
            }
            let reason = problems.first().map_or("InvalidSpec", |problem| problem.reason);
            refuse(status, reason, &problem::brief(&problems), &problem::every(&problems), now)
        }
    }
}

/// What is told when a run starts.
fn begun(pass: &Pass<'_>) -> Vec<Event> {
    let stages = match pass.frozen.stages.len() {
        1 => "1 stage".to_owned(),
        count => format!("{count} stages"),
    };
    let of = pass.pipeline_name().map(|name| format!(" of MLPipeline {name}")).unwrap_or_default();
    let mut events = vec![Event::normal("RunStarted", format!("{stages}{of}"))];
    // A pipeline of its own tells it itself.
    let unlikely = pass.run.spec.pipeline.as_ref().map(foreign::in_pipeline).unwrap_or_default();
    if !unlikely.is_empty() {
        events.push(Event::warning("NotReplaced", clip(&problem::every(&unlikely))));
    }
    events
}

/// How long a run that was just applied, beside its pipeline or templates, is still too young to be refused.
fn settling(run: &MLPipelineRun, now: Timestamp) -> Option<Duration> {
    let age = super::pass::since(run.metadata.creation_timestamp.as_ref()?.0, now);
    SETTLING.checked_sub(age).filter(|left| !left.is_zero())
}

/// `all` is what `Accepted` says, and `message` what everything else does.
fn refuse(
    mut status: MLPipelineRunStatus,
    reason: &str,
    message: &str,
    all: &str,
    now: Timestamp,
) -> Plan<MLPipelineRunStatus> {
    let message = clip(message);
    let now = whole_seconds(now);
    status::refused(&mut status, reason, &message, all, now);
    status.completion_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let events = vec![Event::warning("RunRefused", format!("{reason}: {message}"))];
    Plan { status: Some(status), events, ..Plan::default() }
}

fn resume(
    run: &MLPipelineRun,
    old: &MLPipelineRunStatus,
    name: &str,
    frozen: &Frozen,
    observed: &Observed,
    config: &Config,
    now: Timestamp,
) -> Plan<MLPipelineRunStatus> {
    match bind_params(&frozen.params, &run.spec.params, "spec.params") {
        Ok(params) => {
            let pass = Pass { run, observed, config, now, frozen, frozen_name: name, params: &params, end: None };
            advanced(&pass, old.clone())
        }
        // They were bound when the run started; an operator that binds them otherwise cannot go on with it.
        Err(problems) => {
            refuse(old.clone(), "InvalidParameter", &problem::brief(&problems), &problem::every(&problems), now)
        }
    }
}

/// What the run will wait for later on. It may have been applied together with the run, a moment after it. An event tells of
/// it when it is noticed.
fn awaited(pass: &Pass<'_>, status: &MLPipelineRunStatus, start: Timestamp, effects: &mut Effects) -> Option<String> {
    let missing = awaited::missing(pass, &status.stages)?;
    let gone = super::pass::since(start, pass.now);
    if let Some(left) = SETTLING.checked_sub(gone).filter(|left| !left.is_zero()) {
        effects.again(left);
        return None;
    }
    let accepted = status.conditions.iter().find(|condition| condition.type_ == "Accepted");
    let said = accepted.map(|condition| &condition.message).filter(|message| missing.is_said_by(message));
    if said.is_none() {
        effects.warn("ModelDeploymentNotFound", missing.message());
    }
    Some(said.cloned().unwrap_or_else(|| missing.message()))
}

/// One pass over the stages of a run that has started.
fn advanced(pass: &Pass<'_>, mut status: MLPipelineRunStatus) -> Plan<MLPipelineRunStatus> {
    let mut effects = Effects::default();
    let start = status.start_time.as_ref().map_or(pass.now, |time| time.0);
    finish::out_of_time(pass, start, &mut status.stages, &mut effects);
    status.stages = advance::all(pass, &status.stages, &mut effects);
    let end = finish::end(pass.frozen, &status.stages);
    status.observed_generation = pass.run.metadata.generation;
    let time = pass.time();
    let awaited = awaited(pass, &status, start, &mut effects);
    status::running(&mut status, pass.frozen, end.as_ref(), awaited.as_deref(), time.0);
    if let Some(end) = &end {
        match end {
            End::Succeeded => {
                let gone = super::pass::since(start, pass.now);
                effects.tell("RunSucceeded", format!("after {}", crate::duration::format(gone)));
            }
            End::Failed { reason, message } => effects.warn("RunFailed", format!("{reason}: {message}")),
        }
        status.completion_time = Some(time);
    }
    let Effects { create, apply, delete, events, requeue } = effects;
    Plan { freeze: None, status: Some(status), create, apply, delete, events, requeue }
}
