//! What the controller remembers of the cluster: whole objects of Millrace's kinds, slim views of the rest.

mod applied;
mod cached;
mod drifts;
mod feed;
mod gateways;
mod hurry;
mod lenient;
mod loads;
mod project;
mod reached;
mod reports;
mod shelf;
mod tallies;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

pub use applied::Applied;
pub use cached::Cached;
pub use drifts::{Drifts, RevisionId};
pub use feed::{
    Feeds, News, autoscaler, budget, graph_service, job, keep, look_job, part, router_deployment, routes,
    server_deployment, service, start, whole,
};
pub use gateways::{Presence, follow_gateways, http_route, names_gateway};
pub use hurry::Hurry;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
pub use loads::Loads;
use millrace_core::api::{InferenceGraph, MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion, StageTemplate};
use millrace_core::autoscale::{Follow, Window};
use millrace_core::deployment::{AutoscalerView, BudgetView, DeploymentView, GatewayView, RouteView, ServiceView};
use millrace_core::routing::{PartView, RouterPod, RoutesView};
use millrace_core::run::{JobView, PodView, parent};
pub use project::{
    Kept, Part, autoscaler_view, budget_view, controller_uid, deployment_view, routers_shape, service_view,
    stage_pod_view,
};
pub use reached::Reached;
pub use reports::Reports;
pub use shelf::{Item, Shelf};
pub use tallies::Tallies;

use crate::key::Id;

/// Every shelf. Cheap to share; each has a lock of its own that is never held across an await.
#[derive(Default)]
pub struct Stores {
    /// Grouped by namespace, as are the other kinds of Millrace.
    pub pipelines: Shelf<MLPipeline>,
    pub runs: Shelf<MLPipelineRun>,
    pub templates: Shelf<StageTemplate>,
    pub versions: Shelf<ModelVersion>,
    pub deployments: Shelf<ModelDeployment>,
    pub graphs: Shelf<InferenceGraph>,
    /// Grouped by the run's uid.
    pub jobs: Shelf<JobView>,
    /// Grouped by the run's uid.
    pub stage_pods: Shelf<PodView>,
    /// What looks for data, grouped by the pipeline's uid.
    pub look_jobs: Shelf<JobView>,
    pub look_pods: Shelf<PodView>,
    /// Grouped by `namespace/name` of the ModelDeployment, as are the next four.
    pub server_pods: Shelf<PodView>,
    pub server_deployments: Shelf<DeploymentView>,
    pub services: Shelf<ServiceView>,
    pub autoscalers: Shelf<AutoscalerView>,
    pub budgets: Shelf<BudgetView>,
    /// Grouped by `namespace/name` of the InferenceGraph. What became of them is in `applied_services`.
    pub graph_services: Shelf<ServiceView>,
    /// The same; `Gateway`s are everybody's. Empty where there is no Gateway API.
    pub http_routes: Shelf<RouteView>,
    pub gateways: Shelf<GatewayView>,
    pub gateway_api: Presence,
    /// What became of what was applied for ModelDeployments.
    pub applied: Applied,
    pub applied_services: Applied,
    pub applied_autoscalers: Applied,
    pub applied_budgets: Applied,
    pub applied_http_routes: Applied,
    /// What is for a namespace's routers, grouped by namespace.
    pub routes: Shelf<RoutesView>,
    pub router_deployments: Shelf<DeploymentView>,
    pub routers: Shelf<RouterPod>,
    pub router_accounts: Shelf<PartView>,
    pub router_bindings: Shelf<PartView>,
    pub router_budgets: Shelf<PartView>,
    pub router_policies: Shelf<PartView>,
    /// What became of everything that was applied for routers, by [`millrace_core::routing::key`].
    pub applied_routers: Applied,
    pub reports: Reports,
    /// Results that runs can take from others.
    pub cached: Cached,
    pub hurry: Hurry,
    pub loads: Loads,
    pub tallies: Tallies,
    pub drifts: Drifts,
    pub reached: Reached,
    /// Which run has a uid: Jobs and pods name their run by it.
    run_ids: RwLock<HashMap<String, Id>>,
}

impl Stores {
    /// The run of a uid, if it was seen.
    pub fn run_id(&self, uid: &str) -> Option<Id> {
        self.run_ids.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    pub fn know_run(&self, run: &MLPipelineRun, id: &Id) {
        if let Some(uid) = run.uid() {
            self.run_ids.write().unwrap_or_else(PoisonError::into_inner).insert(uid, id.clone());
        }
    }

    pub fn forget_run(&self, run: &MLPipelineRun) {
        if let Some(uid) = run.uid() {
            self.run_ids.write().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        }
    }

    /// The runs that belong to a run, by name.
    pub fn children(&self, namespace: &str, run: &MLPipelineRun) -> BTreeMap<String, Arc<MLPipelineRun>> {
        let mut all = self.runs.group(namespace);
        all.retain(|_, found| is_child(found, run));
        all
    }

    /// StageTemplates as a pipeline of this namespace sees them: its own, and the catalog's where it has none.
    pub fn templates_for(&self, namespace: &str, catalog: &str) -> BTreeMap<String, Arc<StageTemplate>> {
        let mut all = self.templates.group(catalog);
        if namespace != catalog {
            all.extend(self.templates.group(namespace));
        }
        all.into_iter().filter(|(_, t)| t.metadata.deletion_timestamp.is_none()).collect()
    }

    /// The load of a model, as the routers of its namespace say.
    pub fn load(&self, id: &Id, follow: &Follow, view: &DeploymentView, now: Timestamp) -> Window {
        let routers = self.routers.group(&id.namespace);
        let running = routers.values().filter(|router| router.is_running()).map(|router| router.pod.uid.as_str());
        self.loads.look(id, follow, view, &running.collect(), now)
    }

    /// Objects on each shelf, for the metrics.
    pub fn sizes(&self) -> [(&'static str, usize); 25] {
        [
            ("pipelines", self.pipelines.len()),
            ("runs", self.runs.len()),
            ("templates", self.templates.len()),
            ("model_versions", self.versions.len()),
            ("model_deployments", self.deployments.len()),
            ("inference_graphs", self.graphs.len()),
            ("graph_services", self.graph_services.len()),
            ("jobs", self.jobs.len()),
            ("stage_pods", self.stage_pods.len()),
            ("look_jobs", self.look_jobs.len()),
            ("look_pods", self.look_pods.len()),
            ("server_pods", self.server_pods.len()),
            ("server_deployments", self.server_deployments.len()),
            ("services", self.services.len()),
            ("autoscalers", self.autoscalers.len()),
            ("budgets", self.budgets.len()),
            ("http_routes", self.http_routes.len()),
            ("gateways", self.gateways.len()),
            ("routes", self.routes.len()),
            ("router_deployments", self.router_deployments.len()),
            ("routers", self.routers.len()),
            ("router_accounts", self.router_accounts.len()),
            ("router_bindings", self.router_bindings.len()),
            ("router_budgets", self.router_budgets.len()),
            ("router_policies", self.router_policies.len()),
        ]
    }
}

/// `found` belongs to `run`.
pub fn is_child(found: &MLPipelineRun, run: &MLPipelineRun) -> bool {
    parent(found).is_some_and(|owner| run.metadata.uid.as_ref() == Some(&owner.uid))
}
