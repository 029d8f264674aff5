//! The objects of a namespace's routers, by server-side apply. What has their name and is not ours is left alone.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt};
use millrace_core::names::FIELD_MANAGER;
use millrace_core::plan::Refusal;
use millrace_core::routing::{RouterObject, is_ours};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Writer;
use super::error::{WriteError, name_taken, written};
use crate::metrics::Verb;
use crate::store::{controller_uid, router_deployment, routes};
use crate::wake;

impl Writer {
    /// Applies them in their order. What comes after one that was refused is not applied.
    pub async fn apply_routers(
        &self,
        namespace: &str,
        objects: Vec<RouterObject>,
    ) -> Result<Option<Refusal>, WriteError> {
        for object in objects {
            let refusal = match object {
                RouterObject::Routes(wanted) => self.apply_routes(namespace, &wanted).await?,
                RouterObject::ServiceAccount(wanted) => self.apply_router(namespace, &*wanted).await?.err(),
                RouterObject::RoleBinding(wanted) => self.apply_router(namespace, &*wanted).await?.err(),
                RouterObject::PodDisruptionBudget(wanted) => self.apply_router(namespace, &*wanted).await?.err(),
                RouterObject::NetworkPolicy(wanted) => self.apply_router(namespace, &*wanted).await?.err(),
                RouterObject::Deployment(wanted) => {
                    let applied = self.apply_router(namespace, &*wanted).await?;
                    let shelf = &self.stores.router_deployments;
                    applied.map(|made| self.made(shelf, made, router_deployment, wake::routing)).err()
                }
            };
            if refusal.is_some() {
                return Ok(refusal);
            }
        }
        Ok(None)
    }

    /// Routes that were not seen when they were planned must not be written over: ports would change hands.
    async fn apply_routes(&self, namespace: &str, wanted: &ConfigMap) -> Result<Option<Refusal>, WriteError> {
        if wanted.metadata.resource_version.is_none() {
            let api = self.api::<ConfigMap>(namespace);
            let name = wanted.name_any();
            let object = format!("ConfigMap {name}");
            let found = api.get_opt(&name).await.map_err(|e| WriteError::new("read", &object, e))?;
            if let Some(found) = found.filter(|found| is_ours(found.meta())) {
                self.made(&self.stores.routes, found, routes, wake::routing);
                return Ok(None);
            }
        }
        let applied = self.apply_router(namespace, wanted).await?;
        Ok(applied.map(|made| self.made(&self.stores.routes, made, routes, wake::routing)).err())
    }

    async fn apply_router<K>(&self, namespace: &str, wanted: &K) -> Result<Result<K, Refusal>, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let api = self.api::<K>(namespace);
        let name = wanted.name_any();
        let object = format!("{} {name}", K::kind(&()));
        let found = api.get_opt(&name).await.map_err(|e| WriteError::new("read", &object, e))?;
        if let Some(found) = found.filter(|found| !is_ours(found.meta())) {
            return Ok(Err(name_taken(&object, controller_uid(found.meta()).as_deref())));
        }
        self.metrics.wrote(Verb::Apply);
        written(&object, api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(wanted)).await)
    }
}
