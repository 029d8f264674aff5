//! `retry.when` and `retry.memoryGrowth`.

use serde_json::{Value, json};

use super::{checked, stage};

#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
#[track_caller]
fn refused(patch: Value, path: &str, says: &str) {
    let problems = checked(patch.clone()).unwrap_err();
    assert!(problems.iter().any(|p| p.path == path && p.message.contains(says)), "{patch}: {problems:#?}");
}

#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn fit(retry: Value) -> Value {
    stage("fit", json!({ "retry": retry }))
}

#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn with_memory(limits: Value, retry: Value) -> Value {
    stage("fit", json!({ "retry": retry, "container": { "resources": { "limits": limits } } }))
}

#[test]
fn a_condition_on_what_failed_is_checked_when_the_pipeline_is() {
    let on = |text: &str| fit(json!({ "limit": 2, "when": text }));
    let at = "spec.stages.fit.retry.when";
    for good in [
        "exitCode != 2",
        "reason in ['Error', 'OOMKilled'] && attempt < 3",
        "reason.startsWith('Out')",
        "true",
        "params.rate > 0.1 && run.trigger == null",
    ] {
        assert!(checked(on(good)).is_ok(), "{good}");
    }
    refused(on("exit_code != 2"), at, "exitCode");
    refused(on("exitCode == 'two'"), at, "number");
    refused(on("exitCode"), at, "a boolean");
    refused(on("$[[ exitCode ]] == 1"), at, "leave the `$[[` and `]]` out");
    refused(on("params.rows > 1"), at, "rows");
    refused(on("stages.load.status == 'Failed'"), at, "stages");
    refused(on("run.status == 'Failed'"), at, "status");
    refused(on("reason == 'OOMKiled'"), at, "did you mean `OOMKilled`?");
    refused(on("reason != 'Evicted'"), at, "infrastructure");
    refused(fit(json!({ "when": "true" })), at, "limit is 0");
}

#[test]
fn memory_grows_from_a_limit_to_a_larger_one() {
    let growth = |growth: Value| json!({ "limit": 2, "memoryGrowth": growth });
    let good = growth(json!({ "factor": 1.5, "max": "4Gi" }));
    let at = "spec.stages.fit.retry.memoryGrowth";
    assert!(checked(with_memory(json!({ "memory": "1Gi" }), good.clone())).is_ok());
    refused(
        fit(good.clone()),
        at,
        "no memory limit to grow from: write spec.stages.fit.container.resources.limits.memory",
    );
    refused(with_memory(json!({ "memory": "4Gi" }), good), at, "raise max");
    let memory = || json!({ "memory": "1Gi" });
    refused(with_memory(memory(), growth(json!({ "max": "lots" }))), &format!("{at}.max"), "such as 64Gi");
    refused(with_memory(memory(), growth(json!({ "max": "2Gi", "factor": 1 }))), &format!("{at}.factor"), "1.1 to 10");
    refused(with_memory(memory(), json!({ "memoryGrowth": { "max": "2Gi" } })), at, "limit is 0");
    let all = json!({ "defaults": { "retry": growth(json!({ "max": "4Gi" })) } });
    refused(all, "spec.defaults.retry.memoryGrowth", "the stage `fit` has no memory limit");
}

#[test]
fn the_items_of_a_stage_are_tried_again_by_their_job_alone() {
    let each = |retry: Value| stage("fit", json!({ "forEach": { "range": { "count": 2 } }, "retry": retry }));
    refused(each(json!({ "when": "true" })), "spec.stages.fit.retry.when", "limit is 0");
    refused(each(json!({ "limit": 1, "when": "item > 2" })), "spec.stages.fit.retry.when", "item");
    let growth = json!({ "limit": 1, "memoryGrowth": { "max": "1Gi" } });
    refused(each(growth), "spec.stages.fit.retry.memoryGrowth", "{ limit: 1 }");
    let backoff = json!({ "limit": 4, "backoff": { "initial": "1s" } });
    refused(each(backoff.clone()), "spec.stages.fit.retry.backoff", "leave backoff out");
    let program = json!({ "image": "i", "command": ["c"] });
    let when = json!({ "limit": 1, "when": "exitCode != 2" });
    checked(stage("fan", json!({ "container": program, "retry": when, "forEach": { "range": { "count": 2 } } })))
        .unwrap();
    let mut usual = stage("fan", json!({ "container": program, "forEach": { "range": { "count": 2 } } }));
    usual["defaults"] = json!({ "retry": backoff });
    refused(usual.clone(), "spec.defaults.retry.backoff", "or write spec.stages.fan.retry: { limit: 4 }");
    usual["defaults"]["retry"]["when"] = json!("reason != 'Timeout'");
    refused(usual.clone(), "spec.defaults.retry.backoff", "{ limit: 4, when: \"reason != 'Timeout'\" }");
    usual["stages"]["fan"]["retry"] = json!({ "limit": 4 });
    assert!(checked(usual).is_ok(), "its own stands for it");
}
