//! Which revision has the traffic, and when the others go.
//!
//! ```text
//! comes: weight 0 ─► its pods answer, every ready router knows them ─► [steps] ─► promoted: weight 100
//!                                                  ─► another is: weight 0, drains, stays warm ─► goes
//! ```
//! The weights in the status are what the routes are made of, so the status says what may be so at most: they are written there before
//! a router hears of them. What is looked at besides may be a little old. So nothing is deleted but after a status write from this very
//! state of the ModelDeployment (the caller sees to that), and a revision that had traffic goes only when routers say, of the generation
//! of routes in which it has none, that nothing is in flight to it, and Gateways that split requests have accepted a route without it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::gateway::{self, Left};
use super::look::{Look, WHOLE, knowing, stable};
use super::revision::Revision;
use super::rollout::{Turn, turn};
use super::{Observed, ServiceView, limits};
use crate::api::{
    ModelDeployment, ModelDeploymentStatus, RevisionStatus, RolloutOutcome, RolloutRecord, RolloutStatus,
};
use crate::duration;
use crate::names::REVISION_LABEL;
use crate::plan::{Delete, DeleteKind, Event, sooner};

/// How long a revision stays at most after another got its traffic, unless its requests may take longer: a router that does not answer must not
/// keep it for ever.
pub const LONGEST_DRAIN: Duration = Duration::from_mins(5);

/// The same where none of its pods answers.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What is to be done with the traffic.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The revision that is promoted.
    pub stable: Option<String>,
    /// Those that the routers shall know, by name.
    pub routed: Vec<Routed>,
    pub generation: i64,
    pub rollout: Option<RolloutStatus>,
    /// What was promoted or given up now.
    pub records: Vec<RolloutRecord>,
    /// The revision that comes, and the percent of the promoted one's pods that it is to have.
    pub coming: Option<(String, i32)>,
    /// Reason and message, where a rollout is under way or was rejected.
    pub says: Option<(&'static str, String)>,
    pub events: Vec<Event>,
    pub delete: Vec<Delete>,
    /// When to look again, at a revision that goes or a step that is over.
    pub requeue: Option<Duration>,
}

/// A revision in the routes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Routed {
    pub name: String,
    pub weight: i32,
    pub sample: Option<f64>,
    pub draining_since: Option<Time>,
}

impl Traffic {
    /// The revision that is promoted.
    pub fn stable(&self) -> Option<&str> {
        self.stable.as_deref()
    }

    /// The revision with the greatest share, the promoted one where two have it.
    pub fn main(&self) -> Option<&str> {
        let most = self.routed.iter().max_by_key(|routed| (routed.weight, self.stable() == Some(&routed.name)))?;
        (most.weight > 0).then_some(most.name.as_str())
    }

    /// As the status has it.
    pub fn unchanged(owner: &ModelDeployment) -> Self {
        let Some(status) = &owner.status else { return Self::default() };
        let routed = status.revisions.iter().map(|revision| Routed {
            name: revision.name.clone(),
            weight: revision.weight,
            sample: revision.sample,
            draining_since: revision.draining_since.clone(),
        });
        Self {
            stable: stable(owner).map(str::to_owned),
            routed: routed.collect(),
            generation: status.traffic_generation,
            rollout: status.rollout.clone(),
            ..Self::default()
        }
    }

    /// It was rolled back: nothing is made of it.
    pub fn rejects(&self, revision: &str) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.revision == revision && rollout.rejected.is_some())
    }

    fn knows(&self, name: &str) -> bool {
        self.routed.iter().any(|revision| revision.name == name)
    }
}

/// Decides. `revision` is what the spec asks for, `None` if that is nothing that can be run.
pub(super) fn decide(
    owner: &ModelDeployment,
    revision: Option<&Revision>,
    observed: &Observed,
    now: Timestamp,
) -> Traffic {
    let look = Look::new(owner, observed, now);
    let turn = turn(&look, revision);
    let mut traffic = Traffic { requeue: turn.requeue, ..Traffic::default() };
    for known in look.known {
        let routed = routed(known, &look, &turn);
        if turn.holds(&known.name) || !has_drained(known, &look, &turn, &mut traffic.requeue) {
            traffic.routed.push(routed);
        }
    }
    // One that comes has nothing yet, but where the one before goes first.
    let new = turn.candidate.as_ref().map(|candidate| &candidate.name).or(turn.stable.as_ref());
    if let Some(name) = new.filter(|name| !traffic.knows(name)) {
        let weight = if turn.stable.as_ref() == Some(name) { WHOLE } else { 0 };
        traffic.routed.push(Routed { name: name.clone(), weight, sample: None, draining_since: None });
    }
    traffic.routed.sort_by(|a, b| a.name.cmp(&b.name));
    traffic.delete = unrouted(&look, &traffic);
    let old = owner.status.as_ref().map(|status| Led::by_status(status, look.stable())).unwrap_or_default();
    traffic.generation = look.generation + i64::from(old != Led::by(&turn, &traffic.routed));
    Traffic {
        stable: turn.stable,
        rollout: turn.rollout,
        records: turn.records,
        coming: turn.candidate.map(|candidate| (candidate.name, candidate.share)),
        says: turn.says,
        events: turn.events,
        ..traffic
    }
}

/// What routers are told of revisions, but for those that get nothing: where it changes, another generation begins.
#[derive(Debug, Default, PartialEq)]
struct Led<'a> {
    stable: Option<&'a str>,
    /// The revision that headers lead to, and its step.
    step: Option<(&'a str, i32)>,
    shares: Vec<(&'a str, i32, Option<f64>)>,
}

impl<'a> Led<'a> {
    fn by_status(status: &'a ModelDeploymentStatus, stable: Option<&'a str>) -> Self {
        let shares = status.revisions.iter().map(|known| (known.name.as_str(), known.weight, known.sample));
        Self::new(stable, status.rollout.as_ref(), shares)
    }

    fn by(turn: &'a Turn, routed: &'a [Routed]) -> Self {
        let shares = routed.iter().map(|routed| (routed.name.as_str(), routed.weight, routed.sample));
        Self::new(turn.stable.as_deref(), turn.rollout.as_ref(), shares)
    }

    fn new(
        stable: Option<&'a str>,
        rollout: Option<&'a RolloutStatus>,
        shares: impl Iterator<Item = (&'a str, i32, Option<f64>)>,
    ) -> Self {
        let step = exposed(rollout).map(|rollout| (rollout.revision.as_str(), rollout.step));
        Self { stable, step, shares: shares.filter(|(_, weight, sample)| *weight > 0 || sample.is_some()).collect() }
    }
}

/// The rollout whose revision requests may come to, by header, share or copy.
pub(crate) fn exposed(rollout: Option<&RolloutStatus>) -> Option<&RolloutStatus> {
    rollout.filter(|rollout| rollout.step > 0 && rollout.rejected.is_none())
}

impl Turn {
    /// It stays, whatever it has.
    fn holds(&self, name: &str) -> bool {
        self.stable.as_deref() == Some(name) || self.candidate.as_ref().is_some_and(|candidate| candidate.name == name)
    }
}

fn routed(known: &RevisionStatus, look: &Look<'_>, turn: &Turn) -> Routed {
    let name = known.name.as_str();
    let candidate = turn.candidate.as_ref();
    let (weight, sample) = match candidate.filter(|candidate| candidate.name == name) {
        Some(candidate) => (candidate.weight, candidate.sample),
        None if turn.stable.as_deref() == Some(name) => {
            (WHOLE - candidate.map_or(0, |candidate| candidate.weight), None)
        }
        None => (0, None),
    };
    let draining_since = known.draining_since.clone().unwrap_or(Time(look.now));
    let draining_since = Some(draining_since).filter(|_| !turn.holds(name));
    Routed { name: known.name.clone(), weight, sample, draining_since }
}

/// Requests may be on their way to it.
fn had(known: &RevisionStatus, look: &Look<'_>) -> bool {
    let rolled = exposed(look.rollout()).is_some_and(|rollout| rollout.revision == known.name);
    known.weight > 0 || known.sample.is_some() || rolled || look.stable() == Some(&known.name)
}

/// Nothing is lost with it. Sets when to look again for one that still drains.
fn has_drained(known: &RevisionStatus, look: &Look<'_>, turn: &Turn, requeue: &mut Option<Duration>) -> bool {
    let Some(view) = look.find(&known.name) else {
        // Who waits for one of its pods waits in vain, and chooses again when it leaves the routes.
        return true;
    };
    let drained = || look.observed.routers.have_left(knowing(look.model, view, look.generation));
    let Some(since) = &known.draining_since else {
        // It loses what it has in this pass, or it has nothing and some router does not know that yet.
        let gone = !had(known, look) && drained();
        *requeue = sooner(*requeue, Some(longest_drain(look)).filter(|_| !gone));
        return gone;
    };
    let warm = warm(known, look, turn).and_then(|longest| left(longest, since.0, look.now));
    // Who waits for a pod of it waits in vain, and holds up everybody.
    let longest = if view.available == 0 { LONGEST_WAIT } else { longest_drain(look) };
    let routers = |gone: bool| left(longest, since.0, look.now).filter(|_| !(gone && drained()));
    let left = warm.or_else(|| match gateway::left(look) {
        // Requests would go to pods that are not there, for as long as the Gateway does not look.
        Left::Stale if view.available > 0 => Some(LONGEST_DRAIN),
        Left::In(more) => routers(true).max(Some(more)),
        Left::Unsaid | Left::Stale => routers(false),
        Left::Now => routers(true),
    });
    *requeue = sooner(*requeue, left);
    left.is_none()
}

/// Until the last request that it was given may have its answer.
fn longest_drain(look: &Look<'_>) -> Duration {
    LONGEST_DRAIN.max(limits::longest_request(look.owner))
}

/// For how long the revision that was promoted before is kept.
fn warm(known: &RevisionStatus, look: &Look<'_>, turn: &Turn) -> Option<Duration> {
    let longest = duration::parse(look.asked_for()?.keep_warm.as_deref()?)?;
    let mut promoted = look.owner.status.iter().flat_map(|status| &status.history);
    let before = promoted.find(|record| {
        record.outcome == RolloutOutcome::Promoted && turn.stable.as_deref() != Some(record.revision.as_str())
    })?;
    (before.revision == known.name).then_some(longest)
}

/// What is there and in no route.
fn unrouted(look: &Look<'_>, traffic: &Traffic) -> Vec<Delete> {
    let views = look.owned().filter(|view| !view.deleting && !traffic.knows(&view.name));
    let deployments = views.map(|view| (DeleteKind::Deployment, &view.name, &view.uid));
    let services = look.observed.services.iter().filter(|(name, service)| {
        let of_revision = revision_of(service).is_some_and(|name| !traffic.knows(name));
        of_revision && service.owner.as_deref() == look.uid && *name != look.model
    });
    let services = services.map(|(name, service)| (DeleteKind::Service, name, &service.uid));
    let all = deployments.chain(services);
    all.map(|(kind, name, uid)| Delete { kind, name: name.clone(), uid: uid.clone() }).collect()
}

/// The revision that a Service selects, if it is one's own.
fn revision_of(service: &ServiceView) -> Option<&str> {
    service.selector.get(REVISION_LABEL).map(String::as_str)
}

/// What is left of a time. A clock that went back does not make it longer than it is.
fn left(longest: Duration, since: Timestamp, now: Timestamp) -> Option<Duration> {
    let longest = SignedDuration::try_from(longest).unwrap_or_default();
    let left = (longest - now.duration_since(since)).min(longest);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}
