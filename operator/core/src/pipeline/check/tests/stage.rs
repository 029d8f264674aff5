//! What a stage may have.

use serde_json::{Value, json};

use super::{checked, refused, stage};

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
fn a_format_is_a_name_and_of_a_model() {
    let model = |format: &str| stage("fit", json!({ "outputs": { "model": { "format": format } } }));
    for good in ["onnx", "pytorch", "tf-saved-model", "v2"] {
        assert!(checked(model(good)).is_ok(), "{good}");
    }
    for bad in ["", "PyTorch", "a/b", &"a".repeat(33)] {
        refused(model(bad), "spec.stages.fit.outputs.model.format", "such as pytorch");
    }
    let table = stage("fit", json!({ "outputs": { "rows": { "format": "csv" } } }));
    refused(table, "spec.stages.fit.outputs.rows.format", "only a model has a format");
}

#[test]
fn how_many_versions_stay_has_bounds() {
    for last in [0, 1001] {
        let keep = json!({ "register": { "keep": { "last": last } } });
        refused(stage("register", keep), "spec.stages.register.register.keep.last", "write 1 to 1000");
    }
    assert!(checked(stage("register", json!({ "register": { "keep": { "last": 20, "deployed": false } } }))).is_ok());
}

#[test]
fn a_report_needs_a_stage_that_has_the_metrics() {
    let tell = |report: Value| json!({ "stages": { "tell": { "report": report } } });
    all_refused(&[
        (tell(json!({ "modelDeployment": "m", "metrics": "nosuch" })), "spec.stages.tell.report.metrics", "nosuch"),
        (
            tell(json!({ "modelDeployment": "m", "metrics": "deploy" })),
            "spec.stages.tell.report.metrics",
            "the stage `deploy` has no metrics",
        ),
        (
            tell(json!({ "modelDeployment": "m", "metrics": "score", "samples": "f2" })),
            "spec.stages.tell.report.samples",
            "the stage `score` has no metric `f2`",
        ),
        (tell(json!({ "modelDeployment": "M!", "metrics": "score" })), "spec.stages.tell.report.modelDeployment", "M!"),
    ]);
}

#[test]
fn a_program_that_could_not_or_may_not_run_is_refused() {
    let fit = |container: Value| stage("fit", json!({ "container": container }));
    let at = "spec.stages.fit.container";
    all_refused(&[
        (fit(json!({ "image": " " })), "spec.stages.fit.container.image", "image is empty"),
        (fit(json!({ "command": null })), at, "command or script is required"),
        (fit(json!({ "script": "#!/bin/sh" })), at, "keep one"),
        (fit(json!({ "command": [""] })), "spec.stages.fit.container.command", "write the program to run"),
        (fit(json!({ "command": null, "script": "ls" })), "spec.stages.fit.container.script", "interpreter line"),
        (
            fit(json!({ "serviceAccountName": "admin" })),
            "spec.stages.fit.container.serviceAccountName",
            "allowed are: trainer",
        ),
        (
            fit(json!({ "env": { "MILLRACE_X": { "value": "1" } } })),
            "spec.stages.fit.container.env.MILLRACE_X",
            "belong",
        ),
        (
            fit(json!({ "resources": { "requests": { "cpu": 2 }, "limits": { "cpu": 1 } } })),
            "spec.stages.fit.container.resources.requests.cpu",
            "2 is more than the limit of 1",
        ),
    ]);
}

#[test]
fn a_volume_where_it_may_not_be_is_refused() {
    let fit = |volumes: Value| stage("fit", json!({ "container": { "volumes": volumes } }));
    let at = "spec.stages.fit.container.volumes.a.mountPath";
    let memory = |path: &str| fit(json!({ "a": { "memory": {}, "mountPath": path } }));
    all_refused(&[
        (memory("data"), at, "write an absolute path"),
        (memory("/"), at, "is no place to mount"),
        (memory("/x/../millrace"), at, "without `..`"),
        (memory("//millrace/inputs"), at, "belongs to Millrace"),
        (
            fit(json!({ "a": { "mountPath": "/a" } })),
            "spec.stages.fit.container.volumes.a",
            "exactly one of configMap, secret, claim and memory",
        ),
        (
            fit(json!({ "a": { "memory": {}, "mountPath": "/x" }, "b": { "memory": {}, "mountPath": "/x/" } })),
            "spec.stages.fit.container.volumes.b.mountPath",
            "give each volume its own",
        ),
    ]);
}

#[test]
fn a_time_or_a_retry_out_of_bounds_is_refused() {
    let fit = |patch: Value| stage("fit", patch);
    let backoff = |backoff: Value| fit(json!({ "retry": { "limit": 1, "backoff": backoff } }));
    all_refused(&[
        (fit(json!({ "timeout": "soon" })), "spec.stages.fit.timeout", "such as 90s"),
        (fit(json!({ "timeout": "5ms" })), "spec.stages.fit.timeout", "at least 1s"),
        (fit(json!({ "pendingTimeout": "999999999d" })), "spec.stages.fit.pendingTimeout", "a hundred years"),
        (fit(json!({ "retry": { "limit": 101 } })), "spec.stages.fit.retry.limit", "write 0 to 100"),
        (backoff(json!({ "factor": 0.5 })), "spec.stages.fit.retry.backoff.factor", "write 1 to 10"),
        (
            backoff(json!({ "initial": "10m", "max": "1m" })),
            "spec.stages.fit.retry.backoff.initial",
            "write at most 1m",
        ),
        (json!({ "history": { "ttl": "x" } }), "spec.history.ttl", "such as 90s"),
    ]);
}
