//! Many swaps, with crashes in between, old looks and routers that lag: every router always leads to pods.

use std::sync::Arc;

use super::cluster::{Cluster, pair};

/// Every router leads to a revision that is there, with pods.
fn answers(cluster: &Cluster, when: &str) {
    for router in 0..cluster.in_force.len() {
        let served = cluster.led_to(router).unwrap_or_else(|| panic!("{when}: router {router} leads to nothing"));
        assert!(served.available > 0 && !served.deleting, "{when}: router {router}: {served:?}");
    }
}

/// Version 2 comes; its pods answer.
fn swapping() -> (Cluster, String) {
    let mut cluster = Cluster::serving_version_1();
    let old = cluster.served().unwrap().name.clone();
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    (cluster, old)
}

#[test]
fn twenty_swaps_leave_every_router_with_pods_at_every_step() {
    let mut cluster = Cluster::serving_version_1();
    for swap in 0..20 {
        let version = 2 + swap % 9;
        let old = cluster.served().unwrap().name.clone();
        cluster.set_version(version);
        // A crash after each number of writes; the second router gets routes and is heard later than the first.
        for crash in 0..8 {
            cluster.pass_until(crash);
            answers(&cluster, &format!("swap {swap}, crash after {crash}"));
            cluster.stuck = if crash % 2 == 0 { [1].into() } else { [].into() };
            cluster.route();
            answers(&cluster, &format!("swap {swap}, routes after crash {crash}"));
            cluster.wait(1);
        }
        assert_eq!(cluster.served().unwrap().name, old, "switched before the pods answer");
        cluster.pods_get_ready();
        cluster.routers_report();
        for crash in 0..8 {
            cluster.stuck = if crash % 2 == 0 { [1].into() } else { [].into() };
            cluster.pass_until(crash);
            answers(&cluster, &format!("swap {swap}, ready, crash after {crash}"));
            cluster.route();
            answers(&cluster, &format!("swap {swap}, ready, routes after crash {crash}"));
            cluster.wait(1);
        }
        cluster.stuck.clear();
        cluster.settle();
        assert_ne!(cluster.served().unwrap().name, old);
        assert_eq!(cluster.observed.deployments.len(), 1, "the old revision stays for ever");
        assert_eq!(cluster.observed.services.len(), 2, "its Service stays for ever");
        assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(version));
        assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    }
}

#[test]
fn a_revision_gets_its_requests_only_when_every_router_knows_its_pods() {
    let (mut cluster, old) = swapping();
    cluster.stuck = [1].into();
    // The second router has the old routes: the new revision is not among them.
    cluster.in_force[1].models[0].revisions.retain(|revision| revision.name == old);
    cluster.settle();
    assert_eq!(cluster.led_to(0).unwrap().name, old);
    assert_eq!(cluster.condition("Ready"), pair("False", "Switching"));
    assert!(cluster.message().contains("router router-1 does not have the routes yet"), "{}", cluster.message());
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1));
    cluster.stuck.clear();
    cluster.settle();
    assert_ne!(cluster.led_to(0).unwrap().name, old);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn it_is_not_ready_until_every_router_has_the_new_routes() {
    let (mut cluster, old) = swapping();
    cluster.routers_report();
    cluster.stuck = [1].into();
    cluster.settle();
    assert_ne!(cluster.led_to(0).unwrap().name, old);
    assert_eq!(cluster.led_to(1).unwrap().name, old);
    assert_eq!(cluster.condition("Ready"), pair("False", "RoutesNotInForce"));
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1));
    assert!(cluster.view(&old).is_some(), "a router still sends requests to it");
    cluster.stuck.clear();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert!(cluster.view(&old).is_none());
}

#[test]
fn the_old_revision_stays_while_requests_are_in_flight_to_it() {
    let (mut cluster, old) = swapping();
    cluster.busy = [old.clone()].into();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    cluster.wait(299);
    cluster.settle();
    assert!(cluster.view(&old).is_some());
    assert_eq!(cluster.plan().requeue.map(|left| left.as_secs()), Some(1));
    cluster.busy.clear();
    cluster.routers_report();
    cluster.settle();
    assert!(cluster.view(&old).is_none());
    assert_eq!(cluster.in_force[0].models[0].revisions.len(), 1);
}

#[test]
fn requests_that_never_end_keep_the_old_revision_for_five_minutes() {
    let (mut cluster, old) = swapping();
    cluster.busy = [old.clone()].into();
    cluster.settle();
    cluster.wait(300);
    cluster.settle();
    assert!(cluster.view(&old).is_none());
    assert_eq!(cluster.plan().requeue, None);
}

#[test]
fn requests_that_may_take_longer_keep_it_for_as_long_as_they_may() {
    let (mut cluster, old) = swapping();
    cluster.owner.spec.routing =
        Some(serde_json::from_value(serde_json::json!({ "queue": { "timeout": "20m" } })).unwrap());
    cluster.edited();
    cluster.busy = [old.clone()].into();
    cluster.settle();
    cluster.wait(1199);
    cluster.settle();
    assert!(cluster.view(&old).is_some());
    assert_eq!(cluster.plan().requeue.map(|left| left.as_secs()), Some(1));
    cluster.wait(1);
    cluster.settle();
    assert!(cluster.view(&old).is_none());
}

#[test]
fn going_back_to_an_earlier_version_is_a_swap_like_any_other() {
    let mut cluster = Cluster::serving_version_1();
    let first = cluster.served().unwrap().name.clone();
    for version in [2, 1] {
        cluster.set_version(version);
        cluster.settle();
        cluster.pods_get_ready();
        cluster.settle();
        cluster.settle();
    }
    assert_eq!(cluster.served().unwrap().name, first, "the same thing has the same name");
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1));
}

#[test]
fn going_back_during_the_drain_switches_at_once_and_starts_no_pod() {
    let (mut cluster, old) = swapping();
    let first = cluster.view(&old).unwrap().uid.clone();
    cluster.busy = [old].into();
    cluster.settle();
    cluster.wait(5);
    cluster.set_version(1);
    cluster.settle();
    assert_eq!(cluster.served().unwrap().uid, first);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn a_revision_that_was_superseded_before_it_answered_is_deleted_at_once() {
    let mut cluster = Cluster::serving_version_1();
    cluster.set_version(2);
    cluster.settle();
    cluster.set_version(3);
    cluster.settle();
    let versions: Vec<_> = cluster.owner.status.as_ref().unwrap().revisions.iter().map(|r| r.version).collect();
    assert_eq!(versions.len(), 2);
    assert!(!versions.contains(&Some(2)), "{versions:?}");
    assert_eq!(cluster.observed.services.len(), 3);
    answers(&cluster, "superseded");
}

#[test]
fn what_routers_said_of_older_routes_deletes_nothing() {
    let (mut cluster, old) = swapping();
    cluster.routers_report();
    // Nothing was in flight to the old revision before the switch; the routers are not heard again.
    let before = cluster.observed.routers.pods.clone();
    cluster.pass();
    for _ in 0..3 {
        cluster.observed.routers.pods.clone_from(&before);
        cluster.pass();
        assert!(cluster.view(&old).is_some());
    }
}

#[test]
fn an_old_look_at_the_model_deployment_deletes_nothing_without_a_write_that_fails() {
    let (mut cluster, _) = swapping();
    let before = cluster.owner.clone();
    cluster.settle();
    for version in [1, 3] {
        // What is served now is not in the status that is seen.
        let mut late = swapping().0;
        late.owner = before.clone();
        late.observed = cluster.observed.clone();
        late.owner.status.as_mut().unwrap().revisions.retain(|revision| revision.version == Some(1));
        late.set_version(version);
        let plan = late.plan();
        assert!(!plan.delete.is_empty(), "the case is what it should be");
        assert!(plan.status.is_some());
    }
}

#[test]
fn nothing_is_written_once_nothing_changes() {
    let mut cluster = Cluster::serving_version_1();
    let writes = cluster.writes;
    for _ in 0..5 {
        cluster.wait(60);
        let plan = cluster.pass();
        assert_eq!(plan.requeue, None);
    }
    assert_eq!(cluster.writes, writes);
}

#[test]
fn a_selector_that_somebody_changed_is_put_right() {
    let mut cluster = Cluster::serving_version_1();
    for name in cluster.observed.services.keys().cloned().collect::<Vec<_>>() {
        let service = cluster.observed.services[&name].clone();
        let mut changed = service.as_ref().clone();
        changed.selector.insert("who".to_owned(), "me".to_owned());
        changed.shape += 1;
        if name == "penguins" {
            cluster.observed.service = Some(Arc::new(changed.clone()));
        }
        cluster.observed.services.insert(name.clone(), Arc::new(changed));
        cluster.settle();
        assert_eq!(cluster.observed.services[&name].selector, service.selector);
    }
}

#[test]
fn without_a_service_that_leads_to_the_routers_it_is_not_ready() {
    for gone in [true, false] {
        let mut cluster = Cluster::serving_version_1();
        let port = cluster.owner.status.as_ref().unwrap().router_port;
        if gone {
            cluster.observed.service = None;
            cluster.observed.services.remove("penguins");
            cluster.observed.applied_services.remove("penguins");
        } else {
            // It leads elsewhere, and nobody has applied it since this operator began.
            let mut other = cluster.observed.service.as_deref().unwrap().clone();
            other.selector = [("who".to_owned(), "me".to_owned())].into();
            other.shape += 1;
            cluster.observed.applied_services.remove("penguins");
            cluster.observed.service = Some(Arc::new(other.clone()));
            cluster.observed.services.insert("penguins".to_owned(), Arc::new(other));
        }
        // The apiserver does not take it yet.
        cluster.pass_until(1);
        assert_eq!(cluster.condition("Ready"), pair("False", "ServiceMissing"));
        cluster.settle();
        assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
        assert_eq!(cluster.owner.status.unwrap().router_port, port);
    }
}

#[test]
fn a_deployment_that_somebody_deleted_comes_back_under_its_name() {
    let mut cluster = Cluster::serving_version_1();
    let name = cluster.served().unwrap().name.clone();
    cluster.observed.deployments.clear();
    cluster.settle();
    assert!(cluster.view(&name).is_some());
    assert_eq!(cluster.condition("Ready").0, "False");
    cluster.pods_get_ready();
    cluster.settle();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}
