//! What the status and the events say of the number of pods.

use k8s_openapi::jiff::Timestamp;

use super::DeploymentView;
use super::scaling::Scaling;
use crate::api::{ConditionStatus, ModelDeployment, ModelDeploymentStatus, Scale, ScaleMetric, set_condition};
use crate::autoscale::Mode;
use crate::plan::Event;

/// As the HPA calls it.
const ACTIVE: &str = "ScalingActive";

/// Sets the condition, where somebody may look for one. Its message stays until another number is chosen: figures change all the time.
pub(super) fn condition(
    status: &mut ModelDeploymentStatus,
    old: &ModelDeploymentStatus,
    deployment: &ModelDeployment,
    scaling: &Scaling,
    now: Timestamp,
) {
    let Some(metric) = deployment.spec.scale.as_ref().and_then(metric) else {
        status.conditions.retain(|condition| condition.type_ != ACTIVE);
        return;
    };
    let (truth, reason, why) = match (metric, scaling.mode) {
        (ScaleMetric::External, Mode::Left) => {
            let why = "replicas is not set yet: the HPA or KEDA object sets it (an HPA does nothing until replicas was written once)";
            (ConditionStatus::False, "External", why.to_owned())
        }
        (ScaleMetric::External, _) => {
            let why = "the HPA or KEDA object that writes replicas chooses the number; at 0 a request starts a pod";
            (ConditionStatus::False, "External", why.to_owned())
        }
        (_, Mode::Pinned(replicas)) => {
            let why = format!("replicas is {replicas}: take it out, and Millrace chooses the number again");
            (ConditionStatus::False, "Pinned", why)
        }
        (metric, _) => {
            let Some(decision) = &scaling.decision else { return };
            let reason = metric.as_str();
            let same = old.conditions.iter().find(|condition| {
                condition.type_ == ACTIVE
                    && condition.reason == reason
                    && condition.observed_generation == deployment.metadata.generation
                    && old.desired_replicas == Some(decision.replicas)
            });
            (ConditionStatus::True, reason, same.map_or(&decision.why, |same| &same.message).clone())
        }
    };
    set_condition(&mut status.conditions, ACTIVE, truth, reason, &why, deployment.metadata.generation, now);
}

/// What decides, if anything may.
fn metric(scale: &Scale) -> Option<ScaleMetric> {
    let Scale { min, max, metric, .. } = scale;
    metric.or((min.is_some() || max.is_some()).then(ScaleMetric::default))
}

/// `view` is the Deployment that has the traffic.
pub(super) fn events(
    old: &ModelDeploymentStatus,
    deployment: &ModelDeployment,
    scaling: &Scaling,
    view: Option<&DeploymentView>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let (Some(view), Some(decision)) = (view, &scaling.decision) else { return events };
    if let Some(foreign) = scaling.foreign {
        let message = format!(
            "somebody set replicas of the Deployment {} to {foreign}: it is put back to {}; write spec.scale of the ModelDeployment, or kubectl scale modeldeployment/{}, instead",
            view.name,
            decision.replicas,
            deployment.metadata.name.as_deref().unwrap_or_default()
        );
        events.push(Event::warning("ReplicasChanged", message));
    }
    if let (Mode::Chosen(_), Some(before)) = (scaling.mode, old.desired_replicas)
        && before != decision.replicas
    {
        events.push(Event::normal("Scaled", format!("from {before} to {}: {}", decision.replicas, decision.why)));
    }
    events
}
