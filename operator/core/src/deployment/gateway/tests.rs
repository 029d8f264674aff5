//! The way in through Gateways, beside a cluster whose Gateways answer as they are told to.

mod lacks;
mod rollouts;
mod routes;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::deployment::tests::cluster::Cluster;
use crate::deployment::{GatewayApi, GatewayView, RouteView};
use crate::gateway_api::{Listener, ParentCondition, ParentRef, RouteParent};

/// Version 1 is served, and a way in through the Gateway `edge` is asked for.
fn asked(provider: &str) -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    cluster.observed.gateways.api = GatewayApi::Present;
    set(&mut cluster, &json!({ "provider": provider, "gateway": { "parentRefs": [{ "name": "edge" }] } }));
    let listener = Listener { name: "web".to_owned(), hostname: None, port: 80, protocol: "HTTP".to_owned() };
    let view =
        GatewayView { class: "c".to_owned(), listeners: vec![listener], addresses: vec!["192.0.2.7".to_owned()] };
    cluster.observed.gateways.named = [("team/edge".to_owned(), Some(Arc::new(view)))].into();
    cluster
}

fn set(cluster: &mut Cluster, routing: &Value) {
    cluster.owner.spec.routing = Some(serde_json::from_value(routing.clone()).unwrap());
    cluster.edited();
}

fn view(cluster: &Cluster) -> &RouteView {
    cluster.observed.gateways.route.as_deref().expect("there is a route")
}

fn spec(cluster: &Cluster) -> &Map<String, Value> {
    &view(cluster).spec
}

fn change(cluster: &mut Cluster, change: impl FnOnce(&mut RouteView)) {
    change(Arc::make_mut(cluster.observed.gateways.route.as_mut().expect("there is a route")));
}

fn said(kind: &str, truth: &str, generation: i64) -> ParentCondition {
    ParentCondition {
        type_: kind.to_owned(),
        status: truth.to_owned(),
        reason: "Why".to_owned(),
        message: "so it is".to_owned(),
        observed_generation: generation,
    }
}

fn parent(name: &str, conditions: Vec<ParentCondition>) -> RouteParent {
    let parent_ref = ParentRef { name: name.to_owned(), namespace: Some("team".to_owned()), section_name: None };
    RouteParent { parent_ref, controller_name: "example.com/c".to_owned(), conditions }
}

/// The Gateway `edge` accepts the route as it is.
fn accept(cluster: &mut Cluster) {
    change(cluster, |view| {
        let conditions = vec![said("Accepted", "True", view.generation), said("ResolvedRefs", "True", view.generation)];
        view.parents = vec![parent("edge", conditions)];
    });
    cluster.settle();
}

fn routed(provider: &str) -> Cluster {
    let mut cluster = asked(provider);
    cluster.settle();
    accept(&mut cluster);
    cluster
}

/// Names and weights of the last rule.
fn backends(cluster: &Cluster) -> Vec<(String, i64)> {
    let rules = spec(cluster)["rules"].as_array().unwrap();
    let backends = rules.last().unwrap()["backendRefs"].as_array().unwrap();
    backends.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one["weight"].as_i64().unwrap_or(1))).collect()
}

fn message(cluster: &Cluster, kind: &str) -> String {
    let conditions = &cluster.owner.status.as_ref().unwrap().conditions;
    conditions.iter().find(|condition| condition.type_ == kind).unwrap().message.clone()
}
