//! What is refused of a graph, what routers are told, and what its status says.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use millrace_routes::{GraphInput, GraphNode, GraphTarget};
use serde_json::{Value, json};

use super::{Demand, Observed, check, document, is_settled, plan};
use crate::api::{
    ConditionStatus, InferenceGraph, InferenceGraphSpec, InferenceGraphStatus, ModelDeployment, ModelDeploymentSpec,
    set_condition,
};
use crate::deployment::{Applied, ServiceView, asked};
use crate::plan::{Apply, Plan, Refusal};
use crate::routing::{ModelReport, Report, Router, RouterPod, Routers};
use crate::run::PodView;

fn graph(spec: &Value) -> InferenceGraph {
    let spec: InferenceGraphSpec = serde_json::from_value(spec.clone()).unwrap();
    let mut graph = InferenceGraph::new("g", spec);
    graph.metadata.namespace = Some("team".to_owned());
    graph.metadata.uid = Some("uid-g".to_owned());
    graph.metadata.generation = Some(3);
    graph
}

/// Two models in a row.
fn two() -> Value {
    json!({ "nodes": { "main": { "sequence": { "steps": [
        { "name": "clean", "model": "cleaner" },
        { "name": "score", "model": "scorer", "when": "answer.outputs.size() > 0", "dependency": "Soft", "rename": { "p": "x" } },
    ] } } } })
}

/// Every kind of node.
fn four() -> Value {
    json!({ "root": "main", "timeout": "30s", "maxBodyBytes": 1000, "nodes": {
        "main": { "sequence": { "steps": [{ "name": "a", "model": "a" }, { "name": "pick", "node": "pick", "input": "Both" }] } },
        "pick": { "switch": { "steps": [
            { "name": "small", "when": "request.inputs.size() < 2 && headers.x_tier != 'gold'", "model": "b", "path": "/v1/predict" },
            { "name": "large", "node": "all" },
        ] } },
        "all": { "ensemble": { "answer": "Tensors", "steps": [{ "name": "c", "model": "c", "timeout": "500ms" }, { "name": "d", "node": "split" }] } },
        "split": { "splitter": { "steps": [{ "name": "e", "model": "a", "weight": 90 }, { "name": "f", "model": "b", "weight": 10 }] } },
    } })
}

/// The spec with `value` at a pointer.
fn with(mut spec: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap();
    match key.parse::<usize>() {
        Ok(i) => parent[i] = value,
        Err(_) => parent[key] = value,
    }
    spec
}

#[test]
fn graphs_that_can_be_meant_are_accepted() {
    for spec in [two(), four()] {
        assert_eq!(check(&graph(&spec)), []);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_field_and_what_to_write() {
    let first = "/nodes/main/sequence/steps/0";
    let cases = [
        (with(two(), "/root", json!("mian")), "spec.root: `mian` is none of nodes: did you mean `main`?"),
        (with(two(), "/timeout", json!("2h")), "spec.timeout: \"2h\" is no time from 10ms to 30m"),
        (
            with(two(), &format!("{first}/node"), json!("main")),
            "spec.nodes.main.sequence.steps[clean]: it has both model and node: write one of them",
        ),
        (with(two(), first, json!({ "name": "clean" })), "spec.nodes.main.sequence.steps[clean]: it asks nobody"),
        (
            with(two(), first, json!({ "name": "score", "model": "m" })),
            "spec.nodes.main.sequence.steps[score]: the name is there twice",
        ),
        (
            with(two(), &format!("{first}/when"), json!("true")),
            "spec.nodes.main.sequence.steps[clean].when: without the first step",
        ),
        (
            with(two(), &format!("{first}/dependency"), json!("Soft")),
            "spec.nodes.main.sequence.steps[clean].dependency: without the first step",
        ),
        (
            with(two(), &format!("{first}/input"), json!("Answer")),
            "spec.nodes.main.sequence.steps[clean].input: there is no answer before",
        ),
        (
            with(two(), "/nodes/main/sequence/steps/1/when", json!("answr.x > 1")),
            "spec.nodes.main.sequence.steps[score].when: `answr` is unknown: did you mean `answer`?",
        ),
        (
            with(two(), "/nodes/main/sequence/steps/1/when", json!("answer.x +")),
            "spec.nodes.main.sequence.steps[score].when: `answer.x +` cannot be parsed",
        ),
        (
            with(two(), "/nodes/main/sequence/steps/1/when", json!("size(answer)")),
            "spec.nodes.main.sequence.steps[score].when: `size(answer)` is a number, but a boolean is needed here",
        ),
        (
            with(two(), "/nodes/main/sequence/steps/1/when", json!("$[[ answer.x ]]")),
            "spec.nodes.main.sequence.steps[score].when: when is an expression by itself",
        ),
        (
            with(four(), "/nodes/pick/switch/steps/0/when", json!("answer.x > 1")),
            "spec.nodes.pick.switch.steps[small].when: `answer` is unknown",
        ),
        (
            with(four(), "/nodes/pick/switch/steps/0", json!({ "name": "small", "model": "b" })),
            "spec.nodes.pick.switch.steps[small].when: it has no when, so that what stands behind it is never taken: put it last",
        ),
        (
            with(four(), "/nodes/split/splitter/steps/1/weight", json!(20)),
            "spec.nodes.split.splitter.steps: the weights add up to 110: they are percent",
        ),
        (
            with(four(), "/nodes/pick/switch/steps/1/node", json!("al")),
            "spec.nodes.pick.switch.steps[large].node: `al` is none of nodes: did you mean `all`?",
        ),
        (
            with(four(), "/nodes/pick/switch/steps/1/path", json!("/x")),
            "spec.nodes.pick.switch.steps[large].path: path is of a model, and `all` is a node",
        ),
        (
            with(four(), "/nodes/all/ensemble/steps/0/timeout", json!("1ms")),
            "spec.nodes.all.ensemble.steps[c].timeout: \"1ms\" is no time",
        ),
        (
            with(four(), "/nodes/all/ensemble/steps/0/path", json!("/a#b")),
            "spec.nodes.all.ensemble.steps[c].path: \"/a#b\" is no path: write at most 1024 characters that begin with /",
        ),
        (
            with(four(), "/nodes/all/ensemble/steps/0/path", json!("a")),
            "spec.nodes.all.ensemble.steps[c].path: \"a\" is no path",
        ),
        (with(four(), "/maxBodyBytes", json!(0)), "spec.maxBodyBytes: 0 is not from 1 to 33554432"),
        (
            with(two(), "/nodes/main/sequence/steps/1/rename", json!({ "k".repeat(257): "x" })),
            "spec.nodes.main.sequence.steps[score].rename: \"kkkkkkkkkk",
        ),
        (with(four(), "/nodes/main", json!({})), "spec.nodes.main: a node is exactly one of sequence, switch"),
        (
            with(four(), "/nodes/Lost", json!({ "switch": { "steps": [{ "name": "a", "model": "a" }] } })),
            "spec.nodes.Lost: \"Lost\" is no name",
        ),
        (
            with(four(), "/nodes/lost", json!({ "switch": { "steps": [{ "name": "a", "model": "a" }] } })),
            "spec.nodes.lost: nothing leads to it from `main`: name it in a step, or take it out",
        ),
    ];
    for (spec, expected) in cases {
        let said: Vec<String> = check(&graph(&spec)).iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.starts_with(expected)), "expected: {expected}\nfound: {said:#?}");
    }
    let mut several = graph(&four());
    several.spec.root = None;
    several.metadata.name = Some("9".to_owned());
    let said: Vec<String> = check(&several).iter().map(ToString::to_string).collect();
    assert!(said[0].starts_with("metadata.name: \"9\" cannot be the name of a Service"), "{said:?}");
    assert!(said[1].starts_with("spec.root: it is not said where a request begins: write one of"), "{said:?}");
}

#[test]
fn nodes_that_lead_back_are_refused_with_the_way() {
    let spec = with(four(), "/nodes/split/splitter/steps/0", json!({ "name": "e", "node": "pick", "weight": 90 }));
    let found = check(&graph(&spec));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].reason, found[0].path.as_str()), ("Circle", "spec.nodes.pick.switch.steps[large].node"));
    assert!(
        found[0].message.contains("`all` leads to `split` leads to `pick` leads back to `all`"),
        "{}",
        found[0].message
    );
}

#[test]
fn a_graph_that_asks_too_often_or_lies_too_deep_is_refused() {
    let steps =
        |next: &str| -> Vec<Value> { (0..9).map(|i| json!({ "name": format!("s{i}"), "node": next })).collect() };
    let model = |i: usize| json!({ "name": format!("s{i}"), "model": "m" });
    let last: Vec<Value> = (0..8).map(model).collect();
    let wide = |count: usize| {
        let steps = &steps("last")[..count];
        json!({ "root": "main", "nodes": { "main": { "ensemble": { "steps": steps } }, "last": { "sequence": { "steps": last } } } })
    };
    assert_eq!(check(&graph(&wide(8))), []);
    assert_eq!(check(&graph(&wide(9)))[0].reason, "TooLarge");
    let deep = |count: usize| {
        let node = |i: usize| {
            let step = if i + 1 == count {
                json!({ "name": "s", "model": "m" })
            } else {
                json!({ "name": "s", "node": format!("n{}", i + 1) })
            };
            (format!("n{i}"), json!({ "switch": { "steps": [step] } }))
        };
        let nodes: serde_json::Map<String, Value> = (0..count).map(node).collect();
        json!({ "root": "n0", "nodes": nodes })
    };
    assert_eq!(check(&graph(&deep(8))), []);
    assert_eq!(check(&graph(&deep(9)))[0].reason, "TooLarge");
}

#[test]
fn what_fills_the_routes_of_a_namespace_is_refused() {
    let of = |steps: usize| {
        let step =
            |i: usize| json!({ "name": format!("s{i}"), "model": "m", "path": format!("/{}", "p".repeat(1000)) });
        let node = |n: usize| {
            let steps: Vec<Value> = (0..steps).map(step).collect();
            (format!("n{n}"), json!({ "splitter": { "steps": steps } }))
        };
        let mut nodes: serde_json::Map<String, Value> = (0..8).map(node).collect();
        for steps in nodes.values_mut().filter_map(|node| node["splitter"]["steps"].as_array_mut()) {
            steps.iter_mut().enumerate().for_each(|(i, step)| step["weight"] = json!(if i == 0 { 100 } else { 0 }));
        }
        let all: Vec<Value> = (0..8).map(|n| json!({ "name": format!("n{n}"), "node": format!("n{n}") })).collect();
        nodes.insert("main".to_owned(), json!({ "ensemble": { "steps": all } }));
        graph(&json!({ "root": "main", "nodes": nodes }))
    };
    assert_eq!(check(&of(7)), []);
    let found = check(&of(8));
    assert_eq!((found.len(), found[0].reason), (1, "TooLarge"), "{found:?}");
    assert!(found[0].message.starts_with("routers would be told ") && found[0].message.contains("65536 is the most"));
}

#[test]
fn paths_are_those_that_can_be_asked_for() {
    let of = |path: &str| check(&graph(&with(four(), "/nodes/all/ensemble/steps/0/path", json!(path)))).len();
    for path in ["/", "/v1/models/m:predict", "/a?b=[c]&d={e}|^~'", &*format!("/{}", "p".repeat(1023))] {
        assert_eq!(of(path), 0, "{path}");
    }
    for path in ["", "v1", "/a b", "/a#b", "/<a", "/a>", "/`", "/\"", "/é", "/\n", &*format!("/{}", "p".repeat(1024))]
    {
        assert_eq!(of(path), 1, "{path}");
    }
}

#[test]
fn routers_are_told_the_paths_and_defaults() {
    let told = document(&graph(&two()).spec, |name| format!("model-of-{name}")).unwrap();
    assert_eq!((told.root.as_str(), told.timeout_ms, told.body_bytes), ("main", 300_000, 4 << 20));
    let GraphNode::Sequence(steps) = &told.nodes["main"] else { panic!("{told:?}") };
    let path = "/v2/models/model-of-cleaner/infer".to_owned();
    assert_eq!(steps[0].to, GraphTarget::Model { name: "cleaner".to_owned(), path });
    assert_eq!((steps[0].input, steps[1].input, steps[1].soft), (GraphInput::Request, GraphInput::Answer, true));
    let told = document(&graph(&four()).spec, str::to_owned).unwrap();
    assert_eq!((told.timeout_ms, told.body_bytes, told.reach("main")), (30_000, 1000, Some((4, 3))));
    let GraphNode::Switch(steps) = &told.nodes["pick"] else { panic!("{told:?}") };
    assert_eq!(steps[0].to, GraphTarget::Model { name: "b".to_owned(), path: "/v1/predict".to_owned() });
}

fn model(name: &str, ready: bool) -> Arc<ModelDeployment> {
    let mut model = ModelDeployment::new(name, ModelDeploymentSpec::default());
    let status = model.status.get_or_insert_default();
    let (truth, reason, message) = if ready {
        (ConditionStatus::True, "AtZero", "")
    } else {
        (ConditionStatus::False, "Progressing", "0 of 1 pods")
    };
    set_condition(&mut status.conditions, "Ready", truth, reason, message, None, Timestamp::UNIX_EPOCH);
    Arc::new(model)
}

fn secured(name: &str, field: &str) -> Arc<ModelDeployment> {
    let mut model = ModelDeployment::clone(&model(name, true));
    let security = match field {
        "auth" => json!({ "auth": { "apiKeys": { "secretName": "keys" } } }),
        _ => json!({ "tls": { "secretName": "cert" } }),
    };
    model.spec.security = serde_json::from_value(security).unwrap();
    Arc::new(model)
}

/// A router that callers come to, with this generation of the graph.
fn router(generation: u64) -> Router {
    let pod = PodView { name: "r-1".to_owned(), ..PodView::default() };
    let pod = Arc::new(RouterPod { pod, ready: true, ..RouterPod::default() });
    let said = ModelReport { generation, ..ModelReport::default() };
    let report = Report { models: [("g".to_owned(), said)].into() };
    Router { pod, report: Some(Arc::new(report)) }
}

/// What is there of the graph `g`.
struct Cluster {
    graph: InferenceGraph,
    observed: Observed,
}

impl Cluster {
    fn of(spec: &Value, models: &[Arc<ModelDeployment>]) -> Self {
        let named = models.iter().map(|model| (model.metadata.name.clone().unwrap(), model.clone()));
        let observed = Observed { models: named.collect(), ..Observed::default() };
        Self { graph: graph(spec), observed }
    }

    /// One pass; the cluster takes what it is told.
    fn pass(&mut self) -> Plan<InferenceGraphStatus> {
        let plan = plan(&self.graph, &self.observed, Timestamp::UNIX_EPOCH);
        for apply in &plan.apply {
            let Apply::GraphService(service) = apply else { panic!("{apply:?}") };
            let shape = asked(service);
            let owner = service.metadata.owner_references.as_ref().unwrap()[0].uid.clone();
            self.observed.applied_service = Some(Applied::new(shape, shape, 0));
            let view = ServiceView { owner: Some(owner), shape, ..ServiceView::default() };
            self.observed.service = Some(Arc::new(view));
        }
        if let Some(status) = &plan.status {
            self.graph.status = Some(status.clone());
        }
        plan
    }

    /// What `Ready` says, once nothing is written any more.
    fn ready(&mut self) -> (String, String, String) {
        for _ in 0..4 {
            self.pass();
        }
        assert_eq!(self.pass(), Plan { requeue: self.pass().requeue, ..Plan::default() }, "it comes to rest");
        let conditions = &self.graph.status.as_ref().unwrap().conditions;
        let is = |kind: &str| conditions.iter().find(|of| of.type_ == kind).unwrap();
        let true_ones = ["Reconciling", "Stalled"].iter().filter(|kind| is(kind).status == "True").count();
        assert_eq!(true_ones, usize::from(is("Ready").status != "True"), "as kstatus has it");
        let ready = is("Ready");
        (ready.status.clone(), ready.reason.clone(), ready.message.clone())
    }

    fn routed(&mut self, generation: u64) {
        self.observed.routers = Routers { port: Some(12_345), pods: vec![router(generation)], ..Routers::default() };
    }
}

#[test]
fn a_graph_is_ready_when_its_models_are_and_the_routers_have_it() {
    let mut cluster = Cluster::of(&two(), &[]);
    let (status, reason, message) = cluster.ready();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ModelNotFound"));
    assert!(message.starts_with("step main/clean: there is no ModelDeployment \"cleaner\""), "{message}");
    cluster.observed.models.insert("cleaner".to_owned(), model("cleaner", false));
    let (_, reason, message) = cluster.ready();
    assert_eq!(reason, "ModelNotReady");
    assert!(message.contains("Progressing: 0 of 1 pods"), "in the model's own words: {message}");
    // The other one is Soft: it is not waited for.
    cluster.observed.models.insert("cleaner".to_owned(), model("cleaner", true));
    assert_eq!(cluster.ready().1, "ServiceMissing");
    cluster.routed(2);
    let (_, reason, message) = cluster.ready();
    assert_eq!((reason.as_str(), message.as_str()), ("RoutesNotInForce", "router r-1 does not have the routes yet"));
    assert!(!is_settled(&cluster.graph));
    cluster.routed(3);
    let (status, reason, message) = cluster.ready();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Serving"));
    assert!(message.contains("without scorer") && is_settled(&cluster.graph), "{message}");
    let status = cluster.graph.status.clone().unwrap();
    assert_eq!((status.address.unwrap().url.as_str(), status.router_port), ("http://g.team.svc", Some(12_345)));
    assert_eq!((status.models_ready.as_deref(), status.models[1].reason.as_deref()), (Some("1/2"), Some("NotFound")));
    cluster.observed.models.insert("scorer".to_owned(), model("scorer", true));
    assert_eq!(cluster.ready().2, "all 2 models answer");
    // A model that goes is told of, and the Service stays.
    cluster.observed.models.remove("cleaner");
    let plan = cluster.pass();
    assert_eq!((plan.apply.len(), plan.events.len(), plan.events[0].reason), (0, 1, "ModelNotFound"));
}

#[test]
fn models_below_a_step_that_may_be_left_out_are_not_waited_for() {
    let soft = json!({ "root": "main", "nodes": {
        "all": { "ensemble": { "steps": [{ "name": "c", "model": "c" }, { "name": "b", "model": "b" }] } },
        "main": { "sequence": { "steps": [
            { "name": "a", "model": "a" }, { "name": "more", "node": "all", "dependency": "Soft" }, { "name": "split", "node": "split" },
        ] } },
        "split": { "splitter": { "steps": [
            { "name": "a", "model": "a", "weight": 100 }, { "name": "d", "model": "d", "weight": 0 }, { "name": "all", "node": "all", "weight": 0 },
        ] } },
    } });
    let mut cluster = Cluster::of(&soft, &[model("a", true), model("c", false)]);
    cluster.routed(3);
    let (status, _, message) = cluster.ready();
    assert_eq!(
        (status.as_str(), message.as_str()),
        ("True", "it answers without b, c, d, which its steps can do without")
    );
    // A way that must be gone leads there as well.
    let hard = with(soft, "/nodes/split/splitter/steps/0/node", json!("all"));
    let hard = with(hard, "/nodes/split/splitter/steps/0/model", Value::Null);
    let mut cluster = Cluster::of(&hard, &[model("a", true), model("b", true)]);
    cluster.routed(3);
    let (_, reason, message) = cluster.ready();
    assert_eq!(reason, "ModelNotFound");
    assert!(message.starts_with("step all/c: there is no ModelDeployment \"c\""), "{message}");
}

#[test]
fn what_was_not_accepted_gets_no_service_and_keeps_the_one_that_it_has() {
    let wrong = with(two(), "/timeout", json!("2h"));
    let mut cluster = Cluster::of(&wrong, &[model("cleaner", true), model("scorer", true)]);
    cluster.routed(3);
    let (_, reason, message) = cluster.ready();
    assert_eq!((reason.as_str(), cluster.observed.service.is_some()), ("InvalidDuration", false), "{message}");
    let mut cluster = Cluster::of(&two(), &[model("cleaner", true), model("scorer", true)]);
    cluster.routed(3);
    assert_eq!(cluster.ready().0, "True");
    cluster.graph.spec = graph(&wrong).spec;
    assert_eq!(cluster.ready().1, "InvalidDuration");
    let conditions = &cluster.graph.status.as_ref().unwrap().conditions;
    assert!(conditions.iter().any(|of| of.type_ == "Accepted" && of.status == "False"));
    assert!(cluster.graph.status.as_ref().unwrap().address.is_some());
}

#[test]
fn a_graph_is_no_way_past_the_door_of_a_model() {
    for field in ["auth", "tls"] {
        let mut cluster = Cluster::of(&two(), &[secured("cleaner", field), model("scorer", true)]);
        cluster.routed(3);
        let (status, reason, message) = cluster.ready();
        assert_eq!((status.as_str(), reason.as_str()), ("False", "SecurityRequired"));
        assert!(message.contains(&format!("model \"cleaner\" has security.{field}")), "{message}");
    }
    let mut safe = two();
    safe["security"] = json!({ "auth": { "apiKeys": { "secretName": "other" } }, "tls": { "secretName": "cert" } });
    let models = [secured("cleaner", "auth"), secured("scorer", "tls")];
    assert_eq!(Demand::of(&graph(&safe).spec, models.iter().map(AsRef::as_ref)), None);
    assert!(Demand::of(&graph(&two()).spec, [secured("other", "auth")].iter().map(AsRef::as_ref)).is_none());
}

#[test]
fn a_name_that_is_taken_is_told_and_nothing_is_made() {
    let mut cluster = Cluster::of(&two(), &[model("cleaner", true), model("scorer", true), model("g", true)]);
    cluster.routed(3);
    let (_, reason, message) = cluster.ready();
    assert_eq!((reason.as_str(), cluster.observed.service.is_none()), ("NameTaken", true));
    assert_eq!(cluster.graph.status.as_ref().unwrap().router_port, None, "with one the model would yield");
    assert!(message.contains("the ModelDeployment \"g\" has the Service of this name"), "{message}");
    let mut cluster = Cluster::of(&two(), &[model("cleaner", true), model("scorer", true)]);
    cluster.routed(3);
    cluster.ready();
    let (object, reason, message) = ("Service g".to_owned(), "NameTaken".to_owned(), "it is somebody's".to_owned());
    cluster.observed.refusals = vec![Refusal { object, code: 409, reason, message }];
    let plan = cluster.pass();
    assert_eq!(plan.events[0].reason, "NameTaken");
    assert!(plan.requeue.is_some());
}
