//! What keeps routers there and lets callers through where a namespace refuses everything by default.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use millrace_contract::SERVER_ADMIN_PORT;

use super::deployment::ADMIN_PORT;
use super::document::{PORTS, server_port};
use super::objects::{Home, selector};
use crate::deployment::SERVER_PORT;
use crate::names::{REVISION_LABEL, ROUTER};

/// The policy of the pods behind the routers.
pub const SERVERS_POLICY: &str = "millrace-servers";

pub(super) fn budget(home: &Home<'_>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: home.metadata(ROUTER),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(routers()),
            // One that is not ready serves nobody: it must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

/// Callers, the kubelet, scrapers and the operator come to the routers from anywhere; the routers reach the apiserver, wherever it is.
pub(super) fn to_routers(home: &Home<'_>) -> NetworkPolicy {
    let ingress = NetworkPolicyIngressRule {
        from: None,
        ports: Some(vec![tcp(ADMIN_PORT, None), tcp(*PORTS.start(), Some(*PORTS.end()))]),
    };
    NetworkPolicy {
        metadata: home.metadata(ROUTER),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(routers()),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![ingress]),
            egress: Some(vec![NetworkPolicyEgressRule::default()]),
        }),
    }
}

/// The servers' ports take the routers, and the port of what they count takes the operator. A scraper needs a policy of its own.
pub(super) fn to_servers(home: &Home<'_>, operator: &str) -> NetworkPolicy {
    let of_revisions =
        LabelSelectorRequirement { key: REVISION_LABEL.to_owned(), operator: "Exists".to_owned(), values: None };
    let revisions = home.owners.iter().filter_map(|owner| owner.status.as_ref()).flat_map(|status| &status.revisions);
    let ports: BTreeSet<u16> = revisions.map(server_port).chain([SERVER_PORT]).collect();
    let ingress = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer { pod_selector: Some(routers()), ..NetworkPolicyPeer::default() }]),
        ports: Some(ports.into_iter().map(|port| tcp(port, None)).collect()),
    };
    let namespace = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), operator.to_owned())]);
    let of_operator = LabelSelector { match_labels: Some(namespace), ..LabelSelector::default() };
    let asked = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer { namespace_selector: Some(of_operator), ..NetworkPolicyPeer::default() }]),
        ports: Some(vec![tcp(SERVER_ADMIN_PORT, None)]),
    };
    NetworkPolicy {
        metadata: home.metadata(SERVERS_POLICY),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_expressions: Some(vec![of_revisions]),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![ingress, asked]),
            egress: None,
        }),
    }
}

/// This port, or all up to the last one.
fn tcp(first: u16, last: Option<u16>) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some("TCP".to_owned()),
        port: Some(IntOrString::Int(i32::from(first))),
        end_port: last.map(i32::from),
    }
}

fn routers() -> LabelSelector {
    LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }
}
