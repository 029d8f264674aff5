//! Server-side apply, and `replicas` through `/scale`. What is there and belongs to somebody else is left alone.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt};
use millrace_core::api::{API_VERSION, ModelDeployment};
use millrace_core::deployment::{self, ServiceView};
use millrace_core::names::{DEPLOY_MANAGER, FIELD_MANAGER};
use millrace_core::plan::{Apply, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Writer;
use super::error::{WriteError, code, name_taken, owned_by_another, refused};
use crate::key::Id;
use crate::metrics::Verb;
use crate::store::{controller_uid, deployment_view, server_deployment, service, whole};
use crate::wake;

impl Writer {
    pub(super) async fn apply(&self, namespace: &str, apply: Apply) -> Result<Option<Refusal>, WriteError> {
        match apply {
            Apply::Deployment(wanted) => {
                let held = self.stores.server_deployments.get(&Id::new(namespace, wanted.name_any()));
                let owner = held.map(|view| view.owner.clone());
                let applied = self.apply_whole(namespace, "Deployment", &*wanted, owner).await?;
                Ok(applied.map(|made| self.applied(namespace, made)).err())
            }
            Apply::Service(wanted) => {
                let held = self.stores.services.get(&Id::new(namespace, wanted.name_any()));
                if let Some(held) = &held
                    && let Err(refusal) = self.take_ports(namespace, &wanted, held).await?
                {
                    return Ok(Some(refusal));
                }
                let owner = held.map(|view| view.owner.clone());
                let applied = self.apply_whole(namespace, "Service", &*wanted, owner).await?;
                let keep = |made| self.made(&self.stores.services, made, service, wake::of_deployment);
                Ok(applied.map(keep).err())
            }
            Apply::Scale { deployment, replicas } => self.scale(namespace, &deployment, replicas).await,
            Apply::DeployVersion { model_deployment, version } => {
                self.deploy_version(namespace, &model_deployment, version).await
            }
        }
    }

    /// Keeps what an apply of a Deployment made. It counts even if nothing changed: then no watch tells.
    fn applied(&self, namespace: &str, made: Deployment) {
        let id = Id::new(namespace, made.name_any());
        let view = deployment_view(&made);
        let applied = deployment::Applied { shape: view.shape, generation: view.generation };
        let news = self.stores.applied.remember(id.clone(), view.uid, applied);
        self.made(&self.stores.server_deployments, made, server_deployment, wake::server_deployment);
        if let Some((group, view)) = self.stores.server_deployments.find(&id).filter(|_| news) {
            wake::server_deployment(&self.stores, &self.queues, &id, &group, &view, false);
        }
    }

    /// Replaces ports that somebody changed: an apply adds to them and takes none away, and two of one name are refused.
    async fn take_ports(
        &self,
        namespace: &str,
        wanted: &Service,
        held: &ServiceView,
    ) -> Result<Result<(), Refusal>, WriteError> {
        let ports = wanted.spec.as_ref().and_then(|spec| spec.ports.as_ref());
        if ports == Some(&held.ports) || held.owner != controller_uid(&wanted.metadata) {
            return Ok(Ok(()));
        }
        let name = wanted.name_any();
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": { "uid": held.uid }, "spec": { "ports": ports } }));
        self.metrics.wrote(Verb::Apply);
        match self.api::<Service>(namespace).patch(&name, &params, &patch).await {
            Ok(_) => Ok(Ok(())),
            Err(error) => refused("correct the ports of", &format!("Service {name}"), error).map(Err),
        }
    }

    /// Applies an object by the operator's manager. `held` is the controller of the one on the shelf, if there is one.
    #[allow(clippy::option_option, reason = "not on the shelf, or there without a controller")]
    async fn apply_whole<K>(
        &self,
        namespace: &str,
        kind: &'static str,
        wanted: &K,
        held: Option<Option<String>>,
    ) -> Result<Result<K, Refusal>, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let api = self.api::<K>(namespace);
        let name = wanted.name_any();
        let object = format!("{kind} {name}");
        // One that is not on the shelf may be there nevertheless: without our label.
        let owner = match held {
            Some(owner) => Some(owner),
            None => {
                let found = api.get_opt(&name).await.map_err(|e| WriteError::new("read", &object, e))?;
                found.map(|found| controller_uid(found.meta()))
            }
        };
        if let Some(owner) = owner.filter(|owner| *owner != controller_uid(wanted.meta())) {
            return Ok(Err(name_taken(&object, owner.as_deref())));
        }
        self.metrics.wrote(Verb::Apply);
        match api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(wanted)).await {
            Ok(applied) => Ok(Ok(applied)),
            Err(error) => refused("apply", &object, error).map(Err),
        }
    }

    async fn scale(&self, namespace: &str, name: &str, replicas: i32) -> Result<Option<Refusal>, WriteError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        self.metrics.wrote(Verb::Scale);
        match self.api::<Deployment>(namespace).patch_scale(name, &params, &patch).await {
            Ok(_) => Ok(None),
            Err(error) => refused("scale", &format!("Deployment {name}"), error).map(Some),
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
