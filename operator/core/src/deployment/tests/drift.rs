//! What somebody changes of a ModelDeployment's objects is put right, once for each change, and told until it is.

use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;

use super::cluster::{Cluster, pair};
use crate::plan::{Apply, Refusal};

fn deployments_applied(cluster: &Cluster) -> usize {
    cluster.plan().apply.iter().filter(|apply| matches!(apply, Apply::Deployment(_))).count()
}

/// Somebody changes the model's own Service.
fn change_service(cluster: &mut Cluster) {
    let mut view = cluster.observed.service.as_deref().unwrap().clone();
    view.shape += 1;
    cluster.observed.service = Some(Arc::new(view.clone()));
    cluster.observed.services.insert("penguins".to_owned(), Arc::new(view));
}

#[test]
fn a_service_that_somebody_changed_is_not_ready_until_it_is_put_right() {
    let mut cluster = Cluster::serving_version_1();
    let right = cluster.observed.service.clone().unwrap();
    change_service(&mut cluster);
    cluster.pass_until(1);
    assert_eq!(cluster.condition("Ready"), pair("False", "ServiceChanged"));
    cluster.settle();
    assert_eq!(cluster.observed.service, Some(right));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn what_admission_made_of_a_service_is_right() {
    let mut cluster = Cluster::serving_version_1();
    change_service(&mut cluster);
    let shape = cluster.observed.service.as_ref().unwrap().shape;
    cluster.observed.applied_services.get_mut("penguins").unwrap().shape = shape;
    let writes = cluster.writes;
    cluster.settle();
    assert_eq!(cluster.writes, writes);
}

#[test]
fn who_changes_it_again_and_again_is_waited_for_longer_and_told() {
    let mut cluster = Cluster::serving_version_1();
    let began = cluster.now;
    let mut corrected = Vec::new();
    for second in 0..1200 {
        cluster.now = began + SignedDuration::from_secs(second);
        change_service(&mut cluster);
        let writes = cluster.observed.applied_services["penguins"];
        cluster.settle();
        if cluster.observed.applied_services["penguins"] != writes {
            corrected.push(second);
        }
    }
    assert_eq!(corrected, [0, 2, 6, 14, 30, 62, 126, 254, 510, 810, 1110]);
    assert!(cluster.message().contains("again and again"), "{}", cluster.message());
    let told = cluster.events.iter().filter(|event| event.reason == "ServiceChanged").count();
    assert!(told >= corrected.len(), "{told}");
}

#[test]
fn a_service_that_cannot_be_put_right_is_not_ready() {
    let mut cluster = Cluster::serving_version_1();
    change_service(&mut cluster);
    cluster.observed.refusals.push(Refusal {
        object: "Service penguins".to_owned(),
        code: 403,
        reason: "Forbidden".to_owned(),
        message: "a policy".to_owned(),
    });
    cluster.pass_until(1);
    assert_eq!(cluster.condition("Ready"), pair("False", "Refused"));
}

#[test]
fn a_deployment_that_somebody_changed_is_not_ready_until_it_is_put_right() {
    let mut cluster = Cluster::serving_version_1();
    let name = cluster.served().unwrap().name.clone();
    let right = cluster.image(&name).to_owned();
    cluster.set_image(&name, "debian");
    // The status alone, as if the operator died after it.
    cluster.pass_until(1);
    assert_eq!(cluster.condition("Ready"), pair("False", "RevisionChanged"));
    cluster.settle();
    assert_eq!(cluster.image(&name), right);
    assert_eq!(cluster.condition("Ready"), pair("False", "Progressing"), "nobody has looked at it yet");
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert_eq!(deployments_applied(&cluster), 0);
}

#[test]
fn after_a_start_each_deployment_is_applied_once_and_nothing_else_is_written() {
    let mut cluster = Cluster::serving_version_1();
    cluster.observed.applied.clear();
    let writes = cluster.writes;
    cluster.settle();
    assert_eq!(cluster.writes, writes + 1);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn a_revision_that_somebody_changed_is_not_switched_to() {
    let mut cluster = Cluster::serving_version_1();
    let first = cluster.served().unwrap().name.clone();
    cluster.set_version(2);
    cluster.settle();
    let second = cluster.observed.deployments.iter().find(|view| view.name != first).unwrap().name.clone();
    cluster.set_image(&second, "debian");
    cluster.pods_get_ready();
    assert!(!cluster.plan().apply.iter().any(|apply| matches!(apply, Apply::Service(_))));
    cluster.settle();
    assert_eq!(cluster.served().unwrap().name, first);
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.served().unwrap().name, second);
}

#[test]
fn scaling_is_no_change_of_what_runs() {
    let mut cluster = Cluster::serving_version_1();
    let name = cluster.served().unwrap().name.clone();
    cluster.change(&name, |view| {
        view.wanted = 5;
        view.generation += 1;
    });
    assert_eq!(deployments_applied(&cluster), 0);
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Scaling"));
}

#[test]
fn applying_again_leaves_the_number_of_pods_alone() {
    let mut cluster = Cluster::serving_version_1();
    let name = cluster.served().unwrap().name.clone();
    cluster.set_image(&name, "debian");
    cluster.change(&name, |view| view.wanted = 5);
    let applied = cluster.plan().apply;
    let [Apply::Deployment(deployment)] = applied.as_slice() else { panic!("{applied:?}") };
    assert_eq!(deployment.spec.as_ref().unwrap().replicas, Some(5));
}
