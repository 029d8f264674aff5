//! The pass of a namespace: its routes and its routers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use millrace_core::names::{ROUTER, ROUTES};
use millrace_core::plan::Refusal;
use millrace_core::routing::{self, PartView, Router, RouterObject, Routers, key};

use super::Passes;
use crate::key::{Id, Kind};
use crate::metrics::Outcome;
use crate::queue::Next;
use crate::store::routers_shape;
use crate::write::WriteError;

/// What was refused of the routers of each namespace.
#[derive(Default)]
pub struct Refused(Mutex<HashMap<String, Refusal>>);

impl Refused {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, namespace: &str) -> Option<Refusal> {
        self.lock().get(namespace).cloned()
    }

    /// True if that is news.
    fn set(&self, namespace: &str, refusal: Option<&Refusal>) -> bool {
        let mut all = self.lock();
        let before = match refusal {
            Some(refusal) => all.insert(namespace.to_owned(), refusal.clone()),
            None => all.remove(namespace),
        };
        before.as_ref() != refusal
    }
}

impl Passes {
    pub(super) async fn pass_routing(&self, namespace: &str) -> Result<(Outcome, Next), WriteError> {
        let parts = self.router_parts(namespace);
        let uids = parts.iter().map(|(key, part)| (key, &part.uid));
        let observed = routing::Observed {
            models: self.stores.deployments.group(namespace).into_values().collect(),
            graphs: self.stores.graphs.group(namespace).into_values().collect(),
            routes: self.stores.routes.get(&Id::new(namespace, ROUTES)),
            applied: self.stores.applied_routers.of(namespace, uids),
            parts,
        };
        let plan = routing::plan(namespace, &observed, &self.config, Timestamp::now());
        let requeue = plan.requeue;
        let routes = plan.apply.iter().any(|step| matches!(step.object, RouterObject::Routes(_)));
        let refusal = self.writer.apply_routers(namespace, plan).await?;
        if routes {
            self.stores.hurry.ask(namespace);
        }
        if self.refused.set(namespace, refusal.as_ref()) {
            if let Some(Refusal { object, code, reason, message }) = &refusal {
                tracing::info!(kind = Kind::Routing.as_str(), namespace, refused = %object, code, %reason, %message, "refused");
            }
            let queue = self.queues.of(Kind::Deployment);
            self.stores.deployments.each(Some(namespace), |id, _| queue.push(id.clone()));
            let queue = self.queues.of(Kind::Graph);
            self.stores.graphs.each(Some(namespace), |id, _| queue.push(id.clone()));
        }
        Ok(match refusal {
            None => (Outcome::Done, requeue.map_or(Next::Idle, Next::After)),
            // Nobody tells when it may be tried again.
            Some(_) => (Outcome::Refused, Next::Failed(None)),
        })
    }

    /// What is there for the routers of a namespace.
    fn router_parts(&self, namespace: &str) -> BTreeMap<String, PartView> {
        let stores = &self.stores;
        let id = Id::new(namespace, ROUTER);
        let routes = stores.routes.get(&Id::new(namespace, ROUTES)).map(|routes| PartView {
            uid: routes.uid.clone(),
            is_ours: true,
            shape: routes.shape(),
        });
        let deployment = stores.router_deployments.get(&id).map(|view| PartView {
            uid: view.uid.clone(),
            is_ours: true,
            shape: routers_shape(&view),
        });
        let named = |kind: &str, part: Option<PartView>| part.map(|part| (key(kind, ROUTER), part));
        let own = |part: Option<Arc<PartView>>| part.map(|part| (*part).clone());
        let policies = stores.router_policies.group(namespace).into_iter();
        [
            routes.map(|part| (key("ConfigMap", ROUTES), part)),
            named("Deployment", deployment),
            named("ServiceAccount", own(stores.router_accounts.get(&id))),
            named("RoleBinding", own(stores.router_bindings.get(&id))),
            named("PodDisruptionBudget", own(stores.router_budgets.get(&id))),
        ]
        .into_iter()
        .flatten()
        .chain(policies.map(|(name, part)| (key("NetworkPolicy", &name), (*part).clone())))
        .collect()
    }

    /// The port of an InferenceGraph, once it is in the routes.
    pub(super) fn graph_port(&self, id: &Id) -> Option<u16> {
        let routes = self.stores.routes.get(&Id::new(&id.namespace, ROUTES))?;
        routes.graphs.get(&id.name).map(|graph| graph.port)
    }

    /// What a ModelDeployment sees of its namespace's routers.
    pub(super) fn routers(&self, id: &Id) -> Routers {
        let routes = self.stores.routes.get(&Id::new(&id.namespace, ROUTES));
        let pods = self.stores.routers.group(&id.namespace).into_values();
        Routers {
            port: routes.and_then(|routes| routes.ports.get(&id.name).copied()),
            pods: pods.map(|pod| Router { report: self.stores.reports.get(&pod.pod.uid), pod }).collect(),
            deployment: self.stores.router_deployments.get(&Id::new(&id.namespace, ROUTER)),
            refusals: self.refused.of(&id.namespace).into_iter().collect(),
        }
    }
}
