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
    model.spec.model.name = Some(format!("{name}-model"));
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

/// The Secrets that the routers' pods have.
fn mounted(models: &[Arc<ModelDeployment>], graphs: &[Arc<InferenceGraph>], before: Option<&Routes>) -> Vec<String> {
    let view = before.map(|routes| {
        let data = [(ROUTES_KEY.to_owned(), serde_json::to_string(routes).unwrap())].into();
        Arc::new(RoutesView::new("u".to_owned(), "1".to_owned(), std::collections::BTreeSet::new(), Some(&data)))
    });
    let observed = Observed { models: models.to_vec(), graphs: graphs.to_vec(), routes: view, ..Observed::default() };
    let steps = plan("team", &observed, &Config::default(), Timestamp::UNIX_EPOCH).apply;
    let pods = steps.into_iter().filter_map(|step| match step.object {
        RouterObject::Deployment(deployment) => deployment.spec?.template.spec,
        _ => None,
    });
    let volumes = pods.flat_map(|pod| pod.volumes.unwrap_or_default());
    volumes.filter_map(|volume| volume.secret?.secret_name).collect()
}

#[test]
fn what_was_not_accepted_leaves_the_secrets_that_there_were() {
    let of = |secret: &str, timeout: &str| {
        let auth = json!({ "auth": { "apiKeys": { "secretName": secret } } });
        let mut graph = InferenceGraph::clone(&graph("g", "a", &json!({ "timeout": timeout, "security": auth })));
        graph.status = Some(InferenceGraphStatus { router_port: Some(12_000), ..InferenceGraphStatus::default() });
        [Arc::new(graph)]
    };
    let models = [model("a", Value::Null)];
    let before = pass(&models, &of("old", "1m"), None).0.unwrap();
    assert_eq!(mounted(&models, &of("old", "1m"), None), ["old"]);
    assert_eq!(mounted(&models, &of("new", "2h"), Some(&before)), ["old"], "its door is that of before");
    assert_eq!(mounted(&models, &of("new", "1m"), Some(&before)), ["new"]);
}

#[test]
fn the_port_of_a_graph_that_is_not_routed_for_now_is_nobody_elses() {
    let auth = json!({ "auth": { "apiKeys": { "secretName": "keys" } } });
    let newcomer = graph("h", "b", &json!({}));
    let first = pass(&[model("a", auth.clone())], std::slice::from_ref(&newcomer), None).0.unwrap().models[1].port;
    // The very port that the other would have.
    let mut closed = InferenceGraph::clone(&graph("g", "a", &json!({})));
    closed.status =
        Some(InferenceGraphStatus { router_port: Some(i32::from(first)), ..InferenceGraphStatus::default() });
    let graphs = [Arc::new(closed), newcomer];
    let found = pass(&[model("a", auth.clone())], &graphs, None).0.unwrap();
    assert_eq!(names(&found), [("a", false), ("h", true)]);
    assert_ne!(found.models[1].port, first);
    // Nor is it kept by one that had it for a moment.
    let mut before = found.clone();
    before.models[1].port = first;
    assert_ne!(pass(&[model("a", auth)], &graphs, Some(&before)).0.unwrap().models[1].port, first);
}

#[test]
fn a_graph_takes_no_name_from_a_model_that_was_not_accepted_yet() {
    let mut waits = ModelDeployment::clone(&model("x", Value::Null));
    waits.status = None;
    let models = [Arc::new(waits), model("a", Value::Null)];
    let graphs = [graph("x", "a", &json!({}))];
    assert_eq!(names(&pass(&models, &graphs, None).0.unwrap()), [("a", false)]);
    // Once it is accepted it has the name; and a graph that had it before keeps it.
    assert_eq!(
        names(&pass(&[model("x", Value::Null), model("a", Value::Null)], &graphs, None).0.unwrap()),
        [("a", false), ("x", false)]
    );
    let mut first = InferenceGraph::clone(&graphs[0]);
    first.status = Some(InferenceGraphStatus { router_port: Some(12_000), ..InferenceGraphStatus::default() });
    assert_eq!(names(&pass(&models, &[Arc::new(first)], None).0.unwrap()), [("a", false), ("x", true)]);
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
