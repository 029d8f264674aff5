//! Every stage of a run one step further.

use super::graph::{self, Turn};
use super::pass::{Effects, Pass, Stages};
use super::{container, deploy, register};
use crate::api::{StageState, StageStatus};
use crate::pipeline::{FrozenKind, FrozenStage};

/// The stages' next states. First those that have begun, so that a failure is known before anything new begins; then
/// the others in the graph's order, so that what ends and what begins because of it share one write.
pub(super) fn all(pass: &Pass<'_>, old: &Stages, effects: &mut Effects) -> Stages {
    let mut stages = old.clone();
    for name in pass.frozen.stages.keys() {
        stages.entry(name.clone()).or_default();
    }
    let order = graph::order(&pass.frozen.stages);
    for begun in [true, false] {
        for name in &order {
            let (Some(stage), Some(status)) = (pass.frozen.stages.get(*name), stages.get(*name)) else { continue };
            if status.state.ended() || has_begun(pass, name, stage, status) != begun {
                continue;
            }
            let new = if begun {
                step(pass, name, stage, status, &stages, effects)
            } else {
                not_begun(pass, name, stage, status, &stages, effects)
            };
            stages.insert((*name).to_owned(), new);
        }
    }
    let abandoned = stages.iter().filter_map(|(name, status)| container::abandoned(pass, name, status));
    effects.delete.extend(abandoned);
    stages
}

/// Something of the stage is there that may go on. One that only waits has nothing, whatever its state is called: for a
/// ModelDeployment, or for an apiserver that refuses what it makes.
fn has_begun(pass: &Pass<'_>, name: &str, stage: &FrozenStage, status: &StageStatus) -> bool {
    match (&stage.kind, status.state) {
        (_, StageState::Waiting) => false,
        (FrozenKind::Container(_), StageState::Pending) => container::has_job(pass, status),
        (FrozenKind::Register(register), StageState::Running) => !register::is_refused(pass, name, register),
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
    match graph::turn(stage, stages) {
        Turn::Begin => step(pass, name, stage, old, stages, effects),
        Turn::Wait => old.clone(),
        Turn::Skip { reason, message } => StageStatus {
            state: StageState::Skipped,
            reason: Some(reason.to_owned()),
            message: Some(message),
            ..old.clone()
        },
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
        FrozenKind::Register(register) => register::step(pass, name, register, old, stages, effects),
        FrozenKind::Deploy(deploy) => deploy::step(pass, name, deploy, old, stages, effects),
    }
}
