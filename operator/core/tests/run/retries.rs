//! Which failures are tried again, and with how much memory.

use millrace_core::api::StageState;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate};
use crate::{pipeline, stage};

fn retried(retry: Value) -> Value {
    pipeline(json!({ "s": stage(json!({ "retry": retry })) }))
}

#[test]
fn a_failure_that_the_condition_does_not_take_fails_the_stage_at_once_and_says_so() {
    let spec = retried(json!({ "limit": 5, "when": "exitCode != 2" }));
    let mut cluster = Cluster::new(spec).fate("s", 1, Fate::Exits(1)).fate("s", 2, Fate::Exits(2));
    cluster.settle();
    let status = cluster.stage("s");
    assert_eq!((status.state, status.attempts, status.reason.as_deref()), (StageState::Failed, 2, Some("Error")));
    let said = "no other attempt: retry.when is false (exitCode 2, reason Error, attempt 2)";
    assert!(status.message.as_ref().unwrap().lines().next().unwrap().ends_with(said), "{:?}", status.message);
    assert!(cluster.condition("Succeeded").unwrap().2.contains(said), "the run tells it too");
}

#[test]
fn the_condition_may_ask_for_parameters_and_for_what_started_the_run() {
    let mut spec =
        retried(json!({ "limit": 5, "when": "params.patient && run.trigger == null && run.pipeline == ''" }));
    spec["params"] = json!({ "patient": { "type": "boolean", "default": true } });
    let failing = |spec: Value| Cluster::new(spec).fate("s", 1, Fate::Exits(1));
    let mut cluster = failing(spec.clone());
    cluster.settle();
    assert_eq!((cluster.stage("s").state, cluster.stage("s").attempts), (StageState::Succeeded, 2));
    spec["params"]["patient"]["default"] = json!(false);
    let mut cluster = failing(spec);
    cluster.settle();
    assert_eq!((cluster.stage("s").state, cluster.stage("s").attempts), (StageState::Failed, 1));
}

#[test]
fn the_infrastructure_is_not_asked_about() {
    let spec = retried(json!({ "limit": 1, "when": "false" }));
    let mut cluster = Cluster::new(spec).fate("s", 1, Fate::Evicted).fate("s", 2, Fate::LostWithNode);
    cluster.settle();
    assert_eq!((cluster.stage("s").state, cluster.stage("s").failures), (StageState::Succeeded, 0));
}

fn memory_of(cluster: &Cluster, attempt: u32) -> Value {
    let (_, job) = &cluster.jobs[&format!("r-s-{attempt}")];
    let pod = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    serde_json::to_value(&pod.containers[0].resources).unwrap()
}

fn growing() -> Value {
    let retry = json!({ "limit": 3, "memoryGrowth": { "factor": 2, "max": "3Gi" } });
    let resources = json!({ "limits": { "memory": "1Gi" }, "requests": { "memory": "512Mi" } });
    let mut spec = retried(retry);
    spec["stages"]["s"]["container"]["resources"] = resources;
    spec
}

#[test]
fn an_attempt_after_one_that_ran_out_of_memory_has_more_up_to_the_maximum() {
    let mut cluster = Cluster::new(growing())
        .fate("s", 1, Fate::OutOfMemory)
        .fate("s", 2, Fate::OutOfMemoryWithAgent)
        .fate("s", 3, Fate::OutOfMemory);
    cluster.settle();
    let expected = [("1Gi", "512Mi"), ("2048Mi", "1024Mi"), ("3Gi", "1536Mi"), ("3Gi", "1536Mi")];
    for (attempt, (limit, request)) in (1..).zip(expected) {
        let expected = json!({ "limits": { "memory": limit }, "requests": { "memory": request } });
        assert_eq!(memory_of(&cluster, attempt), expected, "attempt {attempt}");
    }
    let status = cluster.stage("s");
    assert_eq!((status.state, status.attempts, status.memory.as_deref()), (StageState::Succeeded, 4, Some("3Gi")));
    let told = cluster.events.iter().filter(|event| event.message.contains("i of memory")).count();
    assert_eq!(told, 2, "it does not grow any more: {:?}", cluster.events);
}

#[test]
fn another_failure_than_memory_changes_no_memory_and_an_interruption_keeps_it() {
    let mut cluster = Cluster::new(growing()).fate("s", 1, Fate::Exits(1)).fate("s", 2, Fate::OutOfMemory).fate(
        "s",
        3,
        Fate::Evicted,
    );
    cluster.settle();
    let limits = |attempt| memory_of(&cluster, attempt)["limits"]["memory"].clone();
    assert_eq!([limits(1), limits(2), limits(3), limits(4)], ["1Gi", "1Gi", "2048Mi", "2048Mi"]);
}

#[test]
fn memory_that_is_the_maximum_already_runs_out_within_the_limit() {
    let mut cluster = Cluster::new(growing());
    for attempt in 1..=4 {
        cluster = cluster.fate("s", attempt, Fate::OutOfMemory);
    }
    cluster.settle();
    let status = cluster.stage("s");
    assert_eq!((status.state, status.attempts, status.reason.as_deref()), (StageState::Failed, 4, Some("OOMKilled")));
}
