//! Which revision the Service selects, and when the others go.
//!
//! What is looked at may be a little old. So no step is wrong with an old look: a revision that ever may have been
//! selected is deleted only [`DRAIN`] after a moment since which the Service certainly selects another.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::objects::is_service;
use super::{DeploymentView, Observed, SWITCHED_ANNOTATION, ServiceView};
use crate::api::ModelDeployment;
use crate::names::REVISION_LABEL;
use crate::plan::{Delete, DeleteKind};

/// How long a revision stays after the Service has left it: nodes learn of the switch seconds later.
pub const DRAIN: Duration = Duration::from_secs(15);

/// What is to be done with the traffic.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The Service has to be applied: it selects this revision since this time.
    pub switch: Option<(String, Timestamp)>,
    pub delete: Vec<Delete>,
    /// When the next revision may go.
    pub requeue: Option<Duration>,
}

/// The revision that the Service selects.
pub(super) fn served(service: Option<&ServiceView>) -> Option<&str> {
    service.and_then(|service| service.selector.get(REVISION_LABEL)).map(String::as_str)
}

/// Whether all pods that a revision should have are there and answer.
pub(super) fn complete(view: &DeploymentView) -> bool {
    !view.deleting && view.observed_generation >= view.generation && view.available >= view.wanted
}

/// Decides. `intended` is what the spec asks for, `None` if that is nothing that can be run.
pub(super) fn decide(owner: &ModelDeployment, intended: Option<&str>, observed: &Observed, now: Timestamp) -> Traffic {
    let uid = owner.metadata.uid.as_deref();
    let service = observed.service.as_deref();
    let served = served(service);
    let revisions: Vec<&DeploymentView> =
        observed.deployments.iter().map(AsRef::as_ref).filter(|view| view.owner.as_deref() == uid).collect();
    let find = |name: &str| revisions.iter().copied().find(|view| view.name == name);

    let mut traffic = Traffic::default();
    // What somebody changed is not what was asked for, until it was put right.
    let answers = |view: &DeploymentView| complete(view) && !observed.drifted(view);
    let target = intended.filter(|name| find(name).is_some_and(answers)).or(served);
    let Some(target) = target else {
        // Nothing was ever served: superseded revisions have no callers.
        traffic.delete = superseded(&revisions, intended, None).map(delete).collect();
        return traffic;
    };
    let switched = service.and_then(switched_at);
    let settled = served == Some(target) && service.is_some_and(|service| is_applied(owner, service, target));
    // A revision that came after the last switch and is not wanted any more: the Service may select it without this
    // pass seeing it. Applied once more, it certainly does not.
    let staying = intended.unwrap_or(target);
    let came_later = superseded(&revisions, Some(target), served)
        .filter(|view| staying == target && view.available > 0)
        .filter_map(|view| view.created.map(end_of_second))
        .filter(|created| switched.is_none_or(|switched| *created > switched))
        .max();
    if let Some(created) = came_later {
        // Never before what it is compared with, whatever the clocks say: it is applied once.
        traffic.switch = Some((target.to_owned(), now.max(created)));
    } else if !settled {
        let since = switched.filter(|_| served == Some(target)).unwrap_or(now);
        traffic.switch = Some((target.to_owned(), since));
    }

    // Since this moment no revision but the target and the served one has been selected.
    let since = if staying == target {
        switched.filter(|_| traffic.switch.is_none())
    } else {
        find(staying).and_then(|view| view.created)
    };
    for view in superseded(&revisions, intended, Some(target)).filter(|view| Some(view.name.as_str()) != served) {
        let left = since.map(|since| left(since, now));
        match left {
            _ if view.available == 0 => traffic.delete.push(delete(view)),
            Some(left) if left.is_zero() => traffic.delete.push(delete(view)),
            Some(left) => traffic.requeue = Some(traffic.requeue.map_or(left, |other| other.min(left))),
            None => traffic.requeue = Some(traffic.requeue.map_or(DRAIN, |other| other.min(DRAIN))),
        }
    }
    traffic
}

fn superseded<'a>(
    revisions: &'a [&'a DeploymentView],
    intended: Option<&'a str>,
    target: Option<&'a str>,
) -> impl Iterator<Item = &'a DeploymentView> {
    revisions.iter().copied().filter(move |view| {
        !view.deleting && Some(view.name.as_str()) != intended && Some(view.name.as_str()) != target
    })
}

fn delete(view: &DeploymentView) -> Delete {
    Delete { kind: DeleteKind::Deployment, name: view.name.clone(), uid: view.uid.clone() }
}

fn is_applied(owner: &ModelDeployment, service: &ServiceView, revision: &str) -> bool {
    is_service(owner, revision, service) && switched_at(service).is_some()
}

fn switched_at(service: &ServiceView) -> Option<Timestamp> {
    service.annotations.get(SWITCHED_ANNOTATION)?.parse().ok()
}

/// The apiserver writes whole seconds: what was created in this one was created before its end.
fn end_of_second(created: Timestamp) -> Timestamp {
    created.checked_add(SignedDuration::from_secs(1)).unwrap_or(created)
}

/// What is left of the drain time. A clock that went back does not make it longer than it is.
fn left(since: Timestamp, now: Timestamp) -> Duration {
    let drain = SignedDuration::try_from(DRAIN).unwrap_or_default();
    let left = (drain - now.duration_since(since)).min(drain);
    Duration::try_from(left).unwrap_or_default()
}
