//! The plan of one namespace: its routes and what runs its routers.

use std::collections::BTreeSet;

use kube_core::ResourceExt;

use super::deployment::deployment;
use super::document::document;
use super::objects::{self, Home};
use super::{Observed, RouterObject, policies};
use crate::api::ModelDeployment;
use crate::config::Config;
use crate::names::{APPLIED_ANNOTATION, sha256_hex};

/// What has to be applied, in this order; nothing if everything is as it should be. What has one of the names and is not ours
/// ([`super::is_ours`]) must be left alone, and what comes after it as well.
#[must_use]
pub fn plan(namespace: &str, observed: &Observed, config: &Config) -> Vec<RouterObject> {
    let models: Vec<&ModelDeployment> =
        observed.models.iter().map(AsRef::as_ref).filter(|model| is_routed(model)).collect();
    if models.is_empty() {
        // What is there goes with its last owner.
        return Vec::new();
    }
    let home = Home { namespace, owners: &models };
    let mut plan = Vec::new();
    plan.extend(routes(&home, observed));
    plan.extend(routers(&home, observed, config));
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

fn routes(home: &Home<'_>, observed: &Observed) -> Option<RouterObject> {
    let seen = observed.routes.as_deref();
    let ports = seen.map(|routes| routes.ports.clone()).unwrap_or_default();
    let text = serde_json::to_string(&document(home.owners, &ports)).unwrap_or_default();
    let owners: BTreeSet<String> = home.owners.iter().filter_map(|model| model.uid()).collect();
    if seen.is_some_and(|seen| seen.text == text && seen.owners == owners) {
        return None;
    }
    let seen = seen.map(|routes| routes.resource_version.as_str());
    Some(RouterObject::Routes(Box::new(objects::routes(home, text, seen))))
}

/// All or nothing: the Deployment comes last and carries the digest of everything.
fn routers(home: &Home<'_>, observed: &Observed, config: &Config) -> Vec<RouterObject> {
    let mut wanted = vec![
        RouterObject::ServiceAccount(Box::new(objects::service_account(home))),
        RouterObject::RoleBinding(Box::new(objects::role_binding(home, config))),
        RouterObject::PodDisruptionBudget(Box::new(policies::budget(home))),
    ];
    if config.router.network_policies {
        wanted.push(RouterObject::NetworkPolicy(Box::new(policies::to_routers(home))));
        wanted.push(RouterObject::NetworkPolicy(Box::new(policies::to_servers(home))));
    }
    let plain = RouterObject::Deployment(Box::new(deployment(home, config, None)));
    let all: Vec<&RouterObject> = wanted.iter().chain([&plain]).collect();
    let digest = sha256_hex(serde_json::to_string(&all).unwrap_or_default().as_bytes());
    let applied = observed.deployment.as_ref().and_then(|view| view.annotations.get(APPLIED_ANNOTATION));
    if applied == Some(&digest) {
        return Vec::new();
    }
    wanted.push(RouterObject::Deployment(Box::new(deployment(home, config, Some(&digest)))));
    wanted
}
