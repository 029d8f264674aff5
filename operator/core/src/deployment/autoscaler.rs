//! The HorizontalPodAutoscaler that sets the number of pods with `metric: CPU`. It is of the Deployment of the promoted revision, so that
//! nobody writes the spec of a ModelDeployment; another revision is another target of the same object.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;

use super::drift::{self, Then, digest};
use super::scaling::Scaling;
use super::traffic::Traffic;
use super::{DeploymentView, Observed, objects};
use crate::api::{ModelDeployment, Resources, ScaleMetric};
use crate::autoscale::{Config, Mode};
use crate::plan::{Apply, Delete, DeleteKind};
use crate::pod;
use crate::problem::Problem;
use crate::run::Words;

const CPU: &str = "cpu";

/// A HorizontalPodAutoscaler as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoscalerView {
    pub name: String,
    pub uid: String,
    pub owner: Option<String>,
    /// Digest of the spec.
    pub shape: u64,
    /// Its condition `ScalingActive`: the status, and the words.
    pub active: Option<(String, Words)>,
}

/// Digest of what is asked for.
#[must_use]
pub fn autoscaler_asked(wanted: &HorizontalPodAutoscaler) -> u64 {
    digest(&wanted.spec)
}

/// What is to be done with it.
pub(super) enum Turn {
    Leave,
    Apply(Box<Apply>),
    /// Somebody changes it again and again: when it is put right.
    Later(Duration),
    Delete(Delete),
}

/// `stable` is the Deployment of the promoted revision.
pub(super) fn turn(
    deployment: &ModelDeployment,
    scaling: &Scaling,
    traffic: &Traffic,
    stable: Option<&DeploymentView>,
    observed: &Observed,
    now: Timestamp,
) -> Turn {
    let there = observed.autoscaler.as_deref();
    let Mode::Handed(config) = scaling.mode else {
        // One of this name that somebody else made is theirs.
        let ours = there.filter(|view| view.owner.is_some() && view.owner == deployment.metadata.uid);
        let delete = |view: &AutoscalerView| Delete {
            kind: DeleteKind::Autoscaler,
            name: view.name.clone(),
            uid: view.uid.clone(),
        };
        return ours.map_or(Turn::Leave, |view| Turn::Delete(delete(view)));
    };
    let Some(stable) = stable.filter(|view| !view.deleting) else { return Turn::Leave };
    let rolls = super::exposed(traffic.rollout.as_ref()).is_some();
    let wanted = autoscaler(deployment, &config, &stable.name, rolls);
    let then = there.map_or(Then::Apply, |there| {
        drift::then(observed.applied_autoscaler.as_ref(), Some(autoscaler_asked(&wanted)), there.shape, now)
    });
    match then {
        Then::Leave => Turn::Leave,
        Then::Later(left) => Turn::Later(left),
        Then::Apply => Turn::Apply(Box::new(Apply::Autoscaler(Box::new(wanted)))),
    }
}

/// `keeps`: it takes no pod away. In a rollout the promoted revision keeps its pods, because it may have to take everything back, and its
/// load is little meanwhile.
fn autoscaler(owner: &ModelDeployment, config: &Config, revision: &str, keeps: bool) -> HorizontalPodAutoscaler {
    // Of the server alone: a sidecar without a request would make the share of the whole pod unknown.
    let metric = ContainerResourceMetricSource {
        container: pod::MAIN.to_owned(),
        name: CPU.to_owned(),
        target: MetricTarget {
            type_: "Utilization".to_owned(),
            average_utilization: config.target.map(percent),
            ..MetricTarget::default()
        },
    };
    let down = HPAScalingRules { select_policy: Some("Disabled".to_owned()), ..HPAScalingRules::default() };
    let behavior = HorizontalPodAutoscalerBehavior { scale_down: Some(down), scale_up: None };
    HorizontalPodAutoscaler {
        metadata: objects::own_metadata(owner),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: revision.to_owned(),
            },
            // From none to one is the routers' to do, and back Millrace's.
            min_replicas: Some(config.min.max(1)),
            max_replicas: config.max,
            metrics: Some(vec![MetricSpec {
                type_: "ContainerResource".to_owned(),
                container_resource: Some(metric),
                ..MetricSpec::default()
            }]),
            behavior: keeps.then_some(behavior),
        }),
        status: None,
    }
}

/// Between 1 and 1000, as the schema has it.
#[allow(clippy::cast_possible_truncation)]
fn percent(target: f64) -> i32 {
    target.round().clamp(1.0, 1000.0) as i32
}

/// Without a request of the processor there is nothing that its use could be a share of. `template` is what would run.
pub(super) fn lacks_request(deployment: &ModelDeployment, template: &PodTemplateSpec) -> Option<Problem> {
    let mains = template.spec.iter().flat_map(|spec| &spec.containers).filter(|container| container.name == pod::MAIN);
    let resources = mains.filter_map(|container| container.resources.as_ref());
    // Where only a limit is written, the apiserver takes it for the request.
    let mut written = resources.flat_map(|resources| resources.requests.iter().chain(&resources.limits));
    (asks(deployment) && !written.any(|all| all.contains_key(CPU))).then(missing)
}

/// The same where nothing but the spec says what runs.
pub(super) fn check(deployment: &ModelDeployment) -> Option<Problem> {
    let settings = deployment.spec.server.as_ref().map(|server| &server.settings);
    let templated = settings.is_some_and(|settings| settings.pod_template.is_some());
    let resources = settings.and_then(|settings| settings.resources.as_ref());
    let written =
        resources.is_some_and(|Resources { requests, limits }| requests.contains_key(CPU) || limits.contains_key(CPU));
    (asks(deployment) && !templated && !written).then(missing)
}

fn asks(deployment: &ModelDeployment) -> bool {
    deployment.spec.scale.as_ref().is_some_and(|scale| scale.metric == Some(ScaleMetric::CPU))
}

fn missing() -> Problem {
    Problem::new(
        "spec.server.resources.requests.cpu",
        "RequestMissing",
        "metric: CPU is a share of the requested processor, and none is requested: write how much, such as 500m",
    )
}
