//! Objects that are made and kept as they should be, and `replicas` through `/scale`. What is there and belongs to somebody
//! else is left alone.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use millrace_core::api::{API_VERSION, LiveMetrics, ModelDeployment};
use millrace_core::deployment::{self, Applied, DeploymentView, route_view};
use millrace_core::gateway_api::HTTPRoute;
use millrace_core::names::{DEPLOY_MANAGER, FIELD_MANAGER};
use millrace_core::plan::{Apply, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Writer;
use super::error::{WriteError, code, name_taken, owned_by_another, refused, written};
use crate::key::{Id, Kind};
use crate::metrics::Verb;
use crate::store::{
    self, Item, Shelf, Stores, autoscaler, autoscaler_view, budget, budget_view, controller_uid, deployment_view,
    graph_service, http_route, server_deployment, service, service_view, whole,
};
use crate::wake::{self, Queues};

/// Its number of pods is written so often while something else of a Deployment changes; then the next pass does it.
const SCALE_TRIES: usize = 4;

/// What became of an object, and the shape that was there before.
pub(super) struct Put<K> {
    pub made: K,
    pub before: Option<u64>,
}

impl Writer {
    pub(super) async fn apply(&self, namespace: &str, apply: Apply) -> Result<Option<Refusal>, WriteError> {
        let id = |meta: &ObjectMeta| Id::new(namespace, meta.name.clone().unwrap_or_default());
        match apply {
            Apply::Deployment(wanted) => {
                let is_free = has_controller_of(wanted.meta());
                let known = self.stores.server_deployments.get(&id(wanted.meta())).is_some();
                let put = self.put(namespace, &*wanted, known, deployment_over, is_free, shape_of_deployment).await?;
                Ok(put.map(|put| self.deployment_made(namespace, deployment::digest(&wanted.spec), put)).err())
            }
            Apply::Service(wanted) => {
                let is_free = has_controller_of(wanted.meta());
                let known = self.stores.services.get(&id(wanted.meta())).is_some();
                let put = self.put(namespace, &*wanted, known, service_over, is_free, shape_of_service).await?;
                Ok(put.map(|put| self.service_made(namespace, deployment::asked(&wanted), put)).err())
            }
            Apply::GraphService(wanted) => {
                let is_free = has_controller_of(wanted.meta());
                let known = self.stores.graph_services.get(&id(wanted.meta())).is_some();
                let put = self.put(namespace, &*wanted, known, service_over, is_free, shape_of_service).await?;
                Ok(put.map(|put| self.graph_service_made(namespace, deployment::asked(&wanted), put)).err())
            }
            Apply::Autoscaler(wanted) => {
                let is_free = has_controller_of(wanted.meta());
                let known = self.stores.autoscalers.get(&id(wanted.meta())).is_some();
                let put = self.put(namespace, &*wanted, known, autoscaler_over, is_free, shape_of_autoscaler).await?;
                Ok(put.map(|put| self.autoscaler_made(namespace, deployment::autoscaler_asked(&wanted), put)).err())
            }
            Apply::Budget(wanted) => {
                let is_free = has_controller_of(wanted.meta());
                // It is read first: one that somebody else has is not asked for again and again by a write.
                let put = self.put(namespace, &*wanted, true, budget_over, is_free, shape_of_budget).await?;
                Ok(put.map(|put| self.budget_made(namespace, deployment::budget_asked(&wanted), put)).err())
            }
            Apply::HttpRoute(wanted) => {
                let is_free = has_controller_of(wanted.meta());
                let known = self.stores.http_routes.get(&id(wanted.meta())).is_some();
                let put = self.put(namespace, &*wanted, known, http_route_over, is_free, shape_of_http_route).await?;
                Ok(put.map(|put| self.http_route_made(namespace, deployment::route_asked(&wanted), put)).err())
            }
            Apply::Scale { deployment, from, replicas } => self.scale(namespace, &deployment, from, replicas).await,
            Apply::DeployVersion { model_deployment, version } => {
                self.deploy_version(namespace, &model_deployment, version).await
            }
            Apply::LiveMetrics { model_deployment, live } => self.report(namespace, &model_deployment, &live).await,
        }
    }

    /// Puts a report into a ModelDeployment's status. Where that has changed meanwhile, the run whose report it is hears of the change.
    async fn report(&self, namespace: &str, name: &str, live: &LiveMetrics) -> Result<Option<Refusal>, WriteError> {
        let id = Id::new(namespace, name);
        let Some(found) = self.stores.deployments.get(&id) else { return Ok(None) };
        let mut status = found.status.clone().unwrap_or_default();
        if deployment::take_report(&mut status, live) {
            if let Err(error) = self.write_status(&*found, &status).await {
                return not_taken(name, error).map(Some);
            }
            // Its rollout may be judged by it.
            self.queues.of(Kind::Deployment).push(id);
        }
        Ok(None)
    }

    /// Keeps what became of a Deployment.
    fn deployment_made(&self, namespace: &str, asked: u64, put: Put<Deployment>) {
        let Put { made, before } = put;
        let id = Id::new(namespace, made.name_any());
        let view = deployment_view(&made);
        let applied = Applied::new(asked, view.shape, view.generation);
        let news = remember(&self.stores.applied, &id, view.uid, before, applied);
        self.put_made(&self.stores.server_deployments, &id, made, server_deployment, wake::server_deployment, news);
    }

    fn service_made(&self, namespace: &str, asked: u64, put: Put<Service>) {
        let Put { made, before } = put;
        let id = Id::new(namespace, made.name_any());
        let view = service_view(&made);
        let news = remember(&self.stores.applied_services, &id, view.uid, before, Applied::new(asked, view.shape, 0));
        self.put_made(&self.stores.services, &id, made, service, wake::service, news);
    }

    fn graph_service_made(&self, namespace: &str, asked: u64, put: Put<Service>) {
        let Put { made, before } = put;
        let id = Id::new(namespace, made.name_any());
        let view = service_view(&made);
        let news = remember(&self.stores.applied_services, &id, view.uid, before, Applied::new(asked, view.shape, 0));
        self.put_made(&self.stores.graph_services, &id, made, graph_service, wake::graph_service, news);
    }

    fn autoscaler_made(&self, namespace: &str, asked: u64, put: Put<HorizontalPodAutoscaler>) {
        let Put { made, before } = put;
        let id = Id::new(namespace, made.name_any());
        let view = autoscaler_view(&made);
        let applied = Applied::new(asked, view.shape, 0);
        let news = remember(&self.stores.applied_autoscalers, &id, view.uid, before, applied);
        self.put_made(&self.stores.autoscalers, &id, made, autoscaler, wake::autoscaler, news);
    }

    fn budget_made(&self, namespace: &str, asked: u64, put: Put<PodDisruptionBudget>) {
        let Put { made, before } = put;
        let id = Id::new(namespace, made.name_any());
        let view = budget_view(&made);
        let applied = Applied::new(asked, view.shape, 0);
        let news = remember(&self.stores.applied_budgets, &id, view.uid, before, applied);
        self.put_made(&self.stores.budgets, &id, made, budget, wake::budget, news);
    }

    fn http_route_made(&self, namespace: &str, asked: u64, put: Put<HTTPRoute>) {
        let Put { made, before } = put;
        let id = Id::new(namespace, made.name_any());
        let view = route_view(&made);
        let applied = Applied::new(asked, view.shape, 0);
        let news = remember(&self.stores.applied_http_routes, &id, view.uid, before, applied);
        self.put_made(&self.stores.http_routes, &id, made, http_route, wake::http_route, news);
    }

    /// Keeps an object that was put. Where that is news though the object did not change, no watch tells.
    fn put_made<K: Resource<DynamicType = ()>, V>(
        &self,
        shelf: &Shelf<V>,
        id: &Id,
        made: K,
        view: fn(K) -> Option<(String, V)>,
        wake: fn(&Stores, &Queues, &Id, &str, &V, bool),
        news: bool,
    ) {
        self.made(shelf, made, view, wake);
        if let Some((group, value)) = shelf.find(id).filter(|_| news) {
            wake(&self.stores, &self.queues, id, &group, &value, false);
        }
    }

    /// Makes an object, or replaces the one that is there: an apply would leave what somebody added. `over` lays what is
    /// wanted over what is there, and keeps what others may own. `is_free` says of what is there whether it may be written. What is not `known`
    /// is made without a look before.
    pub(super) async fn put<K>(
        &self,
        namespace: &str,
        wanted: &K,
        known: bool,
        over: fn(K, K) -> K,
        is_free: impl Fn(&ObjectMeta) -> bool,
        shape: fn(&K) -> u64,
    ) -> Result<Result<Put<K>, Refusal>, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let api = self.api::<K>(namespace);
        let name = wanted.name_any();
        let object = format!("{} {name}", K::kind(&()));
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        // The shelves may be behind, and one without our label is not on them: only the apiserver knows.
        if !known {
            self.metrics.wrote(Verb::Apply);
            match api.create(&params, wanted).await {
                Err(error) if code(&error) == Some(409) => {}
                answer => return Ok(written(&object, answer)?.map(|made| Put { made, before: None })),
            }
        }
        let found = api.get_opt(&name).await.map_err(|e| WriteError::new("read", &object, e))?;
        if let Some(found) = found.as_ref().filter(|found| !is_free(found.meta())) {
            return Ok(Err(name_taken(&object, controller_uid(found.meta()).as_deref())));
        }
        let before = found.as_ref().map(shape);
        self.metrics.wrote(Verb::Apply);
        let answer = match found {
            Some(found) => api.replace(&name, &params, &over(found, wanted.clone())).await,
            None => api.create(&params, wanted).await,
        };
        Ok(written(&object, answer)?.map(|made| Put { made, before }))
    }

    /// Sets `replicas` from what was seen to what was chosen. Whoever wrote another number meanwhile wins, a router above all: the watch
    /// brings it, and the next pass decides from it.
    async fn scale(
        &self,
        namespace: &str,
        name: &str,
        from: i32,
        replicas: i32,
    ) -> Result<Option<Refusal>, WriteError> {
        let api = self.api::<Deployment>(namespace);
        let object = format!("Deployment {name}");
        let failed = |error| WriteError::new("scale", &object, error);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        for _ in 0..SCALE_TRIES {
            let mut scale = api.get_scale(name).await.map_err(failed)?;
            let spec = scale.spec.get_or_insert_default();
            if spec.replicas.unwrap_or_default() != from {
                break;
            }
            spec.replicas = Some(replicas);
            self.metrics.wrote(Verb::Scale);
            // With the version that was read.
            match api.replace_scale(name, &params, &scale).await {
                Ok(written) => {
                    self.scaled(&Id::new(namespace, name), &written);
                    break;
                }
                // Something else of it has changed, its status for example.
                Err(error) if code(&error) == Some(409) => {}
                // Deleted a moment ago.
                Err(error) if code(&error) == Some(404) => return Err(failed(error)),
                Err(error) => return refused("scale", &object, error).map(Some),
            }
        }
        Ok(None)
    }

    /// Keeps what was written: to the next pass the number from before would be somebody else's.
    fn scaled(&self, id: &Id, scale: &Scale) {
        let shelf = &self.stores.server_deployments;
        let version = scale.metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
        let (Some((group, view)), Some(resource_version)) = (shelf.find(id), version) else { return };
        let wanted = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
        let value = DeploymentView { wanted, generation: view.generation + 1, ..DeploymentView::clone(&view) };
        if shelf.put(Item { id: id.clone(), group: group.clone(), resource_version, value })
            && let Some(value) = shelf.get(id)
        {
            wake::server_deployment(&self.stores, &self.queues, id, &group, &value, false);
        }
    }

    /// Sets a version under the manager of `deploy` stages, unforced: where somebody else owns the field, the apiserver
    /// says who. The uid keeps this from making a ModelDeployment that is not there.
    async fn deploy_version(&self, namespace: &str, name: &str, version: i64) -> Result<Option<Refusal>, WriteError> {
        let object = format!("ModelDeployment {name}");
        let Some(held) = self.stores.deployments.get(&Id::new(namespace, name)) else {
            let message = format!("{object} is not there: create it, or correct the stage's modelDeployment");
            return Ok(Some(Refusal { object, code: 404, reason: "NotFound".into(), message }));
        };
        let wanted = json!({
            "apiVersion": API_VERSION,
            "kind": "ModelDeployment",
            "metadata": { "name": name, "uid": held.metadata.uid },
            "spec": { "model": { "version": version } },
        });
        self.metrics.wrote(Verb::Apply);
        let api = self.api::<ModelDeployment>(namespace);
        match api.patch(name, &PatchParams::apply(DEPLOY_MANAGER), &Patch::Apply(wanted)).await {
            Ok(applied) => {
                self.made(&self.stores.deployments, applied, whole, wake::deployment);
                Ok(None)
            }
            // Any other conflict passes: the object was made again a moment ago.
            Err(error) if code(&error) == Some(409) && !owned_by_another(&error) => {
                Err(WriteError::new("set the version of", &object, error))
            }
            Err(error) => refused("set the version of", &object, error).map(Some),
        }
    }
}

/// The run whose report it is hears why the apiserver does not take it. It is no refusal of the ModelDeployment's spec, which a `deploy` stage
/// of the same run may be waiting for.
fn not_taken(name: &str, error: WriteError) -> Result<Refusal, WriteError> {
    match error {
        WriteError::Request { verb, object: _, source } => {
            refused(verb, &format!("ModelDeployment/live {name}"), *source)
        }
        error @ WriteError::Content { .. } => Err(error),
    }
}

/// True if it is news. `found` is the shape that was there.
pub(super) fn remember(all: &store::Applied, id: &Id, uid: String, found: Option<u64>, made: Applied) -> bool {
    let made = match all.get(id, &uid) {
        Some(before) => made.after(&before, found, Timestamp::now()),
        None => made,
    };
    all.remember(id.clone(), uid, made)
}

fn has_controller_of(wanted: &ObjectMeta) -> impl Fn(&ObjectMeta) -> bool {
    let controller = controller_uid(wanted);
    move |found| controller_uid(found) == controller
}

fn shape_of_deployment(deployment: &Deployment) -> u64 {
    deployment_view(deployment).shape
}

fn shape_of_autoscaler(autoscaler: &HorizontalPodAutoscaler) -> u64 {
    autoscaler_view(autoscaler).shape
}

fn shape_of_budget(budget: &PodDisruptionBudget) -> u64 {
    budget_view(budget).shape
}

fn shape_of_http_route(route: &HTTPRoute) -> u64 {
    route_view(route).shape
}

fn shape_of_service(service: &Service) -> u64 {
    service_view(service).shape
}

/// Pods are scaled and restarted by others: `replicas` and the template's annotations stay.
pub(super) fn deployment_over(found: Deployment, wanted: Deployment) -> Deployment {
    let mut spec = wanted.spec;
    if let (Some(spec), Some(there)) = (&mut spec, found.spec) {
        spec.replicas = there.replicas;
        let metadata = spec.template.metadata.get_or_insert_default();
        let ObjectMeta { annotations, labels, .. } = there.template.metadata.unwrap_or_default();
        let (mut annotations, labels) = (annotations.unwrap_or_default(), labels.unwrap_or_default());
        annotations.extend(metadata.annotations.take().unwrap_or_default());
        metadata.annotations = Some(annotations);
        // A revision from before these labels has pods that serve: they are not replaced for them.
        metadata
            .labels
            .get_or_insert_default()
            .retain(|name, _| labels.contains_key(name) || !deployment::is_beside(name));
    }
    Deployment { metadata: metadata_over(found.metadata, wanted.metadata), spec, status: None }
}

/// What the cluster allotted stays.
fn service_over(found: Service, wanted: Service) -> Service {
    let mut spec = wanted.spec;
    if let (Some(spec), Some(there)) = (&mut spec, found.spec) {
        spec.cluster_ip = spec.cluster_ip.take().or(there.cluster_ip).filter(|address| !address.is_empty());
        spec.cluster_ips = there.cluster_ips;
        spec.ip_families = there.ip_families;
        spec.ip_family_policy = there.ip_family_policy;
    }
    Service { metadata: metadata_over(found.metadata, wanted.metadata), spec, status: None }
}

fn autoscaler_over(found: HorizontalPodAutoscaler, wanted: HorizontalPodAutoscaler) -> HorizontalPodAutoscaler {
    HorizontalPodAutoscaler { metadata: metadata_over(found.metadata, wanted.metadata), ..wanted }
}

fn budget_over(found: PodDisruptionBudget, wanted: PodDisruptionBudget) -> PodDisruptionBudget {
    PodDisruptionBudget { metadata: metadata_over(found.metadata, wanted.metadata), ..wanted }
}

fn http_route_over(found: HTTPRoute, wanted: HTTPRoute) -> HTTPRoute {
    HTTPRoute { metadata: metadata_over(found.metadata, wanted.metadata), spec: wanted.spec, status: None }
}

/// Others may have labels and annotations of theirs there.
fn metadata_over(found: ObjectMeta, wanted: ObjectMeta) -> ObjectMeta {
    let mut metadata = ObjectMeta { managed_fields: None, ..found };
    metadata.labels.get_or_insert_default().extend(wanted.labels.unwrap_or_default());
    metadata.annotations.get_or_insert_default().extend(wanted.annotations.unwrap_or_default());
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_will_never_be_taken_is_a_refusal_of_its_own_and_the_rest_is_tried_again() {
        let error = |code: u16| {
            let mut status = kube::core::Status::failure("status.live: Invalid value", "Invalid");
            status.code = code;
            WriteError::new("write", "the status of ModelDeployment m", kube::Error::Api(status.boxed()))
        };
        for code in [400, 403, 422] {
            let refusal = not_taken("m", error(code)).unwrap();
            assert_eq!((refusal.object.as_str(), refusal.code), ("ModelDeployment/live m", code));
            assert_eq!((refusal.reason.as_str(), refusal.message.as_str()), ("Invalid", "status.live: Invalid value"));
        }
        for code in [429, 500, 503] {
            assert!(not_taken("m", error(code)).is_err(), "{code}");
        }
    }
}
