//! How runs end.

use millrace_core::api::{ModelArtifact, ModelVersion, ModelVersionSpec, StageState};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate};
use crate::{pipeline, stage};

fn state(cluster: &Cluster, stage: &str) -> (StageState, Option<String>) {
    let status = cluster.stage(stage);
    (status.state, status.reason.clone())
}

fn chain(length: usize) -> serde_json::Value {
    let stages = (0..length).map(|n| {
        let needs: Vec<String> = if n == 0 { vec![] } else { vec![format!("s{}", n - 1)] };
        (format!("s{n}"), stage(json!({ "needs": needs })))
    });
    pipeline(stages.collect::<serde_json::Map<_, _>>().into())
}

#[test]
fn a_run_of_one_stage_takes_five_writes_and_three_events() {
    let mut cluster = Cluster::new(chain(1));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.status().progress.as_deref(), Some("1/1"));
    assert!(cluster.status().completion_time.is_some());
    assert_eq!(cluster.stage("s0").image.as_deref(), Some("sha256:abc"));
    assert_eq!(cluster.writes, 5, "frozen pipeline, begun, Job, running, done");
    let events: Vec<_> = cluster.events.iter().map(|event| event.reason).collect();
    assert_eq!(events, ["RunStarted", "RunSucceeded"]);
}

#[test]
fn the_end_of_a_stage_and_the_begin_of_the_next_share_a_write() {
    let mut cluster = Cluster::new(chain(10));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    // Frozen pipeline, first status; then for each stage a Job, running, done (with the begin of the next).
    assert_eq!(cluster.writes, 2 + 3 * 10);
}

#[test]
fn a_finished_run_is_never_written_again() {
    let mut cluster = Cluster::new(chain(2));
    cluster.settle();
    let (writes, status) = (cluster.writes, cluster.run.status.clone());
    cluster.jobs.clear();
    cluster.pods.clear();
    cluster.pass_time(std::time::Duration::from_secs(1_000_000));
    cluster.settle();
    assert_eq!((cluster.writes, &cluster.run.status), (writes, &status));
}

#[test]
fn the_arms_of_a_diamond_run_side_by_side() {
    let mut cluster = Cluster::new(pipeline(json!({
        "top": stage(json!({})),
        "left": stage(json!({ "needs": ["top"] })),
        "right": stage(json!({ "needs": ["top"] })),
        "bottom": stage(json!({ "needs": ["left", "right"] })),
    })))
    .fate("left", 1, Fate::Hangs);
    for _ in 0..10 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    assert_eq!(state(&cluster, "right").0, StageState::Succeeded);
    assert_eq!(state(&cluster, "left").0, StageState::Running);
    assert_eq!(state(&cluster, "bottom").0, StageState::Waiting);
    assert!(cluster.condition("Succeeded").unwrap().2.contains("left is running"));
    cluster.fates.clear();
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.created.len(), 4);
}

#[test]
fn a_stage_that_exits_with_1_fails_the_run_with_its_last_lines() {
    let mut cluster = Cluster::new(chain(3)).fate("s1", 1, Fate::Exits(3));
    cluster.settle();
    assert_eq!(state(&cluster, "s1"), (StageState::Failed, Some("Error".into())));
    assert_eq!(cluster.stage("s1").exit_code, Some(3));
    assert_eq!(state(&cluster, "s2"), (StageState::Skipped, Some("UpstreamFailed".into())));
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason), ("False", "StageFailed"));
    assert_eq!(message, "stage `s1` failed: Error: Traceback: no luck");
    assert_eq!(cluster.status().progress.as_deref(), Some("1/3, 1 failed, 1 skipped"));
    assert_eq!(cluster.condition("Stalled").unwrap().0, "True");
    assert_eq!(cluster.condition("Reconciling"), None, "it is there only while it is true");
    assert!(cluster.events.iter().any(|event| event.warning && event.message.contains("no luck")));
}

#[test]
fn what_runs_when_a_stage_fails_goes_on_and_what_has_not_begun_is_skipped() {
    let mut cluster = Cluster::new(pipeline(json!({
        "bad": stage(json!({})),
        "long": stage(json!({ "retry": { "limit": 1, "backoff": { "initial": "10s" } } })),
        "after-long": stage(json!({ "needs": ["long"] })),
    })))
    .fate("bad", 1, Fate::Exits(1))
    .fate("long", 1, Fate::Exits(1));
    cluster.settle();
    assert_eq!(state(&cluster, "long").0, StageState::Succeeded);
    assert_eq!(state(&cluster, "after-long"), (StageState::Skipped, Some("NotStarted".into())));
    assert!(cluster.condition("Succeeded").unwrap().2.contains("`bad`"));
}

#[test]
fn what_only_waits_is_skipped_when_a_stage_fails() {
    let waits = |input: &str| stage(json!({ "inputs": { "c": { "deployed": input } }, "pendingTimeout": "7d" }));
    let mut cluster = Cluster::new(pipeline(json!({ "bad": stage(json!({})), "e": waits("ghost") })));
    cluster = cluster.fate("bad", 1, Fate::Exits(1));
    cluster.reconcile();
    assert_eq!(state(&cluster, "e"), (StageState::Pending, Some("WaitingForDeployedModel".into())));
    let begun = cluster.now;
    cluster.settle();
    assert_eq!(state(&cluster, "e"), (StageState::Skipped, Some("NotStarted".into())));
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "False");
    assert!(cluster.now.duration_since(begun).as_mins() < 5, "it does not wait for its pendingTimeout");
}

#[test]
fn a_stage_reads_the_version_that_it_names_or_the_newest_and_waits_for_it() {
    let reads = |model: Value| stage(json!({ "inputs": { "m": { "model": model } } }));
    let mut cluster = Cluster::new(pipeline(json!({
        "newest": reads(json!({ "name": "m" })),
        "second": reads(json!({ "name": "m", "version": 2 })),
        "without": stage(json!({ "inputs": { "m": { "model": { "name": "none" }, "optional": true } } })),
    })));
    cluster.reconcile();
    let waits = (StageState::Pending, Some("WaitingForModelVersion".to_owned()));
    assert_eq!((state(&cluster, "newest"), state(&cluster, "second")), (waits.clone(), waits.clone()));
    let registered = |number: i64| {
        let artifact =
            ModelArtifact { uri: format!("pvc://c/m{number}"), digest: "d".into(), ..ModelArtifact::default() };
        let spec = ModelVersionSpec { model: "m".into(), version: number, artifact, ..ModelVersionSpec::default() };
        ModelVersion::new(&format!("m-v{number}"), spec)
    };
    cluster.versions.extend([registered(1), registered(3)]);
    cluster.reconcile();
    assert_eq!(state(&cluster, "second"), waits);
    let status = cluster.run.status.as_ref().unwrap();
    let message = status.stages["second"].message.as_ref().unwrap();
    assert!(message.contains("version 2 of the model m is not registered, and the newest is 3"), "{message}");
    cluster.versions.push(registered(2));
    cluster.settle();
    let status = cluster.run.status.as_ref().unwrap();
    let read = |stage: &str| status.stages[stage].inputs["m"].model_version.clone();
    assert_eq!((read("newest"), read("second")), (Some("m-v3".to_owned()), Some("m-v2".to_owned())));
    assert_eq!(read("without"), None);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn every_attempt_reads_the_model_of_the_first_and_none_that_has_another_name_than_its_number() {
    let reads = stage(
        json!({ "inputs": { "m": { "model": { "name": "m" } } }, "retry": { "limit": 1, "backoff": { "initial": "10s" } } }),
    );
    let mut cluster = Cluster::new(pipeline(json!({ "a": reads }))).fate("a", 1, Fate::Exits(1));
    let registered = |name: &str, number: i64| {
        let artifact =
            ModelArtifact { uri: format!("pvc://c/m{number}"), digest: "d".into(), ..ModelArtifact::default() };
        let spec = ModelVersionSpec { model: "m".into(), version: number, artifact, ..ModelVersionSpec::default() };
        ModelVersion::new(name, spec)
    };
    cluster.versions.extend([registered("m-v1", 1), registered("other", 9)]);
    cluster.reconcile();
    cluster.versions.push(registered("m-v2", 2));
    cluster.settle();
    let stage = cluster.stage("a");
    assert_eq!((stage.state, stage.attempts), (StageState::Succeeded, 2));
    assert_eq!(stage.inputs["m"].model_version.as_deref(), Some("m-v1"));
}

#[test]
fn a_stage_whose_job_is_refused_is_skipped_when_another_fails() {
    let spec = pipeline(json!({ "bad": stage(json!({})), "held": stage(json!({ "pendingTimeout": "7d" })) }));
    let mut cluster = Cluster::new(spec).fate("bad", 1, Fate::Exits(1));
    cluster.refuse_job_of = Some("held");
    let begun = cluster.now;
    cluster.settle();
    assert_eq!(state(&cluster, "held"), (StageState::Skipped, Some("NotStarted".into())));
    assert!(cluster.now.duration_since(begun).as_mins() < 5, "it does not wait for its pendingTimeout");
}

#[test]
fn a_failed_attempt_is_tried_again_after_its_backoff_and_only_within_the_limit() {
    let retried =
        || pipeline(json!({ "s": stage(json!({ "retry": { "limit": 2, "backoff": { "initial": "60s" } } })) }));
    let mut cluster = Cluster::new(retried()).fate("s", 1, Fate::Exits(1)).fate("s", 2, Fate::OutOfMemory);
    let start = cluster.now;
    cluster.settle();
    assert_eq!(state(&cluster, "s"), (StageState::Succeeded, None));
    assert_eq!((cluster.stage("s").attempts, cluster.stage("s").failures), (3, 2));
    let seconds = cluster.now.duration_since(start).as_secs();
    assert!((160..=202).contains(&seconds), "60 s and 120 s, ±10 %: {seconds} s");

    let mut cluster = Cluster::new(retried()).fate("s", 1, Fate::Exits(1)).fate("s", 2, Fate::Exits(1)).fate(
        "s",
        3,
        Fate::ExitsWithoutReport,
    );
    cluster.settle();
    assert_eq!(state(&cluster, "s"), (StageState::Failed, Some("NoReport".into())));
    assert_eq!(cluster.created.len(), 3);
}

#[test]
fn out_of_memory_is_its_own_reason_also_when_the_agent_dies_with_it() {
    for fate in [Fate::OutOfMemory, Fate::OutOfMemoryWithAgent] {
        let mut cluster = Cluster::new(chain(1)).fate("s0", 1, fate);
        cluster.settle();
        assert_eq!(state(&cluster, "s0"), (StageState::Failed, Some("OOMKilled".into())));
        assert_eq!(cluster.stage("s0").exit_code, Some(137));
    }
}

#[test]
fn what_the_infrastructure_ends_is_tried_again_at_once_and_not_counted() {
    for fate in [Fate::Evicted, Fate::JobDeleted, Fate::PodDeleted, Fate::LostWithNode] {
        let mut cluster = Cluster::new(chain(2)).fate("s0", 1, fate.clone());
        let start = cluster.now;
        cluster.settle();
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{fate:?}");
        let status = cluster.stage("s0");
        assert_eq!((status.attempts, status.failures, status.disruptions), (2, 0, 1), "{fate:?}");
        assert_eq!(cluster.now, start, "{fate:?}");
    }
}

#[test]
fn a_report_that_went_with_its_node_comes_back_from_the_manifest() {
    let spec = pipeline(json!({ "s": stage(json!({ "outputs": { "data": {} } })) }));
    let mut cluster = Cluster::new(spec).fate("s", 1, Fate::LostWithNode);
    cluster.settle();
    let uri = &cluster.stage("s").outputs["data"].uri;
    assert_eq!(
        uri, "pvc://artifacts/runs/r-run-uid-/s/attempts/1/outputs/data",
        "the first attempt's, it was complete"
    );
}

#[test]
fn a_stage_that_is_interrupted_again_and_again_fails() {
    let mut cluster = Cluster::new(chain(1));
    for attempt in 1..20 {
        cluster.fates.insert(("s0".into(), attempt), Fate::Evicted);
    }
    cluster.settle();
    assert_eq!(state(&cluster, "s0"), (StageState::Failed, Some("TooManyDisruptions".into())));
    assert_eq!(cluster.created.len(), 11);
    assert!(cluster.stage("s0").message.as_ref().unwrap().contains("low on resource"));
}

#[test]
fn a_run_whose_time_is_over_ends_with_its_jobs_deleted() {
    let mut spec = chain(2);
    spec["timeout"] = json!("10m");
    let mut cluster = Cluster::new(spec).fate("s0", 1, Fate::Hangs);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "RunTimeout");
    assert_eq!(state(&cluster, "s0"), (StageState::Failed, Some("RunTimeout".into())));
    assert_eq!(state(&cluster, "s1"), (StageState::Skipped, Some("RunTimeout".into())));
    assert!(cluster.jobs.is_empty());
}

#[test]
fn a_finished_run_is_deleted_after_its_time_to_live() {
    let mut cluster = Cluster::new(chain(1));
    cluster.run.spec.ttl = Some("1h".into());
    for _ in 0..10 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    let left = cluster.reconcile().unwrap();
    assert!(left.as_secs() > 3500, "{left:?}");
    assert!(cluster.run.metadata.deletion_timestamp.is_none());
    cluster.pass_time(left);
    cluster.reconcile();
    assert!(cluster.run.metadata.deletion_timestamp.is_some());
}
