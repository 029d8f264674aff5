//! The plan of one ModelDeployment.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;

use super::drift::{self, Then};
use super::look::WHOLE;
use super::revision::{Intent, Revision, intent};
use super::scaling::{self, Scaling};
use super::status::{self, Situation};
use super::traffic::{self, Traffic};
use super::{DeploymentView, Observed, autoscaler, budget, gateway, log_writer, objects};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::config::Config;
use crate::plan::{Apply, Plan, sooner};
use crate::run::PodView;

/// Something was refused, by a quota for example: nobody tells when it may be tried again.
const AFTER_REFUSAL: Duration = Duration::from_secs(15);

/// Decides for one ModelDeployment.
#[must_use]
pub fn plan(
    deployment: &ModelDeployment,
    observed: &Observed,
    config: &Config,
    now: Timestamp,
) -> Plan<ModelDeploymentStatus> {
    let mut plan = Plan::default();
    if deployment.metadata.deletion_timestamp.is_some() {
        // Everything has an owner reference and goes by itself.
        return plan;
    }
    let intent = intent(deployment, observed, config);
    let revision = intent.revision();
    let taken = taken(deployment, revision, observed);
    let traffic = match &taken {
        None => traffic::decide(deployment, revision, observed, now),
        Some(_) => Traffic::unchanged(deployment),
    };
    let scaling = observed.scaling(deployment, &traffic, now);
    if taken.is_none() {
        let decided = Decided { intent: &intent, traffic: &traffic, scaling: &scaling };
        effects(&mut plan, deployment, &decided, observed, now);
        budget::turn(&mut plan, deployment, &traffic, observed, now);
        if !matches!(intent, Intent::Invalid(_)) {
            log_writer::turn(&mut plan, deployment, config, observed, now);
        }
    }
    let situation =
        Situation { deployment, intent: &intent, taken, traffic: &traffic, scaling: &scaling, observed, now };
    let (invalid, free) = (matches!(intent, Intent::Invalid(_)), situation.taken.is_none());
    status::report(&mut plan, &situation);
    if free && !invalid {
        gateway::turn(&mut plan, deployment, observed, now);
    }
    // Nobody watches PodTemplates and GatewayClasses either.
    let unread = matches!(intent, Intent::NoPodTemplate(_)) || gateway::lacks_mirror(deployment, observed).is_some();
    if !observed.refusals.is_empty() || unread {
        plan.requeue = sooner(plan.requeue, Some(AFTER_REFUSAL));
    }
    plan
}

/// What was decided before anything is written.
struct Decided<'a> {
    intent: &'a Intent,
    traffic: &'a Traffic,
    scaling: &'a Scaling,
}

fn effects(
    plan: &mut Plan<ModelDeploymentStatus>,
    deployment: &ModelDeployment,
    decided: &Decided<'_>,
    observed: &Observed,
    now: Timestamp,
) {
    let Decided { intent, traffic, scaling: scales } = *decided;
    plan.requeue = sooner(traffic.requeue, scales.held);
    let revision = intent.revision().filter(|revision| !traffic.rejects(&revision.name));
    let stable = traffic.stable().and_then(|name| find(observed, name));
    let stable = stable.filter(|view| view.owner == deployment.metadata.uid);
    if let Some(revision) = revision {
        let there = find(observed, &revision.name);
        let is_stable = stable.is_some_and(|view| view.name == revision.name);
        let share = traffic.coming.as_ref().map_or(WHOLE, |(_, share)| *share);
        let coming = scales.coming(stable, share);
        let replicas = match there {
            None if scaling::recreates(deployment) && !is_alone(deployment, revision, observed) => None,
            None => Some(coming),
            Some(view) if view.deleting => None,
            // Whatever somebody changed goes back; the number of pods has its own way, below.
            Some(view) => {
                let then = drift::then(observed.applied.get(&view.name), None, view.shape, now);
                now_or_later(then, &mut plan.requeue).then_some(view.wanted)
            }
        };
        let apply = replicas.map(|replicas| objects::revision_deployment(deployment, revision, replicas));
        plan.apply.extend(apply.map(|wanted| Apply::Deployment(Box::new(wanted))));
        let other = there.filter(|view| !is_stable && view.owner == deployment.metadata.uid);
        // What leaves it fewer requests has to be in force before it has fewer pods.
        let in_force = traffic.rollout.as_ref().is_none_or(|rollout| rollout.step_start_time.is_some());
        let fits = |view: &&DeploymentView| coming > view.wanted || scales.may_shrink() && in_force;
        plan.apply.extend(other.filter(fits).and_then(|view| scaling::scale(view, coming)));
    }
    plan.apply.extend(stable.and_then(|view| scales.write(view)));
    let wanted = services(deployment, intent, traffic, observed);
    let wanted = wanted.filter(|wanted| {
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let Some(there) = observed.services.get(name) else { return true };
        let then = drift::then(observed.applied_services.get(name), Some(drift::asked(wanted)), there.shape, now);
        now_or_later(then, &mut plan.requeue)
    });
    plan.apply.extend(wanted.map(|service| Apply::Service(Box::new(service))));
    plan.delete.clone_from(&traffic.delete);
    plan.delete.extend(gateway::unwanted(deployment, observed));
    match autoscaler::turn(deployment, scales, traffic, stable, observed, now) {
        autoscaler::Turn::Leave => {}
        autoscaler::Turn::Apply(apply) => plan.apply.push(*apply),
        autoscaler::Turn::Later(left) => plan.requeue = sooner(plan.requeue, Some(left)),
        autoscaler::Turn::Delete(delete) => plan.delete.push(delete),
    }
}

/// Nothing of another revision is there any more.
pub(super) fn is_alone(deployment: &ModelDeployment, revision: &Revision, observed: &Observed) -> bool {
    let mut others = observed.deployments.iter().filter(|view| view.owner == deployment.metadata.uid);
    let ended = |pod: &PodView| pod.phase == "Failed" || pod.phase == "Succeeded";
    let gone = observed.pods.iter().all(|pod| pod.stage == revision.name || ended(pod));
    gone && others.all(|view| view.name == revision.name)
}

/// Whether to apply now. Sets when to look again where it is to wait.
fn now_or_later(then: Then, requeue: &mut Option<Duration>) -> bool {
    if let Then::Later(left) = then {
        *requeue = sooner(*requeue, Some(left));
    }
    then == Then::Apply
}

/// The Services that should be: of the revisions that are routed, and the model's own.
fn services(
    deployment: &ModelDeployment,
    intent: &Intent,
    traffic: &Traffic,
    observed: &Observed,
) -> impl Iterator<Item = Service> {
    let of_revisions = traffic.routed.iter().map(|revision| {
        let protocol = status::protocol(deployment, intent, &revision.name);
        objects::revision_service(deployment, &revision.name, protocol)
    });
    let port = status::router_port(deployment, observed);
    let own = port.filter(|_| observed.service.is_some() || !matches!(intent, Intent::Invalid(_)));
    of_revisions.chain(own.map(|port| objects::service(deployment, port)))
}

/// Something that has a name of ours and is not ours.
pub(super) struct Taken {
    pub message: String,
    /// It was of a ModelDeployment of this name that was deleted: the garbage collector takes it away.
    pub goes: bool,
}

/// A Service or Deployment that has the name and is not of this ModelDeployment.
fn taken(deployment: &ModelDeployment, revision: Option<&Revision>, observed: &Observed) -> Option<Taken> {
    let uid = &deployment.metadata.uid;
    let own = deployment.metadata.name.as_deref().unwrap_or_default();
    // What carries our label and has another owner was a predecessor's.
    let says = |kind: &str, name: &str, owner: &Option<String>, labelled: bool| {
        let goes = labelled && owner.is_some();
        let message = if goes {
            format!(
                "the {kind} \"{name}\" of the deleted ModelDeployment of this name is still there: it goes by itself"
            )
        } else {
            format!(
                "the {kind} \"{name}\" is not of this ModelDeployment: delete it, or give the ModelDeployment another name"
            )
        };
        Taken { message, goes }
    };
    if let Some(service) = observed.service.as_ref().filter(|service| service.owner != *uid) {
        return Some(says("Service", own, &service.owner, observed.services.contains_key(own)));
    }
    let name = &revision?.name;
    if let Some(view) = find(observed, name).filter(|view| view.owner != *uid) {
        return Some(says("Deployment", name, &view.owner, true));
    }
    let service = observed.services.get(name).filter(|service| service.owner != *uid)?;
    Some(says("Service", name, &service.owner, true))
}

pub(super) fn find<'a>(observed: &'a Observed, name: &str) -> Option<&'a DeploymentView> {
    observed.deployments.iter().map(AsRef::as_ref).find(|view| view.name == name)
}
