//! What the plan of one ModelDeployment looks at.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodTemplate;
use k8s_openapi::jiff::Timestamp;

use super::drift::Applied;
use super::{AutoscalerView, BudgetView, Gateways};
use millrace_contract::DriftCounts;

use crate::analysis::Measured;
use crate::api::ModelVersion;
use crate::autoscale::Window;
use crate::plan::Refusal;
use crate::routing::Routers;
use crate::run::{PodView, Words};

/// Everything that the plan of one ModelDeployment depends on, besides itself and the time.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// ModelVersions of the namespace.
    pub model_versions: Vec<Arc<ModelVersion>>,
    /// Deployments that carry [`crate::names::DEPLOYMENT_LABEL`] with this name.
    pub deployments: Vec<Arc<DeploymentView>>,
    /// What each of these Deployments was after this operator applied it last, by name. One that it has not applied since
    /// it started is missing.
    pub applied: BTreeMap<String, Applied>,
    /// The same for the Services.
    pub applied_services: BTreeMap<String, Applied>,
    /// Their pods. `stage` holds the revision, `owner` the ReplicaSet.
    pub pods: Vec<Arc<PodView>>,
    /// The Deployment that writes its payload log into a table, and what it was when it was applied last. Its Service is among `services`.
    pub log_writer: Option<Arc<DeploymentView>>,
    pub applied_log_writer: Option<Applied>,
    /// The Service of the ModelDeployment's name, whoever made it.
    pub service: Option<Arc<ServiceView>>,
    /// Services by name that carry [`crate::names::DEPLOYMENT_LABEL`] with this name: the revisions' are among them.
    pub services: BTreeMap<String, Arc<ServiceView>>,
    /// The HorizontalPodAutoscaler of this name that carries our label, and what it was when it was applied last.
    pub autoscaler: Option<Arc<AutoscalerView>>,
    pub applied_autoscaler: Option<Applied>,
    /// The PodDisruptionBudget of this name that carries our label, and what it was when it was applied last.
    pub budget: Option<Arc<BudgetView>>,
    pub applied_budget: Option<Applied>,
    /// The way in through Gateways, where one is asked for or there.
    pub gateways: Gateways,
    /// The routers of the namespace.
    pub routers: Routers,
    /// What they counted of all callers' requests, where the number of pods follows it.
    pub load: Option<Window>,
    /// What they counted of the two revisions of a rollout since its step is in force.
    pub measured: Option<Measured>,
    /// What the pods of the promoted revision counted of rows and answers, where drift is watched and one has answered.
    pub drift: Option<DriftCounts>,
    /// The same of the revision that comes, where an analysis is of its drift.
    pub candidate_drift: Option<DriftCounts>,
    /// The last number of pods of `status.desiredReplicas` that each of these Deployments was seen to have, by name.
    pub reached: BTreeMap<String, i32>,
    /// PodTemplates of the catalog namespace by name: the one that the spec names.
    pub pod_templates: BTreeMap<String, Arc<PodTemplate>>,
    /// What the apiserver refused of the last pass's effects.
    pub refusals: Vec<Refusal>,
}

/// A Deployment as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentView {
    pub name: String,
    pub uid: String,
    pub owner: Option<String>,
    pub created: Option<Timestamp>,
    pub deleting: bool,
    pub generation: i64,
    pub observed_generation: i64,
    /// Digest of the spec but for `replicas`: scaling is no change of what runs.
    pub shape: u64,
    /// `spec.replicas`.
    pub wanted: i32,
    pub replicas: i32,
    pub ready: i32,
    pub available: i32,
    /// `ReplicaFailure=True`: why no pod could be made (quota, Pod Security).
    pub failure: Option<Words>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// A Service as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceView {
    pub uid: String,
    pub owner: Option<String>,
    pub selector: BTreeMap<String, String>,
    /// Digest of the spec but for what the cluster allots: addresses and the ports of nodes.
    pub shape: u64,
}
