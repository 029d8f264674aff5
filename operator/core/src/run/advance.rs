//! Every stage of a run one step further.

use std::collections::BTreeMap;

use super::graph::{self, Turn};
use super::pass::{Effects, Pass, Stages, clip};
use super::{approve, attempt, container, deploy, finish, gate, locks, nested, nested_items, register, report, scope};
use crate::api::{StageState, StageStatus};
use crate::expr::{self, ExprError};
use crate::pipeline::{FrozenKind, FrozenStage};

/// The stages' next states: those before `finally`, and once all of them have ended and their pods too, those in it.
pub(super) fn all(pass: &Pass<'_>, old: &Stages, effects: &mut Effects) -> Stages {
    let mut stages = old.clone();
    for name in pass.frozen.stages.keys() {
        stages.entry(name.clone()).or_default();
    }
    let order = graph::order(&pass.frozen.stages);
    part(pass, &order, false, &mut stages, effects);
    let abandoned = stages.iter().filter_map(|(name, status)| container::abandoned(pass, name, status));
    effects.delete.extend(abandoned);
    if let Some(end) = finish::end_of_stages(pass.frozen, &stages)
        && at_work(pass, &stages, effects).is_none()
    {
        part(&Pass { end: Some(&end), ..*pass }, &order, true, &mut stages, effects);
    }
    stages
}

/// A stage that has ended while something of it still runs.
pub(super) fn at_work<'a>(pass: &'a Pass<'_>, stages: &Stages, effects: &mut Effects) -> Option<&'a str> {
    container::at_work(pass, stages, effects).or_else(|| nested::at_work(pass, stages))
}

/// First those that have begun, so that a failure is known before anything new begins; then the others in the graph's order, so that what
/// ends and what begins because of it share one write.
fn part(pass: &Pass<'_>, order: &[&str], finally: bool, stages: &mut Stages, effects: &mut Effects) {
    for begun in [true, false] {
        for name in order {
            let (Some(stage), Some(status)) = (pass.frozen.stages.get(*name), stages.get(*name)) else { continue };
            if stage.finally != finally || status.state.ended() || has_begun(pass, name, stage, status) != begun {
                continue;
            }
            let new = if begun {
                step(pass, name, stage, status, stages, effects)
            } else {
                not_begun(pass, name, stage, status, stages, effects)
            };
            stages.insert((*name).to_owned(), new);
            stages.extend(effects.remake.drain(..));
        }
    }
}

/// Something of the stage is there that may go on. One that only waits has nothing, whatever its state is called: for a person, a lock, a
/// ModelDeployment, or for an apiserver that refuses what it makes.
fn has_begun(pass: &Pass<'_>, name: &str, stage: &FrozenStage, status: &StageStatus) -> bool {
    match (&stage.kind, status.state) {
        (_, StageState::Waiting) | (FrozenKind::Approve(_) | FrozenKind::Report(_), StageState::Pending) => false,
        (FrozenKind::Container(_), StageState::Pending) => container::has_job(pass, status),
        (FrozenKind::Pipeline(nested), StageState::Pending) if nested.items().is_some() => {
            nested_items::has_begun(pass, name, status)
        }
        (FrozenKind::Pipeline(_), StageState::Pending) => nested::has_run(pass, status),
        (FrozenKind::Register(register), StageState::Running) => {
            !register::is_refused(pass, name, status.retries, register)
        }
        (FrozenKind::Deploy(_), StageState::Pending) => status.model_version.is_some(),
        _ => true,
    }
}

fn not_begun(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenStage,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    match graph::turn(&pass.frozen.stages, stage, stages) {
        Turn::Begin => match when(pass, stage, stages) {
            Ok(None) if pass.held && old.approval.is_none() => waiting(old),
            Ok(None) => match locks::of_stage(pass, name, old, stages, effects) {
                locks::Turn::Begins(ready) => step(pass, name, stage, &ready, stages, effects),
                locks::Turn::Waits(waits) => waits,
            },
            Ok(Some(figures)) => skipped(old, graph::WHEN_FALSE, &figures),
            Err(error) => attempt::fail(pass, name, old.clone(), "WhenWithoutValue", &error.to_string(), effects),
        },
        // Its input is made again, by a stage that may want the same lock.
        Turn::Wait if old.locks.is_some() => waiting(old),
        Turn::Wait => old.clone(),
        Turn::Skip { reason, message } => skipped(old, reason, &message),
    }
}

/// Why the stage's `when` is false; nothing if it has none, or it is true. Everything that it looks at has ended: it says the same in
/// every pass.
fn when(pass: &Pass<'_>, stage: &FrozenStage, stages: &Stages) -> Result<Option<String>, ExprError> {
    let Some(when) = &stage.when else { return Ok(None) };
    let scope = scope::of_run(pass, stages);
    let holds = expr::eval_bool(when, &scope)?;
    Ok((!holds).then(|| gate::figures(when, &scope, None)))
}

/// A stage that may not begin: its clock begins when it does.
fn waiting(old: &StageStatus) -> StageStatus {
    StageStatus {
        attempts: old.attempts,
        retries: old.retries,
        failures: old.failures,
        disruptions: old.disruptions,
        remade: old.remade,
        inputs: if old.items.is_some() { old.inputs.clone() } else { BTreeMap::new() },
        usage: old.usage.clone(),
        cache: old.cache.clone(),
        memory: old.memory.clone(),
        ..StageStatus::default()
    }
}

fn skipped(old: &StageStatus, reason: &str, message: &str) -> StageStatus {
    StageStatus {
        state: StageState::Skipped,
        reason: Some(reason.to_owned()),
        message: Some(clip(message)),
        ..old.clone()
    }
}

fn step(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenStage,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    match &stage.kind {
        FrozenKind::Container(container) => container::advance(pass, name, container, old, stages, effects),
        FrozenKind::Pipeline(nested) if nested.items().is_some() => {
            nested_items::step(pass, name, nested, old, stages, effects)
        }
        FrozenKind::Pipeline(nested) => nested::step(pass, name, nested, old, stages, effects),
        FrozenKind::Approve(approve) => approve::step(pass, name, approve, old, stages, effects),
        FrozenKind::Register(register) => register::step(pass, name, register, old, stages, effects),
        FrozenKind::Deploy(deploy) => deploy::step(pass, name, deploy, old, stages, effects),
        FrozenKind::Report(report) => report::step(pass, name, report, old, stages, effects),
    }
}
