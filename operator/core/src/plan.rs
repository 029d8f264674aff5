//! What a decision comes out as: a list of effects, in the order in which they are carried out.
//!
//! The order is: the status first (progress that must survive a crash is written before it is acted upon), then
//! `create`, `apply`, `delete`, then events, and only if the status write succeeded. A crash after any of them leads to
//! the same end, because the next pass decides again from what is there.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::api::{LiveMetrics, MLPipelineRun, ModelVersion};
use crate::gateway_api::HTTPRoute;

/// The earlier of two times to look again, if there is one.
#[must_use]
pub fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// What one pass decided for one object. `S` is the object's status.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// POSTed once, before the status, because the status names it: what a run runs.
    pub freeze: Option<Box<ControllerRevision>>,
    /// The new status, if it differs from the one that is there.
    pub status: Option<S>,
    /// POSTed once, never applied. On 409 the one that is there must have the same controller, else `NameTaken`.
    pub create: Vec<Create>,
    /// Made, or put right where it is not what it should be.
    pub apply: Vec<Apply>,
    /// Deleted, with uid as precondition.
    pub delete: Vec<Delete>,
    /// Emitted after the status was written.
    pub events: Vec<Event>,
    /// Look again after this time even if nothing happens.
    pub requeue: Option<Duration>,
}

impl<S> Default for Plan<S> {
    fn default() -> Self {
        Self {
            freeze: None,
            status: None,
            create: Vec::new(),
            apply: Vec::new(),
            delete: Vec::new(),
            events: Vec::new(),
            requeue: None,
        }
    }
}

/// An object that is POSTed once.
#[derive(Clone, Debug, PartialEq)]
pub enum Create {
    Job(Box<Job>),
    /// A Job, after the list that its pods read: without the list there is no Job.
    JobOver(Box<ConfigMap>, Box<Job>),
    ModelVersion(Box<ModelVersion>),
    Run(Box<MLPipelineRun>),
    /// A Job of a pipeline that looks for new data.
    Look(Box<Job>),
}

/// What should be so.
#[derive(Clone, Debug, PartialEq)]
pub enum Apply {
    Deployment(Box<Deployment>),
    Service(Box<Service>),
    /// Of an InferenceGraph.
    GraphService(Box<Service>),
    Autoscaler(Box<HorizontalPodAutoscaler>),
    Budget(Box<PodDisruptionBudget>),
    HttpRoute(Box<HTTPRoute>),
    /// `replicas` through the scale subresource of a Deployment, if they still are what was seen: a router may have started a pod.
    Scale {
        deployment: String,
        from: i32,
        replicas: i32,
    },
    /// `spec.model.version` of a ModelDeployment by [`crate::names::DEPLOY_MANAGER`], unforced.
    DeployVersion {
        model_deployment: String,
        version: i64,
    },
    /// `status.live` of a ModelDeployment.
    LiveMetrics {
        model_deployment: String,
        live: Box<LiveMetrics>,
    },
}

/// An object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    pub kind: DeleteKind,
    pub name: String,
    pub uid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteKind {
    /// With its pods.
    Job,
    /// At once, or nearly: its containers have a second.
    Pod,
    Run,
    ModelVersion,
    Deployment,
    Service,
    Autoscaler,
    HttpRoute,
    /// What runs ran. `uid` is the owner's: one of another owner stays.
    ControllerRevision,
}

/// An event on the object that was planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    /// One word, such as `StageFailed`.
    pub reason: &'static str,
    pub message: String,
}

impl Event {
    /// Something is not as somebody wants it.
    pub fn warning(reason: &'static str, message: impl AsRef<str>) -> Self {
        Self { warning: true, reason, message: in_one_line(message.as_ref()) }
    }

    pub fn normal(reason: &'static str, message: impl AsRef<str>) -> Self {
        Self { warning: false, reason, message: in_one_line(message.as_ref()) }
    }
}

/// A line break would break the table in which people read events.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" | ")
}

/// Reason of a refusal whose cause is an object of that name that belongs to somebody else.
pub const NAME_TAKEN: &str = "NameTaken";
/// Reason of a refusal whose cause is another field manager, as the apiserver calls it.
pub const FIELD_OWNED: &str = "FieldManagerConflict";

/// What became of an effect that the next pass has to know and cannot see in the cluster: why a POST or an apply was
/// refused (quota, Pod Security, a name taken, a field that somebody else owns).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kind and name, such as `Job penguins-1-train-1`.
    pub object: String,
    /// HTTP status.
    pub code: u16,
    /// The apiserver's reason and message, as they are; `NameTaken` if the name belongs to somebody else, [`FIELD_OWNED`]
    /// if a field does.
    pub reason: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_line() {
        let event = Event::warning("StageFailed", "stage s: Error: bash: no\n\n  it ended with 3\r\n");
        assert_eq!((event.warning, event.message.as_str()), (true, "stage s: Error: bash: no | it ended with 3"));
    }
}
