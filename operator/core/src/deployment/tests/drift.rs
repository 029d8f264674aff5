//! What somebody changes of a ModelDeployment's objects is put right, once for each change, and told until it is.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::cluster::{Cluster, pair};
use crate::deployment::ServiceView;
use crate::plan::{Apply, Refusal};

fn deployments_applied(cluster: &Cluster) -> usize {
    cluster.plan().apply.iter().filter(|apply| matches!(apply, Apply::Deployment(_))).count()
}

#[test]
fn every_field_of_the_service_that_somebody_changed_is_put_right() {
    type Change = fn(&mut ServiceView);
    let changes: [Change; 5] = [
        |service| service.type_ = "NodePort".to_owned(),
        |service| service.session_affinity = "ClientIP".to_owned(),
        |service| service.ports[0].target_port = Some(IntOrString::Int(9)),
        |service| service.ports.push(service.ports[0].clone()),
        |service| service.ports.clear(),
    ];
    for change in changes {
        let mut cluster = Cluster::serving_version_1();
        let (right, writes) = (cluster.observed.service.clone().unwrap(), cluster.writes);
        change(Arc::make_mut(cluster.observed.service.as_mut().unwrap()));
        cluster.settle();
        assert_eq!(cluster.observed.service, Some(right));
        assert_eq!(cluster.writes, writes + 1);
    }
}

#[test]
fn a_service_that_cannot_be_put_right_is_not_ready() {
    let mut cluster = Cluster::serving_version_1();
    Arc::make_mut(cluster.observed.service.as_mut().unwrap()).ports.clear();
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
