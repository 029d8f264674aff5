//! What becomes of a `deploy` stage whose version is not promoted at once. That ModelDeployments say these words is shown beside
//! `run::deploy::serves`.

use std::time::Duration;

use millrace_core::api::StageState;
use serde_json::json;

use crate::cluster::{Cluster, Fate, Said, deployment};
use crate::whole_loop;

const ROLLED_BACK: &str = "version 1 was rolled back in step 1 of 2: errors: ErrorRate 0.015 over 200 requests, more than max 0.01; revision served-0a has all requests";
const ABORTED: &str = "version 1 was aborted in step 1 of 2: spec.control says so; revision served-0a has all requests";
const PAUSED: &str =
    "version 1 has 5 % of the requests in step 1 of 2; it waits for a person (Approval: the step asks for approval)";

/// A pipeline whose model is good, and a ModelDeployment that says this once it has the version.
fn deploying(reason: &'static str, message: &'static str, stalled: bool) -> Cluster {
    let good = Fate::Succeeds(json!({ "metrics": { "f1": 0.95 } }));
    let mut cluster = Cluster::new(whole_loop()).fate("evaluate", 1, good);
    cluster.deployment = Some(deployment());
    cluster.rollout = Some(Said { reason, message, stalled });
    cluster
}

#[test]
fn a_version_that_is_given_up_fails_its_stage_with_the_verdict() {
    for (reason, message) in [("RolledBack", ROLLED_BACK), ("Aborted", ABORTED)] {
        let mut cluster = deploying(reason, message, true);
        cluster.settle();
        let status = cluster.stage("deploy");
        assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some(reason)));
        assert_eq!(status.message.as_deref(), Some(message));
        let (succeeded, _, said) = cluster.condition("Succeeded").unwrap();
        assert_eq!(succeeded, "False");
        assert!(said.contains("deploy") && said.contains(message), "{said}");
        let told = cluster
            .events
            .iter()
            .filter(|event| event.reason == "StageFailed" && event.message.contains(message))
            .count();
        assert_eq!(told, 1, "{:?}", cluster.events);
        assert_eq!(cluster.stage("register").state, StageState::Succeeded, "the version stays");
        assert_eq!(cluster.deployment.as_ref().unwrap().spec.model.version, Some(1), "nothing goes back");
    }
}

#[test]
fn a_rollout_that_pauses_is_waited_for_with_its_words_until_a_person_has_said_what_is_to_be() {
    let mut cluster = deploying("RolloutPaused", PAUSED, false);
    cluster.settle_until(|cluster| cluster.status().stages["deploy"].reason.as_deref() == Some("RolloutPaused"));
    let status = cluster.stage("deploy");
    assert_eq!(status.state, StageState::Running);
    assert!(status.message.as_ref().unwrap().starts_with(&format!("{PAUSED} (gives up at ")), "{:?}", status.message);
    // Half an hour later it waits still, and nothing is written for it.
    let writes = cluster.writes;
    cluster.pass_time(Duration::from_mins(30));
    cluster.reconcile();
    assert_eq!((cluster.stage("deploy").state, cluster.writes), (StageState::Running, writes));
    cluster.rollout = None;
    cluster.settle();
    assert_eq!(cluster.stage("deploy").state, StageState::Succeeded);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn a_rollout_that_pauses_for_too_long_fails_the_stage_and_says_what_nobody_did() {
    let mut cluster = deploying("RolloutPaused", PAUSED, false);
    cluster.settle();
    let status = cluster.stage("deploy");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("DeployTimeout")));
    assert_eq!(status.message.as_deref(), Some(format!("waited for 1h: RolloutPaused: {PAUSED}").as_str()));
}

#[test]
fn a_stage_that_only_sets_the_version_waits_for_no_verdict() {
    let good = Fate::Succeeds(json!({ "metrics": { "f1": 0.95 } }));
    let mut spec = whole_loop();
    spec["stages"]["deploy"]["deploy"]["wait"] = json!("Accepted");
    let mut cluster = Cluster::new(spec).fate("evaluate", 1, good);
    cluster.deployment = Some(deployment());
    cluster.rollout = Some(Said { reason: "RolledBack", message: ROLLED_BACK, stalled: true });
    cluster.settle();
    assert_eq!(cluster.stage("deploy").state, StageState::Succeeded);
}
