//! The budget of a ModelDeployment's pods: whose pods it keeps, and that it stays what it is.

use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::cluster::{Cluster, pair};
use crate::deployment::BudgetView;
use crate::plan::{Apply, NAME_TAKEN, Refusal};

/// The revisions whose pods go one after the other.
fn kept(cluster: &Cluster) -> Vec<String> {
    let selector = cluster.budget.clone().unwrap().spec.unwrap().selector.unwrap();
    selector.match_expressions.unwrap().remove(0).values.unwrap()
}

fn name_of(cluster: &Cluster, version: i64) -> String {
    let revisions = &cluster.owner.status.as_ref().unwrap().revisions;
    revisions.iter().find(|revision| revision.version == Some(version)).unwrap().name.clone()
}

/// Somebody changes it.
fn change(cluster: &mut Cluster) {
    let view = cluster.observed.budget.as_deref().unwrap();
    cluster.observed.budget = Some(Arc::new(BudgetView { shape: view.shape + 1, ..view.clone() }));
}

#[test]
fn pods_of_what_is_served_go_one_after_the_other() {
    let mut cluster = Cluster::new();
    cluster.settle();
    assert_eq!(cluster.budget, None, "no version, no pods");
    cluster.set_version(1);
    cluster.go_on(0);
    let revision = name_of(&cluster, 1);
    let budget = json!(cluster.budget);
    let selector = json!({
        "matchLabels": { "millrace.dev/model-deployment": "penguins" },
        "matchExpressions": [{ "key": "millrace.dev/revision", "operator": "In", "values": [revision] }],
    });
    let spec = json!({ "maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector });
    assert_eq!(budget["spec"], spec);
    assert_eq!(budget["metadata"]["name"], "penguins");
    assert_eq!(budget["metadata"]["ownerReferences"][0]["uid"], "owner");
    cluster.set_replicas(0);
    cluster.go_on(0);
    assert_eq!(json!(cluster.budget), budget, "at zero there is nothing that it keeps");
}

#[test]
fn a_revision_that_comes_or_goes_keeps_no_node() {
    let mut cluster = Cluster::serving_version_1();
    let old = name_of(&cluster, 1);
    let rollout = json!({ "strategy": "Canary", "steps": [{ "weight": 50, "pause": true }] });
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
    cluster.set_version(2);
    cluster.settle();
    let new = name_of(&cluster, 2);
    assert_eq!(kept(&cluster), std::slice::from_ref(&old), "its pods do not answer yet");
    cluster.go_on(0);
    let mut both = vec![old.clone(), new.clone()];
    both.sort_unstable();
    assert_eq!(kept(&cluster), both);
    cluster.busy.insert(old);
    let control = json!({ "revision": new, "action": "Promote" });
    cluster.owner.spec.control = Some(serde_json::from_value(control).unwrap());
    cluster.edited();
    cluster.go_on(0);
    assert_eq!(cluster.owner.status.as_ref().unwrap().revisions.len(), 2, "the old one drains");
    assert_eq!(kept(&cluster), [new]);
}

#[test]
fn what_somebody_changes_or_deletes_is_put_right_and_who_does_it_again_is_waited_for() {
    let mut cluster = Cluster::serving_version_1();
    let writes = cluster.writes;
    cluster.settle();
    assert_eq!(cluster.writes, writes);
    let right = cluster.observed.budget.clone();
    change(&mut cluster);
    cluster.settle();
    assert_eq!((cluster.writes, &cluster.observed.budget), (writes + 1, &right));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));

    change(&mut cluster);
    let plan = cluster.plan();
    assert!(!plan.apply.iter().any(|apply| matches!(apply, Apply::Budget(_))));
    let left = plan.requeue.unwrap();
    cluster.now += SignedDuration::try_from(left).unwrap();
    cluster.settle();
    assert_eq!(cluster.observed.budget, right);

    cluster.observed.budget = None;
    cluster.settle();
    assert_eq!(cluster.observed.budget, right);
}

#[test]
fn one_that_somebody_else_has_is_told_and_changes_nothing_else() {
    let taken = |object: &str| Refusal {
        object: object.to_owned(),
        code: 409,
        reason: NAME_TAKEN.to_owned(),
        message: "it is somebody else's".to_owned(),
    };
    let mut cluster = Cluster::serving_version_1();
    cluster.observed.refusals = vec![taken("PodDisruptionBudget penguins")];
    cluster.pass();
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert_eq!(cluster.condition("Reconciling").0, "False");
    assert!(cluster.message().ends_with("PodDisruptionBudget penguins was refused: it is somebody else's (409)"));
    cluster.observed.refusals = ["PodDisruptionBudget penguins", "Service penguins"].map(taken).into();
    cluster.pass();
    assert_eq!(cluster.condition("Ready"), pair("False", NAME_TAKEN));
    assert!(cluster.message().starts_with("Service penguins"), "{}", cluster.message());
}
