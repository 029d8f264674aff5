//! What a person asks of a run: suspend, cancel, begin again.

use std::time::Duration;

use millrace_core::api::StageState::{self, BackingOff, Failed, Running, Skipped, Succeeded, Waiting};
use millrace_core::api::{Cancel, RetryFrom};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Crash, Fate, deployment};
use crate::{pipeline, stage, whole_loop};

fn state<'a>(cluster: &'a Cluster, stage: &str) -> (StageState, Option<&'a str>) {
    let status = cluster.stage(stage);
    (status.state, status.reason.as_deref())
}

/// A chain of three, and something in `finally`.
fn chain() -> Value {
    let mut spec = pipeline(json!({
        "a": stage(json!({ "outputs": { "data": {} } })),
        "b": stage(json!({ "inputs": { "data": { "from": "a.data" } } })),
        "c": stage(json!({ "needs": ["b"] })),
    }));
    spec["finally"] = json!({ "tell": stage(json!({})) });
    spec
}

fn until(cluster: &mut Cluster, stage: &str, wanted: StageState) {
    for _ in 0..30 {
        cluster.reconcile();
        if cluster.status().stages.get(stage).is_some_and(|status| status.state == wanted) {
            return;
        }
        crate::node::tick(cluster);
    }
    panic!("{stage} is never {wanted:?}: {:#?}", cluster.run.status);
}

fn failed(number: Option<u32>) -> RetryFrom {
    RetryFrom { failed: true, stage: None, number }
}

#[test]
fn a_suspended_run_begins_nothing_and_goes_on_where_it_was() {
    let mut spec = chain();
    spec["timeout"] = json!("10m");
    let mut cluster = Cluster::new(spec);
    until(&mut cluster, "a", Running);
    cluster.run.spec.suspend = true;
    for _ in 0..10 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    assert_eq!((state(&cluster, "a").0, state(&cluster, "b").0), (Succeeded, Waiting));
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason), ("Unknown", "Suspended"));
    assert!(message.contains("spec.suspend is false"), "{message}");
    // A night is not its time.
    cluster.pass_time(Duration::from_hours(9));
    let writes = cluster.writes;
    assert_eq!(cluster.reconcile(), None);
    assert_eq!(cluster.writes, writes);
    cluster.run.spec.suspend = false;
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.status().suspended_seconds, 9 * 3600);
}

#[test]
fn a_run_that_is_made_suspended_begins_when_it_may() {
    let mut cluster = Cluster::new(chain());
    cluster.run.spec.suspend = true;
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "Suspended");
    assert_eq!((cluster.frozen.is_none(), cluster.jobs.len(), cluster.writes), (true, 0, 1));
    cluster.run.spec.suspend = false;
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn a_suspended_run_tries_nothing_again() {
    let spec = pipeline(json!({ "s": stage(json!({ "retry": { "limit": 1, "backoff": { "initial": "10s" } } })) }));
    let mut cluster = Cluster::new(spec).fate("s", 1, Fate::Exits(1));
    until(&mut cluster, "s", Running);
    cluster.run.spec.suspend = true;
    until(&mut cluster, "s", BackingOff);
    cluster.pass_time(Duration::from_hours(1));
    cluster.reconcile();
    assert_eq!((state(&cluster, "s").0, cluster.created.len()), (BackingOff, 1));
    cluster.run.spec.suspend = false;
    cluster.settle();
    assert_eq!(state(&cluster, "s").0, Succeeded);
}

#[test]
fn a_run_that_is_canceled_stops_what_runs_and_runs_finally() {
    let mut cluster = Cluster::new(chain()).fate("b", 1, Fate::Hangs);
    until(&mut cluster, "b", Running);
    cluster.run.spec.cancel = Some(Cancel::Graceful);
    cluster.settle();
    assert_eq!(state(&cluster, "a").0, Succeeded);
    assert_eq!(state(&cluster, "b"), (Failed, Some("Canceled")));
    assert_eq!(state(&cluster, "c"), (Skipped, Some("Canceled")));
    assert_eq!(state(&cluster, "tell").0, Succeeded);
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason, message), ("False", "Canceled", "spec.cancel is Graceful: 1 stopped, 1 not begun"));
    assert!(!cluster.jobs.contains_key("r-b-1"));
    assert!(cluster.events.iter().any(|event| event.reason == "RunCanceled" && !event.warning));
}

#[test]
fn a_run_that_is_canceled_now_ends_at_once_without_finally() {
    let mut cluster = Cluster::new(chain()).fate("b", 1, Fate::Hangs);
    until(&mut cluster, "b", Running);
    cluster.run.spec.cancel = Some(Cancel::Now);
    cluster.settle();
    assert_eq!(state(&cluster, "b"), (Failed, Some("Canceled")));
    assert_eq!(state(&cluster, "tell"), (Skipped, Some("Canceled")));
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "Canceled");
    assert!(cluster.pods.iter().all(|pod| pod.stage != "b"));
}

#[test]
fn a_run_that_is_canceled_while_finally_runs_is_canceled() {
    let mut cluster = Cluster::new(chain()).fate("tell", 1, Fate::Hangs);
    until(&mut cluster, "tell", Running);
    cluster.run.spec.cancel = Some(Cancel::Now);
    cluster.settle();
    assert_eq!(state(&cluster, "c").0, Succeeded);
    assert_eq!(state(&cluster, "tell"), (Failed, Some("Canceled")));
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "Canceled");
}

#[test]
fn a_run_that_is_canceled_before_it_began_ends_with_nothing_made() {
    let mut cluster = Cluster::new(chain());
    cluster.run.spec.cancel = Some(Cancel::Graceful);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "Canceled");
    assert!(cluster.jobs.is_empty() && cluster.frozen.is_none());
}

#[test]
fn a_run_that_begins_again_runs_what_failed_and_reads_what_had_succeeded() {
    let mut cluster = Cluster::new(chain()).fate("b", 1, Fate::Exits(1));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "False");
    cluster.pass_time(Duration::from_hours(1));
    cluster.run.spec.retry_from = Some(failed(None));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    let attempts = ["a", "b", "c", "tell"].map(|name| cluster.stage(name).attempts);
    assert_eq!(attempts, [1, 2, 1, 2]);
    let job = serde_json::to_string(&cluster.jobs["r-b-2"].1).unwrap();
    assert!(job.contains("runs/r-run-uid-/a/attempts/1/outputs/data"), "{job}");
    assert!(job.contains("\"subPath\":\"runs/r-run-uid-/b\""), "it finds its checkpoints: {job}");
    let (writes, status) = (cluster.writes, cluster.run.status.clone());
    cluster.settle();
    assert_eq!((cluster.writes, &cluster.run.status), (writes, &status), "it was asked once");
}

#[test]
fn the_same_can_be_asked_for_once_more_under_another_number() {
    let mut cluster = Cluster::new(chain()).fate("b", 1, Fate::Exits(1)).fate("b", 2, Fate::Exits(1));
    for number in [None, Some(2)] {
        cluster.settle();
        assert_eq!(state(&cluster, "b").0, Failed);
        cluster.run.spec.retry_from = Some(failed(number));
    }
    cluster.settle();
    assert_eq!((state(&cluster, "b").0, cluster.stage("b").attempts), (Succeeded, 3));
}

#[test]
fn a_run_that_was_canceled_can_begin_again() {
    let mut cluster = Cluster::new(chain()).fate("b", 1, Fate::Hangs);
    until(&mut cluster, "b", Running);
    cluster.run.spec.cancel = Some(Cancel::Graceful);
    cluster.settle();
    cluster.run.spec.cancel = None;
    cluster.run.spec.retry_from = Some(failed(None));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn a_run_that_begins_again_at_a_stage_registers_another_version() {
    let mut cluster =
        Cluster::new(whole_loop()).fate("evaluate", 1, Fate::Succeeds(json!({ "metrics": { "f1": 0.95 } })));
    cluster =
        cluster.fate("evaluate", 2, Fate::Succeeds(json!({ "metrics": { "f1": 0.96 }, "champion": { "f1": 0.95 } })));
    cluster.deployment = Some(deployment());
    cluster.settle();
    assert_eq!(cluster.versions.len(), 1);
    cluster.run.spec.retry_from = Some(RetryFrom { stage: Some("train".into()), ..RetryFrom::default() });
    cluster.settle();
    assert_eq!(cluster.stage("ingest").attempts, 1);
    assert_eq!(cluster.stage("train").attempts, 2);
    assert!(cluster.stage("train").outputs["model"].uri.contains("/train.1/attempts/2/"));
    assert_eq!(cluster.stage("register").model_version.as_deref(), Some("penguins-v2"));
    assert_eq!(cluster.deployment.as_ref().unwrap().spec.model.version, Some(2));
}

#[test]
fn what_cannot_begin_again_says_so_and_stays_as_it_is() {
    let mut cluster = Cluster::new(chain());
    cluster.settle();
    cluster.run.spec.retry_from = Some(RetryFrom { stage: Some("bb".into()), ..RetryFrom::default() });
    cluster.settle();
    let (status, reason, message) = cluster.condition("Accepted").unwrap();
    assert_eq!((status, reason), ("False", "UnknownStage"));
    assert!(message.contains("spec.retryFrom.stage"), "{message}");
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    cluster.run.spec.retry_from = Some(failed(None));
    cluster.settle();
    assert_eq!(cluster.condition("Accepted").unwrap().1, "NothingFailed");
    assert_eq!(cluster.jobs.len(), 4);
}

/// `b` fails, the run begins again, and is canceled while `c` runs.
fn story(crash: Option<Crash>) -> Cluster {
    let mut cluster = Cluster::new(chain()).fate("b", 1, Fate::Exits(1)).fate("c", 1, Fate::Hangs);
    cluster.crash = crash;
    cluster.settle();
    cluster.run.spec.retry_from = Some(failed(None));
    until(&mut cluster, "c", Running);
    cluster.run.spec.cancel = Some(Cancel::Graceful);
    cluster.settle();
    cluster
}

#[test]
fn a_crash_at_any_write_leads_to_the_same_end() {
    let reference = story(None);
    assert_eq!(reference.condition("Succeeded").unwrap().1, "Canceled");
    for n in 1..=reference.writes {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let cluster = story(Some(crash));
            let states = |cluster: &Cluster| {
                let stages = cluster.status().stages.iter();
                stages.map(|(name, s)| (name.clone(), s.state, s.attempts, s.reason.clone())).collect::<Vec<_>>()
            };
            assert_eq!(states(&cluster), states(&reference), "{crash:?}");
            assert_eq!(cluster.created, reference.created, "{crash:?}");
        }
    }
}
