//! A stage that runs another pipeline: an MLPipelineRun that belongs to this run. It ends as that run does.
//!
//! Nobody writes to the nested run. That it is to end is derived from the run that it belongs to: its stage has ended there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::graph::GATE_REJECTED;
use super::inputs::Hindrance;
use super::pass::{Effects, Pass, Stages, after, clip, since, whole_seconds};
use super::{Observed, again, attempt, deadline, finish, heal, hold, inputs, nested_items, retry, scope};
use crate::api::{
    Cancel, Condition, MLPipelineRun, MLPipelineRunSpec, NestedPipeline, PipelineRef, Retry, RunCache, RunCacheMode,
    RunInput, RunRef, StageState, StageStatus, Value,
};
use crate::expr::Scope;
use crate::pipeline::FrozenNested;
use crate::plan::{Create, NAME_TAKEN};
use crate::{duration, expr, names};

/// How deep pipelines may nest.
pub const DEEPEST: usize = 8;
/// How long the apiserver may refuse the run (a quota, for one).
pub(super) const LIMIT: Duration = Duration::from_hours(1);
pub(super) const PAUSE: Duration = Duration::from_secs(15);
/// Reasons of a stage whose run a person or a newer run ended.
const BY_HAND: &str = "RunCanceled";
const BY_ANOTHER: &str = "RunReplaced";

/// What a nested run sees of the runs that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Above {
    /// The pipelines of these runs, the nearest first; nothing for one that is written in place.
    pub pipelines: Vec<Option<String>>,
    /// One of these runs is an item's.
    pub items: bool,
    /// Its stage has ended without it.
    pub ended: Option<Cancel>,
}

/// The run that a nested one belongs to.
#[must_use]
pub fn parent(run: &MLPipelineRun) -> Option<&OwnerReference> {
    let owners = run.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true) && owner.kind == "MLPipelineRun")
}

/// How the run that `run` belongs to wants it to end, if it does.
#[must_use]
pub fn ended_by(parent: &MLPipelineRun, run: &MLPipelineRun) -> Option<Cancel> {
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let goes_on = parent.status.as_ref().is_some_and(|status| goes_on(&status.stages, name, run));
    let now = parent.spec.cancel == Some(Cancel::Now);
    (!goes_on).then_some(if now { Cancel::Now } else { Cancel::Graceful })
}

/// The stage that the run is for has not ended.
fn goes_on(stages: &Stages, name: &str, run: &MLPipelineRun) -> bool {
    let is = |status: &StageStatus| status.run.as_ref().is_some_and(|reference| reference.name == name);
    let mut all = stages.iter().filter(|(_, status)| !status.state.ended());
    all.any(|(stage, status)| is(status) || nested_items::is_of(run, stage, status))
}

/// The run as it is asked for: by itself, or by the run that it belongs to.
pub(super) fn as_asked<'a>(run: &'a MLPipelineRun, observed: &Observed) -> Cow<'a, MLPipelineRun> {
    match observed.above.ended {
        Some(ended) if run.spec.cancel.is_none() || ended == Cancel::Now => {
            let mut run = run.clone();
            run.spec.cancel = Some(ended);
            Cow::Owned(run)
        }
        _ => Cow::Borrowed(run),
    }
}

/// One step.
pub(super) fn step(
    pass: &Pass<'_>,
    name: &str,
    frozen: &FrozenNested,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let nested = &frozen.pipeline;
    let mut status = old.clone();
    status.start_time.get_or_insert(pass.time());
    if status.state == StageState::BackingOff {
        let left = status.next_attempt_time.as_ref().map_or(Duration::ZERO, |next| since(pass.now, next.0));
        if !left.is_zero() {
            effects.again(left);
        }
        // What it was given is being made again where another stage found it lost.
        if pass.held || !left.is_zero() || inputs::any_comes(&frozen.inputs, stages) {
            return in_time(pass, name, nested, status, effects);
        }
    }
    // It is written before the run is made: what is there under this name is this try's.
    let wanted = if let Some(run) = &status.run {
        run.name.clone()
    } else {
        status.attempts = status.attempts.max(status.retries) + 1;
        status.attempt_time = Some(pass.time());
        names::job(pass.run_name(), name, status.attempts)
    };
    if let Some(run) = found(pass, &wanted) {
        status.run = Some(RunRef { name: wanted, uid: run.metadata.uid.clone() });
        if let Some(healed) = healed(pass, name, frozen, run, &status, stages, effects) {
            return healed;
        }
        let limits = frozen.retry.as_ref();
        if let Some(again) = limits.and_then(|limits| tried_again(pass, name, limits, run, &status, effects)) {
            return in_time(pass, name, nested, again, effects);
        }
        let status = look(pass, name, nested, run, status, stages, effects);
        return if status.state.ended() { status } else { in_time(pass, name, nested, status, effects) };
    }
    if let Some(reason) = too_deep(pass, nested) {
        return attempt::fail(pass, name, status, "NestedCycle", &reason, effects);
    }
    if status.run.as_ref().is_some_and(|run| run.uid.is_some()) {
        let message = format!("its run {wanted} was deleted: begin the stage again with retryFrom");
        return attempt::fail(pass, name, status, "RunDeleted", &message, effects);
    }
    status.state = StageState::Pending;
    (status.reason, status.message, status.next_attempt_time) = (None, None, None);
    if let Some(refusal) = pass.refusal("MLPipelineRun", &wanted) {
        let since = status.attempt_time.clone();
        if refusal.reason == NAME_TAKEN || pass.left(since.as_ref(), LIMIT).is_none() {
            return attempt::fail(pass, name, status, &refusal.reason, &refusal.message, effects);
        }
        status.reason = Some(refusal.reason.clone());
        status.message = Some(clip(&deadline::with(&refusal.message, since.as_ref(), LIMIT)));
        effects.again(PAUSE);
    }
    let given = match given(pass, frozen, &mut status, stages) {
        Ok(given) => given,
        Err(hindrance) => {
            let status = StageStatus { attempts: old.attempts, attempt_time: old.attempt_time.clone(), ..status };
            return hindered(pass, name, nested, status, hindrance, effects);
        }
    };
    match params(nested, &scope::of_run(pass, stages)) {
        Ok(params) => {
            let mut run = run(pass, name, nested, &wanted, params, &status);
            run.spec.inputs = given;
            effects.create.push(Create::Run(Box::new(run)));
        }
        Err(message) => return attempt::fail(pass, name, status, "InvalidExpression", &message, effects),
    }
    status.run = Some(RunRef { name: wanted, uid: None });
    status
}

/// What the other pipeline is given. All tries and all items are given the same, but for what was lost and made again in between.
pub(super) fn given(
    pass: &Pass<'_>,
    frozen: &FrozenNested,
    status: &mut StageStatus,
    stages: &Stages,
) -> Result<BTreeMap<String, RunInput>, Hindrance> {
    if status.inputs.is_empty() {
        status.inputs = inputs::resolve(pass, &frozen.inputs)?;
    }
    inputs::hand_over(pass, &frozen.inputs, &status.inputs, stages)
}

/// It cannot begin, or not yet.
pub(super) fn hindered(
    pass: &Pass<'_>,
    name: &str,
    nested: &NestedPipeline,
    mut status: StageStatus,
    hindrance: Hindrance,
    effects: &mut Effects,
) -> StageStatus {
    match hindrance {
        Hindrance::Fail(words) => attempt::fail(pass, name, status, &words.reason, &words.message, effects),
        Hindrance::Wait(words) => {
            (status.state, status.reason) = (StageState::Pending, Some(words.reason));
            status.message = Some(clip(&words.message));
            effects.again(PAUSE);
            in_time(pass, name, nested, status, effects)
        }
    }
}

/// The stage of which a run found lost what it was given: that is made again, and handed over to another run. Where nobody makes it again, the stage
/// says so in its turn.
pub(super) fn healed(
    pass: &Pass<'_>,
    name: &str,
    frozen: &FrozenNested,
    run: &MLPipelineRun,
    status: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> Option<StageStatus> {
    let (_, message) = own_failure(run)?;
    let (input, said) = inputs::lost_of(run)?;
    let called = run.metadata.name.as_deref().unwrap_or_default();
    match heal::heal_nested(pass, name, (frozen, input), status, &format!("run {called}: {said}"), stages, effects) {
        Ok(waits) => Some(waits),
        Err(why) => {
            let message = if why.is_empty() { message } else { format!("{message}\n{why}") };
            let message = format!("input {input:?} is lost: {message}");
            Some(attempt::fail(pass, name, status.clone(), heal::INPUT_LOST, &message, effects))
        }
    }
}

/// The stage whose run has failed, where there is to be another.
fn tried_again(
    pass: &Pass<'_>,
    name: &str,
    limits: &Retry,
    run: &MLPipelineRun,
    status: &StageStatus,
    effects: &mut Effects,
) -> Option<StageStatus> {
    let (reason, message) = own_failure(run)?;
    // What was refused would be refused again, unless it was for the others that ran.
    let begun = run.status.as_ref().is_some_and(|status| status.start_time.is_some());
    if !begun && reason != hold::FORBIDDEN {
        return None;
    }
    let failures = status.failures + 1;
    let wait = retry::wait(limits, failures, &format!("{}/{name}/{}", pass.run_uid(), status.attempts))?;
    let next = after(whole_seconds(pass.now), wait);
    let again = duration::format(wait);
    effects.warn("StageRetried", format!("stage {name}, another run in {again}: {reason}: {message}"));
    effects.again(since(pass.now, next));
    Some(StageStatus {
        state: StageState::BackingOff,
        reason: Some(reason.to_owned()),
        message: Some(clip(&message)),
        failures,
        run: None,
        next_attempt_time: Some(Time(next)),
        ..status.clone()
    })
}

/// There is a run of the stage.
pub(super) fn has_run(pass: &Pass<'_>, status: &StageStatus) -> bool {
    status.run.as_ref().is_some_and(|run| found(pass, &run.name).is_some())
}

fn found<'a>(pass: &Pass<'a>, name: &str) -> Option<&'a MLPipelineRun> {
    pass.observed.nested.get(name).map(AsRef::as_ref)
}

/// A stage that has ended before its run did.
pub(super) fn at_work<'a>(pass: &'a Pass<'_>, stages: &Stages) -> Option<&'a str> {
    let mut runs = pass.observed.nested.iter().filter(|(_, run)| again::ended(run).is_none());
    runs.find(|(name, run)| !goes_on(stages, name, run))
        .map(|(name, run)| label(run, names::STAGE_LABEL).unwrap_or(name))
}

pub(super) fn label<'a>(run: &'a MLPipelineRun, key: &str) -> Option<&'a str> {
    run.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Why the pipeline cannot be run here: it runs already, or too many are in each other.
pub(super) fn too_deep(pass: &Pass<'_>, nested: &NestedPipeline) -> Option<String> {
    let above = pass.observed.above.pipelines.iter().map(Option::as_deref);
    let mut chain: Vec<&str> = std::iter::once(pass.pipeline_name())
        .chain(above)
        .map(|name| name.unwrap_or("(a pipeline written in place)"))
        .collect();
    chain.reverse();
    let shown = format!("{} -> {}", chain.join(" -> "), nested.name);
    if chain.contains(&nested.name.as_str()) {
        return Some(format!("the pipelines run each other: {shown}. Take one of these stages out"));
    }
    let message = format!("{shown}: pipelines may be in each other {DEEPEST} deep. Put stages together");
    (chain.len() > DEEPEST).then_some(message)
}

/// The values of its parameters.
pub(super) fn params(nested: &NestedPipeline, scope: &Scope) -> Result<BTreeMap<String, Value>, String> {
    let fill = |(name, value): (&String, &Value)| {
        let value = expr::render_value(value, scope).map_err(|error| format!("pipeline.params.{name}: {error}"))?;
        Ok((name.clone(), value))
    };
    nested.params.iter().map(fill).collect()
}

pub(super) fn run(
    pass: &Pass<'_>,
    stage: &str,
    nested: &NestedPipeline,
    name: &str,
    params: BTreeMap<String, Value>,
    status: &StageStatus,
) -> MLPipelineRun {
    let labels = [
        (names::MANAGED_BY_LABEL, names::MANAGED_BY.to_owned()),
        (names::PIPELINE_LABEL, names::label_value(&nested.name)),
        (names::RUN_LABEL, names::label_value(pass.run_name())),
        (names::RUN_UID_LABEL, pass.run_uid().to_owned()),
        (names::STAGE_LABEL, stage.to_owned()),
        (names::RETRY_LABEL, status.retries.to_string()),
    ];
    let again = status.remade > 0 || status.cache.as_ref().is_some_and(|cache| cache.refresh);
    let spec = MLPipelineRunSpec {
        pipeline_ref: Some(PipelineRef { name: nested.name.clone() }),
        params,
        scheduled_time: pass.run.spec.scheduled_time.clone(),
        priority: pass.run.spec.priority,
        // What is made again is not to be taken from where it was lost, nor is what a person wants to be run.
        cache: pass.run.spec.cache.clone().or(again.then_some(RunCache { mode: RunCacheMode::Refresh })),
        ..MLPipelineRunSpec::default()
    };
    MLPipelineRun {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(pass.namespace().to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            owner_references: Some(vec![pass.owner()]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// Why the run has failed, if it has: a reason and a sentence.
fn failure(run: &MLPipelineRun) -> Option<(&str, String)> {
    again::ended(run)?;
    let conditions = run.status.iter().flat_map(|status| &status.conditions);
    let failed = conditions.into_iter().find(|c| c.type_ == "Succeeded").filter(|c| c.status != "True")?;
    let called = run.metadata.name.as_deref().unwrap_or_default();
    // The outer run was neither canceled nor replaced, and has its own time.
    let reason = match failed.reason.as_str() {
        finish::CANCELED => BY_HAND,
        finish::REPLACED => BY_ANOTHER,
        finish::RUN_TIMEOUT => "RunTimedOut",
        other => other,
    };
    Some((reason, format!("run {called}: {}", failed.message)))
}

/// The same of one that nobody ended: what a person or a newer run ended is not begun again.
fn own_failure(run: &MLPipelineRun) -> Option<(&str, String)> {
    failure(run).filter(|(reason, _)| ![BY_HAND, BY_ANOTHER].contains(reason))
}

/// What became of the run so far.
pub(super) fn look(
    pass: &Pass<'_>,
    name: &str,
    nested: &NestedPipeline,
    run: &MLPipelineRun,
    mut status: StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let called = run.metadata.name.as_deref().unwrap_or_default();
    let condition = |kind: &str| -> Option<&Condition> {
        run.status.iter().flat_map(|status| &status.conditions).find(|c| c.type_ == kind)
    };
    let succeeded = condition("Succeeded");
    let message = succeeded.map(|c| c.message.as_str()).unwrap_or_default();
    let progress = run.status.as_ref().and_then(|status| status.progress.as_deref());
    if again::ended(run).is_none() {
        let begun = run.status.as_ref().is_some_and(|status| status.start_time.is_some());
        status.state = if begun { StageState::Running } else { StageState::Pending };
        // `Running` says nothing that the state does not.
        status.reason = succeeded.map(|c| c.reason.clone()).filter(|_| !begun);
        let parts = [Some(format!("run {called}")), progress.map(str::to_owned), Some(message.to_owned())];
        let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        status.message = Some(clip(&parts.join(": ")));
        return status;
    }
    if let Some((reason, message)) = failure(run) {
        return attempt::fail(pass, name, status, reason, &message, effects);
    }
    if let Err((reason, message)) = take(nested, run, called, &mut status) {
        return attempt::fail(pass, name, status, reason, &message, effects);
    }
    if !attempt::fits(&status, stages) {
        let message = "what the stage takes over is too much for the run's status: take over less".to_owned();
        (status.results, status.outputs) = (BTreeMap::new(), BTreeMap::new());
        return attempt::fail(pass, name, status, "ResultTooLarge", &message, effects);
    }
    status.state = StageState::Succeeded;
    status.completion_time = Some(pass.time());
    (status.reason, status.message) = (None, None);
    // What a gate or a person does not let through in there does not go on out here.
    if let Some(rejected) = condition("Promoted").filter(|c| c.status == "False" && c.reason != "NotReached") {
        status.reason = Some(GATE_REJECTED.to_owned());
        status.message = Some(clip(&format!("run {called}: {}: {}", rejected.reason, rejected.message)));
        effects.warn(GATE_REJECTED, format!("stage {name}: run {called}: {}", rejected.message));
    }
    status
}

/// Outputs, results and metrics of a run that has succeeded.
fn take(
    nested: &NestedPipeline,
    run: &MLPipelineRun,
    called: &str,
    status: &mut StageStatus,
) -> Result<(), (&'static str, String)> {
    let made = run.status.as_ref().map(|status| &status.stages);
    let stage = |name: &str| made.and_then(|made| made.get(name));
    for (name, wanted) in &nested.outputs {
        let (from, output) = wanted.from.split_once('.').unwrap_or((&wanted.from, ""));
        let found = stage(from).filter(|stage| stage.state == StageState::Succeeded);
        match found.and_then(|stage| stage.outputs.get(output)) {
            Some(found) if found.kind == wanted.kind => {
                status.outputs.insert(name.clone(), found.clone());
            }
            Some(_) => {
                let message = format!(
                    "output `{name}`: {} of run {called} is of another type: write the type that pipeline {} declares",
                    wanted.from, nested.name
                );
                return Err(("OutputMissing", message));
            }
            None if wanted.optional => {}
            None => {
                let outputs = made.into_iter().flatten();
                let there: Vec<String> = outputs
                    .flat_map(|(stage, made)| made.outputs.keys().map(move |output| format!("{stage}.{output}")))
                    .collect();
                let hint = expr::did_you_mean(&wanted.from, there.iter().map(String::as_str));
                let message = format!("output `{name}`: run {called} made no {}: {hint}", wanted.from);
                return Err(("OutputMissing", message));
            }
        }
    }
    if let Some(results) = &nested.results {
        let found = stage(results).ok_or_else(|| {
            let names = made.into_iter().flatten().map(|(name, _)| name.as_str());
            let hint = expr::did_you_mean(results, names);
            ("OutputMissing", format!("results: run {called} has no stage `{results}`: {hint}"))
        })?;
        status.results.clone_from(&found.results);
        status.metrics.clone_from(&found.metrics);
    }
    Ok(())
}

/// A stage whose run has not ended, within its time.
pub(super) fn in_time(
    pass: &Pass<'_>,
    name: &str,
    nested: &NestedPipeline,
    mut status: StageStatus,
    effects: &mut Effects,
) -> StageStatus {
    let Some(limit) = nested.timeout.as_deref().and_then(duration::parse) else { return status };
    let started = status.start_time.clone();
    match pass.left(started.as_ref(), limit) {
        Some(left) => {
            effects.again(left);
            let said = status.message.take().unwrap_or_default();
            status.message = Some(clip(&deadline::with(&said, started.as_ref(), limit)));
            status
        }
        None => {
            let said = status.message.take().unwrap_or_default();
            let message = format!("it took longer than {}: {said}", duration::format(limit));
            attempt::fail(pass, name, status, "Timeout", &message, effects)
        }
    }
}
