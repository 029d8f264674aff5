//! Stages and runs that wait for locks which others hold.

use millrace_core::api::{Cancel, StageState};
use millrace_core::run::{Claim, claims};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate};
use crate::{pipeline, stage};

fn held_by(run: &str, lock: &str) -> Claim {
    Claim {
        run: run.into(),
        stage: Some("load".into()),
        priority: 0,
        since: None,
        held: true,
        names: [(lock.to_owned(), 1)].into(),
    }
}

fn with_locks(locks: Value) -> Value {
    pipeline(json!({ "s": stage(json!({ "locks": locks })) }))
}

/// What other runs see of this one.
fn seen(cluster: &Cluster) -> Vec<(Option<String>, bool)> {
    claims(&cluster.run, 0, |_| false).into_iter().map(|claim| (claim.stage, claim.held)).collect()
}

#[test]
fn a_stage_that_waits_for_a_lock_has_no_job_and_says_who_holds_it() {
    let mut cluster = Cluster::new(with_locks(json!({ "warehouse": {}, "gpu": {} })));
    cluster.locks = vec![held_by("other", "warehouse")];
    let wait = cluster.reconcile().unwrap();
    let status = cluster.stage("s");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Pending, Some("WaitingForLock")));
    let said = "waits for the lock `warehouse` (1 at a time), held by run other, stage load";
    assert_eq!(status.message.as_deref(), Some(said));
    assert!(cluster.jobs.is_empty() && cluster.stage("s").attempts == 0);
    assert_eq!(seen(&cluster), [(Some("s".to_owned()), false)], "it holds none of them");
    assert!(cluster.condition("Succeeded").unwrap().2.contains(said));
    // It waits for longer than a pod may.
    cluster.pass_time(std::time::Duration::from_hours(5));
    let writes = cluster.writes;
    assert!(cluster.reconcile().unwrap() > wait, "it looks again ever more rarely");
    assert_eq!(cluster.writes, writes, "nothing changed");
    cluster.locks.clear();
    cluster.reconcile();
    assert_eq!(seen(&cluster), [(Some("s".to_owned()), true)]);
    assert_eq!(cluster.stage("s").start_time.as_ref().map(|time| time.0.as_second()), Some(cluster.now.as_second()));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert!(seen(&cluster).is_empty(), "who has ended holds nothing");
}

#[test]
fn two_stages_of_one_run_take_turns_and_a_retry_keeps_the_lock() {
    let retried = || stage(json!({ "locks": { "gpu": {} }, "retry": { "limit": 1 } }));
    let mut cluster = Cluster::new(pipeline(json!({ "a": retried(), "b": retried() }))).fate("a", 1, Fate::Exits(1));
    cluster.reconcile();
    assert_eq!(cluster.jobs.keys().collect::<Vec<_>>(), ["r-a-1"]);
    cluster.settle_until(|cluster| cluster.stage("a").state == StageState::BackingOff);
    assert_eq!(seen(&cluster), [(Some("a".to_owned()), true), (Some("b".to_owned()), false)]);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    let ended = |name: &str| cluster.stage(name).completion_time.as_ref().unwrap().0;
    let begun = cluster.stage("b").start_time.as_ref().unwrap().0;
    assert!(begun >= ended("a"), "{begun} {}", ended("a"));
}

#[test]
fn a_crash_anywhere_leaves_no_lock_taken_by_nobody() {
    for at in 1..=6 {
        for crash in [crate::cluster::Crash::Before(at), crate::cluster::Crash::After(at)] {
            let mut cluster = Cluster::new(with_locks(json!({ "gpu": {} })));
            cluster.crash = Some(crash);
            cluster.settle();
            assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{crash:?}");
            assert!(seen(&cluster).is_empty());
        }
    }
}

#[test]
fn a_run_that_waits_for_its_own_lock_has_not_begun() {
    let mut spec = pipeline(json!({ "s": stage(json!({})) }));
    spec["locks"] = json!({ "warehouse": {} });
    let mut cluster = Cluster::new(spec);
    cluster.locks = vec![held_by("other", "warehouse")];
    cluster.reconcile();
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason), ("Unknown", "WaitingForLock"));
    assert!(message.contains("held by run other, stage load"), "{message}");
    assert!(cluster.status().start_time.is_none() && cluster.frozen.is_none());
    assert_eq!(seen(&cluster), [(None, false)]);
    cluster.locks.clear();
    cluster.reconcile();
    assert_eq!(seen(&cluster), [(None, true)]);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert!(seen(&cluster).is_empty());
    // It takes its turn again when it is begun again.
    cluster.locks = vec![held_by("other", "warehouse")];
    cluster.run.spec.retry_from = serde_json::from_value(json!({ "stage": "s" })).unwrap();
    cluster.reconcile();
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "WaitingForLock");
    assert_eq!(seen(&cluster), [(None, false)]);
}

#[test]
fn one_that_is_canceled_or_suspended_waits_no_longer() {
    for cancel in [true, false] {
        let mut cluster = Cluster::new(with_locks(json!({ "gpu": {} })));
        cluster.locks = vec![held_by("other", "gpu")];
        cluster.reconcile();
        if cancel {
            cluster.run.spec.cancel = Some(Cancel::Graceful);
            cluster.reconcile();
            assert_eq!(cluster.stage("s").state, StageState::Skipped, "nothing of it had begun");
        } else {
            cluster.run.spec.suspend = true;
            cluster.reconcile();
            assert_eq!(cluster.stage("s").state, StageState::Waiting);
        }
        assert!(seen(&cluster).is_empty());
    }
}

#[test]
fn a_stage_with_items_holds_its_lock_until_the_last_of_them() {
    let each = stage(json!({ "locks": { "gpu": {} }, "forEach": { "range": { "count": 2 } } }));
    let mut cluster = Cluster::new(pipeline(json!({ "s": each })));
    cluster.locks = vec![held_by("other", "gpu")];
    cluster.reconcile();
    assert!(cluster.jobs.is_empty());
    cluster.locks.clear();
    cluster.reconcile();
    assert_eq!(cluster.jobs.len(), 1);
    assert_eq!(seen(&cluster), [(Some("s".to_owned()), true)]);
}
