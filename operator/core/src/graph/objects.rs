//! The one object of a graph: the Service that leads to its port on the routers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_core::Resource;

use crate::api::InferenceGraph;
use crate::names::{GRAPH_LABEL, MANAGED_BY, MANAGED_BY_LABEL, label_value};
use crate::routing;

pub(super) fn service(owner: &InferenceGraph, port: i32) -> Service {
    let name = owner.metadata.name.clone().unwrap_or_default();
    let labels = [(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()), (GRAPH_LABEL.to_owned(), label_value(&name))];
    let (scheme, own) = if speaks_tls(owner) { ("https", 443) } else { ("http", 80) };
    Service {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: owner.metadata.namespace.clone(),
            labels: Some(BTreeMap::from(labels)),
            owner_references: Some(vec![OwnerReference {
                api_version: InferenceGraph::api_version(&()).into_owned(),
                kind: InferenceGraph::kind(&()).into_owned(),
                name,
                uid: owner.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            session_affinity: Some("None".to_owned()),
            selector: Some(routing::selector()),
            ports: Some(vec![ServicePort {
                name: Some(scheme.to_owned()),
                port: own,
                target_port: Some(IntOrString::Int(port)),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Whether the address speaks TLS.
pub(super) fn speaks_tls(owner: &InferenceGraph) -> bool {
    owner.spec.security.as_ref().is_some_and(|security| security.tls.is_some())
}
