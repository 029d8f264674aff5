//! Stages that run once for each item of a list.

use std::time::Duration;

use k8s_openapi::api::batch::v1::JobSpec;
use millrace_core::api::StageState::{Failed, Running, Succeeded};
use millrace_core::api::{Cancel, RetryFrom};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate};
use crate::{pipeline, stage};

fn over(for_each: Value) -> Value {
    stage(json!({ "forEach": for_each, "outputs": { "part": {} } }))
}

fn job(cluster: &Cluster, name: &str) -> JobSpec {
    cluster.jobs[name].1.spec.clone().unwrap()
}

fn counts(cluster: &Cluster) -> (u32, u32, u32) {
    let items = cluster.stage("fan").items.as_ref().unwrap();
    (items.total, items.succeeded, items.failed)
}

fn mounted(cluster: &Cluster, name: &str) -> Vec<(String, String)> {
    let mounts = job(cluster, name).template.spec.unwrap().containers[0].volume_mounts.clone().unwrap();
    mounts
        .into_iter()
        .map(|mount| (mount.mount_path, mount.sub_path.or(mount.sub_path_expr).unwrap_or_default()))
        .collect()
}

#[test]
fn all_items_are_one_job_and_what_they_made_is_collected_by_another() {
    let use_ = stage(json!({ "inputs": { "parts": { "from": "fan.part" }, "all": { "from": "fan.items" } } }));
    let mut spec =
        pipeline(json!({ "fan": over(json!({ "items": "$[[ params.regions ]]", "parallelism": 2 })), "use": use_ }));
    spec["params"] = json!({ "regions": { "type": "array", "default": ["a b", { "x": 1 }, 3] } });
    spec["stages"]["fan"]["retry"] = json!({ "limit": 4 });
    let mut cluster = Cluster::new(spec);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(cluster.jobs.keys().collect::<Vec<_>>(), ["r-fan-1", "r-fan-2", "r-use-1"]);
    let fan = job(&cluster, "r-fan-1");
    assert_eq!((fan.completion_mode.as_deref(), fan.completions, fan.parallelism), (Some("Indexed"), Some(3), Some(2)));
    assert_eq!((fan.backoff_limit_per_index, fan.max_failed_indexes, fan.backoff_limit), (Some(4), Some(0), None));
    assert_eq!(cluster.lists[0], "\"a b\"\n{\"x\":1}\n3\n");
    assert_eq!(counts(&cluster), (3, 3, 0));
    let own = mounted(&cluster, "r-fan-1").into_iter().find(|(at, _)| at == "/millrace/stage").unwrap();
    assert_eq!(own.1, "runs/r-run-uid-/fan/items/$(MILLRACE_ITEM_INDEX)");
    assert!(mounted(&cluster, "r-fan-1").contains(&("/millrace/items/list".into(), "list".into())));
    let collect = job(&cluster, "r-fan-2").template.spec.unwrap().containers[0].clone();
    assert_eq!((collect.image.as_deref(), collect.args), (Some("agent"), Some(vec!["collect".to_owned()])));
    let inputs = mounted(&cluster, "r-use-1");
    for (input, output) in [("parts", "part"), ("all", "items")] {
        let path = format!("runs/r-run-uid-/fan/attempts/2/outputs/{output}");
        assert!(inputs.contains(&(format!("/millrace/inputs/{input}"), path)), "{inputs:?}");
    }
    assert_eq!(cluster.stage("fan").image.as_deref(), Some("sha256:abc"));
}

#[test]
fn a_file_that_a_stage_made_is_counted_by_it_and_mounted_for_every_item() {
    let mut cluster = Cluster::new(pipeline(json!({
        "list": stage(json!({ "outputs": { "regions": {} } })),
        "fan": over(json!({ "from": "list.regions" })),
    })));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(cluster.stage("list").outputs["regions"].items, Some(3));
    assert_eq!(counts(&cluster), (3, 3, 0));
    let path = "runs/r-run-uid-/list/attempts/1/outputs/regions";
    assert!(mounted(&cluster, "r-fan-1").contains(&("/millrace/items/list".into(), path.into())));
    assert!(cluster.lists.is_empty());
}

#[test]
fn a_range_needs_no_list_and_no_items_need_no_job() {
    let range = |count: i32| over(json!({ "range": { "count": count, "start": 1, "step": 0.5 } }));
    let mut cluster = Cluster::new(pipeline(json!({ "fan": range(2) })));
    cluster.settle();
    assert_eq!((counts(&cluster), cluster.lists.len()), ((2, 2, 0), 0));
    let mut none = Cluster::new(pipeline(
        json!({ "fan": range(0), "use": stage(json!({ "inputs": { "x": { "from": "fan.part" } } })) }),
    ));
    none.settle();
    assert_eq!(none.condition("Succeeded").unwrap().0, "True", "{:#?}", none.status());
    assert_eq!(none.jobs.keys().collect::<Vec<_>>(), ["r-fan-1", "r-use-1"], "what nobody made is collected");
    assert_eq!(job(&none, "r-fan-1").completion_mode, None);
    let mut unstored = Cluster::new(json!({ "stages": { "fan": stage(json!({ "forEach": { "items": [] } })) } }));
    unstored.settle();
    assert_eq!((unstored.stage("fan").state, unstored.jobs.len()), (Succeeded, 0));
}

#[test]
fn a_range_whose_numbers_would_not_be_exact_is_refused() {
    for (start, step) in [(9_007_199_254_740_993.0, 1.0), (0.0, 1e16), (1e308, 1e308)] {
        let each = json!({ "range": { "count": 3, "start": start, "step": step } });
        let mut cluster = Cluster::new(pipeline(json!({ "fan": over(each) })));
        cluster.settle();
        let fan = cluster.stage("fan");
        assert_eq!((fan.state, fan.reason.as_deref(), cluster.jobs.len()), (Failed, Some("InvalidForEach"), 0));
        let message = fan.message.as_deref().unwrap();
        assert!(message.contains("is too far from 0 to be exact: write such numbers as items"), "{message}");
    }
}

#[test]
fn the_stage_fails_with_the_words_of_the_items_that_failed() {
    for (fail_fast, told) in [(true, "MaxFailed"), (false, "Failed")] {
        let each = json!({ "items": [0, 1, 2, 3, 4, 5], "failFast": fail_fast });
        let mut cluster =
            Cluster::new(pipeline(json!({ "fan": over(each), "use": stage(json!({ "needs": ["fan"] })) })));
        for index in [1, 2, 4, 5] {
            cluster = cluster.fate(&format!("fan/{index}"), 1, Fate::Exits(3));
        }
        cluster.settle();
        let fan = cluster.stage("fan");
        assert_eq!((fan.state, fan.reason.as_deref(), fan.exit_code), (Failed, Some("ItemFailed"), Some(3)), "{told}");
        let message = fan.message.as_deref().unwrap();
        assert!(
            message.starts_with("item 1: Error: Traceback: no luck") && message.ends_with("and 1 more"),
            "{message}"
        );
        assert_eq!(counts(&cluster), (6, 2, 4));
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "False");
        assert_eq!(cluster.jobs.len(), 1);
    }
}

#[test]
fn the_job_gives_up_what_the_rule_of_the_stage_lets_not_be_tried_again() {
    let fails = |when: &str| {
        let mut fan = over(json!({ "items": [0, 1], "failFast": false }));
        fan["retry"] = json!({ "limit": 2, "when": when });
        let mut spec = pipeline(json!({ "fan": fan }));
        spec["params"] =
            json!({ "bad": { "type": "integer", "default": 3 }, "other": { "type": "string", "default": "x" } });
        let mut cluster = Cluster::new(spec).fate("fan/1", 1, Fate::Exits(3));
        cluster.settle();
        cluster
    };
    let cluster = fails("exitCode != params.bad");
    let fan = job(&cluster, "r-fan-1");
    let given_up = |job: &JobSpec| {
        let rules = job.pod_failure_policy.clone().unwrap().rules;
        assert_eq!(rules[0].action, "Ignore", "what the infrastructure ends comes first");
        let codes = rules[1].on_exit_codes.clone().unwrap();
        assert_eq!((rules[1].action.as_str(), codes.container_name.as_deref()), ("FailIndex", Some("main")));
        codes.values
    };
    assert_eq!(given_up(&fan), [79]);
    assert_eq!(given_up(&job(&fails("reason != 'OOMKilled'"), "r-fan-1")), [79, 137], "nobody is left to ask");
    // The agent of an item is told the rule with what it names.
    let env = fan.template.spec.unwrap().containers[0].env.clone().unwrap();
    let task = env.iter().find(|variable| variable.name == "MILLRACE_TASK").unwrap().value.clone().unwrap();
    let task: Value = serde_json::from_str(&task.replace("$$", "$")).unwrap();
    let retry = &task["items"]["order"]["retry"];
    assert_eq!(retry["when"], "exitCode != params.bad");
    assert_eq!(retry["names"]["params"], json!({ "bad": 3 }));
    let message = cluster.stage("fan").message.clone().unwrap();
    let no = "no other attempt: retry.when is false (exitCode 3, reason Error, attempt 1)";
    assert!(message.starts_with("item 1: Error: ") && message.contains(no), "{message}");
    assert!(job(&fails("true"), "r-fan-1").pod_failure_policy.unwrap().rules.len() == 2);
}

#[test]
fn a_job_that_is_deleted_is_made_again_over_the_same_list() {
    let mut cluster =
        Cluster::new(pipeline(json!({ "fan": over(json!({ "items": [1, 2] })) }))).fate("fan/1", 1, Fate::Hangs);
    cluster.settle_until(|cluster| cluster.stage("fan").state == Running);
    cluster.jobs.clear();
    cluster.pods.clear();
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    let fan = cluster.stage("fan");
    assert_eq!((fan.attempts, fan.disruptions, counts(&cluster)), (3, 1, (2, 2, 0)));
    assert_eq!(cluster.lists[0], cluster.lists[1]);
}

#[test]
fn items_that_failed_are_run_again_where_those_that_are_done_left_what_they_made() {
    let mut cluster =
        Cluster::new(pipeline(json!({ "fan": over(json!({ "items": [1, 2] })) }))).fate("fan/1", 1, Fate::Exits(1));
    cluster.settle();
    assert_eq!(cluster.stage("fan").state, Failed);
    let before = mounted(&cluster, "r-fan-1");
    cluster.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
    assert_eq!(mounted(&cluster, "r-fan-2"), before);
}

#[test]
fn while_items_run_the_status_tells_how_far_they_are_and_is_not_written_over_and_over() {
    let mut cluster = Cluster::new(pipeline(json!({ "fan": over(json!({ "range": { "count": 3 } })) })));
    for index in 0..3 {
        cluster = cluster.fate(&format!("fan/{index}"), 1, Fate::Hangs);
    }
    cluster.settle_until(|cluster| cluster.stage("fan").state == Running);
    assert_eq!(cluster.stage("fan").message.as_deref(), Some("0 of 3 items are done, 3 run"));
    let writes = cluster.writes;
    cluster.fates.insert(("fan/0".into(), 1), Fate::Succeeds(json!({})));
    crate::node::tick(&mut cluster);
    cluster.reconcile();
    assert_eq!(cluster.writes, writes, "it was written a moment ago");
    cluster.pass_time(Duration::from_secs(2));
    cluster.reconcile();
    assert_eq!(cluster.stage("fan").message.as_deref(), Some("1 of 3 items are done, 2 run"));
    assert_eq!(cluster.writes, writes + 1);
    cluster.reconcile();
    assert_eq!(cluster.writes, writes + 1);
    cluster.run.spec.cancel = Some(Cancel::Graceful);
    cluster.settle();
    assert_eq!((cluster.stage("fan").state, cluster.jobs.len()), (Failed, 0));
}

#[test]
fn items_that_nobody_can_run_say_why_and_the_stage_gives_up_in_time() {
    let mut spec = pipeline(json!({ "fan": over(json!({ "items": [1, 2] })) }));
    spec["stages"]["fan"]["pendingTimeout"] = json!("10m");
    let mut cluster = Cluster::new(spec.clone());
    for index in 0..2 {
        cluster = cluster.fate(&format!("fan/{index}"), 1, Fate::NoImage);
    }
    cluster.settle();
    let fan = cluster.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Failed, Some("PendingTimeout")));
    assert!(fan.message.as_deref().unwrap().contains("no such image"), "{fan:?}");
    // One is done, and the other never begins.
    let mut half = Cluster::new(spec).fate("fan/1", 1, Fate::NoImage);
    half.settle();
    let fan = half.stage("fan");
    assert_eq!((fan.state, fan.reason.as_deref()), (Failed, Some("PendingTimeout")));
    assert!(fan.message.as_deref().unwrap().contains("no item has run for 10m: ErrImagePull"), "{fan:?}");
}

#[test]
fn what_is_no_list_when_the_stage_begins_fails_it_with_the_field() {
    for (each, words) in [
        (json!({ "items": "$[[ stages.first.results.x ]]" }), "forEach.items: \"text\" is no list"),
        (
            json!({ "range": { "count": "$[[ stages.first.results.x ]]" } }),
            "forEach.range.count: \"text\" is no number",
        ),
        (json!({ "range": { "count": "$[[ stages.first.results.many ]]" } }), "there are 10001 items"),
    ] {
        let mut cluster = Cluster::new(pipeline(json!({ "first": stage(json!({})), "fan": over(each) }))).fate(
            "first",
            1,
            Fate::Succeeds(json!({ "results": { "x": "text", "many": 10001 } })),
        );
        cluster.settle();
        let fan = cluster.stage("fan");
        assert_eq!(fan.state, Failed);
        assert!(fan.message.as_deref().unwrap().contains(words), "{fan:?}");
        assert_eq!(cluster.jobs.len(), 1);
    }
}

#[test]
fn nothing_follows_before_the_programs_of_its_items_have_stopped() {
    let each = json!({ "items": [0, 1] });
    let mut cluster = Cluster::new(pipeline(json!({ "fan": over(each) }))).fate("fan/1", 1, Fate::Hangs);
    cluster.settle_until(|cluster| cluster.stage("fan").state == Running);
    let running = cluster.pods.clone();
    // Its pods stop after it.
    cluster.jobs.clear();
    cluster.reconcile();
    assert_eq!((cluster.stage("fan").reason.as_deref(), cluster.jobs.len()), (Some("Stopping"), 0));
    let writes = cluster.writes;
    cluster.reconcile();
    assert_eq!(cluster.writes, writes);
    cluster.pods.clear();
    cluster.reconcile();
    assert!(cluster.jobs.contains_key("r-fan-2"), "{:#?}", cluster.status());
    // One on a node that is lost may stay for ever.
    let mut cluster =
        Cluster::new(pipeline(json!({ "fan": over(json!({ "items": [0, 1] })) }))).fate("fan/1", 1, Fate::Hangs);
    cluster.settle_until(|cluster| cluster.stage("fan").state == Running);
    cluster.jobs.clear();
    cluster.reconcile();
    cluster.pass_time(Duration::from_mins(10));
    cluster.reconcile();
    assert!(cluster.jobs.contains_key("r-fan-2"), "{running:#?}");
}

#[test]
fn items_on_a_node_that_is_lost_are_run_again_elsewhere() {
    let mut cluster =
        Cluster::new(pipeline(json!({ "fan": over(json!({ "items": [0, 1] })) }))).fate("fan/1", 1, Fate::Hangs);
    cluster.settle_until(|cluster| {
        cluster.stage("fan").items.as_ref().is_some_and(|items| items.succeeded == 1)
            || cluster.stage("fan").state == Failed
    });
    for pod in cluster.pods.iter_mut().filter(|pod| pod.index == Some(1)) {
        pod.phase = "Unknown".into();
    }
    if let Some((view, _)) = cluster.jobs.get_mut("r-fan-1") {
        view.items.as_mut().unwrap().ready = 0;
    }
    cluster.reconcile();
    let fan = cluster.stage("fan");
    assert_eq!((fan.disruptions, fan.attempts), (1, 2), "{fan:#?}");
    assert!(!cluster.jobs.contains_key("r-fan-1"), "the Job would wait for the node");
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.status());
}

#[test]
fn an_item_that_exits_well_and_fails_nevertheless_costs_the_others_nothing() {
    let mut cluster =
        Cluster::new(pipeline(json!({ "fan": over(json!({ "items": [1, 2] })) }))).fate("fan/1", 1, Fate::Exits(0));
    cluster.settle();
    assert_eq!((cluster.stage("fan").state, cluster.stage("fan").exit_code), (Failed, None));
    let before = mounted(&cluster, "r-fan-1");
    cluster.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    cluster.settle();
    assert_eq!(mounted(&cluster, "r-fan-2"), before, "the same folder");
}
