//! Carries out what was decided, in the order that makes a crash harmless: freeze, status, events, create, apply, delete.

mod apply;
mod create;
mod delete;
mod error;
mod events;
mod freeze;
mod routing;
mod status;

use std::fmt::Debug;
use std::sync::Arc;

pub use error::{WriteError, chain, code};
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use millrace_core::api::{
    InferenceGraph, InferenceGraphStatus, MLPipeline, MLPipelineRun, MLPipelineRunStatus, MLPipelineStatus,
    ModelDeployment, ModelDeploymentStatus, ModelVersion, ModelVersionStatus, StageTemplate, TemplateStatus,
};
use millrace_core::plan::{Plan, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frozen::FrozenCache;
use crate::key::{Id, Kind};
use crate::metrics::Metrics;
use crate::store::{Kept, News, Shelf, Stores, keep};
use crate::wake::{self, Queues};

/// A kind that is planned for: where it is kept, and the type of its status.
pub trait Planned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Kept
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
{
    type Status: Serialize + Send + Sync;
    const KIND: Kind;
    fn shelf(stores: &Stores) -> &Shelf<Self>;
    /// Wakes those that look at the status of this kind. The watch will not: what it brings is known by then.
    fn wake_others(stores: &Stores, queues: &Queues, id: &Id, object: &Self);
}

macro_rules! planned {
    ($kind:ty, $status:ty, $name:ident, $shelf:ident, $wake:expr) => {
        impl Planned for $kind {
            type Status = $status;
            const KIND: Kind = Kind::$name;
            fn shelf(stores: &Stores) -> &Shelf<Self> {
                &stores.$shelf
            }
            fn wake_others(stores: &Stores, queues: &Queues, id: &Id, object: &Self) {
                let wake: fn(&Stores, &Queues, &Id, &Self) = $wake;
                wake(stores, queues, id, object);
            }
        }
    };
}

planned!(MLPipeline, MLPipelineStatus, Pipeline, pipelines, wake::pipeline_status);
planned!(MLPipelineRun, MLPipelineRunStatus, Run, runs, wake::run_status);
planned!(StageTemplate, TemplateStatus, Template, templates, |_, _, _, _| {});
planned!(ModelVersion, ModelVersionStatus, Version, versions, |_, _, _, _| {});
planned!(ModelDeployment, ModelDeploymentStatus, Deployment, deployments, wake::deployment_status);
planned!(InferenceGraph, InferenceGraphStatus, Graph, graphs, wake::graph_status);

/// What writes.
pub struct Writer {
    client: Client,
    stores: Arc<Stores>,
    queues: Arc<Queues>,
    frozen: Arc<FrozenCache>,
    metrics: Metrics,
    /// Who reports events: the pod's name.
    instance: String,
}

/// What became of a plan.
#[derive(Debug, PartialEq)]
pub enum Done {
    /// All of it was carried out, but for what was refused.
    Carried(Vec<Refusal>),
    /// The object had changed meanwhile: nothing was done after that, the next pass sees the change.
    Stale,
}

impl Writer {
    pub fn new(
        client: Client,
        stores: Arc<Stores>,
        queues: Arc<Queues>,
        frozen: Arc<FrozenCache>,
        metrics: Metrics,
        instance: String,
    ) -> Self {
        Self { client, stores, queues, frozen, metrics, instance }
    }

    /// Carries out a plan. An error means: transient, try the whole pass again.
    pub async fn carry_out<K: Planned>(&self, object: &K, plan: Plan<K::Status>) -> Result<Done, WriteError> {
        let Plan { freeze, status, create, apply, delete, events, requeue: _ } = plan;
        let mut refusals = Vec::new();
        if let Some(revision) = freeze
            && let Some(refusal) = self.freeze(&object.namespace().unwrap_or_default(), &revision).await?
        {
            // The status would name what is not there.
            return Ok(Done::Carried(vec![refusal]));
        }
        if let Some(status) = status
            && !self.write_status(object, &status).await?
        {
            return Ok(Done::Stale);
        }
        // Before what may fail: the next pass would have nothing new to tell.
        for event in events {
            self.emit(object, event).await;
        }
        let namespace = object.namespace().unwrap_or_default();
        for one in create {
            refusals.extend(self.create(&namespace, one).await?);
        }
        for one in apply {
            refusals.extend(self.apply(&namespace, one).await?);
        }
        for one in delete {
            self.delete(&namespace, one).await?;
        }
        Ok(Done::Carried(refusals))
    }

    /// Puts what a create or an apply made on its shelf and wakes whom it concerns: the next pass sees it whatever the
    /// watch says.
    fn made<K: Resource<DynamicType = ()>, V>(
        &self,
        shelf: &Shelf<V>,
        object: K,
        view: fn(K) -> Option<(String, V)>,
        wake: fn(&Stores, &Queues, &Id, &str, &V, bool),
    ) {
        if let Some(News { id, groups, value, gone }) = keep(shelf, object, view) {
            for group in groups {
                wake(&self.stores, &self.queues, &id, &group, &value, gone);
            }
        }
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
