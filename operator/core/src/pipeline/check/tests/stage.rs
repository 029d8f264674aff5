//! What a stage may have.

use serde_json::{Value, json};

use super::{checked, stage};

/// Each change leads to a problem at this path whose message holds this, perhaps beside others: a stage that is two kinds,
/// or none, has faults that follow from it.
#[track_caller]
fn all_refused(cases: &[(Value, &str, &str)]) {
    for (patch, path, says) in cases {
        let problems = checked(patch.clone()).unwrap_err();
        assert!(problems.iter().any(|p| p.path == *path && p.message.contains(says)), "{patch}: {problems:#?}");
    }
}

#[test]
fn what_belongs_to_another_kind_of_stage_is_refused() {
    all_refused(&[
        (stage("fit", json!({ "uses": "load" })), "spec.stages.fit", "exactly one of uses"),
        (stage("load", json!({ "uses": null })), "spec.stages.load", "exactly one of uses"),
        (stage("fit", json!({ "with": { "a": 1 } })), "spec.stages.fit.with", "belongs to a stage with uses"),
        (
            stage("score", json!({ "outputs": { "x": {} } })),
            "spec.stages.score.outputs",
            "they come from the StageTemplate",
        ),
        (
            stage("deploy", json!({ "timeout": "1m" })),
            "spec.stages.deploy.timeout",
            "belongs to a stage with uses or container",
        ),
    ]);
}

#[test]
fn a_program_that_could_not_or_may_not_run_is_refused() {
    all_refused(&[]);
}

#[test]
fn a_volume_where_it_may_not_be_is_refused() {
    all_refused(&[]);
}

#[test]
fn a_time_or_a_retry_out_of_bounds_is_refused() {
    all_refused(&[]);
}
