//! What is said where something is missing or refused, and that nothing else waits for it.

use std::sync::Arc;

use serde_json::json;

use super::{accept, asked, change, message, parent, routed, said, set, spec, view};
use crate::deployment::GatewayApi;
use crate::deployment::tests::cluster::{Cluster, pair};
use crate::plan::{NAME_TAKEN, Refusal};

#[test]
fn without_a_gateway_api_everything_else_goes_on_and_it_is_told_what_is_missing() {
    for (api, reason, words) in [
        (GatewayApi::Disabled, "GatewayAPIDisabled", "gatewayAPI.enabled"),
        (GatewayApi::Absent, "GatewayAPIMissing", "install the Gateway API"),
    ] {
        let mut cluster = asked("GatewayAPI");
        cluster.observed.gateways.api = api;
        cluster.settle();
        assert!(cluster.observed.gateways.route.is_none());
        assert_eq!(cluster.condition("Accepted"), pair("True", "Accepted"));
        assert_eq!(cluster.condition("Routed"), pair("False", reason));
        assert_eq!(cluster.condition("Ready"), pair("False", reason));
        assert!(message(&cluster, "Ready").contains(words), "{}", message(&cluster, "Ready"));
        assert!(cluster.owner.status.as_ref().unwrap().address.is_some(), "the Service answers");
        // Another version comes all the same, and the one before goes.
        cluster.set_version(2);
        cluster.settle();
        cluster.pods_get_ready();
        cluster.settle();
        cluster.settle();
        assert_eq!((cluster.observed.deployments.len(), cluster.served().unwrap().available), (1, 1));
        // It is installed.
        cluster.observed.gateways.api = GatewayApi::Present;
        cluster.settle();
        accept(&mut cluster);
        assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    }
}

#[test]
fn an_operator_that_has_just_begun_takes_nothing_away() {
    let mut cluster = routed("GatewayAPI");
    let writes = cluster.writes;
    let known = cluster.observed.gateways.clone();
    cluster.observed.gateways = crate::deployment::Gateways::default();
    cluster.pass();
    assert_eq!((cluster.writes, cluster.condition("Ready")), (writes, pair("True", "Serving")));
    // It writes what is there once more, which changes nothing, and knows it then.
    cluster.observed.gateways = crate::deployment::Gateways { applied: None, ..known };
    let generation = view(&cluster).generation;
    let plan = cluster.plan();
    assert!(plan.status.is_none() && plan.apply.len() == 1, "{plan:?}");
    assert_eq!(view(&cluster).generation, generation);
}

#[test]
fn each_gateway_has_to_accept_the_newest_route() {
    let mut cluster = asked("GatewayAPI");
    let refs = json!([{ "name": "edge" }, { "name": "far", "namespace": "infra" }]);
    set(&mut cluster, &json!({ "provider": "GatewayAPI", "gateway": { "parentRefs": refs } }));
    cluster.settle();
    accept(&mut cluster);
    assert_eq!(cluster.condition("Routed"), pair("Unknown", "RoutePending"));
    assert!(message(&cluster, "Routed").contains("Gateway infra/far has not answered"));
    cluster.observed.gateways.named.insert("infra/far".to_owned(), None);
    cluster.settle();
    assert_eq!(cluster.condition("Routed"), pair("False", "GatewayMissing"));
    assert!(message(&cluster, "Routed").contains("there is no Gateway infra/far in namespace infra"));
    let generation = view(&cluster).generation;
    change(&mut cluster, |view| {
        let mut far =
            parent("far", vec![said("Accepted", "False", generation), said("ResolvedRefs", "True", generation)]);
        far.parent_ref.namespace = Some("infra".to_owned());
        view.parents.push(far);
    });
    cluster.settle();
    assert_eq!(cluster.condition("Routed"), pair("False", "RouteRejected"));
    let words = "Gateway infra/far does not take the HTTPRoute: Accepted is False, Why: so it is";
    assert!(message(&cluster, "Routed").contains(words), "{}", message(&cluster, "Routed"));
    let events: Vec<_> = cluster.events.iter().filter(|event| event.warning).map(|event| event.reason).collect();
    assert_eq!(events, ["GatewayMissing", "RouteRejected"]);
    change(&mut cluster, |view| view.parents[1].conditions[0].status = "True".to_owned());
    cluster.settle();
    assert_eq!(cluster.condition("Routed"), pair("True", "RouteAccepted"));
}

/// As HTTPRoute conformance has it: what a parent says counts for the generation that it has observed, and both conditions count.
#[test]
fn what_a_gateway_says_is_read_as_the_specification_has_it() {
    let generations = |cluster: &Cluster| (view(cluster).generation - 1, view(cluster).generation);
    let cluster = routed("GatewayAPI");
    let (old, new) = generations(&cluster);
    let cases = [
        (vec![said("Accepted", "True", new), said("ResolvedRefs", "True", new)], "True", "RouteAccepted"),
        (vec![said("Accepted", "True", old), said("ResolvedRefs", "True", new)], "Unknown", "RoutePending"),
        (vec![said("Accepted", "True", new), said("ResolvedRefs", "True", old)], "Unknown", "RoutePending"),
        (vec![said("Accepted", "True", new)], "Unknown", "RoutePending"),
        (vec![said("ResolvedRefs", "True", new)], "Unknown", "RoutePending"),
        (vec![said("Accepted", "Unknown", new), said("ResolvedRefs", "True", new)], "False", "RouteRejected"),
        (vec![said("Accepted", "False", new), said("ResolvedRefs", "True", new)], "False", "RouteRejected"),
        (vec![said("Accepted", "True", new), said("ResolvedRefs", "False", new)], "False", "RouteRejected"),
        // Of the generation before, it may be right by now.
        (vec![said("Accepted", "False", old), said("ResolvedRefs", "True", old)], "Unknown", "RoutePending"),
        (
            vec![
                said("Accepted", "True", new),
                said("ResolvedRefs", "True", new),
                said("PartiallyInvalid", "True", new),
            ],
            "False",
            "RouteRejected",
        ),
        (
            vec![said("Accepted", "True", new), said("ResolvedRefs", "True", new), said("Programmed", "False", new)],
            "True",
            "RouteAccepted",
        ),
    ];
    for (conditions, truth, reason) in cases {
        let mut cluster = routed("GatewayAPI");
        change(&mut cluster, |view| view.parents = vec![parent("edge", conditions.clone())]);
        cluster.settle();
        assert_eq!(cluster.condition("Routed"), pair(truth, reason), "{conditions:?}");
        // A controller that has no part in it any more still stands there.
        let accepted = vec![said("Accepted", "True", new), said("ResolvedRefs", "True", new)];
        change(&mut cluster, |view| view.parents.push(parent("edge", accepted)));
        cluster.settle();
        assert_eq!(cluster.condition("Routed"), pair("True", "RouteAccepted"), "{conditions:?}");
    }
}

#[test]
fn what_the_apiserver_refuses_or_drops_is_told() {
    let mut cluster = asked("GatewayAPI");
    let taken = Refusal {
        object: "HTTPRoute penguins".to_owned(),
        code: 409,
        reason: NAME_TAKEN.to_owned(),
        message: "HTTPRoute penguins is there already and belongs to somebody else".to_owned(),
    };
    cluster.observed.refusals = vec![taken];
    cluster.pass();
    assert_eq!(cluster.condition("Routed"), pair("False", "RouteRefused"));
    assert_eq!(cluster.condition("Ready"), pair("False", NAME_TAKEN));
    // An installation without what a share of copies needs.
    let mut cluster = routed("GatewayAPI");
    change(&mut cluster, |view| {
        view.spec["rules"][0]["backendRefs"][0].as_object_mut().unwrap().remove("weight");
        view.shape = crate::deployment::digest(&view.spec);
    });
    let shape = view(&cluster).shape;
    let applied = cluster.observed.gateways.applied.as_mut().unwrap();
    applied.shape = shape;
    cluster.settle();
    assert_eq!(cluster.condition("Routed"), pair("False", "GatewayAPITooOld"));
    assert!(message(&cluster, "Routed").contains("without spec.rules[0].backendRefs[0].weight"));
}

#[test]
fn the_address_is_that_of_the_listener_that_is_named() {
    let mut cluster = routed("GatewayAPI");
    let view = cluster.observed.gateways.named["team/edge"].clone().unwrap();
    let mut gateway = crate::deployment::GatewayView::clone(&view);
    let mut tls = gateway.listeners[0].clone();
    (tls.name, tls.protocol, tls.port) = ("tls".to_owned(), "HTTPS".to_owned(), 8443);
    gateway.listeners.push(tls);
    gateway.addresses = vec!["2001:db8::1".to_owned()];
    cluster.observed.gateways.named.insert("team/edge".to_owned(), Some(Arc::new(gateway)));
    cluster.settle();
    let url = |cluster: &Cluster| cluster.owner.status.clone().unwrap().address.unwrap().gateway_url;
    assert_eq!(url(&cluster).as_deref(), Some("https://[2001:db8::1]:8443"));
    assert!(spec(&cluster).contains_key("rules"));
}
