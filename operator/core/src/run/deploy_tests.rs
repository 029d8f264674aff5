//! What a stage makes of what a ModelDeployment says in a real rollout.

use serde_json::{Value, json};

use super::{Serving, serves};
use crate::analysis::{Answers, Counts, Measured};
use crate::deployment::tests::cluster::Cluster;
use crate::deployment::watched;

/// Version 1 serves, and this is how version 2 comes.
fn rolling(step: &Value) -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    let errors = json!({ "metric": "ErrorRate", "max": 0.01, "minSamples": 200 });
    let rollout = json!({ "strategy": "Canary", "steps": [step], "analysis": { "errors": errors } });
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
    cluster.set_version(2);
    cluster.go_on(0);
    cluster
}

fn control(cluster: &mut Cluster, action: &str, step: Option<i32>) {
    let revision = cluster.owner.status.as_ref().unwrap().rollout.as_ref().unwrap().revision.clone();
    let control = json!({ "revision": revision, "action": action, "step": step });
    cluster.owner.spec.control = Some(serde_json::from_value(control).unwrap());
    cluster.edited();
    cluster.go_on(0);
}

fn never(cluster: &Cluster) -> (String, String) {
    match serves(&cluster.owner, 2) {
        Serving::Never(reason, message) => (reason, message),
        other => panic!("{other:?}"),
    }
}

fn not_yet(cluster: &Cluster) -> (String, String) {
    match serves(&cluster.owner, 2) {
        Serving::NotYet(reason, message) => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_that_is_rolled_back_never_comes_and_the_figures_say_why() {
    let mut cluster = rolling(&json!({ "weight": 5, "hold": "2m" }));
    let (reason, message) = not_yet(&cluster);
    assert!(reason == "RollingOut" && message.contains("5 % of the requests in step 1 of 1"), "{reason}: {message}");
    let step = watched(&cluster.owner).unwrap();
    let candidate = Counts { ended: 200, failed: 3, ..Counts::default() };
    let stable = Counts::default();
    cluster.observed.measured =
        Some(Measured { step, since: cluster.now, candidate, stable, answers: Answers::default() });
    cluster.go_on(0);
    let (reason, message) = never(&cluster);
    let why = "version 2 was rolled back in step 1 of 1: errors: ErrorRate 0.015 over 200 requests, more than max 0.01";
    assert!(reason == "RolledBack" && message.starts_with(why), "{reason}: {message}");
}

#[test]
fn one_that_a_person_aborts_never_comes() {
    let mut cluster = rolling(&json!({ "weight": 5, "hold": "2m" }));
    control(&mut cluster, "Abort", None);
    let (reason, message) = never(&cluster);
    let why = "version 2 was aborted in step 1 of 1: spec.control says so";
    assert!(reason == "Aborted" && message.starts_with(why), "{reason}: {message}");
    // A person may think better of it: another stage that asks for it succeeds.
    control(&mut cluster, "Promote", None);
    assert_eq!(serves(&cluster.owner, 2), Serving::Yes);
}

#[test]
fn one_that_pauses_may_come_and_what_it_waits_for_is_said() {
    let mut cluster = rolling(&json!({ "weight": 5, "hold": "1s", "pause": true }));
    cluster.owner.spec.rollout.as_mut().unwrap().analysis.clear();
    cluster.edited();
    cluster.wait(2);
    cluster.go_on(0);
    let (reason, message) = not_yet(&cluster);
    let waits = "in step 1 of 1; it waits for a person (Approval: the step asks for approval)";
    assert!(reason == "RolloutPaused" && message.contains(waits), "{reason}: {message}");
    control(&mut cluster, "Approve", Some(1));
    assert_eq!(serves(&cluster.owner, 2), Serving::Yes);
}

#[test]
fn what_is_said_of_the_spec_before_says_nothing_of_the_version() {
    let mut cluster = rolling(&json!({ "weight": 5, "hold": "2m" }));
    control(&mut cluster, "Abort", None);
    cluster.edited();
    assert_eq!(not_yet(&cluster).0, "WaitingForPromotion");
}
