//! What is said of a namespace's routers: whether they lead there, and why there are none.

use std::sync::Arc;

use super::cluster::{Cluster, pair, router};
use crate::deployment::DeploymentView;
use crate::plan::{NAME_TAKEN, Refusal};
use crate::routing::Router;
use crate::run::Words;

#[test]
fn without_routers_it_is_not_ready_and_says_why_there_are_none() {
    let mut cluster = Cluster::serving_version_1();
    cluster.observed.routers.pods.clear();
    cluster.pass();
    assert_eq!(cluster.condition("Ready"), pair("False", "RoutesNotInForce"));
    assert!(cluster.message().contains("no router is ready yet"), "{}", cluster.message());
    let words = Words { reason: "FailedCreate".to_owned(), message: "exceeded quota: pods".to_owned() };
    let view = DeploymentView { failure: Some(words), ..DeploymentView::default() };
    cluster.observed.routers.deployment = Some(Arc::new(view));
    cluster.pass();
    assert!(cluster.message().contains("no router is ready: no pod can be made: FailedCreate: exceeded quota: pods"));
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1), "nothing else was served");
}

#[test]
fn a_name_of_the_routers_that_is_taken_is_told() {
    let mut cluster = Cluster::new();
    cluster.set_version(1);
    let taken = Refusal {
        object: "ServiceAccount millrace-router".to_owned(),
        code: 409,
        reason: NAME_TAKEN.to_owned(),
        message: "it is there already and belongs to somebody else".to_owned(),
    };
    cluster.observed.routers.refusals.push(taken);
    cluster.pass();
    assert_eq!(cluster.condition("Ready"), pair("False", NAME_TAKEN));
    assert!(cluster.message().contains("ServiceAccount millrace-router"), "{}", cluster.message());
}

#[test]
fn a_router_that_has_just_come_takes_nothing_away() {
    let mut cluster = Cluster::serving_version_1();
    let writes = cluster.writes;
    cluster.observed.routers.pods.insert(0, Router { pod: Arc::new(router(7)), report: None });
    cluster.pass();
    assert_eq!(cluster.writes, writes);
    // A revision that comes waits until that one has been heard as well.
    let old = cluster.served().unwrap().name.clone();
    cluster.set_version(2);
    cluster.pass();
    cluster.route();
    cluster.pods_get_ready();
    cluster.route();
    cluster.observed.routers.pods.push(Router { pod: Arc::new(router(7)), report: None });
    cluster.pass();
    cluster.route();
    assert_eq!(cluster.served().unwrap().name, old);
    assert!(cluster.message().contains("router router-7 does not answer the operator"), "{}", cluster.message());
}

#[test]
fn a_router_that_leaves_is_waited_for_while_it_has_requests_in_hand() {
    let mut cluster = Cluster::serving_version_1();
    let old = cluster.served().unwrap().name.clone();
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.busy = [old.clone()].into();
    cluster.route();
    for _ in 0..4 {
        // The first router is told to end; it has a request of the old revision in hand. The second has none.
        cluster.pass();
        cluster.route();
        let routers = &mut cluster.observed.routers.pods;
        let ending = Arc::make_mut(&mut routers[0].pod);
        (ending.ready, ending.pod.deleting) = (false, true);
        let mut second = routers[1].report.as_deref().unwrap().clone();
        second.models.values_mut().for_each(|model| *model = model.with_flight_of(&std::collections::BTreeSet::new()));
        routers[1].report = Some(Arc::new(second));
    }
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert!(cluster.view(&old).is_some());
    let ending = Arc::make_mut(&mut cluster.observed.routers.pods[0].pod);
    ending.pod.phase = "Succeeded".to_owned();
    cluster.pass();
    assert!(cluster.view(&old).is_none());
}
