//! What is there, as far as traffic depends on it.

use k8s_openapi::jiff::Timestamp;

use super::{DeploymentView, Observed, gateway, scaling};
use crate::api::{
    ModelDeployment, ModelDeploymentStatus, RevisionStatus, Rollout, RolloutControl, RolloutOutcome, RolloutStatus,
};
use crate::routing::Asked;

/// All requests, and all pods.
pub(super) const WHOLE: i32 = 100;

/// A ModelDeployment before a decision.
pub(super) struct Look<'a> {
    pub model: &'a str,
    pub uid: Option<&'a str>,
    pub owner: &'a ModelDeployment,
    /// The revisions that routers may know.
    pub known: &'a [RevisionStatus],
    pub generation: i64,
    pub observed: &'a Observed,
    pub now: Timestamp,
}

impl<'a> Look<'a> {
    pub fn new(owner: &'a ModelDeployment, observed: &'a Observed, now: Timestamp) -> Self {
        let status = owner.status.as_ref();
        Self {
            model: owner.metadata.name.as_deref().unwrap_or_default(),
            uid: owner.metadata.uid.as_deref(),
            owner,
            known: status.map_or(&[], |status| &status.revisions),
            generation: status.map_or(0, |status| status.traffic_generation),
            observed,
            now,
        }
    }

    /// The revision that was promoted last.
    pub fn stable(&self) -> Option<&'a str> {
        stable(self.owner)
    }

    pub fn rollout(&self) -> Option<&'a RolloutStatus> {
        self.owner.status.as_ref()?.rollout.as_ref()
    }

    pub fn asked_for(&self) -> Option<&'a Rollout> {
        self.owner.spec.rollout.as_ref()
    }

    /// What a person said last, of this revision or another.
    pub fn control(&self) -> Option<&'a RolloutControl> {
        self.owner.spec.control.as_ref()
    }

    pub fn known(&self, name: &str) -> Option<&'a RevisionStatus> {
        self.known.iter().find(|revision| revision.name == name)
    }

    pub fn owned(&self) -> impl Iterator<Item = &'a DeploymentView> {
        let uid = self.uid;
        self.observed.deployments.iter().map(AsRef::as_ref).filter(move |view| view.owner.as_deref() == uid)
    }

    pub fn find(&self, name: &str) -> Option<&'a DeploymentView> {
        self.owned().find(|view| view.name == name && !view.deleting)
    }

    /// All its pods answer, there are enough for this share of the promoted revision's, and every router that callers come to knows them.
    pub fn is_up(&self, name: &str, share: i32) -> bool {
        let all = self.stable().filter(|stable| *stable != name).and_then(|stable| self.find(stable));
        let least = scaling::share_of(all.map_or(0, |view| view.wanted), share);
        let least = if self.may_be_empty() { 0 } else { least.max(1) };
        // What somebody changed is not what was asked for, until it was put right.
        let answers = |view: &&DeploymentView| complete(view) && view.wanted >= least && !self.observed.drifted(view);
        let Some(view) = self.find(name).filter(answers) else { return false };
        self.observed.routers.unprepared(knowing(self.model, view, self.generation)).is_none()
    }

    /// A pod of it answers.
    pub fn answers(&self, name: &str) -> bool {
        self.find(name).is_some_and(|view| view.available > 0)
    }

    /// Which router that callers come to, or which Gateway, does not have the shares that the status has.
    pub fn not_in_force(&self, name: &str) -> Option<String> {
        let Some(view) = self.find(name) else { return Some("its Deployment is gone".to_owned()) };
        let asked = Asked { pods: 0, ..knowing(self.model, view, self.generation) };
        let unprepared = self.observed.routers.unprepared(asked);
        unprepared.or_else(|| gateway::not_in_force(self.owner, self.observed))
    }

    /// Nobody is to be served: there is nothing that a pod could show.
    pub fn may_be_empty(&self) -> bool {
        scaling::may_be_empty(self.owner)
    }

    /// The last thing that happened to it was that it was promoted.
    pub fn was_promoted(&self, name: &str) -> bool {
        let history = self.owner.status.iter().flat_map(|status| &status.history);
        let last = history.into_iter().find(|record| record.revision == name);
        last.is_some_and(|record| record.outcome == RolloutOutcome::Promoted)
    }
}

/// The revision that was promoted last.
pub(super) fn stable(owner: &ModelDeployment) -> Option<&str> {
    stable_of(owner.status.as_ref()?)
}

pub(super) fn stable_of(status: &ModelDeploymentStatus) -> Option<&str> {
    let known = |name: &&str| status.revisions.iter().any(|revision| revision.name == *name);
    let named = status.stable_revision.as_deref().filter(known);
    named
        .or_else(|| status.revisions.iter().find(|revision| revision.weight > 0).map(|revision| revision.name.as_str()))
}

/// The question whether routers lead to a revision that has the traffic: one pod is enough, and none where they start one.
pub(super) fn leading<'a>(model: &'a str, view: &'a DeploymentView, generation: i64, starts: bool) -> Asked<'a> {
    Asked { pods: u64::from(view.wanted > 0 && !starts), ..knowing(model, view, generation) }
}

/// The question whether routers know all pods of a revision.
pub(super) fn knowing<'a>(model: &'a str, view: &'a DeploymentView, generation: i64) -> Asked<'a> {
    Asked {
        model,
        revision: &view.name,
        generation: u64::try_from(generation).unwrap_or_default(),
        pods: u64::try_from(view.wanted).unwrap_or_default(),
    }
}

/// Whether all pods that a revision should have are there and answer.
pub(super) fn complete(view: &DeploymentView) -> bool {
    !view.deleting && view.observed_generation >= view.generation && view.available >= view.wanted
}
