//! Many swaps, with crashes in between and old looks: the address always has pods behind it.

use std::sync::Arc;

use super::cluster::{Cluster, pair};

/// The Service selects a revision that is there, with all its pods.
fn answers(cluster: &Cluster, when: &str) {
    let served = cluster.served().unwrap_or_else(|| panic!("{when}: the Service selects nothing that is there"));
    assert!(served.available > 0 && !served.deleting, "{when}: {served:?}");
}

#[test]
fn twenty_swaps_leave_the_address_with_pods_at_every_step() {
    let mut cluster = Cluster::serving_version_1();
    for swap in 0..20 {
        let version = 2 + swap % 9;
        let old = cluster.served().unwrap().name.clone();
        cluster.set_version(version);
        // A crash after each number of writes, then a whole pass.
        for crash in 0..6 {
            cluster.pass_until(crash);
            answers(&cluster, &format!("swap {swap}, crash after {crash}"));
            cluster.wait(1);
        }
        assert_eq!(cluster.served().unwrap().name, old, "switched before the pods answer");
        cluster.pods_get_ready();
        for crash in 0..6 {
            cluster.pass_until(crash);
            answers(&cluster, &format!("swap {swap}, ready, crash after {crash}"));
            cluster.wait(1);
        }
        let new = cluster.served().unwrap().name.clone();
        assert_ne!(new, old);
        assert!(cluster.view(&old).is_some(), "the old revision is gone before nodes know of the new one");
        cluster.settle();
        let left = cluster.plan().requeue.expect("it looks again when the old one may go");
        cluster.wait(i64::try_from(left.as_secs()).unwrap() + 1);
        cluster.settle();
        assert_eq!(cluster.observed.deployments.len(), 1, "the old revision stays for ever");
        assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(version));
        assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    }
}

#[test]
fn the_old_revision_stays_fifteen_seconds_after_the_switch() {
    let mut cluster = Cluster::serving_version_1();
    cluster.wait(100);
    let old = cluster.served().unwrap().name.clone();
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    cluster.wait(14);
    cluster.settle();
    assert!(cluster.view(&old).is_some());
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
        cluster.wait(16);
        cluster.settle();
    }
    assert_eq!(cluster.served().unwrap().name, first, "the same thing has the same name");
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1));
}

#[test]
fn going_back_during_the_drain_switches_at_once_and_starts_no_pod() {
    let mut cluster = Cluster::serving_version_1();
    let first = cluster.served().unwrap().uid.clone();
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
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
    answers(&cluster, "superseded");
}

#[test]
fn an_old_look_at_the_service_never_deletes_what_it_selects() {
    let mut cluster = Cluster::serving_version_1();
    cluster.wait(100);
    let before = cluster.observed.service.clone();
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let second = cluster.served().unwrap().name.clone();
    for (version, what) in [(1, "back to the first"), (3, "on to a third")] {
        // The Service selects version 2; the pass still sees it select version 1.
        let mut late = Cluster::serving_version_1();
        late.owner = cluster.owner.clone();
        late.observed = cluster.observed.clone();
        late.observed.service.clone_from(&before);
        late.now = cluster.now;
        late.set_version(version);
        let deleted: Vec<_> = late.plan().delete.into_iter().map(|delete| delete.name).collect();
        assert!(!deleted.contains(&second), "{what}: {deleted:?}");
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
    let right = cluster.observed.service.clone().unwrap().selector.clone();
    let mut service = cluster.observed.service.clone().unwrap();
    Arc::make_mut(&mut service).selector.insert("who".to_owned(), "me".to_owned());
    cluster.observed.service = Some(service);
    cluster.settle();
    assert_eq!(cluster.observed.service.unwrap().selector, right);
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
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}
