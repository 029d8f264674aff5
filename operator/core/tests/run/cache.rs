//! What a run takes from those before it, and what it does not.

use std::sync::Arc;
use std::time::Duration;

use millrace_core::api::StageState::{Failed, Pending, Running, Succeeded};
use millrace_core::api::{CacheMode, MLPipelineRun, RetryFrom, RunCache, RunCacheMode, RunCode};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Crash, Fate};
use crate::pipeline;

/// A stage whose image is named by its digest, with what is said besides.
pub fn pinned(more: Value) -> Value {
    let image = format!("registry/train:1@sha256:{}", "ab".repeat(32));
    let mut stage = json!({ "container": { "image": image, "command": ["train"] } });
    merge(&mut stage, &more);
    stage
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// Data, and a stage that makes something of it.
fn chain(fit: Value) -> Value {
    let mut stage = pinned(json!({ "inputs": { "rows": { "from": "load.data" } }, "outputs": { "model": {} } }));
    merge(&mut stage, &fit);
    pipeline(json!({ "load": pinned(json!({ "outputs": { "data": {} }, "cache": { "maxAge": "1h" } })), "fit": stage }))
}

/// The same run as its kind's others see it.
pub fn seen(cluster: &Cluster, version: u32) -> MLPipelineRun {
    let mut run = cluster.run.clone();
    run.metadata.resource_version = Some(version.to_string());
    run
}

/// A run of another name, after these.
pub fn after(spec: Value, name: &str, runs: &[MLPipelineRun]) -> Cluster {
    let mut cluster = Cluster::new(spec);
    cluster.run.metadata.name = Some(name.to_owned());
    cluster.run.metadata.uid = Some(format!("uid-{name}"));
    for run in runs {
        cluster.cache.put(run);
    }
    cluster
}

fn ended(spec: Value, name: &str) -> MLPipelineRun {
    let mut cluster = after(spec, name, &[]);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.run.status);
    seen(&cluster, 7)
}

/// The Jobs that a run of `spec` makes after one of `first`.
fn made(first: Value, spec: Value) -> Vec<String> {
    let mut cluster = after(spec, "r2", &[ended(first, "r1")]);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.run.status);
    cluster.created.into_keys().collect()
}

#[test]
fn a_run_takes_what_an_earlier_one_made_in_one_pass_without_a_job() {
    let mut first = after(chain(json!({})), "r1", &[]).fate(
        "fit",
        1,
        Fate::Succeeds(json!({ "metrics": { "f1": 0.5 }, "results": { "n": 3 } })),
    );
    first.settle();
    let mut second = after(chain(json!({})), "r2", &[seen(&first, 7)]);
    second.reconcile();
    assert_eq!((second.condition("Succeeded").unwrap().0, second.jobs.len()), ("True", 0));
    assert_eq!(second.status().progress.as_deref(), Some("2/2, 2 cached"));
    let (made, taken) = (first.stage("fit"), second.stage("fit"));
    assert_eq!(
        (&taken.outputs, &taken.metrics, &taken.results, &taken.image),
        (&made.outputs, &made.metrics, &made.results, &made.image)
    );
    assert_eq!((taken.state, taken.reason.as_deref(), taken.attempts), (Succeeded, Some("CacheHit"), 0));
    assert!(taken.message.as_ref().unwrap().contains("stage `fit` of run r1 made it at "), "{:?}", taken.message);
    let cache = taken.cache.as_ref().unwrap();
    let from = cache.from.as_ref().unwrap();
    assert_eq!(
        (from.run.as_str(), from.stage.as_str(), Some(&from.time)),
        ("r1", "fit", made.completion_time.as_ref())
    );
    assert_eq!(cache.key, made.cache.as_ref().unwrap().key);
    assert!(second.events.iter().any(|event| event.reason == "CacheHit" && event.message.contains("run r1")));
    // The first may be deleted: the second has it too.
    let mut third = after(chain(json!({})), "r3", &[seen(&second, 8)]);
    third.settle();
    assert_eq!((third.jobs.len(), &third.stage("fit").cache.as_ref().unwrap().from), (0, &cache.from));
}

/// The Jobs that a run with this code makes after one with another; `fit` is what is said of the stage.
fn made_with_code(first: Option<&str>, second: Option<&str>, fit: &Value) -> Vec<String> {
    let code = |letter: Option<&str>| {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        letter.map(|letter| RunCode { digest: digest(letter), size: 1, ..RunCode::default() })
    };
    let mut before = after(chain(fit.clone()), "r1", &[]);
    before.run.spec.code = code(first);
    before.settle();
    let mut cluster = after(chain(fit.clone()), "r2", &[seen(&before, 7)]);
    cluster.run.spec.code = code(second);
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.run.status);
    cluster.created.into_keys().filter(|job| job.starts_with("r2-fit")).collect()
}

#[test]
fn code_is_a_part_of_the_key_of_those_that_take_it() {
    let takes = json!({});
    assert_eq!(made_with_code(Some("a"), Some("a"), &takes), Vec::<String>::new());
    assert_eq!(made_with_code(Some("a"), Some("b"), &takes), ["r2-fit-1"]);
    assert_eq!(made_with_code(None, Some("b"), &takes), ["r2-fit-1"]);
    assert_eq!(made_with_code(Some("a"), Some("b"), &json!({ "code": false })), Vec::<String>::new());
}

#[test]
fn what_a_program_reads_at_an_address_is_seen_by_nobody() {
    let handed = json!({ "inputs": { "lake": { "uri": "s3://lake/x", "mode": "Uri" } } });
    let plain = || chain(handed.clone());
    assert_eq!(made(plain(), plain()), ["r2-fit-1"]);
    let mut aged = handed.clone();
    aged["cache"] = json!({ "maxAge": "1h" });
    assert_eq!(made(chain(aged.clone()), chain(aged)), Vec::<String>::new());
}

#[test]
fn what_the_result_depends_on_makes_another_key_and_nothing_else_does() {
    let plain = || chain(json!({}));
    for more in [
        json!({ "container": { "args": ["--lr", "1"] } }),
        json!({ "container": { "command": ["train", "-v"] } }),
        json!({ "container": { "image": format!("registry/train@sha256:{}", "cd".repeat(32)) } }),
        json!({ "container": { "env": { "A": { "value": "1" } } } }),
        json!({ "container": { "env": { "A": { "secret": { "name": "s", "key": "k" } } } } }),
        json!({ "container": { "volumes": { "v": { "configMap": { "name": "c" }, "mountPath": "/c" } } } }),
        json!({ "inputs": { "more": { "from": "load.data" } } }),
        json!({ "outputs": { "log": { "optional": true } } }),
        json!({ "outputs": { "model": { "type": "model" } } }),
        json!({ "cache": { "salt": "2" } }),
    ] {
        assert_eq!(made(plain(), chain(more.clone())), ["r2-fit-1"], "{more}");
    }
    for more in [
        json!({ "container": { "image": format!("mirror/other@sha256:{}", "ab".repeat(32)) } }),
        json!({ "container": { "resources": { "limits": { "memory": "2Gi" } }, "nodeSelector": { "a": "b" } } }),
        json!({ "retry": { "limit": 3 }, "timeout": "1h", "gate": { "pass": "true" } }),
        json!({ "outputs": { "model": { "description": "the model" } } }),
        json!({ "cache": { "maxAge": "1h", "serialize": true } }),
    ] {
        assert_eq!(made(plain(), chain(more.clone())), Vec::<String>::new(), "{more}");
    }
    let model =
        |format: serde_json::Value| chain(json!({ "outputs": { "model": { "type": "model", "format": format } } }));
    assert_eq!(made(model(json!(null)), model(json!("pytorch"))), ["r2-fit-1"]);
    assert_eq!(made(model(json!("gguf")), model(json!("pytorch"))), ["r2-fit-1"]);
    assert_eq!(made(model(json!(null)), model(json!("onnx"))), Vec::<String>::new());
    // Its attempt's folder and its run's are told to the program, and are no part of it; what names the run is.
    let paths = json!({ "container": { "args": ["$[[ inputs.rows ]]", "$[[ outputs.model ]]"] } });
    assert_eq!(made(chain(paths.clone()), chain(paths)), Vec::<String>::new());
    let named = json!({ "container": { "args": ["$[[ run.name ]]"] } });
    assert_eq!(made(chain(named.clone()), chain(named)), ["r2-fit-1"]);
}

#[test]
fn another_input_is_another_key_even_from_the_same_stage() {
    let first = ended(chain(json!({})), "r1");
    let mut other = first.clone();
    let load = other.status.as_mut().unwrap().stages.get_mut("load").unwrap();
    load.outputs.get_mut("data").unwrap().digest = "sha256:other".into();
    let mut second = after(chain(json!({})), "r2", &[other]);
    second.settle();
    assert_eq!(second.created.keys().collect::<Vec<_>>(), ["r2-fit-1"]);
}

#[test]
fn an_image_by_tag_is_never_taken_and_who_wrote_cache_is_told_why() {
    let tag = |cache: Value| chain(json!({ "container": { "image": "train:1" }, "cache": cache }));
    assert_eq!(made(tag(Value::Null), tag(Value::Null)), ["r2-fit-1"]);
    let mut second = after(tag(json!({})), "r2", &[ended(tag(json!({})), "r1")]);
    second.settle();
    let cache = second.stage("fit").cache.as_ref().unwrap();
    assert_eq!(cache.key, None);
    assert!(cache.miss.as_ref().unwrap().contains("train:1 is not named by its digest"), "{cache:?}");
}

#[test]
fn without_a_word_only_a_stage_with_inputs_and_outputs_is_taken() {
    let spec = || {
        let from = json!({ "rows": { "from": "load.data" } });
        pipeline(json!({
            "load": pinned(json!({ "outputs": { "data": {} } })),
            "fit": pinned(json!({ "inputs": from, "outputs": { "model": {} } })),
            "tell": pinned(json!({ "inputs": from })),
        }))
    };
    assert_eq!(made(spec(), spec()), ["r2-load-1", "r2-tell-1"]);
    let with = |cache: Value| {
        let mut spec = spec();
        spec["defaults"] = json!({ "cache": cache });
        spec
    };
    assert_eq!(made(with(json!({ "maxAge": "1h" })), with(json!({ "maxAge": "1h" }))), Vec::<String>::new());
    assert_eq!(
        made(with(json!({ "mode": "Off" })), with(json!({ "mode": "Off" }))),
        ["r2-fit-1", "r2-load-1", "r2-tell-1"]
    );
}

#[test]
fn off_neither_takes_nor_gives_and_refresh_gives_the_newest() {
    let mode = |mode: &str| chain(json!({ "cache": { "mode": mode } }));
    assert_eq!(made(chain(json!({})), mode("Off")), ["r2-fit-1"]);
    assert_eq!(made(mode("Off"), chain(json!({}))), ["r2-fit-1"]);
    let first = ended(chain(json!({})), "r1");
    let mut fresh = after(mode("Refresh"), "r2", std::slice::from_ref(&first));
    fresh.pass_time(Duration::from_mins(5));
    fresh.settle();
    assert_eq!(fresh.created.keys().collect::<Vec<_>>(), ["r2-fit-1"]);
    assert_eq!(fresh.stage("fit").cache.as_ref().unwrap().miss.as_deref(), Some("cache.mode is Refresh"));
    let mut third = after(chain(json!({})), "r3", &[first, seen(&fresh, 9)]);
    third.settle();
    assert_eq!(third.stage("fit").cache.as_ref().unwrap().from.as_ref().unwrap().run, "r2");
    assert_eq!(CacheMode::default(), CacheMode::Auto);
}

#[test]
fn a_run_says_for_all_its_stages_what_they_do_with_the_cache() {
    let first = ended(chain(json!({})), "r1");
    let of = |mode: RunCacheMode, spec: Value| {
        let mut cluster = after(spec, "r2", std::slice::from_ref(&first));
        cluster.run.spec.cache = Some(RunCache { mode });
        cluster.pass_time(Duration::from_mins(5));
        cluster.settle();
        cluster
    };
    let fresh = of(RunCacheMode::Refresh, chain(json!({})));
    assert_eq!(fresh.created.keys().collect::<Vec<_>>(), ["r2-fit-1", "r2-load-1"]);
    assert_eq!(
        fresh.stage("load").cache.as_ref().unwrap().miss.as_deref(),
        Some("spec.cache.mode of the run is Refresh")
    );
    let taken_by_a_third = |second: &Cluster| {
        let mut third = after(chain(json!({})), "r3", &[first.clone(), seen(second, 9)]);
        third.settle();
        third.stage("fit").cache.as_ref().unwrap().from.as_ref().unwrap().run.clone()
    };
    assert_eq!(taken_by_a_third(&fresh), "r2");
    let off = of(RunCacheMode::Off, chain(json!({})));
    assert_eq!(off.created.len(), 2);
    assert_eq!(taken_by_a_third(&off), "r1");
    let stays = of(RunCacheMode::Refresh, chain(json!({ "cache": { "mode": "Off" } })));
    assert_eq!(stays.stage("fit").cache, None);
}

#[test]
fn a_result_that_is_too_old_is_made_anew_and_copies_do_not_make_it_younger() {
    let first = ended(chain(json!({})), "r1");
    let mut second = after(chain(json!({})), "r2", std::slice::from_ref(&first));
    second.pass_time(Duration::from_mins(50));
    second.settle();
    assert_eq!(second.jobs.len(), 0);
    let mut third = after(chain(json!({})), "r3", &[first, seen(&second, 8)]);
    third.pass_time(Duration::from_mins(70));
    third.settle();
    assert_eq!(third.created.keys().collect::<Vec<_>>(), ["r3-load-1"], "fit has no bound");
    let miss = third.stage("load").cache.as_ref().unwrap().miss.clone().unwrap();
    assert!(miss.contains("older than 1h") && miss.contains("run r1"), "{miss}");
}

#[test]
fn a_gate_is_judged_again_on_what_is_taken() {
    let gate = |least: f64| chain(json!({ "gate": { "pass": format!("metrics.f1 >= {least}") } }));
    let mut first = after(gate(0.5), "r1", &[]).fate("fit", 1, Fate::Succeeds(json!({ "metrics": { "f1": 0.7 } })));
    first.settle();
    let mut second = after(gate(0.9), "r2", &[seen(&first, 7)]);
    second.settle();
    let fit = second.stage("fit");
    assert_eq!((fit.state, fit.reason.as_deref(), second.jobs.len()), (Succeeded, Some("GateRejected"), 0));
    assert!(fit.message.as_ref().unwrap().contains("metrics.f1 = 0.7"), "{:?}", fit.message);
    let mut strict = gate(0.9);
    strict["stages"]["fit"]["gate"]["otherwise"] = json!("Fail");
    let mut third = after(strict, "r3", &[seen(&first, 7)]);
    third.settle();
    assert_eq!((third.stage("fit").state, third.stage("fit").reason.as_deref()), (Failed, Some("GateFailed")));
}

#[test]
fn a_stage_that_retry_from_names_is_really_run() {
    let mut cluster = after(chain(json!({})), "r2", &[ended(chain(json!({})), "r1")]);
    cluster.settle();
    cluster.run.spec.retry_from = Some(RetryFrom { stage: Some("load".into()), ..RetryFrom::default() });
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    // What comes after it finds its own key again: what it reads is the same.
    assert_eq!(cluster.created.keys().collect::<Vec<_>>(), ["r2-load-1"]);
    assert!(!cluster.stage("load").cache.as_ref().unwrap().refresh, "it was done");
}

#[test]
fn of_runs_that_need_the_same_one_makes_it_and_the_others_wait() {
    let spec = || chain(json!({ "cache": { "serialize": true } }));
    let mut maker = after(spec(), "r1", &[]).fate("fit", 1, Fate::Hangs);
    maker.settle_until(|cluster| cluster.stage("fit").job.is_some());
    let mut waits = after(spec(), "r2", &[seen(&maker, 3)]);
    let wait = waits.reconcile();
    let fit = waits.stage("fit");
    assert_eq!((fit.state, fit.reason.as_deref(), waits.jobs.len()), (Pending, Some("WaitingForCache"), 0));
    assert!(fit.message.as_ref().unwrap().contains("stage `fit` of run r1 makes the same"), "{:?}", fit.message);
    assert!(wait.is_some());
    let told = |cluster: &Cluster| cluster.events.iter().filter(|event| event.reason == "WaitingForCache").count();
    // It may take longer than a pod may wait for a node.
    waits.pass_time(Duration::from_hours(5));
    let writes = waits.writes;
    waits.reconcile();
    assert_eq!((told(&waits), waits.writes), (1, writes), "nothing has changed");
    // One that does not ask for it makes its own.
    let mut alone = after(chain(json!({})), "r3", &[seen(&maker, 3)]);
    alone.settle();
    assert_eq!(alone.created.keys().collect::<Vec<_>>(), ["r3-fit-1"]);
    let woken = waits.cache.put(&ended(spec(), "r1"));
    assert!(woken.is_empty(), "its own waiting is not in this index");
    waits.settle();
    assert_eq!((waits.condition("Succeeded").unwrap().0, waits.jobs.len()), ("True", 0));
    // Where the maker fails, the next one makes it.
    let mut maker = after(spec(), "r4", &[]).fate("fit", 1, Fate::Hangs);
    maker.settle_until(|cluster| cluster.stage("fit").job.is_some());
    let mut next = after(spec(), "r5", &[seen(&maker, 3)]);
    next.reconcile();
    next.cache.forget("uid-r4");
    next.settle();
    assert_eq!(next.created.keys().collect::<Vec<_>>(), ["r5-fit-1"]);
}

#[test]
fn a_crash_at_any_write_makes_nothing_twice() {
    let first = ended(chain(json!({})), "r1");
    let spec = || {
        let mut spec = chain(json!({}));
        spec["stages"]["use"] = pinned(json!({ "inputs": { "model": { "from": "fit.model" } } }));
        spec
    };
    let mut reference = after(spec(), "r2", std::slice::from_ref(&first));
    reference.settle();
    for write in 1..=reference.writes {
        for crash in [Crash::Before(write), Crash::After(write)] {
            let mut cluster = after(spec(), "r2", std::slice::from_ref(&first));
            cluster.crash = Some(crash);
            cluster.settle();
            assert_eq!(cluster.created.keys().collect::<Vec<_>>(), ["r2-use-1"], "{crash:?}");
            assert_eq!(cluster.created["r2-use-1"], 1, "{crash:?}");
        }
    }
}

/// A list in a file, and a stage that does something with rows for each of its lines.
fn fan(more: Value) -> Value {
    let mut stage = pinned(
        json!({ "forEach": { "from": "load.data" }, "inputs": { "rows": { "from": "load.data" } }, "outputs": { "part": {} } }),
    );
    merge(&mut stage, &more);
    pipeline(json!({ "load": pinned(json!({ "outputs": { "data": {} }, "cache": { "maxAge": "1h" } })), "fan": stage }))
}

#[test]
fn what_was_made_for_every_item_is_taken_as_a_whole() {
    let use_ = |spec: Value| {
        let mut spec = spec;
        spec["stages"]["use"] =
            json!({ "inputs": { "parts": { "from": "fan.part" }, "all": { "from": "fan.items" } } });
        spec["stages"]["use"]["container"] = json!({ "image": "i", "command": ["use"] });
        spec
    };
    let first = ended(fan(json!({})), "r1");
    let mut second = after(use_(fan(json!({}))), "r2", std::slice::from_ref(&first));
    second.settle();
    assert_eq!(second.condition("Succeeded").unwrap().0, "True", "{:#?}", second.status());
    let (made, taken) = (&first.status.as_ref().unwrap().stages["fan"], second.stage("fan"));
    assert_eq!((taken.reason.as_deref(), taken.attempts, &taken.outputs), (Some("CacheHit"), 0, &made.outputs));
    let items = taken.items.as_ref().unwrap();
    assert_eq!((items.total, items.succeeded, items.collecting), (3, 3, false));
    assert_eq!(second.created.into_keys().collect::<Vec<_>>(), ["r2-use-1"]);

    // Neither how many run at a time nor how the run is called changes a result.
    let quiet = json!({ "forEach": { "parallelism": 2, "failFast": false }, "retry": { "limit": 3 } });
    assert_eq!(made_of(fan(json!({})), fan(quiet)), 0);
    // The items, and what puts together what they made.
    let both = 2;
    for other in [
        json!({ "container": { "command": ["train", "$[[ item ]]"] } }),
        json!({ "container": { "command": ["train", "$[[ run.name ]]"] } }),
        json!({ "container": { "env": { "X": { "value": "$[[ index ]]" } } } }),
        json!({ "container": { "env": { "X": { "value": "1" } } } }),
        json!({ "outputs": { "more": {} } }),
        json!({ "cache": { "salt": "2" } }),
        json!({ "cache": { "mode": "Off" } }),
    ] {
        assert_eq!(made_of(fan(json!({})), fan(other.clone())), both, "{other}");
    }
    let named = json!({ "container": { "command": ["train", "$[[ run.name ]]"] } });
    assert_eq!(made_of(fan(named.clone()), fan(named)), both, "each run has a name of its own");
}

fn made_of(first: Value, spec: Value) -> usize {
    made(first, spec).into_iter().filter(|job| job.starts_with("r2-fan")).count()
}

#[test]
fn items_that_are_written_down_are_a_part_of_what_must_be_the_same() {
    let list = |items: Value, cache: Value| {
        let each = pinned(json!({ "forEach": { "items": items }, "outputs": { "part": {} }, "cache": cache }));
        pipeline(json!({ "fan": each }))
    };
    let aged = json!({ "maxAge": "1h" });
    assert_eq!(made_of(list(json!([1, 2]), aged.clone()), list(json!([1, 2]), aged.clone())), 0);
    assert_eq!(made_of(list(json!([1, 2]), aged.clone()), list(json!([1, 3]), aged.clone())), 2);
    let range = |start: u32| {
        let each =
            json!({ "forEach": { "range": { "count": 2, "start": start } }, "outputs": { "part": {} }, "cache": aged });
        pipeline(json!({ "fan": pinned(each) }))
    };
    assert_eq!((made_of(range(1), range(1)), made_of(range(1), range(2))), (0, 2));
    // Nobody sees when what it reads changes, nor what lies at the addresses of a list in a file.
    assert_eq!(made_of(list(json!([1]), Value::Null), list(json!([1]), Value::Null)), 2);
    let addresses = fan(json!({ "inputs": { "rows": null } }));
    let without = || {
        let mut spec = addresses.clone();
        spec["stages"]["fan"].as_object_mut().unwrap().remove("inputs");
        spec
    };
    assert_eq!(made_of(without(), without()), 2);
}

#[test]
fn of_what_a_text_names_the_value_counts_and_not_how_it_came() {
    let named = |value: u32| {
        let mut spec =
            fan(json!({ "container": { "command": ["train", "$[[ stages.tune.results.rate ]]", "$[[ item ]]"] } }));
        spec["stages"]["tune"] = pinned(json!({ "outputs": { "x": {} }, "cache": { "maxAge": "1h" } }));
        let mut cluster =
            after(spec.clone(), "r1", &[]).fate("tune", 1, Fate::Succeeds(json!({ "results": { "rate": value } })));
        cluster.settle();
        (spec, seen(&cluster, 7))
    };
    let (spec, first) = named(1);
    // `tune` is taken, and says so: that is no other value.
    let mut second = after(spec, "r2", std::slice::from_ref(&first));
    second.settle();
    assert_eq!(second.created.len(), 0, "{:?}", second.created);
    let (mut spec, _) = named(2);
    spec["stages"]["tune"]["cache"]["mode"] = json!("Refresh");
    let mut third = after(spec, "r3", &[first]).fate("tune", 1, Fate::Succeeds(json!({ "results": { "rate": 2 } })));
    third.settle();
    assert!(third.created.contains_key("r3-fan-1"), "{:?}", third.created);
}

#[test]
fn items_that_read_different_things_are_nothing_to_take() {
    let spec = fan(json!({ "container": { "podTemplate": "small" } }));
    let template = |cluster: &mut Cluster, zone: &str| {
        let below = json!({ "template": { "spec": { "nodeSelector": { "zone": zone }, "containers": [] } } });
        cluster.pod_templates.insert("small".into(), Arc::new(serde_json::from_value(below).unwrap()));
    };
    let mut first = after(spec.clone(), "r1", &[]).fate("fan/1", 1, Fate::Exits(1));
    template(&mut first, "a");
    first.settle();
    assert_eq!(first.stage("fan").state, Failed);
    let key = first.stage("fan").cache.as_ref().unwrap().key.clone();
    template(&mut first, "b");
    first.run.spec.retry_from = Some(RetryFrom { failed: true, ..RetryFrom::default() });
    first.settle();
    assert_eq!(first.condition("Succeeded").unwrap().0, "True", "{:#?}", first.status());
    let cache = first.stage("fan").cache.as_ref().unwrap();
    assert!(key.is_some() && cache.key.is_none() && cache.mixed, "{cache:?}");

    // Nor are those of a stage that was named to be run again, once some of them are done.
    let mut again = after(spec.clone(), "r2", &[]);
    template(&mut again, "a");
    again.settle();
    let whole = again.stage("fan").cache.as_ref().unwrap().key.clone();
    again.run.spec.retry_from = Some(RetryFrom { stage: Some("fan".into()), ..RetryFrom::default() });
    again = again.fate("fan/1", 3, Fate::Hangs);
    again.settle_until(|cluster| cluster.stage("fan").state == Running);
    assert!(again.stage("fan").cache.as_ref().unwrap().refresh);
    template(&mut again, "b");
    again.jobs.clear();
    again.pods.clear();
    again.settle();
    assert_eq!(again.condition("Succeeded").unwrap().0, "True", "{:#?}", again.status());
    let cache = again.stage("fan").cache.as_ref().unwrap();
    assert!(whole.is_some() && cache.key.is_none() && cache.mixed, "{cache:?}");
}

#[test]
fn a_list_that_was_lost_is_made_again_as_an_input_is() {
    let first = ended(fan(json!({})), "r1");
    let spec = fan(json!({ "container": { "command": ["other"] } }));
    let mut second = after(spec, "r2", &[first]).fate("fan/1", 1, Fate::LosesInput("items"));
    second.settle();
    assert_eq!(second.condition("Succeeded").unwrap().0, "True", "{:#?}", second.status());
    assert_eq!((second.stage("load").remade, second.stage("fan").retries), (1, 1));
}

#[test]
fn an_item_that_failed_leaves_nothing_to_take_and_what_was_lost_is_made_anew() {
    let mut first = after(fan(json!({ "onFailure": "Continue" })), "r1", &[]).fate("fan/1", 1, Fate::Exits(1));
    first.settle();
    assert_eq!(first.stage("fan").state, Failed);
    let mut second = after(fan(json!({ "onFailure": "Continue" })), "r2", &[seen(&first, 7)]);
    second.settle();
    assert_eq!((second.stage("fan").state, second.stage("fan").attempts), (Succeeded, 2));

    let reads = |spec: Value| {
        let mut spec = spec;
        spec["stages"]["use"] =
            pinned(json!({ "inputs": { "parts": { "from": "fan.part" } }, "cache": { "mode": "Off" } }));
        spec
    };
    let lost = Fate::LosesInput("parts");
    let mut third =
        after(reads(fan(json!({ "onFailure": "Continue" }))), "r3", &[seen(&second, 8)]).fate("use", 1, lost);
    third.settle();
    assert_eq!(third.condition("Succeeded").unwrap().0, "True", "{:#?}", third.status());
    let fan = third.stage("fan");
    assert_eq!((fan.remade, fan.attempts, fan.reason.as_deref()), (1, 2, None));
    assert_eq!(fan.items.as_ref().map(|items| items.succeeded), Some(3));
}
