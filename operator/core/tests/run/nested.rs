//! Stages that run another pipeline.

use std::time::Duration;

use millrace_core::api::StageState::{BackingOff, Failed, Pending, Running, Skipped, Succeeded};
use millrace_core::api::{Cancel, MLPipelineRun, MLPipelineRunStatus, PipelineRef, RetryFrom};
use millrace_core::run::{Above, ended_by};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Crash, Fate};
use crate::{pipeline, stage};

/// Features of a day, made by another pipeline, and what is trained on them.
fn outer() -> Value {
    let nested = json!({
        "name": "features", "params": { "day": "$[[ params.day ]]", "rows": "$[[ stages.ingest.metrics.rows ]]" },
        "outputs": { "table": { "from": "prepare.data" }, "spare": { "from": "prepare.spare", "optional": true } },
        "results": "prepare", "timeout": "1h",
    });
    let mut spec = pipeline(json!({
        "ingest": stage(json!({})),
        "make": { "pipeline": nested },
        "train": stage(json!({ "inputs": { "table": { "from": "make.table" } } })),
    }));
    spec["params"] = json!({ "day": { "type": "string", "default": "monday" } });
    spec
}

fn begun() -> Cluster {
    let ingested = Fate::Succeeds(json!({ "metrics": { "rows": 7.0 } }));
    let mut cluster = Cluster::new(outer()).fate("ingest", 1, ingested);
    cluster.settle_until(|cluster| !cluster.nested.is_empty());
    cluster.reconcile();
    cluster
}

fn nested(cluster: &mut Cluster) -> &mut MLPipelineRun {
    cluster.nested.get_mut("r-make-1").unwrap()
}

/// What the nested run says of itself.
fn says(cluster: &mut Cluster, succeeded: &str, reason: &str, message: &str, more: Value) {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let mut status = json!({
        "startTime": "2026-01-01T00:00:00Z", "progress": "1/2",
        "conditions": [condition("Succeeded", succeeded, reason, message)],
    });
    if succeeded != "Unknown" {
        status["completionTime"] = json!("2026-01-01T00:00:10Z");
    }
    for (key, value) in more.as_object().unwrap() {
        status[key] = value.clone();
    }
    nested(cluster).status = Some(serde_json::from_value(status).unwrap());
}

fn prepared() -> Value {
    json!({ "stages": { "prepare": {
        "state": "Succeeded", "results": { "kind": "daily" }, "metrics": { "rows": 5.0 },
        "outputs": { "data": { "uri": "pvc://artifacts/runs/x/prepare/attempts/1/outputs/data", "digest": "sha256:d", "size": 9 } },
    } } })
}

#[test]
fn a_stage_runs_another_pipeline_and_hands_on_what_it_made() {
    let mut cluster = begun();
    let made = nested(&mut cluster).clone();
    assert_eq!(made.spec.pipeline_ref, Some(PipelineRef { name: "features".into() }));
    assert_eq!(json!(made.spec.params), json!({ "day": "monday", "rows": 7 }));
    let owner = &made.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("MLPipelineRun", "run-uid-0", Some(true)));
    assert_eq!(cluster.stage("make").state, Pending);
    says(&mut cluster, "Unknown", "Running", "prepare is running", json!({}));
    cluster.reconcile();
    let stage = cluster.stage("make");
    assert_eq!(stage.state, Running);
    let said = "run r-make-1: 1/2: prepare is running (gives up at 01:00Z)";
    assert_eq!((stage.reason.as_deref(), stage.message.as_deref()), (None, Some(said)));
    says(&mut cluster, "True", "Succeeded", "", prepared());
    cluster.settle();
    let stage = cluster.stage("make");
    assert_eq!((stage.state, stage.message.as_deref()), (Succeeded, None));
    assert_eq!((stage.results["kind"].as_str(), stage.metrics["rows"]), (Some("daily"), 5.0));
    assert_eq!(stage.outputs.keys().collect::<Vec<_>>(), ["table"]);
    assert_eq!(cluster.stage("train").state, Succeeded);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.created["r-make-1"], 1);
}

#[test]
fn what_becomes_of_the_run_becomes_of_the_stage() {
    let absent = json!({ "stages": { "prepare": { "state": "Skipped" } } });
    let other = json!({ "stages": { "prepare": {
        "state": "Succeeded",
        "outputs": { "data": { "type": "model", "uri": "pvc://artifacts/m", "digest": "sha256:d", "size": 9 } },
    } } });
    for (succeeded, reason, message, more, expected, words) in [
        (
            "False",
            "StageFailed",
            "stage `prepare` failed",
            json!({}),
            "StageFailed",
            "run r-make-1: stage `prepare` failed",
        ),
        ("False", "Canceled", "spec.cancel is Now", json!({}), "RunCanceled", "run r-make-1: spec.cancel is Now"),
        ("True", "Succeeded", "", absent, "OutputMissing", "run r-make-1 made no prepare.data"),
        ("True", "Succeeded", "", other, "OutputMissing", "of another type"),
    ] {
        let mut cluster = begun();
        says(&mut cluster, succeeded, reason, message, more);
        cluster.settle();
        let stage = cluster.stage("make");
        assert_eq!((stage.state, stage.reason.as_deref()), (Failed, Some(expected)));
        assert!(stage.message.as_ref().unwrap().contains(words), "{:?}", stage.message);
        assert_eq!(cluster.stage("train").state, Skipped);
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "False");
    }
}

#[test]
fn what_a_gate_in_there_does_not_let_through_does_not_go_on_out_here() {
    let mut cluster = begun();
    let mut more = prepared();
    more["conditions"] = json!([
        { "type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" },
        { "type": "Promoted", "status": "False", "reason": "GateRejected", "message": "the gate of stage `prepare` said no", "lastTransitionTime": "2026-01-01T00:00:00Z" },
    ]);
    says(&mut cluster, "True", "Succeeded", "", more);
    cluster.settle();
    assert_eq!(cluster.stage("make").state, Succeeded);
    assert_eq!(cluster.stage("train").state, Skipped);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    let words = "the gate of stage `make` said no: run r-make-1: GateRejected: the gate of stage `prepare` said no";
    assert_eq!(cluster.condition("Promoted"), Some(("False", "GateRejected", words)));
}

#[test]
fn a_run_that_is_canceled_or_out_of_time_waits_for_the_end_of_the_nested_one() {
    for by_hand in [true, false] {
        let mut cluster = begun();
        says(&mut cluster, "Unknown", "Running", "prepare is running", json!({}));
        cluster.reconcile();
        let parts = |cluster: &Cluster| (cluster.run.clone(), cluster.nested["r-make-1"].clone());
        let (run, nested) = parts(&cluster);
        assert_eq!(ended_by(&run, &nested), None, "its stage goes on");
        if by_hand {
            cluster.run.spec.cancel = Some(Cancel::Now);
        } else {
            cluster.pass_time(Duration::from_hours(1));
        }
        cluster.reconcile();
        assert_eq!(cluster.stage("make").state, Failed);
        assert!(cluster.status().completion_time.is_none(), "it waits");
        let (run, nested) = parts(&cluster);
        assert_eq!(ended_by(&run, &nested), Some(if by_hand { Cancel::Now } else { Cancel::Graceful }));
        says(&mut cluster, "False", "Canceled", "spec.cancel is Now", json!({}));
        cluster.settle();
        assert!(cluster.status().completion_time.is_some());
        assert_eq!(cluster.stage("make").reason.as_deref(), Some(if by_hand { "Canceled" } else { "Timeout" }));
    }
}

#[test]
fn a_nested_run_ends_when_its_stage_has_ended_without_it() {
    let mut cluster = Cluster::new(pipeline(
        json!({ "slow": stage(json!({})), "next": stage(json!({ "needs": ["slow"] })) }),
    ))
    .fate("slow", 1, Fate::Hangs);
    cluster.settle_until(|cluster| cluster.run.status.is_some() && cluster.stage("slow").state == Running);
    cluster.above = Above { pipelines: vec![Some("outer".into())], ended: Some(Cancel::Graceful), ..Above::default() };
    cluster.settle();
    assert_eq!((cluster.stage("slow").state, cluster.stage("next").state), (Failed, Skipped));
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "Canceled");
    assert_eq!(cluster.run.spec.cancel, None, "nobody wrote to it");
}

#[test]
fn a_nested_run_that_is_deleted_fails_its_stage_and_is_not_made_again() {
    let mut cluster = begun();
    cluster.nested.clear();
    cluster.settle();
    assert_eq!((cluster.stage("make").state, cluster.stage("make").reason.as_deref()), (Failed, Some("RunDeleted")));
    assert_eq!(cluster.created["r-make-1"], 1);
    cluster.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-2"));
}

#[test]
fn a_stage_that_begins_again_does_not_take_the_end_of_its_earlier_run() {
    let mut cluster = begun();
    says(&mut cluster, "False", "StageFailed", "stage `prepare` failed", json!({}));
    cluster.settle();
    cluster.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-2"));
    cluster.reconcile();
    assert_eq!(cluster.stage("make").state, Pending);
}

#[test]
fn pipelines_that_would_run_each_other_for_ever_are_stopped() {
    for (chain, words) in
        [(vec!["features"], "features -> (a pipeline written in place) -> features"), (vec!["b"; 8], "8 deep")]
    {
        let mut cluster = Cluster::new(pipeline(json!({ "make": { "pipeline": { "name": "features" } } })));
        cluster.above.pipelines = chain.iter().map(|name| Some((*name).to_owned())).collect();
        cluster.settle();
        let stage = cluster.stage("make");
        assert_eq!((stage.state, stage.reason.as_deref()), (Failed, Some("NestedCycle")));
        assert!(stage.message.as_ref().unwrap().contains(words), "{:?}", stage.message);
        assert!(cluster.nested.is_empty());
    }
}

#[test]
fn a_crash_at_any_write_makes_one_nested_run() {
    for number in 1..20 {
        for crash in [Crash::Before(number), Crash::After(number)] {
            let ingested = Fate::Succeeds(json!({ "metrics": { "rows": 7.0 } }));
            let mut cluster = Cluster::new(outer()).fate("ingest", 1, ingested);
            cluster.crash = Some(crash);
            cluster.settle_until(|cluster| !cluster.nested.is_empty());
            says(&mut cluster, "True", "Succeeded", "", prepared());
            cluster.settle();
            assert_eq!(cluster.created["r-make-1"], 1, "{crash:?}");
            assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{crash:?}");
        }
    }
}

#[test]
fn a_run_that_no_stage_of_its_owner_names_is_ended() {
    let parent = MLPipelineRun { status: Some(MLPipelineRunStatus::default()), ..MLPipelineRun::default() };
    assert_eq!(ended_by(&parent, &MLPipelineRun::default()), Some(Cancel::Graceful));
}

#[test]
fn what_the_run_used_the_stage_has_used_however_it_ends_and_when_it_is_tried_again() {
    let used = |seconds: f64| json!({ "usage": { "cpuSeconds": seconds, "peakMemoryBytes": 7, "wallSeconds": 4.0 } });
    let mut cluster = begun();
    assert_eq!(cluster.stage("make").usage, None);
    says(&mut cluster, "Unknown", "Running", "prepare is running", used(1.5));
    cluster.reconcile();
    assert_eq!(cluster.stage("make").usage.as_ref().unwrap().cpu_seconds, 1.5);
    cluster.run.spec.cancel = Some(Cancel::Now);
    cluster.reconcile();
    assert_eq!(cluster.stage("make").state, Failed);
    says(&mut cluster, "False", "Canceled", "spec.cancel is Now", used(2.5));
    cluster.settle();
    assert_eq!(cluster.stage("make").usage.as_ref().unwrap().cpu_seconds, 2.5, "it ended after its stage");
    let before = cluster.status().usage.clone().unwrap();
    cluster.run.spec.cancel = None;
    cluster.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-2"));
    let status = cluster.nested["r-make-1"].status.clone();
    cluster.nested.get_mut("r-make-2").unwrap().status = status;
    cluster.reconcile();
    let all = cluster.stage("make").usage.clone().unwrap();
    assert_eq!((all.cpu_seconds, all.wall_seconds, all.peak_memory_bytes), (5.0, 8.0, 7));
    assert_eq!(cluster.status().usage.as_ref().unwrap().cpu_seconds, before.cpu_seconds + 2.5);
}

/// A stage that is given what another made, what the run was given itself, and what a stage left out.
fn giving() -> Value {
    let inputs = json!({
        "rows": { "from": "ingest.data" }, "base": { "input": "base", "optional": true },
        "extra": { "input": "extra", "optional": true }, "spare": { "from": "ingest.spare", "optional": true },
    });
    let mut spec = pipeline(json!({
        "ingest": stage(json!({ "outputs": { "data": {}, "spare": { "optional": true } } })),
        "make": { "pipeline": { "name": "inner" }, "inputs": inputs },
        "use": stage(json!({ "inputs": { "base": { "input": "base", "optional": true }, "extra": { "input": "extra", "optional": true } } })),
    }));
    spec["inputs"] = json!({ "base": { "type": "model", "optional": true }, "extra": { "optional": true } });
    spec
}

fn artifact() -> Value {
    json!({ "type": "model", "artifact": { "uri": "pvc://artifacts/runs/o/t/attempts/1/outputs/m", "digest": format!("sha256:{}", "ab".repeat(32)), "size": 12 } })
}

#[test]
fn a_pipeline_is_given_what_a_stage_made_and_what_the_run_was_given() {
    let made =
        json!({ "outputs": { "data": { "digest": format!("sha256:{}", "cd".repeat(32)), "size": 4, "files": 1 } } });
    let mut cluster = Cluster::new(giving()).fate("ingest", 1, Fate::Succeeds(made));
    cluster.run.spec.inputs = serde_json::from_value(json!({ "base": artifact() })).unwrap();
    cluster.settle_until(|cluster| !cluster.nested.is_empty());
    let given = json!(nested(&mut cluster).spec.inputs);
    let output = cluster.stage("ingest").outputs["data"].clone();
    assert_eq!(given["base"], artifact());
    assert_eq!(given["rows"], json!({ "artifact": { "uri": output.uri, "digest": output.digest, "size": 4 } }));
    assert_eq!(given.as_object().unwrap().len(), 2, "what is not there is not given: {given}");
    assert_eq!(
        cluster.stage("make").inputs["base"].uri.as_deref(),
        Some("pvc://artifacts/runs/o/t/attempts/1/outputs/m")
    );
    says(&mut cluster, "True", "Succeeded", "", json!({}));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.stage("use").inputs["base"].digest, cluster.stage("make").inputs["base"].digest);
    assert_eq!(cluster.stage("use").inputs["extra"].uri, None);
}

#[test]
fn what_a_run_is_given_wrong_is_its_end_and_names_the_field() {
    let of = |uri: &str, access: Value| {
        let mut given = artifact();
        given["artifact"]["uri"] = json!(uri);
        given["artifact"]["access"] = access;
        json!({ "base": given })
    };
    for (given, at) in [
        (json!({ "bse": artifact() }), "spec.inputs.bse: the pipeline has no input `bse`: did you mean `base`?"),
        (json!({ "base": { "artifact": artifact()["artifact"] } }), "spec.inputs.base: the input `base` is a model"),
        (json!({ "base": { "uri": "ftp://h/x" } }), "spec.inputs.base.uri: nobody reads ftp://"),
        (
            json!({ "base": { "uri": "s3://lake/$[[ params.day ]]" } }),
            "spec.inputs.base.uri: nothing is filled in here",
        ),
        (json!({ "base": {} }), "spec.inputs.base: exactly one of uri and artifact"),
        (
            of("pvc://artifacts/$[[ params.n ]]", json!(null)),
            "spec.inputs.base.artifact.uri: nothing is filled in here",
        ),
        (
            of("s3://b/x", json!({ "endpoint": "http://169.254.169.254" })),
            "spec.inputs.base.artifact.access.endpoint: ",
        ),
        (
            of("pvc://artifacts/x", json!({ "secretRef": { "name": "s" } })),
            "spec.inputs.base.artifact.access: a claim needs no access",
        ),
    ] {
        let mut cluster = Cluster::new(giving());
        cluster.run.spec.inputs = serde_json::from_value(given).unwrap();
        cluster.settle();
        let said = cluster.condition("Succeeded").unwrap();
        assert!(said.0 == "False" && said.2.contains(at), "{said:?}");
    }
    let mut cluster = Cluster::new({
        let mut spec = giving();
        spec["inputs"]["base"] = json!({ "type": "model" });
        for stage in ["make", "use"] {
            spec["stages"][stage]["inputs"]["base"] = json!({ "input": "base" });
        }
        spec
    });
    cluster.settle();
    let said = cluster.condition("Succeeded").unwrap();
    assert!(said.1 == "MissingInput" && said.2.contains("the pipeline needs the input `base`"), "{said:?}");
}

fn retried(limit: u32) -> Cluster {
    let mut spec = outer();
    spec["stages"]["make"]["retry"] = json!({ "limit": limit, "backoff": { "initial": "10s" } });
    let ingested = Fate::Succeeds(json!({ "metrics": { "rows": 7.0 } }));
    let mut cluster = Cluster::new(spec).fate("ingest", 1, ingested);
    cluster.settle_until(|cluster| !cluster.nested.is_empty());
    cluster
}

/// The nested run of this number ends like this.
fn ends(cluster: &mut Cluster, number: u32, succeeded: &str, reason: &str, more: Value) {
    let first = nested(cluster).status.clone();
    says(cluster, succeeded, reason, "stage `prepare` failed", more);
    let status = std::mem::replace(&mut nested(cluster).status, first);
    cluster.nested.get_mut(&format!("r-make-{number}")).unwrap().status = status;
}

#[test]
fn another_run_is_made_after_one_that_failed_as_often_as_may_be() {
    let mut cluster = retried(1);
    ends(&mut cluster, 1, "False", "StageFailed", json!({}));
    cluster.reconcile();
    let stage = cluster.stage("make");
    assert_eq!((stage.state, stage.reason.as_deref()), (BackingOff, Some("StageFailed")));
    assert!(stage.message.as_ref().unwrap().contains("run r-make-1: stage `prepare` failed"), "{stage:?}");
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-2"));
    ends(&mut cluster, 2, "True", "Succeeded", prepared());
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!((cluster.stage("make").attempts, cluster.stage("make").failures), (2, 1));

    let mut cluster = retried(1);
    ends(&mut cluster, 1, "False", "StageFailed", json!({}));
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-2"));
    ends(&mut cluster, 2, "False", "StageFailed", json!({}));
    cluster.settle();
    assert_eq!((cluster.stage("make").state, cluster.nested.len()), (Failed, 2));
    // A person begins it again: the numbers go on.
    cluster.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-3"));
}

#[test]
fn what_a_person_ended_or_nobody_began_is_not_tried_again() {
    for (reason, more) in [("Canceled", json!({})), ("MissingInput", json!({ "startTime": null }))] {
        let mut cluster = retried(3);
        ends(&mut cluster, 1, "False", reason, more);
        cluster.settle();
        assert_eq!((cluster.stage("make").state, cluster.nested.len()), (Failed, 1), "{reason}");
    }
}

#[test]
fn a_crash_at_any_write_makes_one_run_for_each_try() {
    for number in 1..24 {
        for crash in [Crash::Before(number), Crash::After(number)] {
            let mut cluster = retried(1);
            cluster.crash = Some(crash);
            ends(&mut cluster, 1, "False", "StageFailed", json!({}));
            cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-2"));
            ends(&mut cluster, 2, "True", "Succeeded", prepared());
            cluster.settle();
            assert_eq!((cluster.created["r-make-1"], cluster.created["r-make-2"]), (1, 1), "{crash:?}");
            assert_eq!(cluster.nested.len(), 2, "{crash:?}");
            assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{crash:?}");
        }
    }
}

#[test]
fn a_stage_is_skipped_with_what_it_would_hand_over() {
    let skipped = |name: &str| (name.to_owned(), stage(json!({ "when": "false", "outputs": { "data": {} } })));
    let mut stages = serde_json::Map::from_iter([skipped("a"), skipped("b")]);
    let rows = json!({ "from": "a.data", "default": { "from": "b.data" } });
    stages.insert("make".to_owned(), json!({ "pipeline": { "name": "inner" }, "inputs": { "rows": rows } }));
    let mut cluster = Cluster::new(pipeline(stages.into()));
    cluster.settle();
    let stage = cluster.stage("make");
    assert_eq!((stage.state, stage.reason.as_deref()), (Skipped, Some("UpstreamSkipped")));
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
}

#[test]
fn a_stage_waits_for_the_model_that_it_is_to_hand_over() {
    for each in [None, Some(json!({ "range": { "count": 2 } }))] {
        let mut make = json!({ "pipeline": { "name": "inner" }, "inputs": { "base": { "model": { "name": "m" } } } });
        if let Some(each) = each {
            make["forEach"] = each;
        }
        let mut cluster = Cluster::new(pipeline(json!({ "make": make })));
        cluster.settle_until(|cluster| cluster.run.status.is_some() && cluster.stage("make").reason.is_some());
        let stage = cluster.stage("make");
        assert_eq!((stage.state, stage.reason.as_deref()), (Pending, Some("WaitingForModelVersion")));
        assert!(cluster.nested.is_empty());
        // An hour that it waited so is none in which the apiserver refused anything.
        assert_eq!((&stage.attempt_time, &stage.items), (&None, &None));
    }
}

#[test]
fn every_item_is_given_what_the_stage_has() {
    let mut spec = giving();
    spec["stages"]["make"]["forEach"] = json!({ "range": { "count": 3 } });
    let made =
        json!({ "outputs": { "data": { "digest": format!("sha256:{}", "cd".repeat(32)), "size": 4, "files": 1 } } });
    let mut cluster = Cluster::new(spec).fate("ingest", 1, Fate::Succeeds(made));
    cluster.settle_until(|cluster| cluster.nested.len() == 3);
    for run in cluster.nested.values() {
        assert_eq!(run.spec.inputs.keys().collect::<Vec<_>>(), ["rows"]);
    }
}

/// A run whose stage found what the run was given lost.
fn loses(cluster: &mut Cluster, run: &str) {
    let given = &cluster.nested[run].spec.inputs["rows"].artifact.clone().unwrap();
    // As a stage says it that runs a pipeline itself, whose own input is called as another one of this stage.
    let message = "input \"numbers\" is lost: run x: stage `fit` failed: InputLost: input \"data\" is not there";
    let other = json!({ "uri": "pvc://artifacts/models/1", "digest": given.digest, "size": 1 });
    let read = json!({ "numbers": { "uri": given.uri, "digest": given.digest, "size": given.size }, "data": other });
    let failed = json!({ "state": "Failed", "reason": "InputLost", "message": message, "inputs": read });
    let number = run.rsplit('-').next().unwrap().parse().unwrap();
    ends(cluster, number, "False", "StageFailed", json!({ "stages": { "clean": failed } }));
}

fn ingests(attempt: u32) -> (&'static str, u32, Fate) {
    let digest = format!("sha256:{}", "cd".repeat(32));
    ("ingest", attempt, Fate::Succeeds(json!({ "outputs": { "data": { "digest": digest, "size": 4, "files": 1 } } })))
}

#[test]
fn what_a_nested_run_was_given_and_is_lost_is_made_again_and_given_to_another() {
    let mut cluster = Cluster::new(giving());
    for (stage, attempt, fate) in (1..=4).map(ingests) {
        cluster = cluster.fate(stage, attempt, fate);
    }
    for run in ["r-make-1", "r-make-2", "r-make-3", "r-make-4"] {
        cluster.settle_until(|cluster| cluster.nested.contains_key(run));
        loses(&mut cluster, run);
    }
    let given: std::collections::BTreeSet<String> =
        cluster.nested.values().map(|run| run.spec.inputs["rows"].artifact.as_ref().unwrap().uri.clone()).collect();
    assert_eq!(given.len(), 4, "each what was made last: {given:?}");
    let told = cluster.events.iter().find(|event| event.reason == "InputLost").unwrap();
    assert!(told.message.contains("input `rows` is made again by stage `ingest`: run r-make-1"), "{}", told.message);
    cluster.settle();
    let make = cluster.stage("make");
    assert_eq!((make.state, make.reason.as_deref(), cluster.stage("ingest").remade), (Failed, Some("InputLost"), 3));
    let message = make.message.as_deref().unwrap();
    assert!(message.contains("stage `ingest` has made it again 3 times in this run"), "{message}");
    // The outer run's own outer run finds the same words.
    assert!(message.starts_with("input \"rows\" is lost: run r-make-4"), "{message}");
}

#[test]
fn what_the_run_itself_was_given_and_a_nested_run_finds_lost_is_told() {
    let mut spec = giving();
    spec["stages"]["make"]["inputs"] = json!({ "rows": { "input": "extra" } });
    spec["inputs"] = json!({ "extra": {} });
    spec["stages"]["use"] = stage(json!({}));
    let mut cluster = Cluster::new(spec);
    let extra = json!({ "artifact": artifact()["artifact"] });
    cluster.run.spec.inputs = serde_json::from_value(json!({ "extra": extra })).unwrap();
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-1"));
    loses(&mut cluster, "r-make-1");
    cluster.settle();
    let make = cluster.stage("make");
    assert_eq!((make.state, make.reason.as_deref(), cluster.nested.len()), (Failed, Some("InputLost"), 1));
    assert_eq!(make.inputs["rows"].uri, Some(artifact()["artifact"]["uri"].as_str().unwrap().to_owned()));
}

#[test]
fn every_item_runs_again_where_one_found_lost_what_all_were_given() {
    let mut spec = giving();
    spec["stages"]["make"]["forEach"] = json!({ "range": { "count": 2 } });
    let mut cluster = Cluster::new(spec);
    for (stage, attempt, fate) in (1..=2).map(ingests) {
        cluster = cluster.fate(stage, attempt, fate);
    }
    cluster.settle_until(|cluster| cluster.nested.len() == 2);
    let run = cluster.nested.remove("r-make-1-1").unwrap();
    cluster.nested.insert("r-make-1".to_owned(), run);
    loses(&mut cluster, "r-make-1");
    let run = cluster.nested.remove("r-make-1").unwrap();
    cluster.nested.insert("r-make-1-1".to_owned(), run);
    cluster.settle_until(|cluster| cluster.nested.len() == 4);
    let outer = cluster.run.clone();
    assert_eq!(ended_by(&outer, &cluster.nested["r-make-1-0"]), Some(Cancel::Graceful), "it read what is lost");
    let given = |run: &str| cluster.nested[run].spec.inputs["rows"].artifact.as_ref().unwrap().uri.clone();
    assert_eq!(given("r-make-2-0"), given("r-make-2-1"));
    assert_ne!(given("r-make-2-0"), given("r-make-1-0"));
}

#[test]
fn what_a_nested_run_made_and_is_lost_is_made_by_another_that_takes_nothing_from_the_cache() {
    let mut cluster = begun().fate("train", 1, Fate::LosesInput("table"));
    says(&mut cluster, "True", "Succeeded", "", prepared());
    cluster.settle_until(|cluster| cluster.nested.contains_key("r-make-2"));
    let made = &cluster.nested["r-make-2"];
    assert_eq!((json!(made.spec.cache), &cluster.nested["r-make-1"].spec.cache), (json!({ "mode": "Refresh" }), &None));
    ends(&mut cluster, 2, "True", "Succeeded", prepared());
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!((cluster.stage("make").remade, cluster.stage("train").attempts), (1, 2));
}
