//! What the `HTTPRoute` says.

use serde_json::json;

use super::{accept, asked, backends, change, message, routed, set, spec, view};
use crate::deployment::tests::cluster::pair;
use crate::deployment::{GatewayApi, LONGEST_DRAIN};
use crate::plan::Apply;

#[test]
fn with_the_routers_a_gateway_leads_to_the_service_and_says_so() {
    let mut cluster = asked("Router");
    cluster.settle();
    let wanted = json!({
        "parentRefs": [{ "name": "edge" }],
        "rules": [{ "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }], "backendRefs": [{ "name": "penguins", "port": 80 }] }],
    });
    assert_eq!(json!(spec(&cluster)), wanted);
    assert_eq!(cluster.condition("Routed"), pair("Unknown", "RoutePending"));
    assert_eq!(cluster.condition("Ready"), pair("False", "RoutePending"));
    accept(&mut cluster);
    assert_eq!(cluster.condition("Routed"), pair("True", "RouteAccepted"));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!(status.address.unwrap().gateway_url.as_deref(), Some("http://192.0.2.7"));
    // Another version is the routers' business alone.
    let generation = view(&cluster).generation;
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(2));
    assert_eq!((view(&cluster).generation, cluster.condition("Ready")), (generation, pair("True", "Serving")));
}

#[test]
fn hosts_and_a_path_are_in_the_route_and_in_the_address() {
    let mut cluster = asked("GatewayAPI");
    let gateway = json!({
        "parentRefs": [{ "name": "edge", "namespace": "team", "sectionName": "web" }],
        "hostnames": ["*.example.com", "penguins.example.com"],
        "path": "/v2/models/penguins",
    });
    set(&mut cluster, &json!({ "provider": "GatewayAPI", "gateway": gateway }));
    cluster.settle();
    assert_eq!(json!(spec(&cluster)["parentRefs"]), gateway["parentRefs"]);
    assert_eq!(json!(spec(&cluster)["hostnames"]), gateway["hostnames"]);
    let matched = &spec(&cluster)["rules"][0]["matches"];
    assert_eq!(*matched, json!([{ "path": { "type": "PathPrefix", "value": "/v2/models/penguins" } }]));
    accept(&mut cluster);
    // What it says is of the whole Gateway, and asked for was a listener.
    assert_eq!(cluster.condition("Routed"), pair("Unknown", "RoutePending"));
    change(&mut cluster, |view| view.parents[0].parent_ref.section_name = Some("web".to_owned()));
    cluster.settle();
    let url = cluster.owner.status.as_ref().unwrap().address.clone().unwrap().gateway_url;
    assert_eq!(url.as_deref(), Some("http://penguins.example.com/v2/models/penguins"));
}

#[test]
fn a_gateway_that_splits_leads_to_the_pods() {
    let cluster = routed("GatewayAPI");
    let revision = cluster.served().unwrap().name.clone();
    assert_eq!(backends(&cluster), [(revision, 100)]);
    assert_eq!(spec(&cluster)["rules"][0]["backendRefs"][0]["port"], 8080);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn before_the_first_revision_answers_a_splitting_gateway_leads_nowhere() {
    let mut cluster = super::Cluster::new();
    cluster.observed.gateways.api = GatewayApi::Present;
    set(&mut cluster, &json!({ "provider": "GatewayAPI", "gateway": { "parentRefs": [{ "name": "edge" }] } }));
    cluster.set_version(1);
    cluster.settle();
    assert!(cluster.observed.gateways.route.is_none());
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(backends(&cluster).len(), 1);
}

#[test]
fn to_switch_the_provider_is_one_write_of_a_route_whose_backends_all_answer() {
    let mut cluster = routed("Router");
    for provider in ["GatewayAPI", "Router"] {
        let mut routing = cluster.owner.spec.routing.clone().unwrap();
        routing.provider = serde_json::from_value(json!(provider)).unwrap();
        cluster.owner.spec.routing = Some(routing);
        cluster.edited();
        let plan = cluster.pass();
        assert!(plan.delete.is_empty(), "{:?}", plan.delete);
        let routes = plan.apply.iter().filter(|apply| matches!(apply, Apply::HttpRoute(_)));
        assert_eq!(routes.count(), 1);
        let (backend, _) = backends(&cluster).remove(0);
        let expected = if provider == "Router" { "penguins" } else { &cluster.served().unwrap().name };
        assert_eq!(backend, expected);
        cluster.settle();
        assert_eq!(cluster.condition("Routed"), pair("Unknown", "RoutePending"));
        accept(&mut cluster);
        assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    }
}

#[test]
fn what_others_change_is_put_right_and_one_of_another_owner_is_left() {
    let mut cluster = routed("GatewayAPI");
    let right = spec(&cluster).clone();
    change(&mut cluster, |view| {
        view.spec["rules"][0]["backendRefs"][0]["name"] = json!("elsewhere");
        (view.shape, view.generation) = (1, view.generation + 1);
    });
    let plan = cluster.pass();
    assert_eq!(cluster.condition("Routed"), pair("False", "RouteChanged"));
    assert_eq!(cluster.condition("Ready"), pair("False", "RouteChanged"));
    assert!(plan.apply.iter().any(|apply| matches!(apply, Apply::HttpRoute(_))));
    assert_eq!(*spec(&cluster), right);
    accept(&mut cluster);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    // Without the wish for it one's own goes, and nobody else's.
    set(&mut cluster, &json!({}));
    let other = |owner: &str| Some(owner.to_owned());
    change(&mut cluster, |view| view.owner = other("somebody"));
    cluster.settle();
    assert!(cluster.observed.gateways.route.is_some());
    change(&mut cluster, |view| view.owner = other("owner"));
    cluster.settle();
    assert!(cluster.observed.gateways.route.is_none());
    let status = cluster.owner.status.as_ref().unwrap();
    assert!(status.gateway.is_none() && status.conditions.iter().all(|condition| condition.type_ != "Routed"));
    assert_eq!(status.address.as_ref().unwrap().gateway_url, None);
}

#[test]
fn a_revision_stays_while_a_gateway_that_does_not_look_leads_to_it() {
    let mut cluster = routed("GatewayAPI");
    let old = cluster.served().unwrap().name.clone();
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let [(new, _)] = &backends(&cluster)[..] else { panic!("one has everything: {:?}", backends(&cluster)) };
    assert_ne!(*new, old);
    // The controller of the Gateway is down for an hour: its proxies still have the old weights.
    for _ in 0..12 {
        cluster.wait(i64::try_from(LONGEST_DRAIN.as_secs()).unwrap());
        cluster.settle();
        assert!(cluster.view(&old).is_some());
    }
    // Nor does it go where an operator begins anew, which has seen no route yet.
    let known = std::mem::take(&mut cluster.observed.gateways);
    cluster.pass();
    assert!(cluster.view(&old).is_some());
    cluster.observed.gateways = known;
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("False", "RoutePending"));
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1), "it still answers with that");
    assert!(message(&cluster, "Ready").contains("Gateway edge has not looked at the newest HTTPRoute yet"));
    accept(&mut cluster);
    assert!(cluster.view(&old).is_some(), "its proxies have a moment");
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(2));
    cluster.wait(31);
    cluster.settle();
    assert!(cluster.view(&old).is_none());
}
