//! An input by `uri` whose source says whether it has changed since an earlier run read it.

use std::time::Duration;

use millrace_core::api::MLPipelineRun;
use millrace_core::api::StageState::Succeeded;
use serde_json::{Value, json};

use crate::cache::{after, pinned, seen};
use crate::cluster::{Cluster, Crash, Fate};
use crate::pipeline;

const TAG: &str = "etag:\"1$(HOME)\"";

/// A stage that reads an address, with what is said of the input besides.
fn reads(more: Value) -> Value {
    let mut input = json!({ "uri": "https://example.com/base.csv" });
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    pipeline(json!({ "fit": pinned(json!({ "inputs": { "base": input }, "outputs": { "model": {} } })) }))
}

fn brought(tag: Option<&str>) -> Fate {
    Fate::Succeeds(tag.map_or(json!({}), |tag| json!({ "results": { "source_validator": tag } })))
}

/// A run that read the address, where the source said this.
fn first(spec: Value, tag: Option<&str>) -> MLPipelineRun {
    let mut cluster = after(spec, "r1", &[]).fate("fit-base", 1, brought(tag));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.run.status);
    assert_eq!(asked(&cluster, 1), None, "nobody has read it before");
    seen(&cluster, 7)
}

fn unchanged() -> Fate {
    Fate::Succeeds(json!({ "outputs": {} }))
}

/// What the agent of an attempt asks the source.
fn asked(cluster: &Cluster, attempt: u32) -> Option<String> {
    let mut jobs = cluster.jobs.values();
    let (_, job) = jobs.find(|(view, _)| (view.stage.as_str(), view.attempt) == ("fit-base", attempt)).unwrap();
    let container = &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
    container.env.iter().flatten().find(|env| env.name == "GET_KNOWN")?.value.clone()
}

#[test]
fn what_has_not_changed_is_asked_about_and_not_brought() {
    let first = first(reads(json!({})), Some(TAG));
    let mut second = after(reads(json!({})), "r2", std::slice::from_ref(&first)).fate("fit-base", 1, unchanged());
    second.settle();
    assert_eq!(second.condition("Succeeded").unwrap().0, "True", "{:#?}", second.run.status);
    let (made, taken) = (&first.status.as_ref().unwrap().stages["fit-base"], second.stage("fit-base"));
    assert_eq!((taken.state, taken.reason.as_deref(), taken.attempts), (Succeeded, Some("SourceUnchanged"), 1));
    assert_eq!((&taken.outputs, &taken.results), (&made.outputs, &made.results));
    let cache = taken.cache.clone().unwrap();
    assert_eq!((cache.from.unwrap().run.as_str(), cache.asked), ("r1", None));
    assert!(taken.message.as_ref().unwrap().contains("since stage `fit-base` of run r1 read it at "));
    // The kubelet would put a variable there.
    assert_eq!(asked(&second, 1).as_deref(), Some("etag:\"1$$(HOME)\""));
    assert_eq!(second.stage("fit").reason.as_deref(), Some("CacheHit"), "its bytes are the same");
    assert_eq!(second.status().progress.as_deref(), Some("2/2, 2 cached"));
    // The one that read it may be deleted.
    let mut third = after(reads(json!({})), "r3", &[seen(&second, 9)]).fate("fit-base", 1, unchanged());
    third.settle();
    assert_eq!(third.stage("fit-base").cache.clone().unwrap().from.unwrap().run, "r1");
    assert_eq!(third.stage("fit-base").outputs, made.outputs);
}

#[test]
fn what_has_changed_is_brought_and_asked_about_from_then_on() {
    let first = first(reads(json!({})), Some(TAG));
    let new = brought(Some("etag:\"2\""));
    let mut second = after(reads(json!({})), "r2", std::slice::from_ref(&first)).fate("fit-base", 1, new);
    second.settle();
    let read = second.stage("fit-base");
    assert_eq!((read.state, read.reason.as_deref()), (Succeeded, None));
    assert!(read.outputs["data"].uri.contains("/r2"), "{}", read.outputs["data"].uri);
    let cache = read.cache.clone().unwrap();
    assert_eq!((cache.from, cache.asked, cache.miss), (None, None, None));
    let mut third = after(reads(json!({})), "r3", &[first, seen(&second, 9)]);
    third.settle();
    assert_eq!(asked(&third, 1).as_deref(), Some("etag:\"2\""));
}

#[test]
fn a_source_that_says_nothing_for_sure_and_a_claim_are_read_in_every_run() {
    let plain = first(reads(json!({})), None);
    let mut second = after(reads(json!({})), "r2", &[plain]);
    second.settle();
    assert_eq!(asked(&second, 1), None);
    assert_eq!(second.stage("fit-base").cache.clone().unwrap().asked, None);
    let claim = || reads(json!({ "uri": "pvc://lake/base.csv" }));
    let mut third = after(claim(), "r3", &[first(claim(), Some(TAG))]);
    third.settle();
    assert_eq!(asked(&third, 1), None);
}

#[test]
fn one_that_is_too_old_to_be_taken_unasked_is_asked_about() {
    let aged = || reads(json!({ "maxAge": "1h" }));
    let first = first(aged(), Some(TAG));
    let mut young = after(aged(), "r2", std::slice::from_ref(&first));
    young.settle();
    assert_eq!((young.jobs.len(), young.stage("fit-base").reason.as_deref()), (0, Some("CacheHit")));
    let mut old = after(aged(), "r3", &[first]).fate("fit-base", 1, unchanged());
    old.now += Duration::from_hours(2);
    old.settle();
    assert_eq!(old.stage("fit-base").reason.as_deref(), Some("SourceUnchanged"));
}

#[test]
fn what_is_gone_while_the_source_is_asked_is_brought_after_all() {
    let first = first(reads(json!({})), Some(TAG));
    let mut second = after(reads(json!({})), "r2", std::slice::from_ref(&first)).fate("fit-base", 1, unchanged());
    second.settle_until(|cluster| !cluster.jobs.is_empty());
    second.cache.forget("uid-r1");
    second.settle();
    assert_eq!(second.condition("Succeeded").unwrap().0, "True", "{:#?}", second.run.status);
    let read = second.stage("fit-base");
    assert_eq!((read.attempts, read.retries, read.failures), (2, 1, 0));
    assert!(read.outputs["data"].uri.contains("/fit-base.1/"), "{}", read.outputs["data"].uri);
    assert_eq!(asked(&second, 2), None);
    assert!(second.events.iter().any(|event| event.reason == "CacheGone"));
}

#[test]
fn what_was_taken_and_is_lost_is_brought_without_a_question() {
    let first = first(reads(json!({})), Some(TAG));
    let mut second = after(reads(json!({})), "r2", &[first]).fate("fit-base", 1, unchanged());
    second = second.fate("fit", 1, Fate::LosesInput("base"));
    // It would be taken from the cache otherwise.
    second.run.spec.pipeline.as_mut().unwrap().stages.get_mut("fit").unwrap().cache =
        Some(serde_json::from_value(json!({ "salt": "2" })).unwrap());
    second.settle();
    assert_eq!(second.condition("Succeeded").unwrap().0, "True", "{:#?}", second.run.status);
    let read = second.stage("fit-base");
    assert_eq!((read.attempts, read.remade, read.cache.clone().unwrap().from), (2, 1, None));
    assert_eq!(read.cache.clone().unwrap().lost.unwrap().run, "r1");
    assert_eq!(asked(&second, 2), None);
}

#[test]
fn a_crash_at_any_write_asks_once() {
    let first = first(reads(json!({})), Some(TAG));
    let run = |crash: Option<Crash>| {
        let mut cluster = after(reads(json!({})), "r2", std::slice::from_ref(&first)).fate("fit-base", 1, unchanged());
        cluster.crash = crash;
        cluster.settle();
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{crash:?}");
        assert_eq!(cluster.created.values().sum::<usize>(), 1, "{crash:?}: {:?}", cluster.created);
        assert_eq!(cluster.stage("fit-base").reason.as_deref(), Some("SourceUnchanged"), "{crash:?}");
        cluster.writes
    };
    for write in 1..=run(None) {
        run(Some(Crash::Before(write)));
        run(Some(Crash::After(write)));
    }
}
