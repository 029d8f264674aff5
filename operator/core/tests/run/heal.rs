//! An input that was lost: the run makes it again.

use millrace_core::api::StageState::{Failed, Succeeded};
use serde_json::{Value, json};

use crate::cache::{after, pinned, seen};
use crate::cluster::{Cluster, Crash, Fate};
use crate::{pipeline, stage};

/// `a` makes what `b` and `c` read.
fn fork() -> Value {
    let reads = json!({ "inputs": { "rows": { "from": "a.data" } }, "outputs": { "more": {} } });
    pipeline(json!({
        "a": stage(json!({ "outputs": { "data": {} } })),
        "b": stage(reads.clone()),
        "c": stage(json!({ "needs": ["b"], "inputs": { "rows": { "from": "a.data" } } })),
    }))
}

fn jobs(cluster: &Cluster) -> Vec<&str> {
    cluster.created.keys().map(String::as_str).collect()
}

#[test]
fn an_input_that_is_lost_is_made_again_and_its_reader_goes_on() {
    let mut cluster = Cluster::new(fork()).fate("c", 1, Fate::LosesInput("rows"));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.run.status);
    assert_eq!(jobs(&cluster), ["r-a-1", "r-a-2", "r-b-1", "r-c-1", "r-c-2"], "b is done and stays");
    let (a, c) = (cluster.stage("a"), cluster.stage("c"));
    assert_eq!((a.remade, a.retries, c.failures), (1, 1, 0));
    assert!(a.outputs["data"].uri.contains("/a.1/attempts/2/"), "{}", a.outputs["data"].uri);
    let told = cluster.events.iter().find(|event| event.reason == "InputLost").unwrap();
    assert!(told.message.contains("input `rows` is made again by stage `a`"), "{}", told.message);
}

#[test]
fn a_store_that_loses_everything_ends_the_run_and_says_so() {
    let mut cluster = Cluster::new(fork());
    for attempt in 1..=9 {
        cluster = cluster.fate("b", attempt, Fate::LosesInput("rows"));
    }
    cluster.settle();
    let b = cluster.stage("b");
    assert_eq!((b.state, b.reason.as_deref(), b.attempts), (Failed, Some("InputLost"), 4));
    let message = b.message.as_ref().unwrap();
    assert!(message.contains("stage `a` has made it again 3 times in this run"), "{message}");
}

#[test]
fn two_readers_that_miss_the_same_have_it_made_again_once() {
    let reads = json!({ "inputs": { "rows": { "from": "a.data" } } });
    let spec = pipeline(json!({
        "a": stage(json!({ "outputs": { "data": {} } })), "b": stage(reads.clone()), "c": stage(reads),
    }));
    let mut cluster = Cluster::new(spec).fate("b", 1, Fate::LosesInput("rows")).fate("c", 1, Fate::LosesInput("rows"));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!((cluster.stage("a").remade, cluster.stage("c").attempts), (1, 2));
}

#[test]
fn a_producer_whose_own_input_is_lost_has_that_made_again_first() {
    let spec = pipeline(json!({
        "a": stage(json!({ "outputs": { "data": {} } })),
        "b": stage(json!({ "inputs": { "rows": { "from": "a.data" } }, "outputs": { "more": {} } })),
        "c": stage(json!({ "inputs": { "more": { "from": "b.more" } } })),
    }));
    let mut cluster = Cluster::new(spec).fate("c", 1, Fate::LosesInput("more")).fate("b", 2, Fate::LosesInput("rows"));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.run.status);
    assert_eq!(jobs(&cluster), ["r-a-1", "r-a-2", "r-b-1", "r-b-2", "r-b-3", "r-c-1", "r-c-2"]);
}

#[test]
fn a_reader_in_finally_brings_nothing_back_to_life() {
    let mut spec = fork();
    spec["finally"] = json!({ "tell": stage(json!({ "inputs": { "rows": { "from": "a.data" } } })) });
    let mut cluster = Cluster::new(spec).fate("tell", 1, Fate::LosesInput("rows"));
    cluster.settle();
    let tell = cluster.stage("tell");
    assert_eq!((tell.state, cluster.stage("a").attempts), (Failed, 1));
    assert!(tell.message.as_ref().unwrap().contains("is not run again at the very end"), "{:?}", tell.message);
}

#[test]
fn items_that_miss_their_input_all_read_the_new_one() {
    let spec = pipeline(json!({
        "a": stage(json!({ "outputs": { "data": {} } })),
        "b": stage(json!({
            "inputs": { "rows": { "from": "a.data" } }, "outputs": { "more": {} }, "forEach": { "items": [1, 2] },
        })),
    }));
    let mut cluster = Cluster::new(spec).fate("b/1", 1, Fate::LosesInput("rows"));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{:#?}", cluster.run.status);
    assert_eq!((cluster.stage("a").attempts, cluster.stage("b").retries), (2, 1));
}

fn cached() -> Value {
    pipeline(json!({
        "a": pinned(json!({ "outputs": { "data": {} }, "cache": { "maxAge": "1h" } })),
        "b": stage(json!({ "inputs": { "rows": { "from": "a.data" } } })),
    }))
}

#[test]
fn a_hit_on_what_is_lost_runs_the_producer_and_nobody_takes_the_lost_one_again() {
    let mut first = after(cached(), "r1", &[]);
    first.settle();
    let first = seen(&first, 5);
    let mut second = after(cached(), "r2", std::slice::from_ref(&first)).fate("b", 1, Fate::LosesInput("rows"));
    second.settle_until(|cluster| cluster.stage("a").attempts == 1);
    let lost = second.stage("a").cache.clone().unwrap().lost.unwrap();
    assert_eq!((lost.run.as_str(), lost.stage.as_str()), ("r1", "a"));
    // While it is being made again.
    let mut meanwhile = after(cached(), "r3", &[first.clone(), seen(&second, 6)]);
    meanwhile.settle();
    assert_eq!(jobs(&meanwhile), ["r3-a-1", "r3-b-1"]);
    let miss = meanwhile.stage("a").cache.as_ref().unwrap().miss.clone().unwrap();
    assert_eq!(miss, "what earlier runs had made was found lost");
    second.settle();
    assert_eq!(second.condition("Succeeded").unwrap().0, "True");
    assert_eq!(jobs(&second), ["r2-a-1", "r2-b-1", "r2-b-2"]);
    assert_eq!((second.stage("a").state, second.stage("a").remade), (Succeeded, 1));
    let mut later = after(cached(), "r4", &[first, seen(&second, 9)]);
    later.settle();
    assert_eq!(later.stage("a").cache.as_ref().unwrap().from.as_ref().unwrap().run, "r2");
}

#[test]
fn a_crash_at_any_write_makes_it_again_once() {
    let run = |crash: Option<Crash>| {
        let mut cluster = Cluster::new(fork()).fate("c", 1, Fate::LosesInput("rows"));
        cluster.crash = crash;
        cluster.settle();
        assert_eq!(cluster.condition("Succeeded").unwrap().0, "True", "{crash:?}");
        assert_eq!(jobs(&cluster), ["r-a-1", "r-a-2", "r-b-1", "r-c-1", "r-c-2"], "{crash:?}");
        assert!(cluster.created.values().all(|times| *times == 1), "{crash:?}");
        cluster.writes
    };
    for write in 1..=run(None) {
        run(Some(Crash::Before(write)));
        run(Some(Crash::After(write)));
    }
}

#[test]
fn a_suspended_run_makes_it_again_when_it_may_go_on() {
    let mut cluster = Cluster::new(fork()).fate("c", 1, Fate::LosesInput("rows"));
    cluster.settle_until(|cluster| cluster.status().stages.get("c").is_some_and(|c| c.job.is_some()));
    cluster.run.spec.suspend = true;
    cluster.settle();
    assert_eq!(cluster.stage("a").remade, 1);
    assert_eq!(cluster.stage("a").attempts, 1, "nothing new begins");
    cluster.run.spec.suspend = false;
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.stage("a").attempts, 2);
}
