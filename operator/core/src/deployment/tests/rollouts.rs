//! Rollouts: steps, analyses, people, and what goes wrong on the way.

use std::collections::BTreeMap;

use super::cluster::{Cluster, pair};
use crate::analysis::{Answers, Counts, Measured};
use crate::api::{RolloutOutcome, RolloutStatus};
use crate::deployment::{counted, has_news, is_settled, timed, watched};
use crate::run::PodView;

/// Version 1 is served by four pods, version 2 is asked for and its pods answer.
fn rolling(rollout: serde_json::Value) -> (Cluster, String, String) {
    let (mut cluster, old) = before(rollout);
    let new = ask(&mut cluster, 2);
    (cluster, old, new)
}

fn before(rollout: serde_json::Value) -> (Cluster, String) {
    let mut cluster = Cluster::new();
    cluster.set_replicas(4);
    set(&mut cluster, rollout);
    cluster.set_version(1);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    let old = cluster.served().unwrap().name.clone();
    (cluster, old)
}

fn set(cluster: &mut Cluster, rollout: serde_json::Value) {
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
    cluster.edited();
}

/// Asks for a version, whose pods answer at once.
fn ask(cluster: &mut Cluster, version: i64) -> String {
    cluster.set_version(version);
    ready(cluster);
    let revisions = &cluster.owner.status.as_ref().unwrap().revisions;
    revisions.iter().find(|revision| revision.version == Some(version)).unwrap().name.clone()
}

fn ready(cluster: &mut Cluster) {
    for _ in 0..3 {
        cluster.settle();
        cluster.pods_get_ready();
        cluster.routers_report();
    }
    cluster.settle();
}

fn control(cluster: &mut Cluster, value: serde_json::Value) {
    cluster.owner.spec.control = Some(serde_json::from_value(value).unwrap());
    cluster.edited();
    ready(cluster);
}

fn hold(cluster: &mut Cluster, seconds: i64) {
    cluster.wait(seconds);
    ready(cluster);
}

fn rollout(cluster: &Cluster) -> Option<RolloutStatus> {
    cluster.owner.status.clone().unwrap().rollout
}

fn step(cluster: &Cluster) -> i32 {
    rollout(cluster).unwrap().step
}

/// The shares that the first router has in force.
fn shares(cluster: &Cluster) -> BTreeMap<String, u32> {
    let revisions = &cluster.in_force[0].models[0].revisions;
    revisions.iter().map(|revision| (revision.name.clone(), revision.weight)).collect()
}

fn share(cluster: &Cluster, name: &str) -> u32 {
    shares(cluster).get(name).copied().unwrap_or_default()
}

fn wanted(cluster: &Cluster, name: &str) -> i32 {
    cluster.view(name).map_or(0, |view| view.wanted)
}

fn history(cluster: &Cluster) -> Vec<(Option<i64>, RolloutOutcome)> {
    let history = &cluster.owner.status.as_ref().unwrap().history;
    history.iter().map(|record| (record.version, record.outcome)).collect()
}

fn reasons(cluster: &Cluster) -> Vec<&'static str> {
    cluster.events.iter().map(|event| event.reason).collect()
}

fn counts(ended: u64, failed: u64) -> Counts {
    let mut counts = Counts { ended, failed, ..Counts::default() };
    counts.duration.buckets.insert(10_000, ended);
    counts
}

/// Routers say this of the step that is in force.
fn measure(cluster: &mut Cluster, candidate: Counts, stable: Counts) {
    let step = watched(&cluster.owner).expect("a step is in force");
    cluster.observed.measured =
        Some(Measured { step, since: cluster.now, candidate, stable, answers: Answers::default() });
    ready(cluster);
}

fn canary() -> serde_json::Value {
    serde_json::json!({
        "strategy": "Canary",
        "steps": [{ "weight": 5, "hold": "2m" }, { "weight": 50, "hold": "5m" }],
        "analysis": { "errors": { "metric": "ErrorRate", "max": 0.01, "minSamples": 200 } }
    })
}

#[test]
fn how_long_a_canary_takes_says_nothing_of_the_promoted_revisions_pods() {
    let (cluster, old, _) = rolling(canary());
    assert_eq!(counted(&cluster.owner).count(), 2, "both have requests of callers");
    assert_eq!(timed(&cluster.owner).collect::<Vec<_>>(), [old.as_str()]);
}

#[test]
fn a_canary_takes_its_steps_and_is_promoted() {
    let (mut cluster, old, new) = rolling(canary());
    assert_eq!((share(&cluster, &old), share(&cluster, &new)), (95, 5));
    assert_eq!((wanted(&cluster, &old), wanted(&cluster, &new)), (4, 1), "pods for its share, and all of the old ones");
    assert_eq!(cluster.condition("Ready"), pair("False", "RollingOut"));
    assert!(cluster.message().contains("version 2 has 5 % of the requests in step 1 of 2"), "{}", cluster.message());
    measure(&mut cluster, counts(200, 2), counts(4000, 40));
    hold(&mut cluster, 119);
    assert_eq!(step(&cluster), 1);
    hold(&mut cluster, 1);
    assert_eq!((share(&cluster, &old), share(&cluster, &new)), (50, 50));
    assert_eq!((wanted(&cluster, &old), wanted(&cluster, &new)), (4, 2));
    // What was counted in the first step says nothing of the second.
    hold(&mut cluster, 400);
    assert!(cluster.message().contains("waits for more requests: errors: 0 of 200"), "{}", cluster.message());
    measure(&mut cluster, counts(300, 1), counts(300, 1));
    ready(&mut cluster);
    assert_eq!((share(&cluster, &old), share(&cluster, &new)), (0, 100));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert!(cluster.view(&old).is_none(), "it is not warm");
    assert_eq!(wanted(&cluster, &new), 4);
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!((status.rollout, status.stable_revision), (None, Some(new)));
    assert_eq!(history(&cluster), [(Some(2), RolloutOutcome::Promoted), (Some(1), RolloutOutcome::Promoted)]);
    assert_eq!(reasons(&cluster).iter().filter(|reason| **reason == "RolloutStep").count(), 2);
    assert!(reasons(&cluster).contains(&"Promoted"));
}

#[test]
fn a_hold_begins_when_every_router_has_the_step() {
    let (mut cluster, old) = before(canary());
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.routers_report();
    cluster.stuck = [1].into();
    cluster.settle();
    let new = rollout(&cluster).unwrap().revision;
    assert_eq!((share(&cluster, &old), share(&cluster, &new)), (95, 5));
    assert!(rollout(&cluster).unwrap().step_start_time.is_none() && !is_settled(&cluster.owner));
    assert!(watched(&cluster.owner).is_none());
    cluster.wait(100);
    cluster.stuck.clear();
    cluster.route();
    // Nobody tells when its time is over.
    assert_eq!(cluster.pass().requeue.map(|left| left.as_secs()), Some(120));
    cluster.settle();
    assert_eq!(rollout(&cluster).unwrap().step_start_time.map(|time| time.0), Some(cluster.now));
    assert!(is_settled(&cluster.owner), "nothing is to be heard every second but its figures");
}

#[test]
fn one_that_fails_is_rolled_back_and_stays_out() {
    let (mut cluster, old, new) = rolling(canary());
    measure(&mut cluster, counts(199, 100), counts(4000, 0));
    assert_eq!(step(&cluster), 1, "too few to say anything");
    measure(&mut cluster, counts(200, 3), counts(4000, 0));
    assert_eq!(share(&cluster, &old), 100);
    assert_eq!(cluster.condition("Ready"), pair("False", "RolledBack"));
    assert_eq!(cluster.condition("Stalled"), pair("True", "RolledBack"));
    let message = cluster.message();
    assert!(message.contains("errors: ErrorRate 0.015 over 200 requests, more than max 0.01"), "{message}");
    assert!(message.contains(&format!("revision {old} has all requests")), "{message}");
    assert!(cluster.view(&new).is_none(), "it is gone");
    assert_eq!(history(&cluster)[0], (Some(2), RolloutOutcome::RolledBack));
    assert!(reasons(&cluster).contains(&"RolledBack"));
    // Nothing moves any more, however long.
    let writes = cluster.writes;
    cluster.observed.measured = None;
    hold(&mut cluster, 100_000);
    assert_eq!((cluster.writes, cluster.view(&new).is_none()), (writes, true));
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!((status.served_version, status.replicas), (Some(1), 4));
    // Back to what is served: all is well again.
    let mut back = cluster;
    back.set_version(1);
    ready(&mut back);
    assert_eq!((back.condition("Ready"), rollout(&back)), (pair("True", "Serving"), None));
    // Another one is tried.
    let newer = ask(&mut back, 3);
    assert_eq!(share(&back, &newer), 5);
}

#[test]
fn what_fails_beside_stable_fails_in_the_same_time_only() {
    let ratio = serde_json::json!({
        "strategy": "Canary",
        "steps": [{ "weight": 10, "hold": "1m" }],
        "analysis": { "slower": { "metric": "LatencyP99", "maxRatioToStable": 1.5, "minSamples": 50 } }
    });
    let slow = |ms: u64| {
        let mut counts = Counts { ended: 100, ..Counts::default() };
        counts.duration.buckets.insert(ms * 1000, 100);
        counts
    };
    let (mut cluster, _, _) = rolling(ratio.clone());
    measure(&mut cluster, slow(20), slow(16));
    assert_eq!(step(&cluster), 1);
    assert!(rollout(&cluster).unwrap().rejected.is_none());
    measure(&mut cluster, slow(30), slow(16));
    assert!(cluster.message().contains("more than 1.5 times the promoted revision's"), "{}", cluster.message());
    assert_eq!(cluster.condition("Ready"), pair("False", "RolledBack"));
    // Without requests of the promoted one there is nothing to compare with.
    let (mut cluster, _, _) = rolling(ratio);
    measure(&mut cluster, slow(30), Counts::default());
    hold(&mut cluster, 60);
    assert!(cluster.message().contains("0 of 50 requests of the promoted revision"), "{}", cluster.message());
}

#[test]
fn a_failure_may_wait_for_a_person_instead() {
    let mut spec = canary();
    spec["onFailure"] = "Pause".into();
    let (mut cluster, old, new) = rolling(spec);
    measure(&mut cluster, counts(200, 100), counts(4000, 0));
    assert_eq!(cluster.condition("Ready"), pair("False", "RolloutPaused"));
    assert_eq!((share(&cluster, &old), share(&cluster, &new)), (95, 5));
    // Better figures do not let it go on: somebody has to look.
    measure(&mut cluster, counts(100_000, 100), counts(4000, 0));
    hold(&mut cluster, 1000);
    assert_eq!((step(&cluster), rollout(&cluster).unwrap().paused.unwrap().reason.as_str()), (1, "AnalysisFailed"));
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Approve", "step": 1 }));
    assert_eq!((step(&cluster), share(&cluster, &new)), (2, 50));
}

#[test]
fn too_few_requests_wait_for_more_and_then_for_a_person() {
    let (mut cluster, _, new) = rolling(canary());
    measure(&mut cluster, counts(12, 0), counts(200, 0));
    hold(&mut cluster, 120);
    assert!(cluster.message().contains("errors: 12 of 200 requests"), "{}", cluster.message());
    assert_eq!(cluster.plan().requeue.map(|left| left.as_secs()), Some(30 * 60 - 120));
    hold(&mut cluster, 30 * 60 - 120);
    assert_eq!(cluster.condition("Ready"), pair("False", "RolloutPaused"));
    assert_eq!(rollout(&cluster).unwrap().paused.unwrap().reason, "TooFewSamples");
    let told = reasons(&cluster).iter().filter(|reason| **reason == "RolloutPaused").count();
    assert_eq!(told, 1);
    // It is still looked at.
    let mut bad = cluster;
    measure(&mut bad, counts(300, 300), counts(200, 0));
    assert_eq!(bad.condition("Ready"), pair("False", "RolledBack"));
    let (mut cluster, _, other) = rolling(canary());
    assert_eq!(new, other);
    hold(&mut cluster, 30 * 60);
    assert_eq!(cluster.condition("Ready").1, "RollingOut", "an operator that has heard nothing yet has not waited");
    measure(&mut cluster, counts(0, 0), counts(0, 0));
    hold(&mut cluster, 30 * 60);
    control(&mut cluster, serde_json::json!({ "revision": other, "action": "Approve", "step": 1 }));
    assert_eq!(step(&cluster), 2);
}

#[test]
fn a_step_may_ask_for_approval_of_its_own_number_and_revision() {
    let steps = serde_json::json!([{ "weight": 5, "pause": true }, { "weight": 50, "pause": true }]);
    let (mut cluster, _, new) = rolling(serde_json::json!({ "strategy": "Canary", "steps": steps }));
    assert_eq!(rollout(&cluster).unwrap().paused.unwrap().reason, "Approval");
    assert!(cluster.message().contains("action Approve with step 1"), "{}", cluster.message());
    control(&mut cluster, serde_json::json!({ "revision": "another", "action": "Approve", "step": 2 }));
    assert_eq!(step(&cluster), 1);
    assert!(cluster.message().contains("it is of revision another now"), "{}", cluster.message());
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Approve", "step": 1 }));
    assert_eq!((step(&cluster), cluster.condition("Ready").1), (2, "RolloutPaused".to_owned()));
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Approve", "step": 2 }));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    // The next revision is not approved by what was said of this one.
    ask(&mut cluster, 3);
    assert_eq!((step(&cluster), cluster.condition("Ready").1), (1, "RolloutPaused".to_owned()));
}

#[test]
fn a_person_may_promote_or_abort_at_any_time() {
    let (mut cluster, old, new) = rolling(canary());
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Abort" }));
    assert_eq!(cluster.condition("Ready"), pair("False", "Aborted"));
    assert_eq!((share(&cluster, &old), history(&cluster)[0].1), (100, RolloutOutcome::Aborted));
    assert!(cluster.view(&new).is_none());
    // After that, too: it is made again, and gets everything when all its pods answer.
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Promote" }));
    assert_eq!((share(&cluster, &new), wanted(&cluster, &new)), (100, 4));
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    let (mut cluster, _, new) = rolling(canary());
    cluster.owner.spec.control =
        Some(serde_json::from_value(serde_json::json!({ "revision": new, "action": "Promote" })).unwrap());
    cluster.edited();
    cluster.settle();
    assert_eq!((share(&cluster, &new), wanted(&cluster, &new)), (5, 4), "not before there are pods for it");
    ready(&mut cluster);
    assert_eq!(share(&cluster, &new), 100);
}

#[test]
fn what_a_person_said_stays_without_a_rollout_and_holds_for_its_revision_alone() {
    let steps = serde_json::json!([{ "weight": 10, "pause": true }]);
    let (mut cluster, _, new) = rolling(serde_json::json!({ "strategy": "Canary", "steps": steps }));
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Approve", "step": 1 }));
    // Somebody applies a manifest without a rollout; what another manager said is still there.
    cluster.owner.spec.rollout = None;
    let third = ask(&mut cluster, 3);
    assert_eq!((share(&cluster, &third), cluster.condition("Ready")), (100, pair("True", "Serving")));
    cluster.set_version(4);
    cluster.settle();
    let fourth = cluster.owner.status.as_ref().unwrap().revisions.iter().find(|r| r.version == Some(4)).unwrap();
    let fourth = fourth.name.clone();
    control(&mut cluster, serde_json::json!({ "revision": fourth, "action": "Abort" }));
    assert_eq!((share(&cluster, &third), cluster.condition("Ready")), (100, pair("False", "Aborted")));
    assert!(cluster.message().starts_with("version 4 was aborted: spec.control says so; "), "{}", cluster.message());
    control(&mut cluster, serde_json::json!({ "revision": fourth, "action": "Promote" }));
    assert_eq!((share(&cluster, &fourth), cluster.condition("Ready")), (100, pair("True", "Serving")));
}

#[test]
fn a_version_that_comes_in_the_middle_starts_from_what_is_promoted() {
    let (mut cluster, old, first) = rolling(canary());
    measure(&mut cluster, counts(200, 0), counts(4000, 0));
    hold(&mut cluster, 120);
    assert_eq!(share(&cluster, &first), 50);
    cluster.busy = [first.clone()].into();
    let second = ask(&mut cluster, 3);
    assert_eq!(shares(&cluster), BTreeMap::from([(old.clone(), 95), (first.clone(), 0), (second.clone(), 5)]));
    assert!(cluster.view(&first).is_some(), "a request is still there");
    assert_eq!(history(&cluster)[0], (Some(2), RolloutOutcome::Superseded));
    cluster.busy.clear();
    ready(&mut cluster);
    assert!(cluster.view(&first).is_none());
    // And back to what is promoted.
    cluster.set_version(1);
    ready(&mut cluster);
    assert_eq!((shares(&cluster), cluster.condition("Ready")), (BTreeMap::from([(old, 100)]), pair("True", "Serving")));
    assert_eq!(history(&cluster)[0], (Some(3), RolloutOutcome::Superseded));
}

#[test]
fn one_whose_pods_stop_answering_has_no_requests_until_they_do() {
    let (mut cluster, old, new) = rolling(canary());
    measure(&mut cluster, counts(200, 0), counts(4000, 0));
    hold(&mut cluster, 120);
    assert_eq!((step(&cluster), share(&cluster, &new)), (2, 50));
    // One of two is enough to go on.
    cluster.change(&new, |view| (view.ready, view.available) = (1, 1));
    cluster.settle();
    assert_eq!(share(&cluster, &new), 50);
    cluster.change(&new, |view| (view.ready, view.available) = (0, 0));
    cluster.settle();
    assert_eq!((step(&cluster), share(&cluster, &new), share(&cluster, &old)), (0, 0, 100));
    assert!(reasons(&cluster).contains(&"RolloutRestarted"));
    ready(&mut cluster);
    assert_eq!((step(&cluster), share(&cluster, &new)), (1, 5));
}

#[test]
fn blue_and_green_stand_side_by_side() {
    let (mut cluster, old) = before(serde_json::json!({
        "strategy": "BlueGreen",
        "steps": [{ "pause": true }, { "weight": 100, "hold": "1m" }],
        "analysis": { "errors": { "metric": "ErrorRate", "max": 0.01, "minSamples": 10 } }
    }));
    let routing = serde_json::json!({
        "headers": { "next": { "header": "x-model", "value": "next", "to": "Canary" },
                     "old": { "header": "x-model", "value": "old", "to": "Stable" } },
        "sticky": { "header": "x-user" }
    });
    cluster.owner.spec.routing = Some(serde_json::from_value(routing).unwrap());
    let rules = |cluster: &Cluster| {
        let model = &cluster.in_force[0].models[0];
        let rules = model.headers.iter().map(|rule| (rule.value.clone(), rule.revision.clone()));
        (rules.collect::<BTreeMap<_, _>>(), model.sticky.clone().unwrap().header)
    };
    cluster.set_version(2);
    cluster.settle();
    let new = rollout(&cluster).unwrap().revision;
    assert_eq!(wanted(&cluster, &new), 4, "as many as there are");
    assert_eq!(rules(&cluster).0, BTreeMap::from([("old".to_owned(), old.clone())]), "its pods do not answer yet");
    ready(&mut cluster);
    assert_eq!((share(&cluster, &old), share(&cluster, &new)), (100, 0));
    let both = BTreeMap::from([("next".to_owned(), new.clone()), ("old".to_owned(), old.clone())]);
    assert_eq!(rules(&cluster), (both, "x-user".to_owned()));
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Approve", "step": 1 }));
    assert_eq!((share(&cluster, &old), share(&cluster, &new)), (0, 100));
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!((status.served_version, status.stable_revision), (Some(2), Some(old.clone())));
    assert_eq!((cluster.condition("Ready").0.as_str(), wanted(&cluster, &old)), ("False", 4));
    let mut bad = rolling_again(&cluster);
    measure(&mut bad, counts(10, 5), Counts::default());
    assert_eq!((share(&bad, &old), bad.condition("Ready")), (100, pair("False", "RolledBack")));
    assert_eq!(bad.owner.status.unwrap().served_version, Some(1));
    measure(&mut cluster, counts(10, 0), Counts::default());
    hold(&mut cluster, 60);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert!(cluster.view(&old).is_none());
    assert_eq!(rules(&cluster).0, BTreeMap::from([("old".to_owned(), new)]));
}

/// The same once more, to go another way.
fn rolling_again(cluster: &Cluster) -> Cluster {
    let mut again = Cluster::new();
    again.owner = cluster.owner.clone();
    again.observed = cluster.observed.clone();
    again.routes.clone_from(&cluster.routes);
    again.in_force.clone_from(&cluster.in_force);
    again.now = cluster.now;
    again.run_images_of(cluster);
    again
}

#[test]
fn a_shadow_gets_copies_and_has_to_agree() {
    let (mut cluster, old, new) = rolling(serde_json::json!({
        "strategy": "Shadow", "sample": 0.5, "steps": [{ "hold": "10m" }],
        "analysis": { "same": { "metric": "Agreement", "min": 0.95, "minSamples": 100 } }
    }));
    assert_eq!((share(&cluster, &old), share(&cluster, &new), wanted(&cluster, &new)), (100, 0, 2));
    let shadow = cluster.in_force[0].models[0].shadow.clone().unwrap();
    assert_eq!((shadow.revision.as_str(), shadow.sample), (new.as_str(), 0.5));
    assert_eq!(counted(&cluster.owner).collect::<Vec<_>>(), [old.as_str()], "copies are no load");
    assert!(cluster.message().contains("version 2 has copies of 50 % of the requests"), "{}", cluster.message());
    let mut said = Counts::default();
    (said.shadow.agreed, said.shadow.differed) = (96, 4);
    measure(&mut cluster, said.clone(), Counts::default());
    let mut bad = rolling_again(&cluster);
    said.shadow.failed = 10;
    measure(&mut bad, said, Counts::default());
    assert!(bad.message().contains("Agreement 0.8727 over 110 requests, less than min 0.95"), "{}", bad.message());
    assert!(bad.in_force[0].models[0].shadow.is_none());
    hold(&mut cluster, 600);
    assert_eq!((share(&cluster, &new), cluster.condition("Ready")), (100, pair("True", "Serving")));
    assert!(cluster.in_force[0].models[0].shadow.is_none());
}

#[test]
fn a_canary_answers_copies_beside_its_share_and_has_to_agree() {
    let (mut cluster, old, new) = rolling(serde_json::json!({
        "strategy": "Canary", "steps": [{ "weight": 25, "hold": "10m" }, { "weight": 100, "hold": "1m" }],
        "analysis": { "same": { "metric": "Agreement", "min": 0.95 } }
    }));
    // A quarter, and a tenth of the other three.
    assert_eq!((share(&cluster, &old), share(&cluster, &new), wanted(&cluster, &new)), (75, 25, 2));
    let copied = |cluster: &Cluster| cluster.in_force[0].models[0].shadow.clone();
    let shadow = copied(&cluster).unwrap();
    assert_eq!((shadow.revision.as_str(), shadow.sample), (new.as_str(), 0.1));
    let says = "version 2 has 25 % of the requests and copies of 10 % of the others in step 1 of 2";
    assert!(cluster.message().contains(says), "{}", cluster.message());
    assert_eq!(counted(&cluster.owner).count(), 2, "both have requests of callers");
    let mut said = counts(400, 0);
    (said.shadow.agreed, said.shadow.differed) = (96, 4);
    measure(&mut cluster, said.clone(), counts(1200, 0));
    let mut bad = rolling_again(&cluster);
    said.shadow.failed = 10;
    measure(&mut bad, said, counts(1200, 0));
    assert_eq!(bad.condition("Ready"), pair("False", "RolledBack"));
    assert!(bad.message().contains("Agreement 0.8727 over 110 requests, less than min 0.95"), "{}", bad.message());
    assert_eq!((share(&bad, &old), copied(&bad)), (100, None));

    hold(&mut cluster, 600);
    assert_eq!((step(&cluster), share(&cluster, &new), copied(&cluster)), (2, 100, None));
    assert_eq!(watched(&cluster.owner), None, "nothing is copied, so nothing is waited for");
    hold(&mut cluster, 60);
    assert_eq!((share(&cluster, &new), cluster.condition("Ready")), (100, pair("True", "Serving")));
}

#[test]
fn before_a_blue_green_takes_over_it_answers_copies_of_everything() {
    let (mut cluster, old, new) = rolling(serde_json::json!({
        "strategy": "BlueGreen", "steps": [{ "hold": "10m" }],
        "analysis": { "same": { "metric": "Agreement", "min": 0.95 } }
    }));
    assert_eq!((share(&cluster, &old), wanted(&cluster, &new)), (100, 4));
    let sample = cluster.in_force[0].models[0].shadow.as_ref().map(|shadow| shadow.sample);
    assert_eq!(sample, Some(1.0));
    assert_eq!(counted(&cluster.owner).collect::<Vec<_>>(), [old.as_str()], "copies are no load");
    let mut said = Counts::default();
    said.shadow.agreed = 100;
    measure(&mut cluster, said, counts(100, 0));
    hold(&mut cluster, 600);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
}

#[test]
fn recreate_without_a_version_carries_out_another_setting_of_the_promoted_one() {
    let (mut cluster, old) = before(serde_json::json!({ "strategy": "Recreate" }));
    let version = cluster.owner.spec.model.version.take();
    let server = serde_json::json!({ "resources": { "limits": { "memory": "600Mi" } } });
    cluster.owner.spec.server = Some(serde_json::from_value(server).unwrap());
    cluster.edited();
    ready(&mut cluster);
    ready(&mut cluster);
    let status = cluster.owner.status.clone().unwrap();
    assert_ne!(status.served_revision, Some(old));
    assert_eq!((status.served_version, cluster.condition("Ready")), (version, pair("True", "Serving")));
}

#[test]
fn recreate_makes_nothing_new_until_the_old_pods_are_gone() {
    let (mut cluster, old) = before(serde_json::json!({ "strategy": "Recreate" }));
    // Nobody says how many: as many as there were.
    cluster.owner.spec.scale = None;
    let pod = PodView { name: "p".to_owned(), stage: old.clone(), deleting: true, ..PodView::default() };
    cluster.set_version(2);
    cluster.busy = [old.clone()].into();
    cluster.settle();
    assert_eq!(share(&cluster, &old), 0, "requests wait for the new one");
    assert!(cluster.view(&old).is_some(), "a request is still there");
    cluster.busy.clear();
    cluster.observed.pods.push(pod.into());
    ready(&mut cluster);
    assert!(cluster.observed.deployments.is_empty());
    assert!(cluster.message().contains("when the pods of the one before have ended"), "{}", cluster.message());
    cluster.observed.pods.clear();
    ready(&mut cluster);
    let new = cluster.served().unwrap().name.clone();
    assert_ne!(new, old);
    assert_eq!((wanted(&cluster, &new), cluster.condition("Ready")), (4, pair("True", "Serving")));
    assert_eq!(cluster.owner.status.unwrap().desired_replicas, None);
}

#[test]
fn what_is_kept_warm_goes_back_to_work_at_once() {
    let mut spec = canary();
    spec["keepWarm"] = "10m".into();
    spec["analysis"] = serde_json::json!({});
    let (mut cluster, old, new) = rolling(spec);
    hold(&mut cluster, 120);
    hold(&mut cluster, 300);
    assert_eq!((share(&cluster, &new), wanted(&cluster, &old)), (100, 4));
    hold(&mut cluster, 599);
    let uid = cluster.view(&old).expect("it is warm").uid.clone();
    let mut later = rolling_again(&cluster);
    cluster.set_version(1);
    cluster.settle();
    assert_eq!((share(&cluster, &old), cluster.view(&old).unwrap().uid.clone()), (100, uid));
    assert_eq!(history(&cluster)[0], (Some(1), RolloutOutcome::Promoted));
    hold(&mut later, 1);
    assert!(later.view(&old).is_none());
    assert_eq!(later.plan().requeue, None);
}

#[test]
fn a_revision_that_was_rolled_back_does_not_come_back_while_it_drains() {
    let (mut cluster, _, new) = rolling(canary());
    cluster.busy = [new.clone()].into();
    measure(&mut cluster, counts(200, 100), counts(4000, 0));
    assert!(cluster.view(&new).is_some(), "a request is still there");
    let third = ask(&mut cluster, 3);
    assert_eq!(share(&cluster, &third), 5);
    cluster.set_version(2);
    cluster.settle();
    assert_eq!((step(&cluster), share(&cluster, &new)), (1, 5), "from the first step");
}

#[test]
fn where_the_promoted_one_is_gone_the_next_gets_everything() {
    let (mut cluster, old, new) = rolling(canary());
    measure(&mut cluster, counts(200, 100), counts(4000, 0));
    assert_eq!(cluster.condition("Ready"), pair("False", "RolledBack"));
    // Somebody deletes the Deployment of the promoted one: nothing else is left to serve.
    cluster.observed.deployments.retain(|view| view.name != old);
    cluster.observed.measured = None;
    ready(&mut cluster);
    assert_eq!((share(&cluster, &new), cluster.condition("Ready")), (100, pair("True", "Serving")));
}

#[test]
fn a_crash_at_any_write_loses_no_request_and_no_step() {
    let (mut cluster, old, _) = rolling(canary());
    let mut seen = Vec::new();
    for round in 0..200 {
        if let Some(step) = watched(&cluster.owner) {
            cluster.observed.measured = Some(Measured {
                step,
                since: cluster.now,
                candidate: counts(500, 0),
                stable: counts(500, 0),
                answers: Answers::default(),
            });
        }
        cluster.stuck = if round % 3 == 0 { [1].into() } else { [].into() };
        cluster.pass_until(round % 4);
        cluster.route();
        cluster.pods_get_ready();
        cluster.routers_report();
        cluster.wait(10);
        for router in 0..2 {
            let model = &cluster.in_force[router].models[0];
            assert_eq!(model.revisions.iter().map(|revision| revision.weight).sum::<u32>(), 100, "round {round}");
            for revision in model.revisions.iter().filter(|revision| revision.weight > 0) {
                assert!(cluster.view(&revision.name).is_some_and(|view| view.available > 0), "round {round}");
            }
        }
        let step = rollout(&cluster).map_or(3, |rollout| rollout.step);
        if seen.last() != Some(&step) {
            seen.push(step);
        }
    }
    assert_eq!(seen, [1, 2, 3]);
    assert!(cluster.view(&old).is_none());
}

#[test]
fn figures_are_written_when_a_verdict_changes_or_they_are_old() {
    let (mut cluster, _, _) = rolling(canary());
    assert_eq!(rollout(&cluster).unwrap().analysis[0].samples, 0, "it has begun");
    cluster.wait(15);
    measure(&mut cluster, counts(10, 0), counts(200, 0));
    assert_eq!(rollout(&cluster).unwrap().analysis[0].samples, 10);
    let writes = cluster.writes;
    for second in 1..15 {
        cluster.wait(1);
        let step = watched(&cluster.owner).unwrap();
        let since = cluster.now;
        let measured = Measured {
            step,
            since,
            candidate: counts(10 + second, 0),
            stable: counts(200, 0),
            answers: Answers::default(),
        };
        assert!(!has_news(&cluster.owner, Some(&measured), None, cluster.now), "{second}");
        cluster.observed.measured = Some(measured);
        cluster.settle();
    }
    assert_eq!(cluster.writes, writes);
    let step = watched(&cluster.owner).unwrap();
    let since = cluster.now;
    let passed = Measured {
        step: step.clone(),
        since,
        candidate: counts(300, 0),
        stable: counts(200, 0),
        answers: Answers::default(),
    };
    assert!(has_news(&cluster.owner, Some(&passed), None, cluster.now));
    cluster.wait(1);
    let later = Measured { step, since, candidate: counts(40, 0), stable: counts(200, 0), answers: Answers::default() };
    assert!(has_news(&cluster.owner, Some(&later), None, cluster.now));
}

#[test]
fn where_nothing_sets_the_number_of_pods_they_come_with_the_steps_all_the_same() {
    let (mut cluster, old) = before(canary());
    cluster.owner.spec.scale = None;
    let new = ask(&mut cluster, 2);
    assert_eq!((wanted(&cluster, &old), wanted(&cluster, &new)), (4, 1));
    for (seconds, pods) in [(120, 2), (300, 4)] {
        measure(&mut cluster, counts(200, 0), counts(4000, 0));
        hold(&mut cluster, seconds);
        assert_eq!(wanted(&cluster, &new), pods);
    }
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    // Without steps too, and where somebody adds pods in the meantime.
    cluster.owner.spec.rollout = None;
    cluster.set_version(3);
    cluster.settle();
    cluster.change(&new, |view| (view.wanted, view.available) = (6, 6));
    ready(&mut cluster);
    let third = cluster.served().unwrap().name.clone();
    assert_ne!(third, new);
    assert_eq!(wanted(&cluster, &third), 6);
}

#[test]
fn what_was_rolled_back_stays_out_whatever_else_is_changed() {
    for change in ["replicas", "no rollout", "recreate"] {
        let (mut cluster, old, new) = rolling(canary());
        measure(&mut cluster, counts(200, 100), counts(4000, 0));
        cluster.observed.measured = None;
        match change {
            "replicas" => cluster.set_replicas(0),
            "no rollout" => cluster.owner.spec.rollout = None,
            _ => set(&mut cluster, serde_json::json!({ "strategy": "Recreate" })),
        }
        cluster.edited();
        ready(&mut cluster);
        cluster.set_replicas(4);
        ready(&mut cluster);
        assert_eq!((share(&cluster, &old), cluster.view(&new).is_none()), (100, true), "{change}");
        assert_eq!(cluster.condition("Ready"), pair("False", "RolledBack"), "{change}");
    }
}

#[test]
fn pods_taken_away_in_the_middle_promote_nothing() {
    let (mut cluster, old, new) = rolling(canary());
    cluster.set_replicas(0);
    ready(&mut cluster);
    assert_eq!((step(&cluster), share(&cluster, &old), share(&cluster, &new)), (0, 100, 0));
    cluster.set_replicas(4);
    ready(&mut cluster);
    assert_eq!((step(&cluster), share(&cluster, &new)), (1, 5));
}

#[test]
fn an_approval_in_advance_keeps_nothing_from_being_rolled_back() {
    let mut spec = canary();
    spec["steps"] = serde_json::json!([{ "weight": 5, "hold": "10m", "pause": true }]);
    let (mut cluster, old, new) = rolling(spec);
    control(&mut cluster, serde_json::json!({ "revision": new, "action": "Approve", "step": 20 }));
    measure(&mut cluster, counts(200, 200), counts(4000, 0));
    assert_eq!((share(&cluster, &old), cluster.condition("Ready")), (100, pair("False", "RolledBack")));
}

#[test]
fn what_is_warm_takes_no_steps_even_if_it_needs_more_pods_first() {
    let mut spec = canary();
    spec["keepWarm"] = "10m".into();
    spec["analysis"] = serde_json::json!({});
    let (mut cluster, old, _) = rolling(spec);
    hold(&mut cluster, 120);
    hold(&mut cluster, 300);
    cluster.set_replicas(6);
    ready(&mut cluster);
    cluster.set_version(1);
    cluster.settle();
    assert_eq!((share(&cluster, &old), wanted(&cluster, &old)), (0, 6));
    ready(&mut cluster);
    assert_eq!((share(&cluster, &old), rollout(&cluster)), (100, None));
}

#[test]
fn pods_that_die_again_and_again_are_rolled_back_or_shown_to_a_person() {
    for pauses in [false, true] {
        let mut spec = canary();
        if pauses {
            spec["onFailure"] = "Pause".into();
        }
        let (mut cluster, old, new) = rolling(spec);
        for time in 1..=5 {
            assert_eq!(share(&cluster, &new), 5, "{time}");
            cluster.change(&new, |view| (view.ready, view.available) = (0, 0));
            ready(&mut cluster);
        }
        let reason = if pauses { "RolloutPaused" } else { "RolledBack" };
        assert_eq!((share(&cluster, &old), cluster.condition("Ready").1.as_str()), (100, reason));
        assert!(cluster.message().contains("for the 5th time"), "{}", cluster.message());
        if pauses {
            control(&mut cluster, serde_json::json!({ "revision": new, "action": "Approve", "step": 1 }));
            assert_eq!(share(&cluster, &new), 5);
        }
    }
}

#[test]
fn a_step_that_somebody_edits_has_its_pods_before_its_share_and_holds_anew() {
    let (mut cluster, _, new) = rolling(canary());
    cluster.wait(100);
    let mut edited = canary();
    edited["steps"][0]["weight"] = 50.into();
    set(&mut cluster, edited);
    cluster.settle();
    assert_eq!((share(&cluster, &new), wanted(&cluster, &new)), (5, 2));
    ready(&mut cluster);
    assert_eq!((step(&cluster), share(&cluster, &new)), (1, 50));
    assert_eq!(rollout(&cluster).unwrap().step_start_time.map(|time| time.0), Some(cluster.now));
}

#[test]
fn one_that_had_requests_drains_although_it_lost_them_before() {
    let (mut cluster, _, new) = rolling(canary());
    cluster.stuck = [1].into();
    cluster.change(&new, |view| (view.ready, view.available) = (0, 0));
    cluster.settle();
    cluster.pods_get_ready();
    cluster.set_version(3);
    cluster.settle();
    assert!(cluster.view(&new).is_some(), "a router still sends requests to it");
    cluster.stuck.clear();
    ready(&mut cluster);
    assert!(cluster.view(&new).is_none());
}

#[test]
fn with_an_hpa_the_promoted_one_keeps_its_pods_while_its_share_falls() {
    let (mut cluster, old) = before(canary());
    let external = |cluster: &mut Cluster, replicas: i32| {
        let scale = serde_json::json!({ "metric": "External", "replicas": replicas });
        cluster.owner.spec.scale = Some(serde_json::from_value(scale).unwrap());
        cluster.edited();
    };
    external(&mut cluster, 4);
    let new = ask(&mut cluster, 2);
    measure(&mut cluster, counts(200, 0), counts(4000, 0));
    hold(&mut cluster, 120);
    // Half of the requests are gone from the pods that the HPA sees.
    external(&mut cluster, 2);
    ready(&mut cluster);
    assert_eq!((wanted(&cluster, &old), wanted(&cluster, &new)), (4, 2));
    measure(&mut cluster, counts(200, 0), counts(4000, 0));
    hold(&mut cluster, 300);
    assert_eq!((share(&cluster, &new), wanted(&cluster, &new)), (100, 4));
    assert_eq!(cluster.plan().requeue.map(|left| left.as_secs()), Some(300));
    hold(&mut cluster, 300);
    assert_eq!(wanted(&cluster, &new), 2, "the HPA decides again");
    assert_eq!(cluster.plan().requeue, None);
}
