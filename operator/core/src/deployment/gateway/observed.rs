//! What is there of the Gateway API, as far as a ModelDeployment looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube_core::ResourceExt;
use serde_json::{Map, Value};

use crate::deployment::drift::{Applied, digest};
use crate::gateway_api::{Gateway, HTTPRoute, Listener, RouteParent};

/// Whether there is a Gateway API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayApi {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// The installation does not use it: the operator has no rights to it.
    Disabled,
    /// Its CustomResourceDefinitions are not installed.
    Absent,
    Present,
}

/// What a ModelDeployment sees of the Gateway API.
#[derive(Clone, Debug, Default)]
pub struct Gateways {
    pub api: GatewayApi,
    /// The `HTTPRoute` of this name that carries our label, and what it was when it was applied last.
    pub route: Option<Arc<RouteView>>,
    pub applied: Option<Applied>,
    /// The Gateways that the spec names, by [`gateway_key`]: `None` for one that is not there. Those that the operator may not read are missing.
    pub named: BTreeMap<String, Option<Arc<GatewayView>>>,
    /// What the Gateways of a class say that they support, where that is asked for and was read.
    pub features: BTreeMap<String, BTreeSet<String>>,
}

/// `namespace/name`.
#[must_use]
pub fn gateway_key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// An `HTTPRoute` as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteView {
    pub name: String,
    pub uid: String,
    pub owner: Option<String>,
    pub generation: i64,
    pub spec: Map<String, Value>,
    /// Digest of the spec.
    pub shape: u64,
    pub parents: Vec<RouteParent>,
}

/// A Gateway as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayView {
    pub class: String,
    pub listeners: Vec<Listener>,
    pub addresses: Vec<String>,
}

#[must_use]
pub fn route_view(route: &HTTPRoute) -> RouteView {
    let owners = route.metadata.owner_references.iter().flatten();
    RouteView {
        name: route.name_any(),
        uid: route.uid().unwrap_or_default(),
        owner: owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()),
        generation: route.metadata.generation.unwrap_or_default(),
        spec: route.spec.0.clone(),
        shape: digest(&route.spec),
        parents: route.status.as_ref().map(|status| status.parents.clone()).unwrap_or_default(),
    }
}

#[must_use]
pub fn gateway_view(gateway: &Gateway) -> GatewayView {
    let addresses = gateway.status.iter().flat_map(|status| &status.addresses);
    GatewayView {
        class: gateway.spec.gateway_class_name.clone(),
        listeners: gateway.spec.listeners.clone(),
        addresses: addresses.map(|address| address.value.clone()).collect(),
    }
}
