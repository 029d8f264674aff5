//! What is said and done in each situation.

use std::sync::Arc;

use super::cluster::{Cluster, pair};
use crate::api::{EnvValue, Server};
use crate::deployment::ServiceView;
use crate::plan::{Apply, Refusal};
use crate::run::{ContainerView, PodView, Terminated, Words};

#[test]
fn without_a_version_it_waits_and_has_an_address_once_it_has_a_port() {
    let mut cluster = Cluster::new();
    let plan = cluster.pass();
    assert!(plan.apply.is_empty());
    assert_eq!(cluster.condition("Ready"), pair("False", "WaitingForFirstVersion"));
    assert_eq!(cluster.condition("Reconciling").0, "True");
    assert_eq!(cluster.owner.status.as_ref().unwrap().address, None);
    cluster.settle();
    assert!(cluster.owner.status.as_ref().unwrap().address.is_some());
    assert!(cluster.observed.deployments.is_empty());
    assert_eq!(cluster.condition("Ready"), pair("False", "WaitingForFirstVersion"));
}

#[test]
fn an_unknown_version_names_those_that_are_registered() {
    let mut cluster = Cluster::new();
    cluster.set_version(99);
    let plan = cluster.pass();
    assert!(plan.apply.is_empty());
    assert_eq!(cluster.condition("Ready"), pair("False", "VersionNotFound"));
    assert!(cluster.message().contains("registered are: 10, 9, 8"), "{}", cluster.message());
}

#[test]
fn an_unknown_version_leaves_alone_what_is_served() {
    let mut cluster = Cluster::serving_version_1();
    cluster.set_version(99);
    cluster.settle();
    cluster.wait(100);
    cluster.settle();
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!((status.served_version, cluster.served().unwrap().available), (Some(1), 1));
}

#[test]
fn without_a_version_the_promoted_one_stays_and_another_setting_is_carried_out() {
    let mut cluster = Cluster::serving_version_1();
    let served = cluster.owner.status.clone().unwrap().served_revision;
    cluster.owner.spec.model.version = None;
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.owner.status.clone().unwrap().served_revision, served);
    assert_eq!(cluster.condition("Ready").0, "True");
    let server = serde_json::from_value(serde_json::json!({ "resources": { "limits": { "memory": "600Mi" } } }));
    cluster.owner.spec.server = Some(server.unwrap());
    cluster.edited();
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!((status.served_version, cluster.condition("Ready").0.as_str()), (Some(1), "True"));
    assert_ne!(status.served_revision, served);
    // What somebody deletes comes back.
    cluster.observed.deployments.clear();
    cluster.settle();
    assert_eq!(cluster.observed.deployments.len(), 1);
    cluster.pods_get_ready();
    cluster.settle();
    // Of another model nothing is known.
    cluster.owner.spec.model.name = Some("others".to_owned());
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.owner.status.clone().unwrap().served_revision, status.served_revision);
}

#[test]
fn the_first_version_is_served_when_its_pods_answer() {
    let mut cluster = Cluster::new();
    cluster.set_version(1);
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("False", "Progressing"));
    assert!(cluster.served().is_none());
    cluster.pods_get_ready();
    cluster.settle();
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!(status.address.unwrap().url, "http://penguins.team.svc");
    assert_eq!(status.served_revision.as_deref(), Some(status.revisions[0].name.as_str()));
    assert_eq!((status.replicas, status.revisions[0].weight), (1, 100));
    let selector = format!("millrace.dev/model-deployment=penguins,millrace.dev/revision={}", status.revisions[0].name);
    assert_eq!(status.selector, Some(selector));
    let reasons: Vec<_> = cluster.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["RevisionCreated", "VersionServed"]);
}

#[test]
fn other_settings_are_another_revision_and_the_number_of_pods_is_not() {
    let mut cluster = Cluster::serving_version_1();
    let name = cluster.served().unwrap().name.clone();
    cluster.set_replicas(3);
    let plan = cluster.pass();
    assert_eq!(plan.apply, [Apply::Scale { deployment: name.clone(), from: 1, replicas: 3 }]);
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.served().unwrap().wanted, 3);
    let mut server = Server::default();
    server.settings.env.insert("A".to_owned(), EnvValue { value: Some("1".to_owned()), ..EnvValue::default() });
    cluster.owner.spec.server = Some(server);
    cluster.edited();
    cluster.settle();
    let names: Vec<_> = cluster.observed.deployments.iter().map(|view| (view.name != name, view.wanted)).collect();
    assert_eq!(names, [(false, 3), (true, 3)]);
}

#[test]
fn what_an_autoscaler_set_is_left_alone_and_inherited() {
    let mut cluster = Cluster::serving_version_1();
    let name = cluster.served().unwrap().name.clone();
    cluster.change(&name, |view| view.wanted = 5);
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.served().unwrap().wanted, 5);
    cluster.set_version(2);
    cluster.settle();
    assert!(cluster.observed.deployments.iter().all(|view| view.wanted == 5));
}

#[test]
fn no_replicas_is_a_state_to_be_in() {
    let mut cluster = Cluster::serving_version_1();
    cluster.set_replicas(0);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("False", "ScaledToZero"), "every request would end with 504");
    assert_eq!((cluster.condition("Reconciling").0, cluster.condition("Stalled").0), ("False".into(), "False".into()));
    cluster.set_replicas(1);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn what_a_deleted_predecessor_of_the_same_name_left_is_waited_for() {
    let mut cluster = Cluster::new();
    let left = Arc::new(ServiceView { owner: Some("predecessor".to_owned()), ..ServiceView::default() });
    cluster.observed.service = Some(left.clone());
    cluster.observed.services.insert("penguins".to_owned(), left);
    cluster.set_version(1);
    let plan = cluster.pass();
    assert!(plan.apply.is_empty() && plan.delete.is_empty());
    assert_eq!(
        (cluster.condition("Stalled").0, cluster.condition("Reconciling")),
        ("False".to_owned(), pair("True", "NameTaken"))
    );
    cluster.observed.service = None;
    cluster.observed.services.clear();
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn a_service_of_somebody_else_is_not_touched() {
    let mut cluster = Cluster::new();
    cluster.observed.service = Some(Arc::new(ServiceView { owner: None, ..ServiceView::default() }));
    cluster.set_version(1);
    let plan = cluster.pass();
    assert!(plan.apply.is_empty() && plan.delete.is_empty());
    assert_eq!(cluster.condition("Stalled"), pair("True", "NameTaken"));
}

#[test]
fn a_spec_that_cannot_be_carried_out_is_not_accepted_and_makes_nothing() {
    let mut cluster = Cluster::new();
    let mut server = Server::default();
    server.settings.service_account_name = Some("admin".to_owned());
    cluster.owner.spec.server = Some(server);
    cluster.set_version(1);
    let plan = cluster.pass();
    assert!(plan.apply.is_empty());
    cluster.route();
    assert_eq!(cluster.routes, None, "nothing is made for what was not accepted");
    assert_eq!(cluster.condition("Accepted"), pair("False", "ServiceAccountNotAllowed"));
    assert!(cluster.message().starts_with("spec.server.serviceAccountName: "), "{}", cluster.message());
    cluster.owner.spec.server = None;
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.condition("Accepted").0, "True");
    assert_eq!(cluster.observed.deployments.len(), 1);
}

#[test]
fn a_server_that_crashes_says_why_in_its_own_words() {
    let mut cluster = Cluster::serving_version_1();
    cluster.set_version(2);
    cluster.settle();
    let revision = cluster.observed.deployments.iter().find(|view| view.available == 0).unwrap().name.clone();
    let words = |reason: &str, message: &str| Some(Words { reason: reason.to_owned(), message: message.to_owned() });
    cluster.observed.pods.push(Arc::new(PodView {
        name: format!("{revision}-x"),
        stage: revision,
        phase: "Running".to_owned(),
        main: Some(ContainerView {
            waiting: words("CrashLoopBackOff", "back-off 10s"),
            terminated: Some(Terminated {
                exit_code: 1,
                reason: "Error".to_owned(),
                message: "model.onnx is no ONNX file".to_owned(),
                ..Terminated::default()
            }),
            ..ContainerView::default()
        }),
        ..PodView::default()
    }));
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("False", "RevisionFailing"));
    for part in ["CrashLoopBackOff", "exit code 1", "model.onnx is no ONNX file"] {
        assert!(cluster.message().contains(part), "{}", cluster.message());
    }
    assert_eq!(cluster.events.last().map(|event| (event.warning, event.reason)), Some((true, "RevisionFailing")));
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1));
}

#[test]
fn a_pod_without_a_node_shows_the_schedulers_words() {
    let mut cluster = Cluster::new();
    cluster.set_version(1);
    cluster.settle();
    let revision = cluster.observed.deployments[0].name.clone();
    cluster.observed.pods.push(Arc::new(PodView {
        name: "p".to_owned(),
        stage: revision,
        unschedulable: Some(Words { reason: "Unschedulable".to_owned(), message: "0/3 nodes: no GPU".to_owned() }),
        ..PodView::default()
    }));
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), pair("False", "Progressing"));
    assert!(cluster.message().contains("0/3 nodes: no GPU"), "{}", cluster.message());
}

#[test]
fn a_refusal_of_the_apiserver_is_shown_and_tried_again() {
    // A quota may get room again; what is invalid stays so.
    for (code, words, condition) in
        [(403, "exceeded quota: pods", "Reconciling"), (422, "spec.template: Invalid value", "Stalled")]
    {
        let mut cluster = Cluster::new();
        cluster.set_version(1);
        cluster.observed.refusals.push(Refusal {
            object: "Deployment penguins-1".to_owned(),
            code,
            reason: "Refused".to_owned(),
            message: words.to_owned(),
        });
        let plan = cluster.pass_until(1);
        assert!(plan.requeue.is_some());
        assert_eq!(cluster.condition(condition), pair("True", "Refused"));
        assert!(cluster.message().contains(words), "{}", cluster.message());
    }
}
