//! The objects of a namespace's routers: made, kept as they should be, and told of where somebody changed them. What has their name and
//! is not ours is left alone.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt};
use millrace_core::deployment::Applied;
use millrace_core::names::FIELD_MANAGER;
use millrace_core::plan::{Event, Refusal};
use millrace_core::routing::{PartView, RouterObject, RouterPlan, Step, is_ours, key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Writer;
use super::apply::{Put, deployment_over, remember};
use super::error::{WriteError, code, name_taken, written};
use crate::key::Id;
use crate::metrics::Verb;
use crate::store::{Part, Shelf, Stores, controller_uid, part, router_deployment, routes};
use crate::wake::{self, Queues};

/// What was asked for, and whether somebody had changed it.
struct Wanted {
    asked: u64,
    corrects: bool,
}

impl Writer {
    /// Applies in the order of the plan. What comes after one that was refused is not applied.
    pub async fn apply_routers(&self, namespace: &str, plan: RouterPlan) -> Result<Option<Refusal>, WriteError> {
        for Step { object, corrects } in plan.apply {
            let how = Wanted { asked: object.asked(), corrects };
            let refusal = match object {
                RouterObject::Routes(wanted) => self.apply_routes(namespace, &wanted, &how).await?,
                RouterObject::ServiceAccount(wanted) => {
                    self.apply_kept(namespace, &*wanted, &how, &self.stores.router_accounts).await?
                }
                RouterObject::RoleBinding(wanted) => {
                    self.apply_kept(namespace, &*wanted, &how, &self.stores.router_bindings).await?
                }
                RouterObject::PodDisruptionBudget(wanted) => {
                    self.apply_kept(namespace, &*wanted, &how, &self.stores.router_budgets).await?
                }
                RouterObject::NetworkPolicy(wanted) => {
                    self.apply_kept(namespace, &*wanted, &how, &self.stores.router_policies).await?
                }
                // An apply would leave what somebody added.
                RouterObject::Deployment(wanted) => {
                    let known = self.stores.router_deployments.get(&Id::new(namespace, wanted.name_any())).is_some();
                    let put = self.put(namespace, &*wanted, known, router_over, is_ours, Part::shape).await?;
                    let made = match put {
                        Ok(put) => Ok(self.part_made(namespace, put, &how).await),
                        Err(refusal) => Err(refusal),
                    };
                    self.keep_part(made, &self.stores.router_deployments, router_deployment, wake::routing)
                }
            };
            if refusal.is_some() {
                return Ok(refusal);
            }
        }
        for (name, uid) in plan.delete {
            self.delete_policy(namespace, &name, uid).await?;
        }
        Ok(None)
    }

    /// Routes that were not seen when they were planned must not be written over: ports would change hands.
    async fn apply_routes(
        &self,
        namespace: &str,
        wanted: &ConfigMap,
        how: &Wanted,
    ) -> Result<Option<Refusal>, WriteError> {
        let shelf = &self.stores.routes;
        if wanted.metadata.resource_version.is_none() {
            let name = wanted.name_any();
            let found = self.api::<ConfigMap>(namespace).get_opt(&name).await;
            let found = found.map_err(|e| WriteError::new("read", &format!("ConfigMap {name}"), e))?;
            if let Some(found) = found.filter(|found| is_ours(found.meta())) {
                return Ok(self.keep_part(Ok(found), shelf, routes, wake::routing));
            }
        }
        let made = self.apply_part(namespace, wanted, how).await?;
        Ok(self.keep_part(made, shelf, routes, wake::routing))
    }

    /// Applies what is kept as a [`PartView`].
    async fn apply_kept<K>(
        &self,
        namespace: &str,
        wanted: &K,
        how: &Wanted,
        shelf: &Shelf<PartView>,
    ) -> Result<Option<Refusal>, WriteError>
    where
        K: Part + Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let made = self.apply_part(namespace, wanted, how).await?;
        Ok(self.keep_part(made, shelf, part, wake::part))
    }

    /// Server-side apply of an object that has nothing in it but what is applied.
    async fn apply_part<K>(&self, namespace: &str, wanted: &K, how: &Wanted) -> Result<Result<K, Refusal>, WriteError>
    where
        K: Part + Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let api = self.api::<K>(namespace);
        let name = wanted.name_any();
        let object = format!("{} {name}", K::kind(&()));
        let found = api.get_opt(&name).await.map_err(|e| WriteError::new("read", &object, e))?;
        if let Some(found) = found.as_ref().filter(|found| !is_ours(found.meta())) {
            return Ok(Err(name_taken(&object, controller_uid(found.meta()).as_deref())));
        }
        let before = found.as_ref().map(Part::shape);
        self.metrics.wrote(Verb::Apply);
        let answer = api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(wanted)).await;
        Ok(match written(&object, answer)? {
            Ok(made) => Ok(self.part_made(namespace, Put { made, before }, how).await),
            Err(refusal) => Err(refusal),
        })
    }

    /// Remembers what became of it, and tells of it if somebody had changed it.
    async fn part_made<K>(&self, namespace: &str, put: Put<K>, how: &Wanted) -> K
    where
        K: Part + Resource<Scope = NamespaceResourceScope>,
    {
        let Put { made, before } = put;
        let (kind, name) = (K::kind(&()), made.name_any());
        let id = Id::new(namespace, key(&kind, &name));
        let uid = made.uid().unwrap_or_default();
        remember(&self.stores.applied_routers, &id, uid, before, Applied::new(how.asked, made.shape(), 0));
        if how.corrects {
            let message = format!(
                "somebody changed the {kind} {name}: it was put right; how routers run is set in the chart's values, `router`"
            );
            self.emit(&made, Event { warning: true, reason: "RouterChanged", message }).await;
        }
        made
    }

    fn keep_part<K: Resource<DynamicType = ()>, V>(
        &self,
        made: Result<K, Refusal>,
        shelf: &Shelf<V>,
        view: fn(K) -> Option<(String, V)>,
        wake: fn(&Stores, &Queues, &Id, &str, &V, bool),
    ) -> Option<Refusal> {
        made.map(|made| self.made(shelf, made, view, wake)).err()
    }

    async fn delete_policy(&self, namespace: &str, name: &str, uid: String) -> Result<(), WriteError> {
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.metrics.wrote(Verb::Delete);
        match self.api::<NetworkPolicy>(namespace).delete(name, &params).await {
            Ok(_) => Ok(()),
            // Gone, or another one.
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(WriteError::new("delete", &format!("NetworkPolicy {name}"), error)),
        }
    }
}

/// As for a revision, but how many there are and whose they are is Millrace's.
fn router_over(found: Deployment, wanted: Deployment) -> Deployment {
    let replicas = wanted.spec.as_ref().and_then(|spec| spec.replicas);
    let owners = wanted.metadata.owner_references.clone();
    let mut over = deployment_over(found, wanted);
    over.metadata.owner_references = owners;
    if let Some(spec) = &mut over.spec {
        spec.replicas = replicas;
    }
    over
}
