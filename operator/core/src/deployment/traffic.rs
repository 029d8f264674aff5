//! Which revision has the traffic, and when the others go.
//!
//! ```text
//! comes: weight 0 ─► its pods answer, every ready router knows them ─► weight 100 ─► another has it: weight 0, drains ─► goes
//! ```
//! The weights in the status are what the routes are made of, so the status says what may be so at most: they are written there before
//! a router hears of them. What is looked at besides may be a little old. So nothing is deleted but after a status write from this very
//! state of the ModelDeployment (the caller sees to that), and a revision that had traffic goes only when routers say, of the generation
//! of routes in which it has none, that nothing is in flight to it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{DeploymentView, Observed, ServiceView, scaling};
use crate::api::{ModelDeployment, RevisionStatus};
use crate::names::REVISION_LABEL;
use crate::plan::{Delete, DeleteKind};
use crate::routing::Asked;

/// How long a revision stays at most after another got its traffic: a router that does not answer must not keep it for ever.
pub const LONGEST_DRAIN: Duration = Duration::from_mins(5);

/// All requests.
const WHOLE: i32 = 100;

/// What is to be done with the traffic.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Those that the routers shall know, by name.
    pub routed: Vec<Routed>,
    pub generation: i64,
    pub delete: Vec<Delete>,
    /// When a revision goes that no router reports on.
    pub requeue: Option<Duration>,
}

/// A revision in the routes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Routed {
    pub name: String,
    pub weight: i32,
    pub draining_since: Option<Time>,
}

impl Traffic {
    /// The revision that has the traffic.
    pub fn target(&self) -> Option<&str> {
        self.routed.iter().find(|revision| revision.weight > 0).map(|revision| revision.name.as_str())
    }

    /// As the status has it.
    pub fn unchanged(owner: &ModelDeployment) -> Self {
        let Some(status) = &owner.status else { return Self::default() };
        let routed = status.revisions.iter().map(|revision| Routed {
            name: revision.name.clone(),
            weight: revision.weight,
            draining_since: revision.draining_since.clone(),
        });
        Self { routed: routed.collect(), generation: status.traffic_generation, ..Self::default() }
    }

    fn knows(&self, name: &str) -> bool {
        self.routed.iter().any(|revision| revision.name == name)
    }
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

/// Decides. `intended` is what the spec asks for, `None` if that is nothing that can be run.
pub(super) fn decide(owner: &ModelDeployment, intended: Option<&str>, observed: &Observed, now: Timestamp) -> Traffic {
    let look = Look::new(owner, observed, now);
    let served = look.known.iter().find(|revision| revision.weight > 0).map(|revision| revision.name.as_str());
    let target = intended.filter(|name| Some(*name) == served || look.is_up(name)).or(served);
    let mut traffic = Traffic { generation: look.generation + i64::from(target != served), ..Traffic::default() };
    for revision in look.known {
        let name = revision.name.as_str();
        let goes = Some(name) != intended && Some(name) != target && look.has_drained(revision, &mut traffic.requeue);
        if !goes {
            traffic.routed.push(look.routed(revision, target));
        }
    }
    if let Some(name) = intended.filter(|name| !traffic.knows(name)) {
        traffic.routed.push(Routed { name: name.to_owned(), weight: 0, draining_since: None });
    }
    traffic.routed.sort_by(|a, b| a.name.cmp(&b.name));
    traffic.delete = look.unrouted(&traffic);
    traffic
}

/// What is there before the decision.
struct Look<'a> {
    model: &'a str,
    uid: Option<&'a str>,
    known: &'a [RevisionStatus],
    generation: i64,
    may_be_empty: bool,
    observed: &'a Observed,
    now: Timestamp,
}

impl<'a> Look<'a> {
    fn new(owner: &'a ModelDeployment, observed: &'a Observed, now: Timestamp) -> Self {
        let status = owner.status.as_ref();
        Self {
            model: owner.metadata.name.as_deref().unwrap_or_default(),
            uid: owner.metadata.uid.as_deref(),
            known: status.map_or(&[], |status| &status.revisions),
            generation: status.map_or(0, |status| status.traffic_generation),
            may_be_empty: scaling::may_be_empty(owner),
            observed,
            now,
        }
    }

    fn owned(&self) -> impl Iterator<Item = &'a DeploymentView> {
        let uid = self.uid;
        self.observed.deployments.iter().map(AsRef::as_ref).filter(move |view| view.owner.as_deref() == uid)
    }

    fn find(&self, name: &str) -> Option<&'a DeploymentView> {
        self.owned().find(|view| view.name == name && !view.deleting)
    }

    /// All its pods answer, and every router that callers come to knows them.
    fn is_up(&self, name: &str) -> bool {
        // What somebody changed is not what was asked for, until it was put right.
        let shows = |view: &DeploymentView| view.wanted > 0 || self.may_be_empty;
        let answers = |view: &&DeploymentView| complete(view) && shows(view) && !self.observed.drifted(view);
        let Some(view) = self.find(name).filter(answers) else { return false };
        self.observed.routers.unprepared(knowing(self.model, view, self.generation)).is_none()
    }

    fn routed(&self, revision: &RevisionStatus, target: Option<&str>) -> Routed {
        let RevisionStatus { name, weight, draining_since, .. } = revision;
        let has_it = target == Some(name.as_str());
        let since = draining_since.clone().or_else(|| (*weight > 0).then_some(Time(self.now)));
        Routed { name: name.clone(), weight: if has_it { WHOLE } else { 0 }, draining_since: since.filter(|_| !has_it) }
    }

    /// Nothing is lost with it. Sets when to look again for one that still drains.
    fn has_drained(&self, revision: &RevisionStatus, requeue: &mut Option<Duration>) -> bool {
        let Some(view) = self.find(&revision.name) else {
            // Who waits for one of its pods waits in vain, and chooses again when it leaves the routes.
            return true;
        };
        let Some(since) = &revision.draining_since else {
            if revision.weight > 0 {
                // It loses it in this pass.
                *requeue = Some(requeue.map_or(LONGEST_DRAIN, |other| other.min(LONGEST_DRAIN)));
            }
            return revision.weight == 0;
        };
        let left = left(since.0, self.now);
        if left.is_zero() || self.observed.routers.have_left(knowing(self.model, view, self.generation)) {
            return true;
        }
        *requeue = Some(requeue.map_or(left, |other| other.min(left)));
        false
    }

    /// What is there and in no route.
    fn unrouted(&self, traffic: &Traffic) -> Vec<Delete> {
        let views = self.owned().filter(|view| !view.deleting && !traffic.knows(&view.name));
        let deployments = views.map(|view| (DeleteKind::Deployment, &view.name, &view.uid));
        let services = self.observed.services.iter().filter(|(name, service)| {
            let of_revision = revision_of(service).is_some_and(|name| !traffic.knows(name));
            of_revision && service.owner.as_deref() == self.uid && *name != self.model
        });
        let services = services.map(|(name, service)| (DeleteKind::Service, name, &service.uid));
        let all = deployments.chain(services);
        all.map(|(kind, name, uid)| Delete { kind, name: name.clone(), uid: uid.clone() }).collect()
    }
}

/// The revision that a Service selects, if it is one's own.
fn revision_of(service: &ServiceView) -> Option<&str> {
    service.selector.get(REVISION_LABEL).map(String::as_str)
}

/// What is left of the longest drain. A clock that went back does not make it longer than it is.
fn left(since: Timestamp, now: Timestamp) -> Duration {
    let longest = SignedDuration::try_from(LONGEST_DRAIN).unwrap_or_default();
    let left = (longest - now.duration_since(since)).min(longest);
    Duration::try_from(left).unwrap_or_default()
}
