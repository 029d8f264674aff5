//! Stages that run another pipeline once for each item.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_core::api::StageState::{Failed, Pending, Running, Skipped, Succeeded};
use millrace_core::api::{Cancel, ItemsStatus, MLPipelineRun, RetryFrom};
use millrace_core::run::ended_by;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Crash, Fate};
use crate::{node, pipeline, stage};

/// What a run comes to; one that hangs only begins.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Good,
    Bad,
    Rejected,
    Hangs,
}

/// Three regions, two at a time, and who reads what became of them.
fn spec(each: Value) -> Value {
    let mut for_each =
        json!({ "items": [{ "name": "north" }, { "name": "south" }, { "name": "west" }], "parallelism": 2 });
    for (key, value) in each.as_object().unwrap() {
        for_each[key] = value.clone();
    }
    pipeline(json!({
        "fan": {
            "forEach": for_each,
            "pipeline": { "name": "train", "params": { "region": "$[[ item.name ]]", "seed": "$[[ index + 1 ]]" }, "results": "fit" },
        },
        "use": stage(json!({ "inputs": { "all": { "from": "fan.items" } } })),
    }))
}

fn cluster(each: Value) -> Cluster {
    Cluster::new(spec(each))
}

fn label(run: &MLPipelineRun, key: &str) -> u32 {
    run.metadata.labels.as_ref().unwrap()[key].parse().unwrap()
}

fn is_open(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_none_or(|status| status.completion_time.is_none())
}

fn open(cluster: &Cluster) -> usize {
    cluster.nested.values().filter(|run| is_open(run)).count()
}

fn says(run: &mut MLPipelineRun, end: Option<(&str, &str, &str)>, promoted: bool) {
    let index = label(run, "millrace.dev/item");
    let (succeeded, reason, message) = end.unwrap_or(("Unknown", "Running", "fit is running"));
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let mut status = json!({
        "startTime": "2026-01-01T00:00:00Z", "progress": "0/1",
        "usage": { "cpuSeconds": f64::from(index + 1), "peakMemoryBytes": index, "wallSeconds": 1.0 },
        "conditions": [condition("Succeeded", succeeded, reason, message)],
        "stages": { "fit": { "state": "Succeeded", "metrics": { "f1": f64::from(index) / 10.0 }, "results": { "best": index } } },
    });
    if !promoted {
        let rejected = condition("Promoted", "False", "GateRejected", "f1 is too low");
        status["conditions"].as_array_mut().unwrap().push(rejected);
    }
    if end.is_some() {
        status["completionTime"] = json!("2026-01-01T00:00:10Z");
    }
    run.status = Some(serde_json::from_value(status).unwrap());
}

/// One step of every run that has not ended: it begins, then it comes to its end. One that is not to go on is canceled.
fn play(cluster: &mut Cluster, end: impl Fn(&MLPipelineRun) -> End) -> bool {
    let outer = cluster.run.clone();
    let mut moved = false;
    for run in cluster.nested.values_mut().filter(|run| is_open(run)) {
        match (ended_by(&outer, run), end(run), run.status.is_some()) {
            (Some(_), ..) => says(run, Some(("False", "Canceled", "spec.cancel is Graceful")), true),
            (None, _, false) => says(run, None, true),
            (None, End::Good, true) => says(run, Some(("True", "Succeeded", "")), true),
            (None, End::Rejected, true) => says(run, Some(("True", "Succeeded", "")), false),
            (None, End::Bad, true) => says(run, Some(("False", "StageFailed", "stage `fit` failed: Error")), true),
            (None, End::Hangs, true) => continue,
        }
        moved = true;
    }
    moved
}

/// Until the run has ended, or nothing moves; there are never more runs at a time than the stage says.
fn drive(cluster: &mut Cluster, end: impl Fn(&MLPipelineRun) -> End) {
    for _ in 0..200 {
        let requeue = cluster.reconcile();
        assert!(open(cluster) <= 2, "{} at a time", open(cluster));
        let over = cluster.run.status.as_ref().is_some_and(|status| status.completion_time.is_some());
        let ran = play(cluster, &end);
        let ticked = node::tick(cluster);
        match requeue {
            _ if over => return,
            _ if ran || ticked => {}
            Some(wait) => cluster.pass_time(wait),
            None => return,
        }
    }
    panic!("it never ends: {:#?}", cluster.run.status);
}

fn all_good(_: &MLPipelineRun) -> End {
    End::Good
}

/// The item of this index comes to a bad end in its first run.
fn first_bad(bad: u32) -> impl Fn(&MLPipelineRun) -> End {
    move |run| {
        let first = label(run, "millrace.dev/attempt") == 1 && label(run, "millrace.dev/item") == bad;
        if first { End::Bad } else { End::Good }
    }
}

fn items(cluster: &Cluster) -> ItemsStatus {
    cluster.stage("fan").items.clone().unwrap()
}

fn counts(cluster: &Cluster) -> (u32, u32, u32, u32) {
    let ItemsStatus { total, succeeded, failed, running, .. } = items(cluster);
    (total, succeeded, failed, running)
}

fn names(cluster: &Cluster) -> Vec<&str> {
    cluster.nested.keys().map(String::as_str).collect()
}

fn retry(cluster: &mut Cluster, asked: Value) {
    let number = cluster.run.spec.retry_from.as_ref().and_then(|asked| asked.number).unwrap_or_default() + 1;
    let asked: RetryFrom = serde_json::from_value(asked).unwrap();
    cluster.run.spec.retry_from = Some(RetryFrom { number: Some(number), ..asked });
}

#[test]
fn each_item_is_a_run_and_what_became_of_them_is_one_output() {
    let mut cluster = cluster(json!({}));
    cluster.reconcile();
    assert_eq!((cluster.stage("fan").state, names(&cluster)), (Pending, vec!["r-fan-1-0", "r-fan-1-1"]));
    let run = &cluster.nested["r-fan-1-1"];
    assert_eq!(json!(run.spec.params), json!({ "region": "south", "seed": 2 }));
    let owner = &run.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.controller), ("run-uid-0", Some(true)));
    assert_eq!(ended_by(&cluster.run, run), None);
    drive(&mut cluster, all_good);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(names(&cluster), ["r-fan-1-0", "r-fan-1-1", "r-fan-1-2"]);
    assert!(cluster.created.values().all(|count| *count == 1), "{:?}", cluster.created);
    assert_eq!((counts(&cluster), items(&cluster).begun), ((3, 3, 0, 0), 3));
    let fan = cluster.stage("fan");
    assert_eq!((fan.reason.as_deref(), fan.message.as_deref(), fan.run.as_ref()), (None, None, None));
    assert_eq!(fan.outputs.keys().collect::<Vec<_>>(), ["items"]);
    assert_eq!(cluster.jobs.keys().collect::<Vec<_>>(), ["r-fan-2", "r-use-1"]);
    let lines: Vec<Value> = cluster.lists[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |index: u32, region: &str| {
        json!({ "index": index, "item": { "name": region }, "run": format!("r-fan-1-{index}"),
                "results": { "best": index }, "metrics": { "f1": f64::from(index) / 10.0 } })
    };
    assert_eq!(lines, [line(0, "north"), line(1, "south"), line(2, "west")]);
    let used = fan.usage.as_ref().unwrap();
    assert!(used.cpu_seconds >= 6.0 && used.wall_seconds >= 3.0, "items and who collects: {used:?}");
    let collect = cluster.jobs["r-fan-2"].1.spec.clone().unwrap().template.spec.unwrap().containers[0].clone();
    assert_eq!((collect.image.as_deref(), collect.args), (Some("agent"), Some(vec!["collect".to_owned()])));
    let task = collect.env.unwrap().into_iter().find(|var| var.name == "MILLRACE_TASK").unwrap().value.unwrap();
    assert!(task.contains("\"told\":{"), "{task}");
}

/// Of each region a model is kept, which lies there.
fn with_models(place: &'static str) -> (Cluster, impl Fn(&mut Cluster)) {
    let mut spec = spec(json!({}));
    let fan = &mut spec["stages"]["fan"]["pipeline"];
    fan["results"] = Value::Null;
    fan["outputs"] = json!({ "model": { "from": "fit.model", "type": "model", "optional": true } });
    spec["stages"]["use"] = stage(json!({ "inputs": { "all": { "from": "fan.model" } } }));
    let make = move |cluster: &mut Cluster| {
        for run in cluster.nested.values_mut() {
            let index = label(run, "millrace.dev/item");
            let Some(fit) = run.status.as_mut().and_then(|status| status.stages.get_mut("fit")) else { continue };
            if index == 1 {
                continue;
            }
            let uri = format!("{place}/runs/i-{index}/fit/attempts/1/outputs/model");
            let made =
                json!({ "type": "model", "uri": uri, "digest": format!("sha256:{}", "ab".repeat(32)), "size": 7 });
            fit.outputs.insert("model".to_owned(), serde_json::from_value(made).unwrap());
        }
    };
    (Cluster::new(spec), make)
}

/// As [`drive`], while runs make something.
fn drive_making(cluster: &mut Cluster, make: impl Fn(&mut Cluster)) {
    for _ in 0..100 {
        let requeue = cluster.reconcile();
        if cluster.run.status.as_ref().is_some_and(|status| status.completion_time.is_some()) {
            return;
        }
        let moved = play(cluster, all_good) | node::tick(cluster);
        make(cluster);
        if let (false, Some(wait)) = (moved, requeue) {
            cluster.pass_time(wait);
        }
    }
    panic!("it never ends: {:#?}", cluster.run.status);
}

#[test]
fn what_the_runs_of_items_make_is_an_output_of_the_stage() {
    let (mut cluster, make) = with_models("pvc://artifacts");
    drive_making(&mut cluster, make);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(cluster.stage("fan").outputs.keys().collect::<Vec<_>>(), ["items", "model"]);
    let lines: Vec<Value> = cluster.lists[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[2]["outputs"]["model"]["uri"], "pvc://artifacts/runs/i-2/fit/attempts/1/outputs/model");
    assert_eq!(lines[1]["outputs"], json!({}), "it is optional");
    let pod = cluster.jobs["r-fan-2"].1.spec.clone().unwrap().template.spec.unwrap();
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    let claim = mounts.iter().find(|mount| mount.mount_path == "/millrace/claim/runs").unwrap();
    let own = mounts.iter().find(|mount| mount.mount_path == "/millrace/stage").unwrap();
    assert_eq!((claim.name.as_str(), claim.sub_path.as_deref()), (own.name.as_str(), Some("runs")), "one mount");
    let reader = cluster.jobs["r-use-1"].1.spec.clone().unwrap().template.spec.unwrap();
    let mounts = reader.containers[0].volume_mounts.clone().unwrap();
    assert!(mounts.iter().all(|mount| !mount.mount_path.starts_with("/millrace/claim")), "{mounts:?}");
}

#[test]
fn what_lies_in_another_store_is_told_with_the_item_and_nothing_is_kept() {
    let (mut cluster, make) = with_models("pvc://elsewhere");
    drive_making(&mut cluster, make);
    let fan = cluster.stage("fan");
    assert_eq!(fan.reason.as_deref(), Some("OutputElsewhere"));
    let message = fan.message.as_deref().unwrap();
    assert!(message.contains("item 0 is pvc://elsewhere/") && message.contains("`train`"), "{message}");
}

#[test]
fn nothing_is_kept_of_them_unless_results_are_named() {
    let mut spec = spec(json!({ "range": { "count": 2 }, "items": null }));
    spec["stages"]["fan"]["pipeline"] = json!({ "name": "train", "params": { "seed": "$[[ item ]]" } });
    spec["stages"]["use"] = stage(json!({ "when": "stages.fan.items.succeeded == 2.0" }));
    let mut cluster = Cluster::new(spec);
    drive(&mut cluster, all_good);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(json!(cluster.nested["r-fan-1-1"].spec.params), json!({ "seed": 1 }));
    assert_eq!(cluster.jobs.keys().collect::<Vec<_>>(), ["r-use-1"]);
    assert!(cluster.stage("fan").outputs.is_empty() && cluster.lists.is_empty());
}

#[test]
fn no_items_are_no_failure() {
    let mut cluster = cluster(json!({ "items": [] }));
    drive(&mut cluster, all_good);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!((names(&cluster).len(), cluster.lists[0].as_str()), (0, ""));
}

#[test]
fn those_that_succeeded_are_kept_when_the_run_begins_again() {
    let mut cluster = cluster(json!({ "failFast": false }));
    drive(&mut cluster, first_bad(1));
    let fan = cluster.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Failed, Some("ItemFailed")));
    let said = "item 1: StageFailed: run r-fan-1-1: stage `fit` failed: Error";
    assert_eq!((fan.message.as_deref(), counts(&cluster)), (Some(said), (3, 2, 1, 0)));
    assert_eq!((cluster.stage("use").state, cluster.jobs.len()), (Skipped, 0));
    retry(&mut cluster, json!({ "failed": true }));
    drive(&mut cluster, first_bad(1));
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(names(&cluster), ["r-fan-1-0", "r-fan-1-1", "r-fan-1-2", "r-fan-2-1"]);
    assert_eq!((counts(&cluster), cluster.stage("fan").retries), ((3, 3, 0, 0), 0));
    let runs: Vec<Value> =
        cluster.lists[0].lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["run"].clone()).collect();
    assert_eq!(runs, ["r-fan-1-0", "r-fan-2-1", "r-fan-1-2"]);
    // Who names the stage wants all of it.
    retry(&mut cluster, json!({ "stage": "fan" }));
    drive(&mut cluster, all_good);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!((cluster.nested.len(), cluster.stage("fan").retries), (7, 1));
    assert!(cluster.created.values().all(|count| *count == 1), "{:?}", cluster.created);
}

#[test]
fn the_first_failure_ends_the_others_and_nothing_follows_before_they_have_ended() {
    let mut cluster = cluster(json!({}));
    let end = |run: &MLPipelineRun| if label(run, "millrace.dev/item") == 0 { End::Bad } else { End::Hangs };
    for _ in 0..2 {
        cluster.reconcile();
        play(&mut cluster, end);
    }
    cluster.reconcile();
    let fan = cluster.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref(), counts(&cluster)), (Failed, Some("ItemFailed"), (3, 0, 1, 0)));
    assert!(cluster.status().completion_time.is_none(), "it waits");
    assert!(cluster.condition("Succeeded").unwrap().2.contains("`fan`"), "{:?}", cluster.condition("Succeeded"));
    assert_eq!(ended_by(&cluster.run, &cluster.nested["r-fan-1-1"]), Some(Cancel::Graceful));
    drive(&mut cluster, end);
    assert!(cluster.status().completion_time.is_some());
    assert_eq!(names(&cluster), ["r-fan-1-0", "r-fan-1-1"], "the third was not begun");
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "StageFailed");
}

#[test]
fn a_run_that_is_suspended_begins_no_item_and_one_that_is_canceled_ends_those_it_has() {
    let mut cluster = cluster(json!({}));
    cluster.reconcile();
    cluster.run.spec.suspend = true;
    for _ in 0..3 {
        cluster.reconcile();
        play(&mut cluster, all_good);
        cluster.pass_time(Duration::from_secs(5));
    }
    cluster.reconcile();
    assert_eq!((names(&cluster).len(), counts(&cluster)), (2, (3, 2, 0, 0)), "two that had begun went on");
    cluster.run.spec.suspend = false;
    cluster.reconcile();
    assert_eq!(names(&cluster), ["r-fan-1-0", "r-fan-1-1", "r-fan-1-2"]);
    cluster.run.spec.cancel = Some(Cancel::Now);
    cluster.reconcile();
    assert_eq!((cluster.stage("fan").state, cluster.stage("fan").reason.as_deref()), (Failed, Some("Canceled")));
    assert!(cluster.status().completion_time.is_none(), "it waits");
    assert_eq!(ended_by(&cluster.run, &cluster.nested["r-fan-1-2"]), Some(Cancel::Now));
    drive(&mut cluster, all_good);
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "Canceled");
}

#[test]
fn what_is_suspended_before_anything_began_begins_later_under_the_same_names() {
    let mut cluster = cluster(json!({}));
    cluster.refuse_runs = true;
    cluster.reconcile();
    cluster.run.spec.suspend = true;
    cluster.pass_time(Duration::from_secs(20));
    cluster.reconcile();
    cluster.run.spec.suspend = false;
    cluster.refuse_runs = false;
    drive(&mut cluster, all_good);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(names(&cluster), ["r-fan-1-0", "r-fan-1-1", "r-fan-1-2"]);
}

#[test]
fn a_run_that_was_seen_and_is_deleted_is_a_failure_of_its_item() {
    let mut cluster = cluster(json!({ "failFast": false }));
    cluster.reconcile();
    play(&mut cluster, all_good);
    cluster.reconcile();
    assert_eq!(items(&cluster).begun, 2);
    cluster.nested.remove("r-fan-1-0");
    drive(&mut cluster, all_good);
    let fan = cluster.stage("fan");
    let said = "item 0: RunDeleted: its run r-fan-1-0 was deleted";
    assert_eq!((fan.state, fan.message.as_deref()), (Failed, Some(said)));
    assert_eq!(cluster.created["r-fan-1-0"], 1);
    retry(&mut cluster, json!({ "failed": true }));
    drive(&mut cluster, all_good);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(names(&cluster), ["r-fan-1-1", "r-fan-1-2", "r-fan-2-0"]);
}

#[test]
fn a_rejection_in_one_of_them_is_one_of_the_stage() {
    let mut cluster = cluster(json!({}));
    drive(&mut cluster, |run| if label(run, "millrace.dev/item") == 1 { End::Rejected } else { End::Good });
    let fan = cluster.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Succeeded, Some("GateRejected")));
    assert_eq!(fan.message.as_deref(), Some("run r-fan-1-1: GateRejected: f1 is too low"));
    assert_eq!(cluster.stage("use").state, Skipped);
    assert_eq!(cluster.condition("Promoted").unwrap().0, "False");
}

#[test]
fn the_stage_has_one_time_for_all_of_them() {
    let mut spec = spec(json!({}));
    spec["stages"]["fan"]["pipeline"]["timeout"] = json!("1h");
    let mut cluster = Cluster::new(spec);
    let end = |run: &MLPipelineRun| if label(run, "millrace.dev/item") == 0 { End::Good } else { End::Hangs };
    for _ in 0..4 {
        cluster.reconcile();
        play(&mut cluster, end);
        cluster.pass_time(Duration::from_secs(5));
    }
    cluster.reconcile();
    let said = "1 of 3 items are done, 2 run (gives up at 01:00Z)";
    assert_eq!(cluster.stage("fan").message.as_deref(), Some(said));
    cluster.pass_time(Duration::from_hours(1));
    drive(&mut cluster, end);
    let fan = cluster.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Failed, Some("Timeout")));
    assert_eq!(open(&cluster), 0);
}

#[test]
fn counts_are_not_written_over_and_over() {
    let mut cluster = cluster(json!({ "parallelism": 3 }));
    cluster.reconcile();
    cluster.nested.values_mut().for_each(|run| says(run, None, true));
    cluster.reconcile();
    let said = |cluster: &Cluster| cluster.stage("fan").message.clone().unwrap();
    assert_eq!((cluster.stage("fan").state, said(&cluster)), (Running, "0 of 3 items are done, 3 run".into()));
    let writes = cluster.writes;
    says(cluster.nested.get_mut("r-fan-1-0").unwrap(), Some(("True", "Succeeded", "")), true);
    let requeue = cluster.reconcile();
    assert_eq!((cluster.writes, requeue), (writes, Some(Duration::from_secs(2))), "it was written a moment ago");
    cluster.pass_time(Duration::from_secs(2));
    cluster.reconcile();
    cluster.reconcile();
    assert_eq!((cluster.writes, said(&cluster)), (writes + 1, "1 of 3 items are done, 2 run".into()));
}

#[test]
fn what_no_run_can_be_made_for_is_told() {
    let mut quota = cluster(json!({}));
    quota.refuse_runs = true;
    let requeue = quota.reconcile();
    let fan = quota.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Pending, Some("Forbidden")));
    assert_eq!(fan.message.as_deref(), Some("0 of 3 items are done, 0 run; exceeded quota: runs=1"));
    assert_eq!(requeue, Some(Duration::from_secs(15)));
    quota.pass_time(Duration::from_hours(1));
    drive(&mut quota, all_good);
    assert_eq!((quota.stage("fan").state, quota.stage("fan").reason.as_deref()), (Failed, Some("Forbidden")));

    let mut waiting = cluster(json!({}));
    waiting.reconcile();
    for run in waiting.nested.values_mut() {
        says(run, Some(("Unknown", "Queued", "3 runs of MLPipeline train come first")), true);
        let status = run.status.as_mut().unwrap();
        (status.start_time, status.completion_time, status.progress) = (None, None, None);
    }
    waiting.reconcile();
    let fan = waiting.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Pending, Some("Queued")));
    let said = "0 of 3 items are done, 0 run; run r-fan-1-0: 3 runs of MLPipeline train come first";
    assert_eq!(fan.message.as_deref(), Some(said));

    let mut circle = cluster(json!({}));
    circle.above.pipelines = vec![Some("train".into())];
    drive(&mut circle, all_good);
    assert_eq!(circle.stage("fan").reason.as_deref(), Some("NestedCycle"));
    assert!(circle.nested.is_empty());

    let mut squared = cluster(json!({}));
    squared.above.items = true;
    drive(&mut squared, all_good);
    assert_eq!(squared.stage("fan").reason.as_deref(), Some("TooManyItems"));
    assert!(squared.nested.is_empty());
}

#[test]
fn what_a_pass_makes_and_what_an_item_is_given_are_bounded() {
    let items = vec![json!({ "name": "n" }); 40];
    let mut many = cluster(json!({ "items": items, "parallelism": 40 }));
    let mut before = 0;
    for _ in 0..20 {
        many.reconcile_with_refusals();
        assert!(many.nested.len() <= before + 16, "{before} and {}", many.nested.len());
        before = many.nested.len();
    }
    assert_eq!(open(&many), 40);

    let mut long = cluster(json!({ "items": [{ "name": "n".repeat(65 << 10) }] }));
    drive(&mut long, all_good);
    let fan = long.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Failed, Some("InvalidExpression")));
    assert!(fan.message.as_deref().unwrap().contains("at most 65536 are handed on"), "{:?}", fan.message);
    assert!(long.nested.is_empty());
}

#[test]
fn what_cannot_be_run_over_when_the_stage_begins_fails_it_with_the_field() {
    for (each, words) in [
        (
            json!({ "items": "$[[ params.list ]]" }),
            "forEach.items: there are 1001 items, and at most 1000 are run: let an item stand for more work, or run a container",
        ),
        (json!({ "items": ["north"] }), "item 0: pipeline.params.region"),
    ] {
        let mut spec = spec(each);
        spec["params"] = json!({ "list": { "type": "array", "default": vec![1; 1001] } });
        let mut cluster = Cluster::new(spec);
        drive(&mut cluster, all_good);
        let fan = cluster.stage("fan");
        assert_eq!(fan.state, Failed);
        assert!(fan.message.as_deref().unwrap().contains(words), "{fan:?}");
        assert!(cluster.nested.is_empty());
    }
}

#[test]
fn a_crash_at_any_write_makes_one_run_for_each_item() {
    let scenario = |crash: Option<Crash>| {
        let mut cluster = cluster(json!({ "failFast": false }));
        cluster.crash = crash;
        drive(&mut cluster, first_bad(1));
        retry(&mut cluster, json!({ "failed": true }));
        drive(&mut cluster, first_bad(1));
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{crash:?} {:#?}", cluster.status());
        cluster
    };
    let reference = scenario(None);
    for number in 1..=reference.writes {
        for crash in [Crash::Before(number), Crash::After(number)] {
            let cluster = scenario(Some(crash));
            assert_eq!(cluster.created, reference.created, "{crash:?}");
            assert!(cluster.created.values().all(|count| *count == 1), "{crash:?}: {:?}", cluster.created);
            assert_eq!(cluster.lists.last(), reference.lists.last(), "{crash:?}");
        }
    }
}

/// Whatever comes in whatever order: no more at a time than allowed, none twice, and all of them at the end.
#[test]
fn in_any_order_each_item_has_one_run_of_an_attempt() {
    for seed in 1..60_u64 {
        let mut random = seed;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut cluster =
            cluster(json!({ "range": { "count": 7 }, "items": null, "failFast": seed % 2 == 0, "parallelism": 2 }));
        cluster.run.spec.pipeline.as_mut().unwrap().stages.get_mut("fan").unwrap().pipeline.as_mut().unwrap().params =
            BTreeMap::from([("seed".to_owned(), json!("$[[ item ]]"))]);
        cluster.crash = Some(Crash::After(usize::try_from(next(30)).unwrap() + 1));
        for _ in 0..400 {
            cluster.reconcile();
            assert!(open(&cluster) <= 2, "seed {seed}");
            let over = cluster.run.status.as_ref().is_some_and(|status| status.completion_time.is_some());
            if over && cluster.condition("Succeeded").unwrap().0 == "True" {
                break;
            }
            match next(12) {
                _ if over => retry(&mut cluster, json!({ "failed": true })),
                0 => cluster.run.spec.suspend = !cluster.run.spec.suspend,
                1 => cluster.pass_time(Duration::from_secs(3)),
                2 => cluster.refuse_runs = next(3) == 0,
                _ => {
                    node::tick(&mut cluster);
                    let outer = cluster.run.clone();
                    let named: Vec<String> =
                        cluster.nested.iter().filter(|(_, run)| is_open(run)).map(|(name, _)| name.clone()).collect();
                    let Some(name) = named.get(usize::try_from(next(3)).unwrap()) else { continue };
                    let run = cluster.nested.get_mut(name).unwrap();
                    match next(9) {
                        _ if ended_by(&outer, run).is_some() => says(run, Some(("False", "Canceled", "")), true),
                        _ if run.status.is_none() => says(run, None, true),
                        0 => says(run, Some(("False", "StageFailed", "no luck")), true),
                        _ => says(run, Some(("True", "Succeeded", "")), true),
                    }
                }
            }
        }
        cluster.run.spec.suspend = false;
        cluster.refuse_runs = false;
        for _ in 0..20 {
            drive(&mut cluster, all_good);
            if cluster.condition("Succeeded").unwrap().0 == "True" {
                break;
            }
            retry(&mut cluster, json!({ "failed": true }));
        }
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "seed {seed}: {:#?}", cluster.status());
        assert!(cluster.created.values().all(|count| *count == 1), "seed {seed}: {:?}", cluster.created);
        // Of each item one run has succeeded, and it was not run again.
        let mut good = BTreeMap::<u32, usize>::new();
        for run in cluster.nested.values() {
            let succeeded =
                run.status.as_ref().unwrap().conditions.iter().any(|c| c.type_ == "Succeeded" && c.status == "True");
            *good.entry(label(run, "millrace.dev/item")).or_default() += usize::from(succeeded);
        }
        let one_each: BTreeMap<u32, usize> = (0..7).map(|index| (index, 1)).collect();
        assert_eq!(good, one_each, "seed {seed}");
    }
}

#[test]
fn what_the_items_made_and_is_lost_before_it_is_kept_is_made_by_other_runs() {
    let (cluster, make) = with_models("pvc://artifacts");
    let mut cluster = cluster.fate("fan", 2, Fate::LosesInput("model"));
    drive_making(&mut cluster, make);
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    let fan = cluster.stage("fan");
    assert_eq!((fan.remade, fan.attempts, cluster.nested.len()), (1, 3, 6));
    let again = cluster.nested.values().filter(|run| run.spec.cache.is_some()).count();
    assert_eq!(again, 3, "they take nothing from the cache");
}

#[test]
fn every_run_of_an_item_does_with_the_cache_what_its_run_does() {
    let mut cluster = cluster(json!({}));
    cluster.run.spec.cache = serde_json::from_value(json!({ "mode": "Off" })).unwrap();
    cluster.reconcile();
    assert_eq!(json!(cluster.nested["r-fan-1-0"].spec.cache), json!({ "mode": "Off" }));
}
