//! Stages that wait for a person.

use std::sync::Arc;
use std::time::Duration;

use millrace_core::api::StageState::{Failed, Pending, Skipped, Succeeded, Waiting};
use millrace_core::api::{Cancel, MLPipeline, RetryFrom, StageState};
use millrace_core::run::{Peer, Slot};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Crash, Fate};
use crate::{pipeline, stage};

const HOUR: Duration = Duration::from_hours(1);

/// Trained, asked, shipped.
fn shipped() -> Value {
    pipeline(json!({
        "train": stage(json!({})),
        "sign-off": { "needs": ["train"], "approve": { "message": "Ship f1 $[[ stages.train.metrics.f1 ]]?\nLook well.", "timeout": "24h" } },
        "ship": stage(json!({ "needs": ["sign-off"] })),
    }))
}

fn trained(spec: Value) -> Cluster {
    Cluster::new(spec).fate("train", 1, Fate::Succeeds(json!({ "metrics": { "f1": 0.93 } })))
}

/// It waits for a person.
fn asked() -> Cluster {
    let mut cluster = trained(shipped());
    until_asked(&mut cluster);
    cluster
}

fn until_asked(cluster: &mut Cluster) {
    for _ in 0..20 {
        cluster.reconcile();
        crate::node::tick(cluster);
    }
    assert_eq!(state(cluster, "sign-off"), (Pending, Some("WaitingForApproval")));
}

fn state<'a>(cluster: &'a Cluster, stage: &str) -> (StageState, Option<&'a str>) {
    let status = cluster.stage(stage);
    (status.state, status.reason.as_deref())
}

fn say(cluster: &mut Cluster, approval: Value) {
    cluster.run.spec.approvals.insert("sign-off".into(), serde_json::from_value(approval).unwrap());
}

fn yes() -> Value {
    json!({ "decision": "Approve", "by": "anna", "comment": "well done" })
}

fn no() -> Value {
    json!({ "decision": "Reject", "by": "anna", "comment": "not yet" })
}

fn told(cluster: &Cluster, reason: &str) -> Vec<String> {
    let events = cluster.events.iter().filter(|event| event.reason == reason);
    events.map(|event| event.message.clone()).collect()
}

#[test]
fn who_waits_says_what_is_asked_until_when_and_how_to_answer_once() {
    let mut cluster = asked();
    let message = "Ship f1 0.93? (gives up at 2026-01-02 00:00Z)\nLook well.\nkubectl millrace approve r sign-off -n ns, or reject";
    assert_eq!(cluster.stage("sign-off").message.as_deref(), Some(message));
    let until = cluster.stage("sign-off").approval.as_ref().unwrap().until.clone().unwrap();
    assert!(until.0.to_string().starts_with("2026-01-02T00:00:"), "{until:?}");
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason), ("Unknown", "WaitingForApproval"));
    assert!(message.starts_with("sign-off is pending (WaitingForApproval: Ship f1 0.93? (gives up"), "{message}");
    let (writes, wait) = (cluster.writes, cluster.reconcile().unwrap());
    assert!(wait > HOUR * 23, "{wait:?}");
    cluster.pass_time(HOUR);
    cluster.reconcile();
    assert_eq!(cluster.writes, writes, "nothing new, nothing written");
    assert_eq!(told(&cluster, "WaitingForApproval").len(), 1);
}

#[test]
fn what_is_approved_goes_on_and_says_by_whom() {
    let mut cluster = asked();
    say(&mut cluster, yes());
    cluster.settle();
    assert_eq!(state(&cluster, "ship"), (Succeeded, None));
    let approved = cluster.stage("sign-off").clone();
    assert_eq!((approved.state, approved.reason), (Succeeded, None));
    assert_eq!(approved.message.as_deref(), Some("approved by anna: well done"));
    assert_eq!(approved.approval.unwrap().by.as_deref(), Some("anna"));
    assert!(approved.completion_time.is_some());
    assert_eq!(cluster.condition("Promoted").unwrap(), ("True", "Promoted", "through `sign-off`"));
    assert_eq!(told(&cluster, "StageApproved"), ["stage sign-off: approved by anna: well done"]);
}

#[test]
fn what_is_rejected_skips_what_depends_on_it_and_the_run_succeeds() {
    let mut cluster = asked();
    say(&mut cluster, no());
    cluster.settle();
    assert_eq!(state(&cluster, "sign-off"), (Skipped, Some("ApprovalRejected")));
    assert_eq!(state(&cluster, "ship"), (Skipped, Some("ApprovalRejected")));
    let said = "stage `sign-off`: rejected by anna: not yet";
    assert_eq!(cluster.condition("Promoted").unwrap(), ("False", "ApprovalRejected", said));
    let ended = format!("1 of 3 stages succeeded, 2 skipped: {said}");
    assert_eq!(cluster.condition("Succeeded").unwrap(), ("True", "Succeeded", ended.as_str()));
}

#[test]
fn nobody_in_time_is_a_rejection_and_a_word_that_was_there_counts_first() {
    let mut cluster = asked();
    let wait = cluster.reconcile().unwrap();
    cluster.pass_time(wait);
    let mut late = asked();
    late.pass_time(wait + HOUR);
    cluster.settle();
    assert_eq!(state(&cluster, "sign-off"), (Skipped, Some("ApprovalTimeout")));
    assert_eq!(cluster.stage("sign-off").message.as_deref(), Some("nobody decided within 24h"));
    assert_eq!(state(&cluster, "ship"), (Skipped, Some("ApprovalRejected")));
    assert_eq!(cluster.condition("Promoted").unwrap().1, "ApprovalTimeout");
    // The operator was not there when it was said.
    say(&mut late, yes());
    late.settle();
    assert_eq!(state(&late, "ship").0, Succeeded);
}

#[test]
fn a_word_said_ahead_counts_when_the_stage_is_reached() {
    let mut cluster = trained(shipped());
    say(&mut cluster, yes());
    cluster.settle();
    assert_eq!(state(&cluster, "ship").0, Succeeded);
    assert!(told(&cluster, "WaitingForApproval").is_empty());
}

#[test]
fn a_word_for_a_stage_that_asks_nobody_is_told_once_and_changes_nothing() {
    let mut cluster = asked();
    for name in ["train", "sing-off"] {
        cluster.run.spec.approvals.insert(name.into(), serde_json::from_value(yes()).unwrap());
    }
    cluster.reconcile();
    cluster.pass_time(HOUR);
    cluster.reconcile();
    let (status, reason, message) = cluster.condition("Accepted").unwrap();
    assert_eq!((status, reason, message.lines().count()), ("False", "UnknownApproval", 2));
    assert!(message.contains("spec.approvals.train: stage `train` has no approve: "), "{message}");
    assert!(message.contains("did you mean `sign-off`?"), "{message}");
    assert_eq!(told(&cluster, "ApprovalMisplaced").len(), 1);
    assert_eq!(state(&cluster, "sign-off").0, Pending);
    cluster.run.spec.approvals.clear();
    cluster.reconcile();
    assert_eq!(cluster.condition("Accepted").unwrap().0, "True");
}

#[test]
fn later_stages_see_whether_it_was_approved() {
    for (word, mend, tells) in [(yes(), Skipped, "Succeeded"), (no(), Succeeded, "Skipped")] {
        let mut spec = shipped();
        spec["stages"]["mend"] = stage(json!({ "when": "stages.sign_off.status == 'Skipped'" }));
        spec["finally"] = json!({ "tell": stage(json!({})) });
        spec["finally"]["tell"]["container"]["args"] = json!(["$[[ stages.sign_off.status ]]"]);
        let mut cluster = trained(spec);
        until_asked(&mut cluster);
        say(&mut cluster, word);
        cluster.settle();
        assert_eq!(state(&cluster, "mend").0, mend);
        let job = serde_json::to_string(&cluster.jobs["r-tell-1"].1).unwrap();
        assert!(job.contains(tells), "{job}");
    }
}

#[test]
fn a_run_that_only_waits_uses_up_no_time_of_its_own() {
    let mut spec = shipped();
    spec["timeout"] = json!("2h");
    let mut cluster = trained(spec).fate("ship", 1, Fate::Hangs);
    until_asked(&mut cluster);
    cluster.pass_time(HOUR * 5);
    cluster.reconcile();
    assert_eq!(state(&cluster, "sign-off").0, Pending);
    say(&mut cluster, yes());
    cluster.reconcile();
    crate::node::tick(&mut cluster);
    cluster.reconcile();
    assert!(cluster.status().suspended_seconds >= 5 * 3600, "{}", cluster.status().suspended_seconds);
    assert_eq!(cluster.status().suspended_time, None);
    cluster.settle();
    assert_eq!(state(&cluster, "ship"), (Failed, Some("RunTimeout")), "and then it counts again");
}

#[test]
fn a_message_without_a_value_fails_the_stage() {
    let mut cluster = Cluster::new(shipped());
    cluster.settle();
    assert_eq!(state(&cluster, "sign-off"), (Failed, Some("InvalidExpression")));
    let message = cluster.stage("sign-off").message.clone().unwrap();
    assert!(message.starts_with("approve.message: ") && message.contains("f1"), "{message}");
}

#[test]
fn a_failure_elsewhere_ends_the_question() {
    let mut spec = shipped();
    spec["stages"]["apart"] = stage(json!({}));
    let mut cluster = trained(spec).fate("apart", 1, Fate::Hangs);
    until_asked(&mut cluster);
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "Running", "something runs");
    cluster.fates.insert(("apart".into(), 1), Fate::Exits(1));
    cluster.settle();
    assert_eq!(state(&cluster, "sign-off"), (Skipped, Some("NotStarted")));
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "StageFailed");
}

#[test]
fn a_run_that_is_suspended_still_asks_and_goes_on_when_it_is_let() {
    let mut cluster = asked();
    cluster.run.spec.suspend = true;
    cluster.reconcile();
    assert_eq!(state(&cluster, "sign-off"), (Pending, Some("WaitingForApproval")));
    say(&mut cluster, yes());
    cluster.reconcile();
    assert_eq!(state(&cluster, "sign-off"), (Pending, Some("Suspended")));
    let message = cluster.stage("sign-off").message.clone().unwrap();
    assert_eq!(message, "approved by anna: well done; nothing new begins until spec.suspend is false");
    assert_eq!(state(&cluster, "ship").0, Waiting);
    cluster.run.spec.suspend = false;
    cluster.settle();
    assert_eq!(state(&cluster, "ship").0, Succeeded);
    assert_eq!(told(&cluster, "WaitingForApproval").len(), 1);
}

#[test]
fn a_run_that_is_canceled_asks_nobody_any_more_and_asks_anew_when_it_begins_again() {
    let mut cluster = asked();
    cluster.run.spec.cancel = Some(Cancel::Graceful);
    cluster.settle();
    assert_eq!(state(&cluster, "sign-off"), (Failed, Some("Canceled")));
    cluster.run.spec.cancel = None;
    cluster.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    // What is said now is of the question before.
    say(&mut cluster, yes());
    until_asked(&mut cluster);
    let message = cluster.stage("sign-off").message.clone().unwrap();
    assert!(message.ends_with("spec.approvals.sign-off has retries 0, and this is 1: it does not count"), "{message}");
    let mut now = yes();
    now["retries"] = json!(1);
    say(&mut cluster, now);
    cluster.settle();
    assert_eq!(state(&cluster, "ship").0, Succeeded);
    assert_eq!(cluster.stage("train").attempts, 1);
}

#[test]
fn who_was_rejected_is_asked_again_by_the_name_of_the_stage() {
    let mut cluster = asked();
    say(&mut cluster, no());
    cluster.settle();
    cluster.run.spec.retry_from = Some(RetryFrom { stage: Some("sign-off".into()), ..RetryFrom::default() });
    until_asked(&mut cluster);
    assert_eq!(cluster.condition("Promoted"), None, "it is to be seen anew");
    let mut now = yes();
    now["retries"] = json!(1);
    say(&mut cluster, now);
    cluster.settle();
    assert_eq!(state(&cluster, "ship").0, Succeeded);
}

#[test]
fn a_newer_run_that_asks_the_same_takes_the_question_over() {
    let mut cluster = asked();
    cluster.superseded = [("sign-off".to_owned(), "r2".to_owned())].into();
    let mut decided = asked();
    decided.superseded = cluster.superseded.clone();
    cluster.settle();
    assert_eq!(state(&cluster, "sign-off"), (Skipped, Some("Superseded")));
    assert_eq!(cluster.stage("sign-off").message.as_deref(), Some("run r2, which is newer, asks the same"));
    assert_eq!(cluster.condition("Promoted").unwrap().1, "Superseded");
    say(&mut decided, yes());
    decided.settle();
    assert_eq!(state(&decided, "ship").0, Succeeded, "it was decided before");
}

/// One that waits for a person, of a pipeline that runs one at a time.
fn bounded(policy: &str) -> Cluster {
    let mut cluster = asked();
    let spec = json!({ "stages": {}, "concurrency": { "policy": policy } });
    cluster.pipeline = Some(Arc::new(MLPipeline::new("p", serde_json::from_value(spec).unwrap())));
    cluster.run.spec.pipeline_ref = Some(millrace_core::api::PipelineRef { name: "p".into() });
    cluster.run.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(cluster.now));
    cluster
}

/// A newer run of the pipeline that runs.
fn other(cluster: &Cluster) -> Peer {
    let since = cluster.now.checked_add(k8s_openapi::jiff::SignedDuration::from_secs(1)).ok();
    Peer { name: "other".into(), since, priority: None, slot: Slot::Held, wants: false, waits: false, locked: false }
}

#[test]
fn one_that_waits_for_a_person_holds_no_slot_and_takes_one_to_go_on() {
    for policy in ["Queue", "Forbid", "Replace"] {
        let mut cluster = bounded(policy);
        let peer = Peer::of(&cluster.run).unwrap();
        assert!(peer.slot == Slot::Left && !peer.wants, "{peer:?}");
        cluster.peers = vec![other(&cluster)];
        cluster.reconcile();
        assert_eq!(state(&cluster, "sign-off"), (Pending, Some("WaitingForApproval")), "{policy}");
        say(&mut cluster, yes());
        assert!(Peer::of(&cluster.run).unwrap().wants, "others see that it would go on");
        cluster.reconcile();
        assert_eq!(state(&cluster, "sign-off"), (Pending, Some("Queued")), "{policy}");
        let message = "approved by anna: well done; place 1 in the queue of MLPipeline p: waits for the end of other";
        assert_eq!(cluster.stage("sign-off").message.as_deref(), Some(message));
        assert_eq!(cluster.condition("Succeeded").unwrap().1, "Queued");
        let peer = Peer::of(&cluster.run).unwrap();
        assert!(peer.slot == Slot::Left && peer.wants && !peer.waits, "{peer:?}");
        let writes = cluster.writes;
        cluster.reconcile();
        assert_eq!(cluster.writes, writes);
        cluster.peers.clear();
        cluster.reconcile();
        assert_eq!(state(&cluster, "sign-off").0, Succeeded);
        assert!(Peer::of(&cluster.run).unwrap().begun());
        cluster.settle();
        assert_eq!(state(&cluster, "ship").0, Succeeded);
    }
}

#[test]
fn a_rejection_needs_no_slot_unless_something_runs_because_of_it() {
    let mut cluster = bounded("Queue");
    cluster.peers = vec![other(&cluster)];
    say(&mut cluster, no());
    cluster.reconcile();
    assert_eq!(state(&cluster, "sign-off"), (Skipped, Some("ApprovalRejected")));
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

/// Approved, after a failure that is retried.
fn story(crash: Option<Crash>) -> Cluster {
    let mut spec = shipped();
    spec["stages"]["ship"]["retry"] = json!({ "limit": 1, "backoff": { "initial": "1s" } });
    let mut cluster = trained(spec).fate("ship", 1, Fate::Exits(1));
    cluster.crash = crash;
    for _ in 0..20 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    say(&mut cluster, yes());
    cluster.settle();
    cluster
}

#[test]
fn a_crash_at_any_write_leads_to_the_same_end() {
    let reference = story(None);
    assert_eq!(reference.condition("Promoted").unwrap().0, "True");
    for n in 1..=reference.writes {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let cluster = story(Some(crash));
            let states = |cluster: &Cluster| {
                let stages = cluster.status().stages.iter();
                stages.map(|(name, s)| (name.clone(), s.state, s.attempts, s.message.clone())).collect::<Vec<_>>()
            };
            assert_eq!(states(&cluster), states(&reference), "{crash:?}");
            assert_eq!(cluster.created, reference.created, "{crash:?}");
        }
    }
}
