//! What is said of who is let in: only when every router has it in force, and with the Secret that is missing.

use std::sync::Arc;

use super::super::is_settled;
use super::cluster::{Cluster, pair};
use crate::api::{Security, TlsSecret};

/// Version 1 is served with TLS.
fn with_tls(secret: &str) -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    set(&mut cluster, secret);
    cluster.settle();
    cluster
}

fn set(cluster: &mut Cluster, secret: &str) {
    let tls = Some(TlsSecret { secret_name: secret.to_owned() });
    cluster.owner.spec.security = Some(Box::new(Security { tls, ..Security::default() }));
    cluster.edited();
}

fn message(cluster: &Cluster, kind: &str) -> String {
    let conditions = &cluster.owner.status.as_ref().unwrap().conditions;
    conditions.iter().find(|condition| condition.type_ == kind).unwrap().message.clone()
}

fn address(cluster: &Cluster) -> String {
    cluster.owner.status.as_ref().unwrap().address.as_ref().unwrap().url.clone()
}

#[test]
fn it_is_ready_when_every_router_has_it_in_force() {
    let mut cluster = Cluster::serving_version_1();
    assert_eq!(address(&cluster), "http://penguins.team.svc");
    cluster.stuck = [1].into();
    set(&mut cluster, "cert");
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("False", "SecurityNotInForce"));
    assert_eq!(cluster.condition("Secured"), pair("False", "SecurityNotInForce"));
    assert!(message(&cluster, "Ready").contains("router-1 does not have spec.security"), "{}", cluster.message());
    cluster.stuck.clear();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert_eq!(cluster.condition("Secured"), pair("True", "InForce"));
    assert_eq!(address(&cluster), "https://penguins.team.svc");
    cluster.owner.spec.security = None;
    cluster.edited();
    cluster.settle();
    assert_eq!(address(&cluster), "http://penguins.team.svc");
    let conditions = &cluster.owner.status.as_ref().unwrap().conditions;
    assert!(conditions.iter().all(|condition| condition.type_ != "Secured"));
}

#[test]
fn a_router_that_has_said_nothing_is_not_taken_to_have_it_in_force() {
    let mut cluster = with_tls("cert");
    assert_eq!(cluster.condition("Secured"), pair("True", "InForce"));
    // One that was not asked yet, and then one that does not know the model.
    cluster.observed.routers.pods[1].report = None;
    cluster.pass();
    assert_eq!(cluster.condition("Secured"), pair("Unknown", "SecurityNotInForce"));
    assert!(message(&cluster, "Secured").starts_with("router router-1 has not said yet"), "{}", cluster.message());
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert!(!is_settled(&cluster.owner));
    cluster.observed.routers.pods[1].report = Some(Arc::default());
    cluster.pass();
    assert_eq!(cluster.condition("Secured"), pair("False", "SecurityNotInForce"));
    assert!(message(&cluster, "Secured").starts_with("router router-1 does not have spec.security"));
    // Nobody can tell: what was told stays.
    cluster.routers_report();
    cluster.pass();
    assert_eq!(cluster.condition("Secured"), pair("True", "InForce"));
    cluster.observed.routers.pods.iter_mut().for_each(|router| router.report = None);
    cluster.pass();
    assert_eq!(cluster.condition("Secured"), pair("True", "InForce"));
}

#[test]
fn a_secret_that_is_missing_is_told_and_it_is_not_ready() {
    let mut cluster = with_tls("cert");
    cluster.events.clear();
    cluster.broken = vec!["Secret cert: tls.key is missing".to_owned()];
    cluster.closed = true;
    cluster.route();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("False", "SecretNotUsable"));
    assert_eq!(cluster.condition("Secured"), pair("False", "SecretNotUsable"));
    for kind in ["Ready", "Secured"] {
        assert!(message(&cluster, kind).contains("nobody is let in: Secret cert: tls.key is missing"));
    }
    let told = cluster.events.iter().filter(|event| event.reason == "SecretNotUsable").count();
    assert_eq!(told, 1, "{:?}", cluster.events);
    cluster.broken.clear();
    cluster.closed = false;
    cluster.route();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn a_broken_secret_that_was_good_is_told_and_it_stays_ready() {
    let mut cluster = with_tls("cert");
    cluster.broken = vec!["Secret cert: tls.key is not the key of tls.crt".to_owned()];
    cluster.route();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert_eq!(cluster.condition("Secured"), pair("False", "SecretNotTaken"));
    assert!(message(&cluster, "Secured").contains("not the key of tls.crt; what is good, or was, stays in force"));
    let writes = cluster.writes;
    cluster.pass();
    assert_eq!(cluster.writes, writes);
}
