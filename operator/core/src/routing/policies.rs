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

use super::deployment::{ADMIN_PORT, PLACES_PORT};
use super::document::{PORTS, server_port};
use super::objects::{Home, selector};
use crate::config::Config;
use crate::deployment::{SERVER_PORT, log_writer, named_gateways, splits};
use crate::names::{FETCHES_LABEL, LOG_WRITER_LABEL, REVISION_LABEL, ROUTER};

/// The policy of the pods behind the routers.
pub const SERVERS_POLICY: &str = "millrace-servers";
/// The policy of those among them that fetch their model from a bucket.
pub const FETCH_POLICY: &str = "millrace-fetch";
/// The policy of the pods that write payload logs into tables.
pub const LOG_WRITERS_POLICY: &str = "millrace-payload-logs";
/// Every namespace has its name in it.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

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

/// Callers, the kubelet, scrapers and the operator come to the routers from anywhere, and routers to each other; the routers reach the apiserver
/// and whatever specs name (brokers, sinks, Prometheus, issuers of tokens), wherever that is.
pub(super) fn to_routers(home: &Home<'_>) -> NetworkPolicy {
    let ingress = NetworkPolicyIngressRule {
        from: None,
        ports: Some(vec![tcp(ADMIN_PORT, None), tcp(*PORTS.start(), Some(*PORTS.end()))]),
    };
    let places = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer { pod_selector: Some(routers()), ..NetworkPolicyPeer::default() }]),
        ports: Some(vec![tcp(PLACES_PORT, None)]),
    };
    NetworkPolicy {
        metadata: home.metadata(ROUTER),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(routers()),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![ingress, places]),
            egress: Some(vec![NetworkPolicyEgressRule::default()]),
        }),
    }
}

/// The servers' ports take the routers, and the Gateways that lead to them, and the port of what they count takes the operator. A scraper needs a policy of its own.
pub(super) fn to_servers(home: &Home<'_>, config: &Config) -> NetworkPolicy {
    let revisions = home.owners.iter().filter_map(|owner| owner.status.as_ref()).flat_map(|status| &status.revisions);
    let ports: BTreeSet<u16> = revisions.map(server_port).chain([SERVER_PORT]).collect();
    let ingress = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer { pod_selector: Some(routers()), ..NetworkPolicyPeer::default() }]),
        ports: Some(ports.into_iter().map(|port| tcp(port, None)).collect()),
    };
    let from_gateways = of_gateways(home, config)
        .map(|peer| NetworkPolicyIngressRule { from: Some(vec![peer]), ports: ingress.ports.clone() });
    let namespace = BTreeMap::from([(NAMESPACE_LABEL.to_owned(), config.operator_namespace.clone())]);
    let of_operator = LabelSelector { match_labels: Some(namespace), ..LabelSelector::default() };
    let asked = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer { namespace_selector: Some(of_operator), ..NetworkPolicyPeer::default() }]),
        ports: Some(vec![tcp(SERVER_ADMIN_PORT, None)]),
    };
    NetworkPolicy {
        metadata: home.metadata(SERVERS_POLICY),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labeled(REVISION_LABEL)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some([ingress, asked].into_iter().chain(from_gateways).collect()),
            egress: None,
        }),
    }
}

/// Pods whose model is fetched, from a bucket or a web server, reach it, wherever it is; all others reach what the namespace lets them reach.
pub(super) fn to_buckets(home: &Home<'_>) -> NetworkPolicy {
    NetworkPolicy {
        metadata: home.metadata(FETCH_POLICY),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labeled(FETCHES_LABEL)),
            policy_types: Some(vec!["Egress".to_owned()]),
            ingress: None,
            egress: Some(vec![NetworkPolicyEgressRule::default()]),
        }),
    }
}

/// Pods that write payload logs take the routers, and reach the table, wherever it is.
pub(super) fn to_log_writers(home: &Home<'_>) -> NetworkPolicy {
    let ingress = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer { pod_selector: Some(routers()), ..NetworkPolicyPeer::default() }]),
        ports: Some(vec![tcp(log_writer::PORT, None)]),
    };
    NetworkPolicy {
        metadata: home.metadata(LOG_WRITERS_POLICY),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labeled(LOG_WRITER_LABEL)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![ingress]),
            egress: Some(vec![NetworkPolicyEgressRule::default()]),
        }),
    }
}

/// Pods that have this label.
fn labeled(key: &str) -> LabelSelector {
    let exists = LabelSelectorRequirement { key: key.to_owned(), operator: "Exists".to_owned(), values: None };
    LabelSelector { match_expressions: Some(vec![exists]), ..LabelSelector::default() }
}

/// Where a Gateway that leads to pods itself has its own: in its namespace, or where its controller keeps them.
fn of_gateways(home: &Home<'_>, config: &Config) -> Option<NetworkPolicyPeer> {
    let splitting = home.owners.iter().filter(|owner| splits(owner)).flat_map(|owner| named_gateways(owner));
    let mut namespaces: BTreeSet<String> = splitting.map(|(namespace, _)| namespace.to_owned()).collect();
    if namespaces.is_empty() {
        return None;
    }
    namespaces.extend(config.router.gateway_namespaces.iter().cloned());
    let one_of = LabelSelectorRequirement {
        key: NAMESPACE_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(namespaces.into_iter().collect()),
    };
    let selector = LabelSelector { match_expressions: Some(vec![one_of]), ..LabelSelector::default() };
    Some(NetworkPolicyPeer { namespace_selector: Some(selector), ..NetworkPolicyPeer::default() })
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
