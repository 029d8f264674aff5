//! The plan of one run.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::finish::End;
use super::pass::{Effects, Pass, Stages, clip, refusal, whole_seconds};
use super::start::{self, Start};
use super::turns::{self, Place};
use super::{Observed, advance, again, approve, attempt, awaited, control, finish, hold, locks, nested, status, usage};
use crate::api::{ConditionStatus, MLPipelineRun, MLPipelineRunStatus, RetryFrom, Value};
use crate::config::Config;
use crate::pipeline::{self, Frozen, bind_params, foreign};
use crate::plan::{Event, Plan};
use crate::problem;

/// What a run refers to may reach the operator a moment after the run: before this age nothing is held against it.
const SETTLING: Duration = Duration::from_secs(3);
/// How soon to look for a number that was not heard of.
const NUMBER: Duration = Duration::from_secs(5);
/// How soon to try again to keep a pipeline that the apiserver refused to keep.
const REFUSED: Duration = Duration::from_secs(10);

/// Decides for one run.
#[must_use]
pub fn plan(run: &MLPipelineRun, observed: &Observed, config: &Config, now: Timestamp) -> Plan<MLPipelineRunStatus> {
    if run.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let asked = nested::as_asked(run, observed);
    let run = asked.as_ref();
    let mut status = run.status.clone().unwrap_or_default();
    let mut events = Vec::new();
    if status.completion_time.is_some() {
        let Some(asked) = again::asked(run) else { return finish::afterwards(run, &status, observed, now) };
        match begin_again(status, observed.frozen.as_deref(), asked, now) {
            Ok(begun) => status = begun,
            Err(plan) => return *plan,
        }
        let from = asked.stage.as_ref().map(|stage| format!(" from stage {stage} on")).unwrap_or_default();
        let message =
            format!("it begins again{from}, with its pipeline as it was; what else succeeded is not run again");
        events.push(Event::normal("RunRetried", message));
    }
    let mut plan = match (&status.frozen, &observed.frozen) {
        (None, _) => begin(run, status, observed, config, now),
        // It is made before the status names it, and read without a cache when it is not held: so it was deleted.
        (Some(name), None) => {
            let message = format!(
                "the ControllerRevision {name} that holds what this run runs was deleted: create the run again"
            );
            refuse(status, "FrozenLost", &message, &message, now)
        }
        (Some(name), Some(frozen)) => resume(run, &status, name, frozen, observed, config, now),
    };
    plan.events.splice(0..0, events);
    plan.status = plan.status.filter(|new| run.status.as_ref() != Some(new));
    plan
}

/// The status of a run that begins again; or why it does not, which is said once.
fn begin_again(
    old: MLPipelineRunStatus,
    frozen: Option<&Frozen>,
    asked: &RetryFrom,
    now: Timestamp,
) -> Result<MLPipelineRunStatus, Box<Plan<MLPipelineRunStatus>>> {
    let now = whole_seconds(now);
    again::begin(&old, frozen, asked, Time(now)).map_err(|(reason, message)| {
        let mut status = MLPipelineRunStatus { retry_from: Some(asked.clone()), ..old };
        status::say(&mut status, &[("Accepted", ConditionStatus::False, reason, &message)], now);
        let events = vec![Event::warning("RetryRefused", format!("{reason}: {message}"))];
        Box::new(Plan { status: Some(status), events, ..Plan::default() })
    })
}

/// Whether the pipeline of this run counts its runs.
fn asks_for_number(observed: &Observed) -> bool {
    observed.pipeline.as_ref().is_some_and(|found| pipeline::asks_for_number(&found.spec, &observed.templates))
}

fn begin(
    run: &MLPipelineRun,
    mut status: MLPipelineRunStatus,
    observed: &Observed,
    config: &Config,
    now: Timestamp,
) -> Plan<MLPipelineRunStatus> {
    status.observed_generation = run.metadata.generation;
    if run.spec.code.is_some() {
        // Who brings the code does so by a pod of this image, while the run is suspended.
        status.agent.get_or_insert_with(|| config.agent());
    }
    // There was nothing to begin again.
    status.retry_from.clone_from(&run.spec.retry_from);
    status.number = super::pass::number(run, observed);
    let held = hold::held(run, observed, now);
    // It was checked when it was held first.
    if let Some(held) = held.as_ref().filter(|held| held.ends() || hold::is_held(&status)) {
        return hold::plan(status, held, now);
    }
    match start::start(run, observed, config) {
        Start::Frozen { frozen, params, revision } => {
            if let Some(held) = held {
                return hold::plan(status, &held, now);
            }
            if status.number.is_none() && run.spec.pipeline.is_none() && asks_for_number(observed) {
                // Its pipeline is about to give it one. Who begins again is to be seen as one that has not ended.
                let status = run.status.is_some().then_some(status);
                return Plan { status, requeue: Some(NUMBER), ..Plan::default() };
            }
            let name = revision.metadata.name.clone().unwrap_or_default();
            if let Some(refusal) = refusal(observed, &format!("ControllerRevision {name}")) {
                // It cannot begin: who wants the same lock does not wait for it.
                status.locks = None;
                status::unfrozen(&mut status, &refusal.reason, &clip(&refusal.message), whole_seconds(now));
                return Plan { status: Some(status), requeue: Some(REFUSED), ..Plan::default() };
            }
            status.frozen = Some(name.clone());
            status.locks = locks::taken(&frozen.locks, status.locks.as_ref(), now);
            let pass = pass(run, observed, config, now, &frozen, &name, &params);
            status.start_time = Some(pass.time());
            let mut plan = advanced(&pass, status);
            plan.events.splice(0..0, begun(&pass));
            Plan { freeze: Some(revision), ..plan }
        }
        Start::Missing(pipeline) => {
            status.locks = None;
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

fn pass<'a>(
    run: &'a MLPipelineRun,
    observed: &'a Observed,
    config: &'a Config,
    now: Timestamp,
    frozen: &'a Frozen,
    frozen_name: &'a str,
    params: &'a BTreeMap<String, Value>,
) -> Pass<'a> {
    Pass {
        run,
        observed,
        config,
        now,
        frozen,
        frozen_name,
        params,
        end: None,
        held: control::is_suspended(run),
        waits: None,
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
    status.completion_time = Some(Time(now));
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
            let mut status = old.clone();
            let pass = pass(run, observed, config, now, frozen, name, &params);
            // It is to begin again.
            if status.start_time.is_none() {
                status.observed_generation = run.metadata.generation;
                if let Some(held) = hold::held(run, observed, now) {
                    return hold::plan(status, &held, now);
                }
                status.start_time = Some(pass.time());
                status.locks = locks::taken(&frozen.locks, status.locks.as_ref(), now);
            }
            advanced(&pass, status)
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
    let used = control::used(pass, &status, start);
    finish::out_of_time(pass, used, &mut status.stages, &mut effects);
    control::cancel(pass, &mut status.stages, &mut effects);
    // Another waits for its end.
    let replaced = status.stages.values().any(|stage| stage.reason.as_deref() == Some(finish::REPLACED));
    let pass = &Pass { held: pass.held && !replaced, ..*pass };
    let (mut stages, waits) = gone_on(pass, &status.stages, &mut effects);
    usage::take_over(pass, &status.stages, &mut stages);
    status.stages = stages;
    attempt::bound(&mut status.stages);
    let parked = approve::is_parked(&status.stages);
    let stands = pass.held || parked;
    if let Some(left) = finish::time_left(pass, used, &status.stages).filter(|left| !stands && !left.is_zero()) {
        effects.again(left);
    }
    control::clock(pass, stands, &mut status);
    let at_work = advance::at_work(pass, &status.stages, &mut effects);
    let end = finish::end(pass.frozen, &status.stages).filter(|_| at_work.is_none());
    status.observed_generation = pass.run.metadata.generation;
    status.usage = usage::of_run(&status.stages);
    if pass.frozen.store.is_some() {
        status.agent.get_or_insert_with(|| pass.config.agent());
    }
    let time = pass.time();
    let awaited = awaited(pass, &status, start, &mut effects);
    let misplaced = misplaced(pass, &status, &mut effects);
    let told = |reason| status.stages.values().any(|s| !s.state.ended() && s.reason.as_deref() == Some(reason));
    let waits = waits.map(|(reason, message)| (reason, if told(reason) { String::new() } else { message }));
    let standing = standing(pass, at_work, waits, parked);
    let accepted = match &misplaced {
        Some((reason, message)) => (ConditionStatus::False, *reason, message.as_str()),
        None => (ConditionStatus::True, "Accepted", awaited.as_deref().unwrap_or_default()),
    };
    status::running(&mut status, pass.frozen, end.as_ref(), &standing, accepted, time.0);
    if let Some(end) = &end {
        match end {
            End::Succeeded => {
                let gone = super::pass::since(start, pass.now);
                effects.tell("RunSucceeded", format!("after {}", crate::duration::format(gone)));
            }
            End::Failed { reason, message } if finish::by_hand(reason) => {
                effects.tell("RunCanceled", format!("{reason}: {message}"));
            }
            End::Failed { reason, message } => effects.warn("RunFailed", format!("{reason}: {message}")),
        }
        status.completion_time = Some(time);
    }
    let Effects { create, apply, delete, events, requeue, remake: _ } = effects;
    Plan { freeze: None, status: Some(status), create, apply, delete, events, requeue }
}

/// Every stage one step further; and why a run that only waits for people does not go on, although it would. It needs a slot for that, and is
/// not to be suspended: until then it stays as it is, and holds none.
fn gone_on(pass: &Pass<'_>, old: &Stages, effects: &mut Effects) -> (Stages, Option<(&'static str, String)>) {
    let mut first = Effects::default();
    let stages = advance::all(pass, old, &mut first);
    let goes_on =
        approve::is_parked(old) && !approve::is_parked(&stages) && finish::end(pass.frozen, &stages).is_none();
    let waits = match goes_on.then(|| turns::place(pass.run, pass.observed)) {
        Some(_) if pass.held => Some((control::SUSPENDED, control::SUSPENDED_MESSAGE.to_owned())),
        Some(Place::Waits(message) | Place::Forbidden(message) | Place::Replaced(message)) => {
            Some((hold::QUEUED, message))
        }
        Some(Place::Free) | None => None,
    };
    let Some((reason, message)) = &waits else {
        effects.join(first);
        return (stages, None);
    };
    let pass = Pass { held: true, waits: Some((*reason, message)), ..*pass };
    (advance::all(&pass, old, effects), waits)
}

/// Decisions that nothing waits for. An event tells of them when they are noticed.
fn misplaced(pass: &Pass<'_>, status: &MLPipelineRunStatus, effects: &mut Effects) -> Option<(&'static str, String)> {
    let found = approve::misplaced(pass.frozen, &pass.run.spec.approvals);
    let reason = found.first()?.reason;
    let message = problem::every(&found);
    let said = status.conditions.iter().any(|c| c.type_ == "Accepted" && c.message == message);
    if !said {
        effects.warn("ApprovalMisplaced", problem::brief(&found));
    }
    Some((reason, message))
}

/// The reason that a run has while it runs, and what it says before it tells of its stages.
fn standing(
    pass: &Pass<'_>,
    at_work: Option<&str>,
    waits: Option<(&'static str, String)>,
    parked: bool,
) -> (&'static str, String) {
    let canceled = pass.run.spec.cancel.is_some();
    match at_work {
        Some(stage) => {
            let reason = if canceled { "Canceling" } else { "Running" };
            (reason, format!("waits until the program of stage `{stage}` has stopped"))
        }
        None if canceled => ("Canceling", String::new()),
        None if pass.held => (control::SUSPENDED, control::SUSPENDED_MESSAGE.to_owned()),
        None => match waits {
            Some(waits) => waits,
            None if parked => (approve::WAITING, String::new()),
            None => ("Running", String::new()),
        },
    }
}
