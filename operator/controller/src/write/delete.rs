//! Deletes one object, and only that one: its uid is the precondition.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, Preconditions};
use kube::{Resource, ResourceExt};
use millrace_core::api::{MLPipelineRun, ModelVersion};
use millrace_core::gateway_api::HTTPRoute;
use millrace_core::plan::{Delete, DeleteKind};
use serde::de::DeserializeOwned;

use super::Writer;
use super::error::{WriteError, code};
use crate::metrics::Verb;

impl Writer {
    pub(super) async fn delete(&self, namespace: &str, delete: Delete) -> Result<(), WriteError> {
        let Delete { kind, name, uid } = delete;
        match kind {
            DeleteKind::Job => self.delete_one::<Job>(namespace, "Job", &name, uid, None).await,
            // Not zero: then the object would be gone while its program still runs.
            DeleteKind::Pod => self.delete_one::<Pod>(namespace, "Pod", &name, uid, Some(1)).await,
            DeleteKind::Run => self.delete_one::<MLPipelineRun>(namespace, "MLPipelineRun", &name, uid, None).await,
            DeleteKind::ModelVersion => {
                self.delete_one::<ModelVersion>(namespace, "ModelVersion", &name, uid, None).await
            }
            DeleteKind::Service => self.delete_one::<Service>(namespace, "Service", &name, uid, None).await,
            DeleteKind::Deployment => self.delete_one::<Deployment>(namespace, "Deployment", &name, uid, None).await,
            DeleteKind::Autoscaler => {
                self.delete_one::<HorizontalPodAutoscaler>(namespace, "HorizontalPodAutoscaler", &name, uid, None).await
            }
            DeleteKind::HttpRoute => self.delete_one::<HTTPRoute>(namespace, "HTTPRoute", &name, uid, None).await,
            DeleteKind::ControllerRevision => self.delete_revision(namespace, &name, &uid).await,
        }
    }

    /// A status names it, and somebody may have written that by hand: only one of this owner goes.
    async fn delete_revision(&self, namespace: &str, name: &str, owner: &str) -> Result<(), WriteError> {
        let object = format!("ControllerRevision {name}");
        let found = self.api::<ControllerRevision>(namespace).get_opt(name).await;
        let Some(found) = found.map_err(|e| WriteError::new("read", &object, e))? else { return Ok(()) };
        let owned = found.owner_references().iter().any(|reference| reference.uid == owner);
        match found.uid().filter(|_| owned) {
            Some(uid) => self.delete_one::<ControllerRevision>(namespace, "ControllerRevision", name, uid, None).await,
            None => Ok(()),
        }
    }

    async fn delete_one<K>(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
        uid: String,
        grace_seconds: Option<u32>,
    ) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let params = DeleteParams { grace_period_seconds: grace_seconds, ..DeleteParams::background() };
        let params = params.preconditions(preconditions);
        self.metrics.wrote(Verb::Delete);
        match self.api::<K>(namespace).delete(name, &params).await {
            Ok(_) => Ok(()),
            // Gone, or another of that name: either way that one is not there any more.
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            // A policy keeps it. That is for the others no reason to stay, and `register.keep` tells what is still there.
            Err(error) if kind == "ModelVersion" && matches!(code(&error), Some(403 | 422)) => {
                tracing::warn!(object = format!("ModelVersion {namespace}/{name}"), error = %error, "is not deleted");
                Ok(())
            }
            Err(error) => Err(WriteError::new("delete", &format!("{kind} {name}"), error)),
        }
    }
}
