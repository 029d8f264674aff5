//! What the index knows after runs have come, changed and gone.

use serde_json::json;

use super::*;

fn key(first: &str) -> String {
    format!("{first}{}", "0".repeat(40 - first.len()))
}

fn run(name: &str, version: u32, stage: &serde_json::Value) -> MLPipelineRun {
    serde_json::from_value(json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string() },
        "spec": {}, "status": { "stages": { "fit": stage } },
    }))
    .unwrap()
}

fn made(minute: u32, text: &str) -> serde_json::Value {
    json!({
        "state": "Succeeded", "completionTime": format!("2026-01-01T00:{minute:02}:00Z"), "results": { "text": text },
        "cache": { "key": key("ab") },
    })
}

fn text(index: &CacheIndex) -> Option<Value> {
    index.snapshot().look(&key("ab"), "me").made.map(|(_, made)| made.results["text"].clone())
}

#[test]
fn the_newest_result_is_found_and_goes_with_its_run() {
    let mut index = CacheIndex::default();
    index.put(&run("old", 1, &made(1, "old")));
    index.put(&run("new", 2, &made(2, "new")));
    index.put(&run("plain", 3, &json!({ "state": "Succeeded" })));
    assert_eq!(text(&index), Some(json!("new")));
    assert_eq!(index.snapshot().look(&key("cd"), "me"), Known::default());
    let before = index.snapshot();
    index.forget("uid-new");
    assert_eq!(text(&index), Some(json!("old")));
    assert!(before.look(&key("ab"), "me").made.unwrap().0.run == "new", "a snapshot stays as it is");
    index.forget("uid-old");
    assert!(index.is_unused() && index.parts.iter().all(|part| part.is_empty()));
}

#[test]
fn a_state_that_comes_late_changes_nothing() {
    let mut index = CacheIndex::default();
    index.put(&run("r", 5, &made(1, "five")));
    index.put(&run("r", 4, &json!({ "state": "Running", "job": { "name": "j" }, "cache": { "key": key("ab") } })));
    assert_eq!(text(&index), Some(json!("five")));
}

#[test]
fn what_was_taken_from_the_cache_is_as_old_as_what_was_taken() {
    let mut index = CacheIndex::default();
    index.put(&run("first", 1, &made(1, "first")));
    let mut hit = made(9, "first");
    hit["cache"]["from"] =
        json!({ "run": "first", "uid": "uid-first", "stage": "fit", "time": "2026-01-01T00:01:00Z" });
    index.put(&run("hit", 2, &hit));
    index.forget("uid-first");
    let (origin, _) = index.snapshot().look(&key("ab"), "me").made.unwrap();
    assert_eq!((origin.run.as_str(), origin.time.0.to_string().as_str()), ("first", "2026-01-01T00:01:00Z"));
}

#[test]
fn a_thousand_runs_with_the_same_result_hold_it_once() {
    let mut index = CacheIndex::default();
    for n in 0..1000 {
        let mut hit = made(1, "same");
        hit["cache"]["from"] = json!({ "run": "r", "uid": "u", "stage": "fit", "time": "2026-01-01T00:01:00Z" });
        index.put(&run(&format!("r{n}"), n + 1, &hit));
    }
    let snapshot = index.snapshot();
    let claims = &snapshot.0[at(&parse(&key("ab")).unwrap())][&parse(&key("ab")).unwrap()];
    let bodies: BTreeSet<*const u8> = claims.iter().map(|claim| claim.made().unwrap().1.as_ptr()).collect();
    assert_eq!((claims.len(), bodies.len()), (1000, 1));
}

#[test]
fn a_result_that_was_found_lost_is_not_found_again_in_any_copy() {
    let mut index = CacheIndex::default();
    index.put(&run("a", 1, &made(5, "lost")));
    index.put(&run("b", 2, &made(3, "older")));
    let origin = json!({ "run": "a", "uid": "uid-a", "stage": "fit", "time": "2026-01-01T00:05:00Z" });
    let finder = |state: &str| json!({ "state": state, "cache": { "key": key("ab"), "lost": origin } });
    index.put(&run("c", 3, &finder("Waiting")));
    assert_eq!(text(&index), Some(json!("older")));
    index.forget("uid-b");
    let known = index.snapshot().look(&key("ab"), "me");
    assert_eq!((known.made, known.lost), (None, true));
    let mut copy = made(9, "lost");
    copy["cache"]["from"] = origin.clone();
    index.put(&run("d", 4, &copy));
    assert_eq!(text(&index), None);
}

#[test]
fn who_waits_for_a_key_is_told_when_the_maker_has_ended_changed_or_gone() {
    let mut index = CacheIndex::default();
    let making = json!({ "state": "Running", "job": { "name": "j" }, "cache": { "key": key("ab") } });
    let waits = json!({ "state": "Pending", "reason": "WaitingForCache", "cache": { "key": key("ab") } });
    index.put(&run("maker", 1, &making.clone()));
    index.put(&run("waits", 2, &waits));
    assert_eq!(index.snapshot().look(&key("ab"), "me").maker, Some(("maker".to_owned(), "fit".to_owned())));
    assert_eq!(index.snapshot().look(&key("ab"), "uid-maker").maker, None, "nobody waits for itself");
    assert_eq!(index.put(&run("maker", 3, &making)), BTreeSet::new(), "nothing has changed");
    let told = BTreeSet::from(["waits".to_owned()]);
    let failed = json!({ "state": "Failed", "cache": { "key": key("ab") } });
    assert_eq!(index.put(&run("maker", 4, &failed)), told);
    assert_eq!(index.put(&run("maker", 5, &made(1, "x"))), told);
    assert_eq!(index.forget("uid-maker"), told);
}
