//! Graphs in the routes of a namespace.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use millrace_routes::{GraphTarget, ROUTES_KEY, Routes};
use serde_json::{Value, json};

use super::{Observed, RouterObject, RoutesView, plan};
use crate::api::{
    ConditionStatus, InferenceGraph, InferenceGraphStatus, ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus,
    set_condition,
};
use crate::config::Config;

fn model(name: &str, security: Value) -> Arc<ModelDeployment> {
    let mut model = ModelDeployment::new(name, ModelDeploymentSpec::default());
    model.spec.model.name = format!("{name}-model");
    model.spec.security = serde_json::from_value(security).unwrap();
    model.metadata.uid = Some(format!("uid-{name}"));
    let mut status = ModelDeploymentStatus::default();
    let (conditions, at) = (&mut status.conditions, Timestamp::UNIX_EPOCH);
    set_condition(conditions, "Accepted", ConditionStatus::True, "Accepted", "", None, at);
    model.status = Some(status);
    Arc::new(model)
}

fn graph(name: &str, asks: &str, with: &Value) -> Arc<InferenceGraph> {
    let mut spec = json!({ "nodes": { "main": { "switch": { "steps": [{ "name": "s", "model": asks }] } } } });
    spec.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    let mut graph = InferenceGraph::new(name, serde_json::from_value(spec).unwrap());
    graph.metadata.uid = Some(format!("uid-{name}"));
    graph.metadata.generation = Some(5);
    Arc::new(graph)
}

/// What the routes become over what they were, and everything else that is applied.
fn pass(
    models: &[Arc<ModelDeployment>],
    graphs: &[Arc<InferenceGraph>],
    before: Option<&Routes>,
) -> (Option<Routes>, Vec<String>) {
    let view = before.map(|routes| {
        let text = serde_json::to_string(routes).unwrap();
        let data = [(ROUTES_KEY.to_owned(), text)].into();
        Arc::new(RoutesView::new("u".to_owned(), "1".to_owned(), std::collections::BTreeSet::new(), Some(&data)))
    });
    let (models, graphs) = (models.to_vec(), graphs.to_vec());
    let observed = Observed { models, graphs, routes: view, ..Observed::default() };
    let mut found = None;
    let mut others = Vec::new();
    for step in plan("team", &observed, &Config::default(), Timestamp::UNIX_EPOCH).apply {
        if let RouterObject::Routes(map) = &step.object {
            let text = map.data.as_ref().unwrap().values().next().unwrap();
            let routes = Routes::parse(text.as_bytes()).unwrap();
            let owners: Vec<&str> =
                map.metadata.owner_references.iter().flatten().map(|owner| owner.kind.as_str()).collect();
            assert!(
                owners.len() >= observed.models.len() && owners.len() <= observed.models.len() + observed.graphs.len(),
                "{owners:?}"
            );
            found = Some(routes);
        } else {
            others.push(step.object.key());
        }
    }
    (found, others)
}

fn names(routes: &Routes) -> Vec<(&str, bool)> {
    routes.models.iter().map(|model| (model.name.as_str(), model.graph.is_some())).collect()
}

#[test]
fn a_graph_is_routed_beside_its_models_and_keeps_its_port() {
    let (models, graphs) = ([model("a", Value::Null)], [graph("g", "a", &json!({}))]);
    let (routes, others) = pass(&models, &graphs, None);
    let routes = routes.unwrap();
    assert_eq!(names(&routes), [("a", false), ("g", true)]);
    assert!(others.contains(&"Deployment/millrace-router".to_owned()));
    let told = &routes.models[1];
    assert_eq!((told.generation, told.limits.body_bytes), (5, Some(4 << 20)));
    let steps = told.graph.as_ref().unwrap().nodes["main"].steps();
    let path = "/v2/models/a-model/infer".to_owned();
    assert_eq!(steps[0].to, GraphTarget::Model { name: "a".to_owned(), path });
    // Another one that comes takes no port of it, with and without a status.
    let mut kept = InferenceGraph::clone(&graphs[0]);
    for router_port in [None, Some(i32::from(told.port))] {
        kept.status = Some(InferenceGraphStatus { router_port, ..InferenceGraphStatus::default() });
        let all = [Arc::new(kept.clone()), graph("f", "a", &json!({}))];
        let next = pass(&models, &all, Some(&routes)).0.unwrap();
        assert_eq!(next.models.iter().find(|model| model.name == "g").unwrap().port, told.port);
    }
}

#[test]
fn a_namespace_with_graphs_alone_has_routers_that_say_what_is_missing() {
    let (routes, others) = pass(&[], &[graph("g", "gone", &json!({}))], None);
    assert_eq!(names(&routes.unwrap()), [("g", true)]);
    assert!(others.contains(&"PodDisruptionBudget/millrace-router".to_owned()), "{others:?}");
    assert!(pass(&[], &[], None).1.is_empty());
}

#[test]
fn what_was_not_accepted_leaves_what_was_there_and_opens_no_door() {
    let wrong = json!({ "timeout": "2h" });
    let (routes, others) = pass(&[], &[graph("g", "a", &wrong)], None);
    assert!(routes.is_none() && others.is_empty(), "nothing is made for it: {others:?}");
    assert_eq!(names(&pass(&[model("a", Value::Null)], &[graph("g", "a", &wrong)], None).0.unwrap()), [("a", false)]);
    let before = pass(&[model("a", Value::Null)], &[graph("g", "a", &json!({}))], None).0.unwrap();
    let mut later = InferenceGraph::clone(&graph("g", "a", &wrong));
    later.metadata.generation = Some(6);
    let router_port = Some(i32::from(before.models[1].port));
    later.status = Some(InferenceGraphStatus { router_port, ..InferenceGraphStatus::default() });
    let later = [Arc::new(later)];
    let kept = pass(&[model("a", Value::Null)], &later, Some(&before)).0.unwrap();
    assert_eq!((names(&kept), kept.models[1].generation), (vec![("a", false), ("g", true)], 5));
    let auth = json!({ "auth": { "apiKeys": { "secretName": "keys" } } });
    let closed = pass(&[model("a", auth.clone())], &later, Some(&before)).0.unwrap();
    assert_eq!(names(&closed), [("a", false)], "what was there leads past the door");
    let open = pass(&[model("a", auth.clone())], &[graph("g", "a", &json!({}))], Some(&before)).0.unwrap();
    assert_eq!(names(&open), [("a", false)]);
    let safe = pass(&[model("a", auth.clone())], &[graph("g", "a", &json!({ "security": auth }))], None).0.unwrap();
    assert_eq!(names(&safe), [("a", false), ("g", true)]);
    assert!(safe.models[1].security.as_ref().unwrap().auth.is_some());
}

#[test]
fn of_a_model_and_a_graph_of_one_name_the_one_with_the_port_is_routed() {
    let both = [graph("a", "b", &json!({}))];
    assert_eq!(names(&pass(&[model("a", Value::Null)], &both, None).0.unwrap()), [("a", false)]);
    let mut first = InferenceGraph::clone(&both[0]);
    first.status = Some(InferenceGraphStatus { router_port: Some(12_000), ..InferenceGraphStatus::default() });
    let routes = pass(&[model("a", Value::Null)], &[Arc::new(first)], None).0.unwrap();
    assert_eq!((names(&routes), routes.models[0].port), (vec![("a", true)], 12_000));
}
