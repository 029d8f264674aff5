//! `register.keep`: once a version is registered, older ones of its model go, but for those that somebody needs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::again;
use super::pass::{Effects, Pass, Stages, clip};
use crate::api::{Input, Keep, MLPipelineRun, MLPipelineSpec, ModelDeployment, ModelVersion, StageState, StageStatus};
use crate::model_version::is_called_right;
use crate::names;
use crate::pipeline::{Frozen, FrozenStage};
use crate::plan::{Delete, DeleteKind};

/// So many go in one pass: each is a request.
const AT_ONCE: usize = 100;
/// So many names are told.
const NAMED: usize = 10;
const SOON: Duration = Duration::from_secs(1);
/// What cannot be deleted in this time stays until the next registration.
const LIMIT: Duration = Duration::from_mins(5);

/// The next status of a stage whose version is registered: it has succeeded when nothing is left to delete. Until then it runs, so that a crash
/// leaves nothing out.
pub(super) fn step(
    pass: &Pass<'_>,
    stage: &str,
    keep: Option<&Keep>,
    ours: &ModelVersion,
    mut status: StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let told = status.message.take().filter(|_| status.reason.is_none());
    status.reason = None;
    status.model_version.clone_from(&ours.metadata.name);
    let surplus = keep.map(|keep| surplus(pass, keep, ours, stages)).unwrap_or_default();
    if let Some(keep) = keep.filter(|_| !surplus.is_empty()) {
        let said = told.clone().filter(|told| tells_of(told, &surplus)).unwrap_or_else(|| said(&surplus, keep));
        if pass.left(ours.metadata.creation_timestamp.as_ref(), LIMIT).is_some() {
            if told.as_ref() != Some(&said) {
                effects.tell("VersionsDeleted", format!("stage {stage}: {said}"));
            }
            effects.delete.extend(surplus.iter().take(AT_ONCE).map(|version| Delete {
                kind: DeleteKind::ModelVersion,
                name: version.metadata.name.clone().unwrap_or_default(),
                uid: version.metadata.uid.clone().unwrap_or_default(),
            }));
            effects.again(SOON);
            status.state = StageState::Running;
            status.message = Some(said);
            return status;
        }
        let message = format!("{said}; they are still there, and are tried again at the next registration");
        effects.warn("VersionsKept", format!("stage {stage}: {message}"));
        status.message = Some(clip(&message));
    } else {
        status.message = told;
    }
    status.state = StageState::Succeeded;
    status.completion_time = Some(pass.time());
    status
}

fn said(surplus: &[&ModelVersion], keep: &Keep) -> String {
    let names: Vec<_> = surplus.iter().filter_map(|version| version.metadata.name.as_deref()).take(NAMED).collect();
    let more = surplus.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("register.keep.last is {}, so that older versions are deleted: {}{more}", keep.last, names.join(", "))
}

/// What was said before names them: some of those that it names are gone by now.
fn tells_of(said: &str, surplus: &[&ModelVersion]) -> bool {
    let names: BTreeSet<&str> = said.rsplit(": ").next().unwrap_or_default().split(", ").collect();
    surplus.iter().all(|version| version.metadata.name.as_deref().is_some_and(|name| names.contains(name)))
}

/// The versions beyond the newest ones that are older than ours and that nobody needs, the oldest first.
fn surplus<'a>(pass: &Pass<'a>, keep: &Keep, ours: &ModelVersion, stages: &Stages) -> Vec<&'a ModelVersion> {
    let model = ours.spec.model.as_str();
    let versions = pass.observed.model_versions.iter().map(AsRef::as_ref);
    let mut versions: Vec<&ModelVersion> = versions
        .filter(|version| version.spec.model == model && version.metadata.deletion_timestamp.is_none())
        // What nobody takes for a version takes no place.
        .filter(|version| is_called_right(version))
        .collect();
    versions.sort_by_key(|version| version.spec.version);
    let beyond = versions.len().saturating_sub(usize::try_from(keep.last).unwrap_or(usize::MAX));
    versions.truncate(beyond);
    let deployed: BTreeSet<i64> =
        pass.observed.model_deployments.values().flat_map(|found| deployed(found, model, keep.deployed)).collect();
    let mine: BTreeSet<&str> = stages.values().flat_map(named).collect();
    let pinned: BTreeSet<String> = frozen_versions(pass.frozen).into_iter().collect();
    versions.retain(|version| {
        let name = version.metadata.name.as_deref().unwrap_or_default();
        version.spec.version < ours.spec.version
            && !deployed.contains(&version.spec.version)
            && !mine.contains(name)
            && !pinned.contains(name)
            && !pass.observed.held_versions.contains(name)
    });
    versions
}

/// The versions of a model that a ModelDeployment serves, is to serve, has pods of or, with `history`, may go back to.
fn deployed(found: &ModelDeployment, model: &str, history: bool) -> Vec<i64> {
    let status = found.status.clone().unwrap_or_default();
    let is_of = found.spec.model.name.as_deref() == Some(model) || status.served_model.as_deref() == Some(model);
    let mut all: Vec<Option<i64>> =
        if is_of { vec![found.spec.model.version, status.served_version] } else { Vec::new() };
    // They do not say of which model they are: it may have had another one. Better a version too many.
    all.extend(status.revisions.iter().map(|revision| revision.version));
    all.extend(status.rollout.iter().map(|rollout| rollout.version));
    all.extend(status.history.iter().filter(|_| history).map(|record| record.version));
    all.into_iter().flatten().collect()
}

/// The ModelVersions that a stage reads or has made.
fn named(stage: &StageStatus) -> impl Iterator<Item = &str> {
    let read = stage.inputs.values().filter_map(|input| input.model_version.as_deref());
    read.chain(stage.model_version.as_deref())
}

/// The ModelVersions that a run which has not ended reads, or has registered and may deploy yet.
#[must_use]
pub fn held_versions(run: &MLPipelineRun) -> Vec<String> {
    let Some(status) = run.status.as_ref().filter(|_| again::ended(run).is_none()) else { return Vec::new() };
    status.stages.values().flat_map(named).map(str::to_owned).collect()
}

/// The ModelVersions that what a run runs reads by their number.
#[must_use]
pub fn frozen_versions(frozen: &Frozen) -> Vec<String> {
    pinned(frozen.stages.values().flat_map(FrozenStage::inputs).map(|(_, input)| input))
}

/// The ModelVersions that a pipeline reads by their number.
#[must_use]
pub fn pinned_versions(spec: &MLPipelineSpec) -> Vec<String> {
    let stages = spec.stages.values().chain(spec.finally.values());
    pinned(stages.flat_map(|stage| stage.inputs.values()))
}

fn pinned<'a>(inputs: impl Iterator<Item = &'a Input>) -> Vec<String> {
    let models = inputs.filter_map(|input| input.model.as_ref());
    models.filter_map(|model| Some(names::model_version(&model.name, model.version?))).collect()
}
