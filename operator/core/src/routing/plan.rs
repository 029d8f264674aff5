//! The plan of one namespace: its routes and what runs its routers.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube_core::ResourceExt;
use millrace_routes::Routes;

use super::deployment::deployment;
use super::document::document;
use super::objects::{self, Home, key};
use super::{Observed, RouterObject, policies};
use crate::api::{InferenceGraph, ModelDeployment};
use crate::config::Config;
use crate::deployment::drift::{self, Then};
use crate::deployment::{log_writer, needed_models};
use crate::graph;
use crate::names::ROUTER;
use crate::plan::sooner;

/// What is to be done for the routers of a namespace.
#[derive(Debug, Default)]
pub struct RouterPlan {
    /// In this order. What has one of the names and is not ours ([`super::is_ours`]) must be left alone, and what comes after it as well.
    pub apply: Vec<Step>,
    /// NetworkPolicies that are not wanted any more, with their uids.
    pub delete: Vec<(String, String)>,
    /// Somebody changes something again and again: when it is put right.
    pub requeue: Option<Duration>,
}

/// An object to be applied.
#[derive(Debug)]
pub struct Step {
    pub object: RouterObject,
    /// Somebody changed it after it was applied.
    pub corrects: bool,
}

/// Decides for one namespace.
#[must_use]
pub fn plan(namespace: &str, observed: &Observed, config: &Config, now: Timestamp) -> RouterPlan {
    let models: Vec<&ModelDeployment> =
        observed.models.iter().map(AsRef::as_ref).filter(|model| is_routed(model)).collect();
    let mut plan = RouterPlan::default();
    let graphs: Vec<&InferenceGraph> =
        observed.graphs.iter().map(AsRef::as_ref).filter(|graph| has_routers(graph)).collect();
    if models.is_empty() && graphs.is_empty() {
        // What is there goes with its last owner.
        return plan;
    }
    let names: BTreeSet<String> = observed.models.iter().map(|model| model.name_any()).collect();
    let home = Home { namespace, owners: &models, graphs: &graphs, names: &names };
    let told = document(&home, observed.routes.as_deref(), config.router.replicas);
    for object in routes(&home, &told, observed).into_iter().chain(routers(&home, &told, config)) {
        let key = object.key();
        let (applied, there) = (observed.applied.get(&key), observed.parts.get(&key));
        let then = match there {
            None => Then::Apply,
            Some(there) => drift::then(applied, Some(object.asked()), there.shape, now),
        };
        match then {
            Then::Leave => {}
            Then::Later(left) => plan.requeue = sooner(plan.requeue, Some(left)),
            Then::Apply => {
                let corrects = there.is_some() && applied.is_some_and(|applied| applied.asked == object.asked());
                plan.apply.push(Step { object, corrects });
            }
        }
    }
    if !config.router.network_policies {
        let unwanted = [ROUTER, policies::SERVERS_POLICY, policies::FETCH_POLICY, policies::LOG_WRITERS_POLICY]
            .into_iter()
            .filter_map(|name| {
                let part = observed.parts.get(&key("NetworkPolicy", name)).filter(|part| part.is_ours)?;
                Some((name.to_owned(), part.uid.clone()))
            });
        plan.delete.extend(unwanted);
    }
    plan
}

/// For what was not accepted nothing is made; what was accepted before goes on.
fn is_routed(model: &ModelDeployment) -> bool {
    let Some(status) = model.status.as_ref().filter(|_| model.metadata.deletion_timestamp.is_none()) else {
        return false;
    };
    let accepted =
        status.conditions.iter().any(|condition| condition.type_ == "Accepted" && condition.status == "True");
    accepted || !status.revisions.is_empty()
}

/// For what was never accepted nothing is made.
fn has_routers(graph: &InferenceGraph) -> bool {
    let was_routed = graph.status.as_ref().is_some_and(|status| status.router_port.is_some());
    graph.metadata.deletion_timestamp.is_none() && (was_routed || graph::check(graph).is_empty())
}

fn routes(home: &Home<'_>, told: &Routes, observed: &Observed) -> Option<RouterObject> {
    let seen = observed.routes.as_deref();
    let text = serde_json::to_string(told).unwrap_or_default();
    let needed = needed_models(home.owners).and_then(|needed| serde_json::to_string(&needed).ok());
    let models = home.owners.iter().filter_map(|model| model.uid());
    let owners: BTreeSet<String> = models.chain(home.graphs.iter().filter_map(|graph| graph.uid())).collect();
    if seen.is_some_and(|seen| seen.text == text && seen.needed == needed && seen.owners == owners) {
        return None;
    }
    let seen = seen.map(|routes| routes.resource_version.as_str());
    Some(RouterObject::Routes(Box::new(objects::routes(home, text, needed, seen))))
}

/// The Deployment comes last: its pods need the others.
fn routers(home: &Home<'_>, told: &Routes, config: &Config) -> Vec<RouterObject> {
    let mut wanted = vec![
        RouterObject::ServiceAccount(Box::new(objects::service_account(home))),
        RouterObject::RoleBinding(Box::new(objects::role_binding(home, config))),
        RouterObject::PodDisruptionBudget(Box::new(policies::budget(home))),
    ];
    if config.router.network_policies {
        wanted.push(RouterObject::NetworkPolicy(Box::new(policies::to_routers(home))));
        wanted.push(RouterObject::NetworkPolicy(Box::new(policies::to_servers(home, config))));
        wanted.push(RouterObject::NetworkPolicy(Box::new(policies::to_buckets(home))));
        if home.owners.iter().any(|model| log_writer::address(model).is_some()) {
            wanted.push(RouterObject::NetworkPolicy(Box::new(policies::to_log_writers(home))));
        }
    }
    wanted.push(RouterObject::Deployment(Box::new(deployment(home, told, config))));
    wanted
}
