//! What runs and what does not: `when`, `onFailure`, inputs with something else to take, `finally`.

use millrace_core::api::StageState::{self, Failed, Skipped, Succeeded};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate};
use crate::{pipeline, stage};

fn state<'a>(cluster: &'a Cluster, stage: &str) -> (StageState, Option<&'a str>) {
    let status = cluster.stage(stage);
    (status.state, status.reason.as_deref())
}

fn settled(spec: Value, fates: &[(&str, Fate)]) -> Cluster {
    let mut cluster = Cluster::new(spec);
    for (stage, fate) in fates {
        cluster = cluster.fate(stage, 1, fate.clone());
    }
    cluster.settle();
    cluster
}

#[test]
fn a_stage_whose_when_is_false_is_skipped_and_who_uses_it_too_but_not_who_only_follows() {
    let mut spec = pipeline(json!({
        "measure": stage(json!({})),
        "tune": stage(json!({ "when": "stages.measure.metrics.f1 < params.good", "outputs": { "best": {} } })),
        "use": stage(json!({ "inputs": { "best": { "from": "tune.best" } } })),
        "after-use": stage(json!({ "needs": ["use"] })),
        "after": stage(json!({ "needs": ["tune"] })),
    }));
    spec["params"] = json!({ "good": { "type": "number", "default": 0.9 } });
    let cluster = settled(spec, &[("measure", Fate::Succeeds(json!({ "metrics": { "f1": 0.95 } })))]);
    assert_eq!(state(&cluster, "tune"), (Skipped, Some("WhenFalse")));
    let figures =
        "`stages.measure.metrics.f1 < params.good` is false: stages.measure.metrics.f1 = 0.95, params.good = 0.9";
    assert_eq!(cluster.stage("tune").message.as_deref(), Some(figures));
    assert_eq!(state(&cluster, "use"), (Skipped, Some("UpstreamSkipped")));
    assert_eq!(state(&cluster, "after-use"), (Skipped, Some("UpstreamSkipped")));
    assert_eq!(state(&cluster, "after"), (Succeeded, None));
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    assert_eq!(cluster.status().progress.as_deref(), Some("2/5, 3 skipped"));
}

#[test]
fn one_of_two_branches_is_taken_and_what_joins_them_reads_that_one() {
    let branch = |large: bool| stage(json!({ "when": format!("params.large == {large}"), "outputs": { "model": {} } }));
    let mut spec = pipeline(json!({
        "large": branch(true),
        "small": branch(false),
        "join": stage(json!({ "inputs": { "model": { "from": "large.model", "default": { "from": "small.model" } } } })),
    }));
    spec["params"] = json!({ "large": { "type": "boolean", "default": false } });
    let cluster = settled(spec, &[]);
    assert_eq!(state(&cluster, "large"), (Skipped, Some("WhenFalse")));
    assert_eq!(state(&cluster, "join"), (Succeeded, None));
    let job = serde_json::to_string(&cluster.jobs["r-join-1"].1).unwrap();
    assert!(job.contains("small/attempts/1/outputs/model"), "{job}");
}

#[test]
fn an_input_that_nobody_made_is_absent_where_it_is_optional_and_skips_the_stage_where_it_is_not() {
    let skipped = || stage(json!({ "when": "false", "outputs": { "data": {} } }));
    let cluster = settled(
        pipeline(json!({
            "a": skipped(),
            "b": skipped(),
            "neither": stage(json!({ "inputs": { "x": { "from": "a.data", "default": { "from": "b.data" } } } })),
            "without": stage(json!({ "inputs": { "x": { "from": "a.data", "optional": true } } })),
        })),
        &[],
    );
    assert_eq!(state(&cluster, "neither"), (Skipped, Some("UpstreamSkipped")));
    assert_eq!(cluster.stage("neither").message.as_deref(), Some("input `x`: neither a.data nor b.data was made"));
    assert_eq!(state(&cluster, "without"), (Succeeded, None));
}

#[test]
fn a_stage_that_asks_for_a_status_runs_whatever_it_is() {
    let spec = || {
        pipeline(json!({
            "work": stage(json!({})),
            "next": stage(json!({ "needs": ["work"] })),
            "mend": stage(json!({ "when": "stages.work.status == 'Failed'" })),
            "praise": stage(json!({ "when": "stages.work.status == 'Succeeded' && stages.work.metrics.f1 > 0.5" })),
        }))
    };
    let failed = settled(spec(), &[("work", Fate::Exits(1))]);
    assert_eq!(state(&failed, "mend"), (Succeeded, None));
    assert_eq!(state(&failed, "praise"), (Skipped, Some("WhenFalse")));
    assert_eq!(state(&failed, "next"), (Skipped, Some("UpstreamFailed")));
    assert_eq!(failed.condition("Succeeded").unwrap().1, "StageFailed");
    let well = settled(spec(), &[("work", Fate::Succeeds(json!({ "metrics": { "f1": 1 } })))]);
    assert_eq!(state(&well, "mend"), (Skipped, Some("WhenFalse")));
    assert_eq!(state(&well, "praise"), (Succeeded, None));
}

#[test]
fn a_when_without_a_value_fails_its_stage_and_says_what_is_missing() {
    let spec = pipeline(json!({ "a": stage(json!({})), "b": stage(json!({ "when": "stages.a.metrics.f1 > 0.5" })) }));
    let cluster = settled(spec, &[]);
    assert_eq!(state(&cluster, "b"), (Failed, Some("WhenWithoutValue")));
    assert!(cluster.stage("b").message.as_ref().unwrap().contains("`f1`"), "{:?}", cluster.stage("b").message);
}

#[test]
fn a_stage_that_may_fail_does_not_fail_its_run() {
    let cluster = settled(
        pipeline(json!({
            "lint": stage(json!({ "onFailure": "Continue", "outputs": { "report": {} } })),
            "train": stage(json!({ "needs": ["lint"] })),
            "read": stage(json!({ "inputs": { "report": { "from": "lint.report" } } })),
            "deploy": stage(json!({ "needs": ["train"] })),
        })),
        &[("lint", Fate::Exits(1))],
    );
    assert_eq!(state(&cluster, "lint").0, Failed);
    assert_eq!(state(&cluster, "deploy"), (Succeeded, None));
    assert_eq!(state(&cluster, "read"), (Skipped, Some("UpstreamFailed")));
    let (status, _, message) = cluster.condition("Succeeded").unwrap();
    let said = "2 of 4 stages succeeded, 1 skipped, 1 failed with onFailure: Continue (`lint`)";
    assert_eq!((status, message), ("True", said));
}

#[test]
fn stages_that_fail_the_run_at_its_end_let_the_others_run_and_all_are_named() {
    let mut spec = pipeline(json!({
        "a": stage(json!({})),
        "after-a": stage(json!({ "needs": ["a"] })),
        "b": stage(json!({})),
        "after-b": stage(json!({ "needs": ["b"] })),
        "c": stage(json!({ "needs": ["after-b"] })),
    }));
    spec["defaults"] = json!({ "onFailure": "FailAtEnd" });
    spec["finally"] = json!({ "tell": stage(json!({})) });
    let fates = [("a", Fate::Exits(1)), ("c", Fate::Exits(1))];
    let cluster = settled(spec.clone(), &fates);
    assert_eq!(state(&cluster, "after-a"), (Skipped, Some("UpstreamFailed")));
    assert_eq!(state(&cluster, "after-b"), (Succeeded, None));
    assert_eq!(state(&cluster, "tell"), (Succeeded, None));
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason), ("False", "StageFailed"));
    assert!(message.starts_with("stage `a` failed: ") && message.ends_with("; failed too: `c`"), "{message}");
    // One that says something else than `defaults`.
    spec["stages"]["a"]["onFailure"] = json!("Stop");
    let cluster = settled(spec, &fates);
    assert_eq!(state(&cluster, "after-b"), (Skipped, Some("NotStarted")));
}

#[test]
fn what_a_skipped_stage_did_not_say_has_a_value_to_take_instead() {
    let text = "$[[ stages.measure.status == 'Succeeded' ? stages.measure.results.size : params.size ]]";
    let mut report = stage(json!({}));
    report["container"]["args"] = json!([text]);
    let mut spec = pipeline(json!({
        "measure": stage(json!({ "when": "params.size == 0" })),
        "report": report,
    }));
    for (size, says) in [(7, "\"7\""), (0, "\"3\"")] {
        spec["params"] = json!({ "size": { "type": "integer", "default": size } });
        let cluster = settled(spec.clone(), &[("measure", Fate::Succeeds(json!({ "results": { "size": 3 } })))]);
        assert_eq!(state(&cluster, "report"), (Succeeded, None), "{:?}", cluster.stage("report").message);
        let job = serde_json::to_string(&cluster.jobs["r-report-1"].1).unwrap();
        assert!(job.contains(says), "{job}");
    }
}

/// A pipeline whose end is told.
fn told() -> Value {
    let mut spec = pipeline(json!({ "work": stage(json!({})), "more": stage(json!({ "needs": ["work"] })) }));
    let text = "$[[ run.status ]] $[[ stages.work.status ]] $[[ stages.more.status ]], $[[ stages.work.reason ]]: $[[ run.message ]].";
    let mut notify = stage(json!({}));
    notify["container"]["args"] = json!([text]);
    spec["finally"] = json!({
        "notify": notify,
        "alarm": stage(json!({ "when": "run.status == 'Failed'" })),
        "last": stage(json!({ "needs": ["notify"] })),
    });
    spec
}

#[test]
fn finally_runs_when_all_else_has_ended_and_sees_how() {
    for (fates, status, says, alarm) in [
        (vec![], "True", "Succeeded Succeeded Succeeded, : .", Skipped),
        (
            vec![("work", Fate::Exits(1))],
            "False",
            "Failed Failed Skipped, Error: stage `work` failed: Error: ",
            Succeeded,
        ),
    ] {
        let cluster = settled(told(), &fates);
        assert_eq!(cluster.condition("Succeeded").unwrap().0, status);
        let job = serde_json::to_string(&cluster.jobs["r-notify-1"].1).unwrap();
        assert!(job.contains(says), "{job}");
        assert_eq!(state(&cluster, "alarm").0, alarm);
        assert_eq!(state(&cluster, "last").0, Succeeded);
    }
}

#[test]
fn finally_runs_after_the_runs_timeout() {
    let mut spec = told();
    spec["timeout"] = json!("10m");
    let cluster = settled(spec, &[("work", Fate::Hangs)]);
    assert_eq!(state(&cluster, "more"), (Skipped, Some("RunTimeout")));
    assert_eq!(state(&cluster, "alarm").0, Succeeded);
    assert_eq!(cluster.condition("Succeeded").unwrap().1, "RunTimeout");
}

#[test]
fn what_fails_in_finally_fails_the_run_and_hides_nothing() {
    let cluster = settled(told(), &[("notify", Fate::Exits(1))]);
    let (status, reason, message) = cluster.condition("Succeeded").unwrap();
    assert_eq!((status, reason), ("False", "FinallyFailed"));
    let said = "in finally, stage `notify` failed: Error: Traceback: no luck (the stages before had succeeded)";
    assert_eq!(message, said);
    assert_eq!(state(&cluster, "last"), (Skipped, Some("UpstreamFailed")));
    let both = settled(told(), &[("work", Fate::Exits(1)), ("notify", Fate::Exits(1))]);
    let (_, reason, message) = both.condition("Succeeded").unwrap();
    assert_eq!(reason, "StageFailed");
    assert!(
        message.starts_with("stage `work` failed: ") && message.contains("; in finally, stage `notify`"),
        "{message}"
    );
}

#[test]
fn finally_waits_for_the_pods_of_what_was_given_up() {
    let mut spec = told();
    spec["timeout"] = json!("10m");
    let mut cluster = Cluster::new(spec).fate("work", 1, Fate::Hangs);
    for _ in 0..5 {
        cluster.reconcile();
        crate::node::tick(&mut cluster);
    }
    let pod = cluster.pods[0].clone();
    cluster.pass_time(std::time::Duration::from_mins(11));
    cluster.reconcile();
    // The Job is gone; its pod has its grace period.
    cluster.pods.push(millrace_core::run::PodView { deleting: true, ..pod });
    cluster.reconcile();
    assert_eq!(state(&cluster, "work").0, Failed);
    assert_eq!(cluster.status().completion_time, None);
    cluster.pods.clear();
    cluster.settle();
    assert_eq!(state(&cluster, "notify").0, Succeeded);
}
