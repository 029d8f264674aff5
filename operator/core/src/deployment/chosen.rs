//! What the status and the events say of the number of pods.

use k8s_openapi::jiff::Timestamp;

use super::DeploymentView;
use super::scaling::Scaling;
use crate::api::{ConditionStatus, ModelDeployment, ModelDeploymentStatus, Scale, ScaleMetric, set_condition};
use crate::autoscale::Mode;
use crate::clip::clip;
use crate::plan::Event;
use crate::run::Words;

/// As the HPA calls it.
const ACTIVE: &str = "ScalingActive";

/// Prometheus gives no number.
const QUERY_FAILED: &str = "QueryFailed";
/// Nor do the brokers.
const LAG_UNKNOWN: &str = "LagUnknown";
/// The HorizontalPodAutoscaler has no figure, or does not do its work.
const AUTOSCALER_FAILED: &str = "AutoscalerFailed";
/// Its words while there is no pod.
const DISABLED: &str = "ScalingDisabled";
/// Bytes of its words.
const LONGEST: usize = 1024;

/// Whether the condition would say for the first time that nobody knows the number, or that somebody does again.
pub(super) fn is_news(deployment: &ModelDeployment, scaling: &Scaling) -> bool {
    let conditions = deployment.status.iter().flat_map(|status| &status.conditions);
    let metric = deployment.spec.scale.as_ref().and_then(|scale| scale.metric);
    let Some(failed) = metric.and_then(unknown) else { return false };
    let said = conditions.into_iter().find(|condition| condition.type_ == ACTIVE && condition.reason == failed);
    scaling.decision.is_some()
        && match &scaling.blind {
            Some(blind) => !blind.early && said.is_none_or(|said| said.status != "False"),
            None => said.is_some(),
        }
}

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
        (metric, Mode::Handed(_)) => match (&scaling.decision, &scaling.words) {
            (Some(decision), _) => (ConditionStatus::True, metric.as_str(), decision.why.clone()),
            (None, Some((truth, Words { reason: _, message }))) if truth == "True" => {
                (ConditionStatus::True, metric.as_str(), format!("the HorizontalPodAutoscaler chooses: {message}"))
            }
            // At zero, a moment ago.
            (None, Some((_, Words { reason, message }))) if reason != DISABLED => {
                let why = format!("the HorizontalPodAutoscaler says {reason}: {message}");
                (ConditionStatus::False, AUTOSCALER_FAILED, clip(&why, LONGEST))
            }
            (None, _) => {
                let why = "the HorizontalPodAutoscaler has not looked yet: the cluster does so every 15 seconds";
                (ConditionStatus::Unknown, metric.as_str(), why.to_owned())
            }
        },
        (metric, Mode::Chosen(_)) if scaling.blind.is_some() => {
            let Some(blind) = &scaling.blind else { return };
            // An operator that has just begun knows no more than the one before.
            if blind.early && old.conditions.iter().any(|condition| condition.type_ == ACTIVE) {
                return;
            }
            let kept = status.desired_replicas.map_or_else(String::new, |pods| format!(" at {pods}"));
            let why = format!("{}; the number of pods stays{kept} until there is an answer", blind.why);
            let truth = if blind.early { ConditionStatus::Unknown } else { ConditionStatus::False };
            (truth, unknown(metric).unwrap_or(QUERY_FAILED), why)
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

/// The reason where somebody outside gives the figure, and does not.
fn unknown(metric: ScaleMetric) -> Option<&'static str> {
    match metric {
        ScaleMetric::Prometheus => Some(QUERY_FAILED),
        ScaleMetric::QueueLag => Some(LAG_UNKNOWN),
        ScaleMetric::Concurrency
        | ScaleMetric::RequestRate
        | ScaleMetric::Latency
        | ScaleMetric::CPU
        | ScaleMetric::External => None,
    }
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
    let before = match scaling.mode {
        Mode::Chosen(_) => old.desired_replicas,
        // Nothing is written there while its autoscaler has the number.
        Mode::Handed(_) => old.desired_replicas.or(Some(view.wanted)),
        Mode::Left | Mode::Pinned(_) => None,
    };
    if let Some(before) = before
        && before != decision.replicas
    {
        events.push(Event::normal("Scaled", format!("from {before} to {}: {}", decision.replicas, decision.why)));
    }
    events
}
