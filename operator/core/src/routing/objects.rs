//! The objects of a namespace's routers, but for the Deployment. Every ModelDeployment and InferenceGraph of the
//! namespace owns them, so that they go with the last one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::{Resource, ResourceExt};
use millrace_contract::NEEDED_MODELS;
use millrace_routes::ROUTES_KEY;
use serde::Serialize;

use crate::api::{GROUP, InferenceGraph, ModelDeployment};
use crate::config::Config;
use crate::deployment::digest;
use crate::names::{MANAGED_BY, MANAGED_BY_LABEL, ROUTER, ROUTER_LABEL, ROUTES};

/// Something to be applied for the routers of a namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RouterObject {
    /// With the resourceVersion that was seen: an old look must not bring old routes back.
    Routes(Box<ConfigMap>),
    ServiceAccount(Box<ServiceAccount>),
    RoleBinding(Box<RoleBinding>),
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    NetworkPolicy(Box<NetworkPolicy>),
    Deployment(Box<Deployment>),
}

impl RouterObject {
    /// `Kind/name`: what it is known by in its namespace.
    #[must_use]
    pub fn key(&self) -> String {
        let (kind, meta) = match self {
            Self::Routes(object) => ("ConfigMap", &object.metadata),
            Self::ServiceAccount(object) => ("ServiceAccount", &object.metadata),
            Self::RoleBinding(object) => ("RoleBinding", &object.metadata),
            Self::PodDisruptionBudget(object) => ("PodDisruptionBudget", &object.metadata),
            Self::NetworkPolicy(object) => ("NetworkPolicy", &object.metadata),
            Self::Deployment(object) => ("Deployment", &object.metadata),
        };
        key(kind, meta.name.as_deref().unwrap_or_default())
    }

    /// Digest of what is wanted.
    #[must_use]
    pub fn asked(&self) -> u64 {
        match self {
            // Not the resourceVersion that was seen.
            Self::Routes(map) => digest(&(&map.data, &map.metadata.owner_references)),
            other => digest(other),
        }
    }
}

/// What an object of the routers is known by in its namespace.
#[must_use]
pub fn key(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

/// Whether an object was made for the routers: a ModelDeployment or an InferenceGraph owns it, or nobody does and it has our labels (its
/// owners were deleted and left it behind).
#[must_use]
pub fn is_ours(meta: &ObjectMeta) -> bool {
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if owners.is_empty() {
        return label(MANAGED_BY_LABEL) == Some(MANAGED_BY) && label(ROUTER_LABEL) == Some(ROUTER);
    }
    let ours = ["ModelDeployment", "InferenceGraph"];
    owners.iter().any(|owner| ours.contains(&owner.kind.as_str()) && is_of_group(&owner.api_version))
}

fn is_of_group(api_version: &str) -> bool {
    api_version.split_once('/').is_some_and(|(group, _)| group == GROUP)
}

/// What selects the routers' pods in their namespace.
#[must_use]
pub fn selector() -> BTreeMap<String, String> {
    BTreeMap::from([(ROUTER_LABEL.to_owned(), ROUTER.to_owned())])
}

pub(super) fn labels() -> BTreeMap<String, String> {
    let mut labels = selector();
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

/// Where the objects are, and whose.
pub(super) struct Home<'a> {
    pub namespace: &'a str,
    pub owners: &'a [&'a ModelDeployment],
    pub graphs: &'a [&'a InferenceGraph],
    /// Of every ModelDeployment, routed or not.
    pub names: &'a BTreeSet<String>,
}

impl Home<'_> {
    pub fn metadata(&self, name: &str) -> ObjectMeta {
        let models = self.owners.iter().map(|model| owner(*model));
        let mut owners: Vec<OwnerReference> = models.chain(self.graphs.iter().map(|graph| owner(*graph))).collect();
        owners.sort_by(|a, b| a.uid.cmp(&b.uid));
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.to_owned()),
            labels: Some(labels()),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        }
    }
}

/// One owner of several: none of them controls.
fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// `needed` is for the agents of servers' pods, which see nothing else of it.
pub(super) fn routes(home: &Home<'_>, text: String, needed: Option<String>, seen: Option<&str>) -> ConfigMap {
    let needed = needed.map(|needed| (NEEDED_MODELS.to_owned(), needed));
    ConfigMap {
        metadata: ObjectMeta { resource_version: seen.map(str::to_owned), ..home.metadata(ROUTES) },
        data: Some(std::iter::once((ROUTES_KEY.to_owned(), text)).chain(needed).collect()),
        ..ConfigMap::default()
    }
}

pub(super) fn service_account(home: &Home<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: home.metadata(ROUTER),
        // The pod asks for its token itself; nobody else gets one by naming the account.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub(super) fn role_binding(home: &Home<'_>, config: &Config) -> RoleBinding {
    RoleBinding {
        metadata: home.metadata(ROUTER),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: config.router.role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: ROUTER.to_owned(),
            namespace: Some(home.namespace.to_owned()),
            ..Subject::default()
        }]),
    }
}
