//! Steps whose weights are a Gateway's.

use serde_json::{Value, json};

use super::{accept, backends, message, routed, set, spec};
use crate::deployment::tests::cluster::{Cluster, pair};

fn rolling(rollout: Value, routing: &Value) -> (Cluster, String, String) {
    let mut cluster = routed("GatewayAPI");
    let features = ["HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"].map(str::to_owned);
    cluster.observed.gateways.features = [("c".to_owned(), features.into())].into();
    set(&mut cluster, routing);
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
    cluster.edited();
    cluster.settle();
    accept(&mut cluster);
    let old = cluster.served().unwrap().name.clone();
    cluster.set_version(2);
    for _ in 0..3 {
        cluster.settle();
        cluster.pods_get_ready();
        cluster.routers_report();
    }
    cluster.settle();
    let revisions = &cluster.owner.status.as_ref().unwrap().revisions;
    let new = revisions.iter().find(|revision| revision.version == Some(2)).unwrap().name.clone();
    (cluster, old, new)
}

#[test]
fn gateways_that_do_not_say_that_they_can_copy_are_not_given_a_mirror() {
    let shadow = json!({ "strategy": "Shadow", "sample": 0.5, "steps": [{ "hold": "10m" }] });
    let features = |names: &[&str]| [("c".to_owned(), names.iter().map(ToString::to_string).collect())].into();
    for (known, words) in [
        (features(&["HTTPRouteRequestMirror"]), "that it has HTTPRouteRequestPercentageMirror"),
        (features(&[]), "does not say in status.supportedFeatures of its class c"),
        ([].into(), "the class c of Gateway team/edge is not there, or may not be read"),
    ] {
        let mut cluster = routed("GatewayAPI");
        let generation = super::view(&cluster).generation;
        cluster.observed.gateways.features = known;
        cluster.owner.spec.rollout = Some(serde_json::from_value(shadow.clone()).unwrap());
        cluster.set_version(2);
        cluster.settle();
        assert_eq!(cluster.condition("Accepted"), pair("False", "MirrorUnsupported"));
        assert!(message(&cluster, "Accepted").contains(words), "{}", message(&cluster, "Accepted"));
        assert_eq!(super::view(&cluster).generation, generation, "what is served goes on");
        assert!(cluster.plan().requeue.is_some(), "nobody tells of another class");
    }
}

fn plain() -> Value {
    json!({ "provider": "GatewayAPI", "gateway": { "parentRefs": [{ "name": "edge" }] } })
}

fn sorted(mut weights: Vec<(String, i64)>) -> Vec<(String, i64)> {
    weights.sort_by_key(|(_, weight)| *weight);
    weights
}

fn began(cluster: &Cluster) -> bool {
    let status = cluster.owner.status.as_ref().unwrap();
    status.rollout.as_ref().is_some_and(|rollout| rollout.step_start_time.is_some())
}

#[test]
fn a_step_begins_when_the_gateway_has_accepted_its_weights() {
    let canary =
        json!({ "strategy": "Canary", "steps": [{ "weight": 5, "hold": "2m" }, { "weight": 50, "hold": "2m" }] });
    let (mut cluster, old, new) = rolling(canary, &plain());
    assert_eq!(sorted(backends(&cluster)), [(new.clone(), 5), (old.clone(), 95)]);
    cluster.wait(600);
    cluster.settle();
    assert!(!began(&cluster));
    assert!(message(&cluster, "Ready").contains("Gateway edge has not looked at the newest HTTPRoute yet"));
    accept(&mut cluster);
    assert!(began(&cluster));
    let said = cluster.owner.status.as_ref().unwrap();
    assert_eq!(said.gateway.as_ref().unwrap().traffic_generation, said.traffic_generation);
    cluster.wait(121);
    cluster.settle();
    assert_eq!(sorted(backends(&cluster))[0].1, 50);
    assert!(!began(&cluster), "another step, another acceptance");
    accept(&mut cluster);
    cluster.wait(121);
    cluster.settle();
    assert_eq!(backends(&cluster), [(new, 100)]);
    accept(&mut cluster);
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(2));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert!(cluster.view(&old).is_some());
    cluster.wait(31);
    cluster.settle();
    assert!(cluster.view(&old).is_none());
}

#[test]
fn a_step_that_a_gateway_rejects_goes_no_further_and_can_be_taken_back() {
    let canary = json!({ "strategy": "Canary", "steps": [{ "weight": 5, "hold": "1m" }] });
    let (mut cluster, old, new) = rolling(canary, &plain());
    super::change(&mut cluster, |view| {
        let conditions = vec![
            super::said("Accepted", "True", view.generation),
            super::said("ResolvedRefs", "False", view.generation),
        ];
        view.parents = vec![super::parent("edge", conditions)];
    });
    cluster.wait(3600);
    cluster.settle();
    assert!(!began(&cluster));
    assert!(message(&cluster, "Ready").contains("ResolvedRefs is False"), "{}", message(&cluster, "Ready"));
    let abort = json!({ "revision": new, "action": "Abort" });
    cluster.owner.spec.control = Some(serde_json::from_value(abort).unwrap());
    cluster.edited();
    cluster.settle();
    assert_eq!(backends(&cluster), [(old, 100)]);
    assert!(cluster.view(&new).is_some(), "the Gateway may still lead there");
    accept(&mut cluster);
    cluster.wait(31);
    cluster.settle();
    assert!(cluster.view(&new).is_none());
}

#[test]
fn headers_go_before_shares_in_the_order_of_their_names() {
    let canary = json!({ "strategy": "Canary", "steps": [{ "weight": 0, "hold": "10m" }] });
    let headers = json!({
        "b": { "header": "x-model", "value": "next", "to": "Canary" },
        "a": { "header": "x-team", "value": "old", "to": "Stable" },
    });
    let mut routing = plain();
    routing["headers"] = headers;
    let (cluster, old, new) = rolling(canary, &routing);
    let rules = spec(&cluster)["rules"].as_array().unwrap();
    let found: Vec<_> = rules
        .iter()
        .map(|rule| (rule["matches"][0]["headers"][0]["name"].clone(), rule["backendRefs"][0]["name"].clone()))
        .collect();
    let shares = (Value::Null, json!(old));
    assert_eq!(found, [(json!("x-team"), json!(old)), (json!("x-model"), json!(new)), shares]);
    assert_eq!(rules[1]["matches"][0]["headers"][0]["type"], "Exact");
    assert_eq!(rules[1]["matches"][0]["path"]["value"], "/");
}

#[test]
fn a_shadow_gets_copies_by_a_mirror() {
    let shadow = json!({ "strategy": "Shadow", "sample": 0.025, "steps": [{ "hold": "10m" }] });
    let mut routing = plain();
    routing["headers"] = json!({ "next": { "header": "x-model", "value": "next", "to": "Canary" } });
    let (cluster, old, new) = rolling(shadow, &routing);
    assert_eq!(cluster.condition("Accepted"), pair("True", "Accepted"));
    assert_eq!(backends(&cluster), [(old, 100)]);
    let rules = spec(&cluster)["rules"].as_array().unwrap();
    let mirror =
        json!({ "backendRef": { "name": new, "port": 8080 }, "fraction": { "numerator": 250, "denominator": 10_000 } });
    assert_eq!(rules[1]["filters"], json!([{ "type": "RequestMirror", "requestMirror": mirror }]));
    assert!(rules[0].get("filters").is_none(), "what goes to it is not copied to it");
    let all = json!({ "strategy": "Shadow", "steps": [{ "hold": "10m" }] });
    let (cluster, _, _) = rolling(all, &plain());
    assert!(spec(&cluster)["rules"][0]["filters"][0]["requestMirror"].get("fraction").is_none());
}
