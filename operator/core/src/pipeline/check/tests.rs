//! Every refusal: the field it names and the remedy it gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{bind_params, check, check_template};
use crate::api::{MLPipelineSpec, ParamSpec, StageTemplate, StageTemplateSpec};
use crate::config::Config;
use crate::pipeline::{Frozen, FrozenContainer, FrozenKind};
use crate::problem::Problem;

fn config() -> Config {
    Config { service_accounts: BTreeSet::from(["trainer".to_owned()]), ..Config::default() }
}

fn templates() -> BTreeMap<String, Arc<StageTemplate>> {
    let load = json!({
        "outputs": { "data": {} }, "results": { "rows": {} },
        "container": { "image": "load", "command": ["load"] }
    });
    let any = json!({ "inputs": { "*": {} }, "outputs": { "data": {} }, "container": { "image": "any", "command": ["any"] } });
    [("load", load), ("score", score()), ("any", any)]
        .into_iter()
        .map(|(name, spec)| {
            let spec: StageTemplateSpec = serde_json::from_value(spec).unwrap();
            (name.to_owned(), Arc::new(StageTemplate::new(name, spec)))
        })
        .collect()
}

fn score() -> Value {
    json!({
        "params": {
            "target": { "type": "string" },
            "bins": { "type": "integer", "optional": true, "minimum": 1, "maximum": 10 },
            "mode": { "type": "string", "default": "fast", "enum": ["fast", "slow"] }
        },
        "inputs": { "model": { "type": "model" }, "data": {}, "champion": { "type": "model", "optional": true } },
        "outputs": { "report": {} },
        "metrics": { "f1": {}, "rmse": {} },
        "retry": { "limit": 3 },
        "timeout": "5m",
        "container": {
            "image": "score", "command": ["score"], "args": ["--params", "$[[ params ]]", "$[[ inputs.data ]]"],
            "env": { "A": { "value": "1" }, "B": { "value": "2" } },
            "resources": { "requests": { "cpu": "1", "memory": "1Gi" } }
        }
    })
}

/// A pipeline that passes.
fn base() -> Value {
    json!({
        "params": {
            "rate": { "type": "number", "default": 0.5, "minimum": 0, "maximum": 1 },
            "model-name": { "type": "string", "default": "a" },
            "limit": { "type": "integer", "optional": true }
        },
        "store": { "pvc": { "claimName": "artifacts" } },
        "defaults": { "retry": { "limit": 1 }, "timeout": "1h", "serviceAccountName": "trainer" },
        "stages": {
            "load": { "uses": "load" },
            "fit": {
                "inputs": { "data": { "from": "load.data" } },
                "outputs": { "model": { "type": "model" }, "log": {} },
                "container": { "image": "fit", "command": ["fit", "--rate", "$[[ params.rate ]]", "$[[ inputs.data ]]"] }
            },
            "score": {
                "uses": "score",
                "inputs": {
                    "model": { "from": "fit.model" }, "data": { "from": "load.data" },
                    "champion": { "deployed": "shop", "optional": true }
                },
                "with": { "target": "y" },
                "gate": { "pass": "metrics.f1 > params.rate && (champion == null || metrics.f1 >= champion.metrics.f1)" }
            },
            "register": { "needs": ["score"], "register": { "model": "shop", "from": "fit.model", "metrics": "score" } },
            "deploy": { "deploy": { "modelDeployment": "shop", "version": "register" } }
        }
    })
}

/// RFC 7386.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(&key);
        } else {
            merge(into.as_object_mut().unwrap().entry(key).or_insert(Value::Null), value);
        }
    }
}

fn checked(patch: Value) -> Result<Frozen, Vec<Problem>> {
    let mut spec = base();
    merge(&mut spec, patch);
    let spec: MLPipelineSpec = serde_json::from_value(spec).unwrap();
    check(&spec, &templates(), &config())
}

/// Exactly one problem, at this path, whose message holds this.
#[track_caller]
fn refused(patch: Value, field: &str, says: &str) {
    let shown = patch.to_string();
    match checked(patch) {
        Ok(_) => panic!("{shown} was accepted"),
        Err(problems) => {
            let [problem] = problems.as_slice() else { panic!("{shown}: {problems:#?}") };
            assert_eq!(problem.path, field, "{shown}: {problem}");
            assert!(problem.message.contains(says), "{shown}: {problem}");
        }
    }
}

#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn stage(name: &str, patch: Value) -> Value {
    json!({ "stages": { name: patch } })
}

fn container(frozen: &Frozen, stage: &str) -> FrozenContainer {
    match &frozen.stages[stage].kind {
        FrozenKind::Container(container) => container.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_right_pipeline_is_frozen_with_every_reference_as_an_edge() {
    let frozen = checked(json!({})).unwrap();
    let needs: Vec<(&str, Vec<String>)> = frozen.stages.iter().map(|(n, s)| (n.as_str(), s.needs.clone())).collect();
    let expected: [(&str, &[&str]); 5] = [
        ("deploy", &["register"]),
        ("fit", &["load"]),
        ("load", &[]),
        ("register", &["fit", "score"]),
        ("score", &["fit", "load"]),
    ];
    assert_eq!(needs.len(), expected.len());
    for ((name, found), (wanted, list)) in needs.iter().zip(expected) {
        assert_eq!((*name, found.iter().map(String::as_str).collect::<Vec<_>>()), (wanted, list.to_vec()));
    }
}

#[test]
fn an_expression_draws_an_edge() {
    let patch =
        stage("tell", json!({ "container": { "image": "i", "command": ["echo", "$[[ stages.load.results.rows ]]"] } }));
    assert_eq!(checked(patch).unwrap().stages["tell"].needs, ["load"]);
    let patch = stage("score", json!({ "with": { "target": "$[[ stages.register.status ]]" }, "gate": null }));
    let problems = checked(patch).unwrap_err();
    assert!(problems[0].message.contains("register -> score -> register"), "{problems:?}");
}

#[test]
fn settings_come_from_the_stage_then_the_template_then_the_defaults() {
    let frozen = checked(json!({})).unwrap();
    let (fit, score) = (container(&frozen, "fit"), container(&frozen, "score"));
    assert_eq!((fit.retry.limit, fit.timeout_seconds, fit.pending_timeout_seconds), (1, Some(3600), 3600));
    assert_eq!((score.retry.limit, score.timeout_seconds), (3, Some(300)));
    assert_eq!(score.container.settings.service_account_name.as_deref(), Some("trainer"));
    let own = json!({ "retry": { "limit": 0 }, "timeout": "90s", "pendingTimeout": "2m" });
    let score = container(&checked(stage("score", own)).unwrap(), "score");
    assert_eq!((score.retry.limit, score.timeout_seconds, score.pending_timeout_seconds), (0, Some(90), 120));
    let bare = container(&checked(json!({ "defaults": null })).unwrap(), "fit");
    assert_eq!((bare.retry.limit, bare.timeout_seconds, bare.pending_timeout_seconds), (0, None, 3600));
}

#[test]
fn overrides_are_laid_over_by_key() {
    let over = json!({ "overrides": {
        "env": { "B": { "value": "3" }, "C": { "value": "4" } }, "resources": { "requests": { "cpu": "2" } }
    } });
    let settings = container(&checked(stage("score", over)).unwrap(), "score").container.settings;
    let env: Vec<&str> = settings.env.values().filter_map(|value| value.value.as_deref()).collect();
    assert_eq!(env, ["1", "3", "4"]);
    let requests = settings.resources.unwrap().requests;
    assert_eq!((&requests["cpu"], &requests["memory"]), (&json!("2"), &json!("1Gi")));
}

#[test]
fn names_are_refused_with_what_they_may_be() {
    let program = json!({ "container": { "image": "i", "command": ["c"] } });
    for name in ["Train", "a_b", "-a", "a-", "1a", "a.b", "ä", &"a".repeat(64)] {
        refused(stage(name, program.clone()), &format!("spec.stages.{name}"), "write at most 63 of a-z");
    }
    refused(
        json!({ "params": { "a b": { "type": "string", "default": "" } } }),
        "spec.params.a b",
        "write at most 63 letters",
    );
    let twice =
        json!({ "params": { "a-b": { "type": "string", "default": "" }, "a_b": { "type": "string", "default": "" } } });
    assert!(checked(twice).unwrap_err().iter().any(|p| p.message.contains("both written `a_b`")));
    refused(
        stage("fit", json!({ "outputs": { "Bad": {} } })),
        "spec.stages.fit.outputs.Bad",
        "write at most 63 of a-z",
    );
    refused(
        stage("register", json!({ "register": { "model": "Shop" } })),
        "spec.stages.register.register.model",
        "write at most 50",
    );
    refused(
        stage("deploy", json!({ "deploy": { "modelDeployment": "A" } })),
        "spec.stages.deploy.deploy.modelDeployment",
        "write at most 63",
    );
}

#[test]
fn a_reference_to_what_is_not_there_names_what_is() {
    let cases = [
        (
            stage("fit", json!({ "inputs": { "data": { "from": "laod.data" } } })),
            "spec.stages.fit.inputs.data.from",
            "did you mean `load`?",
        ),
        (
            stage("fit", json!({ "inputs": { "data": { "from": "load.dat" } } })),
            "spec.stages.fit.inputs.data.from",
            "did you mean `data`?",
        ),
        (
            stage("fit", json!({ "inputs": { "data": { "from": "load" } } })),
            "spec.stages.fit.inputs.data.from",
            "write <stage>.<output>",
        ),
        (stage("fit", json!({ "needs": ["lod"] })), "spec.stages.fit.needs[0]", "did you mean `load`?"),
        (stage("load", json!({ "uses": "laod" })), "spec.stages.load.uses", "did you mean `load`?"),
        (
            stage("register", json!({ "register": { "metrics": "scores" } })),
            "spec.stages.register.register.metrics",
            "did you mean `score`?",
        ),
        (
            stage(
                "tell",
                json!({ "inputs": { "x": { "from": "deploy.model" } }, "container": { "image": "i", "command": ["c"] } }),
            ),
            "spec.stages.tell.inputs.x.from",
            "has no outputs",
        ),
        (
            stage("again", json!({ "register": { "model": "shop", "from": "fit.model", "metrics": "deploy" } })),
            "spec.stages.again.register.metrics",
            "has no metrics",
        ),
        (
            stage("register", json!({ "register": { "from": "fit.log" } })),
            "spec.stages.register.register.from",
            "name an output of type model",
        ),
        (
            stage("deploy", json!({ "deploy": { "version": "fit" } })),
            "spec.stages.deploy.deploy.version",
            "name one of register",
        ),
        (
            stage("score", json!({ "inputs": { "model": { "from": "fit.log" } } })),
            "spec.stages.score.inputs.model.from",
            "name an output of type model",
        ),
        (
            stage("score", json!({ "inputs": { "data": null } })),
            "spec.stages.score.inputs.data",
            "write data: { from: <stage>.<output> }",
        ),
        (
            stage("score", json!({ "inputs": { "extra": { "from": "load.data" } } })),
            "spec.stages.score.inputs.extra",
            "takes no input `extra`",
        ),
        (stage("score", json!({ "with": { "trget": "y" } })), "spec.stages.score.with.trget", "did you mean `target`?"),
        (stage("score", json!({ "with": { "target": null } })), "spec.stages.score.with.target", "is required"),
    ];
    for (patch, path, says) in cases {
        refused(patch, path, says);
    }
}

#[test]
fn a_template_that_is_not_right_is_not_used() {
    let mut templates = templates();
    let mut broken = StageTemplate::clone(&templates["load"]);
    broken.spec.container.command = None;
    templates.insert("load".to_owned(), Arc::new(broken));
    let spec: MLPipelineSpec = serde_json::from_value(base()).unwrap();
    let problems = check(&spec, &templates, &config()).unwrap_err();
    assert_eq!(problems[0].path, "spec.stages.load.uses");
    assert!(problems[0].message.contains("command or script is required"), "{problems:?}");
}

#[test]
fn an_override_may_not_mount_where_the_template_does() {
    let volume = |name: &str| json!({ "volumes": { name: { "mountPath": "/data", "memory": {} } } });
    let mut templates = templates();
    let mut mounting = StageTemplate::clone(&templates["load"]);
    mounting.spec.container.settings = serde_json::from_value(volume("a")).unwrap();
    templates.insert("load".to_owned(), Arc::new(mounting));
    let mut spec = base();
    merge(&mut spec, stage("load", json!({ "overrides": volume("b") })));
    let spec: MLPipelineSpec = serde_json::from_value(spec).unwrap();
    let problems = check(&spec, &templates, &config()).unwrap_err();
    assert_eq!(problems[0].path, "spec.stages.load.overrides.volumes.b.mountPath");
}

#[test]
fn any_input_goes_where_the_template_takes_any() {
    let any = json!({ "uses": "any", "inputs": { "a": { "from": "load.data" }, "b": { "from": "fit.log" } } });
    assert_eq!(checked(stage("join", any)).unwrap().stages["join"].needs, ["fit", "load"]);
}

#[test]
fn a_circle_is_named() {
    let problems = checked(stage("load", json!({ "needs": ["score"] }))).unwrap_err();
    let said: Vec<&str> = problems.iter().filter(|p| p.reason == "Cycle").map(|p| p.message.as_str()).collect();
    assert_eq!(said.len(), problems.len());
    assert!(said[0].contains("load -> score -> load. Take one"), "{said:?}");
    assert!(said[1].contains("fit -> load -> score -> fit. Take one"), "{said:?}");
    refused(stage("load", json!({ "needs": ["load"] })), "spec.stages.load.needs[0]", "refers to itself");
    let own = json!({ "inputs": { "again": { "from": "fit.model" } } });
    refused(stage("fit", own), "spec.stages.fit.inputs.again.from", "refers to itself");
}

#[test]
fn a_chain_of_all_stages_is_no_circle_and_costs_no_stack() {
    let program = |needs: Vec<String>| json!({ "needs": needs, "container": { "image": "i", "command": ["c"] } });
    let stages: serde_json::Map<String, Value> = (0..256)
        .map(|i| (format!("s{i}"), program(if i == 0 { vec![] } else { vec![format!("s{}", i - 1)] })))
        .collect();
    let spec: MLPipelineSpec = serde_json::from_value(json!({ "stages": stages })).unwrap();
    assert!(check(&spec, &templates(), &config()).is_ok());
}

#[test]
fn a_value_that_breaks_its_declaration_is_refused_with_what_is_allowed() {
    let with = |value: Value| stage("score", json!({ "with": value }));
    let at = "spec.stages.score.with";
    refused(with(json!({ "target": 3 })), &format!("{at}.target"), "write a value of type string");
    refused(with(json!({ "bins": "3" })), &format!("{at}.bins"), "write it without quotes");
    refused(with(json!({ "bins": 2.5 })), &format!("{at}.bins"), "2.5 is no integer");
    refused(with(json!({ "bins": 11 })), &format!("{at}.bins"), "write a number from 1 to 10");
    refused(with(json!({ "mode": "medium" })), &format!("{at}.mode"), "write one of \"fast\", \"slow\"");
    refused(with(json!({ "target": "$[[ params.rate ]]" })), &format!("{at}.target"), "this is a number");
    refused(with(json!({ "bins": "a$[[ params.rate ]]" })), &format!("{at}.bins"), "this is text");
    assert!(checked(with(json!({ "bins": 3.0, "target": "$[[ params.model_name ]]" }))).is_ok());
}

#[test]
fn a_declaration_that_contradicts_itself_is_refused() {
    let param = |spec: Value| json!({ "params": { "p": spec } });
    refused(
        param(json!({ "type": "number", "default": 2, "maximum": 1 })),
        "spec.params.p.default",
        "write a number of at most 1",
    );
    refused(
        param(json!({ "type": "number", "minimum": 2, "maximum": 1 })),
        "spec.params.p.minimum",
        "write a minimum of at most 1",
    );
    refused(param(json!({ "type": "string", "minimum": 2 })), "spec.params.p", "need type number or integer");
    refused(
        param(json!({ "type": "integer", "enum": [1, "2"] })),
        "spec.params.p.enum[1]",
        "write a value of type integer",
    );
    refused(param(json!({ "type": "integer", "enum": [] })), "spec.params.p.enum", "list at least one");
    refused(
        param(json!({ "type": "boolean", "default": "yes" })),
        "spec.params.p.default",
        "write a value of type boolean",
    );
}

#[test]
fn a_name_or_type_in_an_expression_is_checked_before_a_run() {
    let args = |text: &str| stage("fit", json!({ "container": { "args": [text] } }));
    let cases = [
        ("$[[ params.rat ]]", "did you mean `rate`?"),
        ("$[[ params.model-name ]]", "A hyphen is written `_`"),
        ("$[[ stages.laod.metrics.x ]]", "did you mean `load`?"),
        ("$[[ stages.score.metrics.f2 ]]", "did you mean `f1`?"),
        ("$[[ stages.load.result.rows ]]", "did you mean `results`?"),
        ("$[[ inputs.dat ]]", "did you mean `data`?"),
        ("$[[ outputs.modle ]]", "did you mean `model`?"),
        ("$[[ run.nam ]]", "did you mean `name`?"),
        ("$[[ param.rate ]]", "did you mean `params`?"),
        ("$[[ params.rate.x ]]", "is a number and has no `x`"),
        ("$[[ params.rate > 'a' ]]", "is between a number and text"),
        ("$[[ params.rate && true ]]", "`&&` needs a boolean"),
        ("$[[ params.model_name * 2 ]]", "`*` needs a number"),
        ("$[[ sise(params.rate) ]]", "did you mean `size`?"),
        ("$[[ params.rate", "has no `]]`"),
        ("$[[ 1 + ]]", "cannot be parsed"),
        ("$[[ ]]", "it is empty"),
        ("$[[ metrics.f1 ]]", "`metrics` is unknown"),
    ];
    for (text, says) in cases {
        let problems = checked(args(text)).unwrap_err();
        let said = problems.iter().any(|p| p.path == "spec.stages.fit.container.args[0]" && p.message.contains(says));
        assert!(said, "{text}: {problems:#?}");
    }
    refused(args("$[[ size(stages) ]]"), "spec.stages.fit.container.args[0]", "name the stage");
}

#[test]
fn a_gate_is_true_or_false_over_what_the_stage_has() {
    let gate = |pass: &str| stage("score", json!({ "gate": { "pass": pass } }));
    let at = "spec.stages.score.gate.pass";
    refused(gate("metrics.f1"), at, "is a number, but a boolean is needed here");
    refused(gate("metrics.f11 > 0.5"), at, "did you mean `f1`?");
    refused(gate("metrics.f1 > '0.5'"), at, "write both sides with the same type");
    refused(gate("metrics.f1 >"), at, "cannot be parsed");
    refused(gate("champion.metrics.f2 < 1.0"), at, "did you mean `f1`?");
    let lonely = json!({ "gate": { "pass": "champion == null" }, "inputs": { "champion": null } });
    refused(stage("score", lonely), at, "deployed: <ModelDeployment>");
}

#[allow(clippy::too_many_lines)]
#[test]
fn what_a_stage_may_not_have_is_refused() {
    let cases = [
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
        (json!({ "store": null }), "spec.store", "write store: { pvc: { claimName"),
        (
            stage("fit", json!({ "inputs": { "data": { "deployed": "x" } } })),
            "spec.stages.fit.inputs.data",
            "exactly one of from and deployed",
        ),
        (
            stage("fit", json!({ "inputs": { "data": { "optional": true } } })),
            "spec.stages.fit.inputs.data.optional",
            "leave it out",
        ),
        (
            stage("fit", json!({ "container": { "command": null } })),
            "spec.stages.fit.container",
            "command or script is required",
        ),
        (
            stage("fit", json!({ "container": { "script": "#!/bin/sh" } })),
            "spec.stages.fit.container",
            "exclude each other",
        ),
        (
            stage("fit", json!({ "container": { "command": null, "script": "echo" } })),
            "spec.stages.fit.container.script",
            "#!/bin/sh",
        ),
        (
            stage("fit", json!({ "container": { "serviceAccountName": "root" } })),
            "spec.stages.fit.container.serviceAccountName",
            "trainer",
        ),
        (json!({ "defaults": { "serviceAccountName": "root" } }), "spec.defaults.serviceAccountName", "trainer"),
        (
            stage("fit", json!({ "container": { "env": { "MILLRACE_OUT": { "value": "" } } } })),
            "spec.stages.fit.container.env.MILLRACE_OUT",
            "write another name",
        ),
        (
            stage("fit", json!({ "container": { "env": { "A": {} } } })),
            "spec.stages.fit.container.env.A",
            "exactly one of value",
        ),
        (
            stage(
                "fit",
                json!({ "container": { "volumes": { "v": { "mountPath": "/a", "secret": { "name": "s" }, "memory": {} } } } }),
            ),
            "spec.stages.fit.container.volumes.v",
            "keep one",
        ),
        (
            stage(
                "fit",
                json!({ "container": { "volumes": { "v": { "mountPath": "/a/../millrace", "memory": {} } } } }),
            ),
            "spec.stages.fit.container.volumes.v.mountPath",
            "without `..`",
        ),
        (
            stage(
                "fit",
                json!({ "container": { "volumes": { "v": { "mountPath": "//millrace/stage", "memory": {} } } } }),
            ),
            "spec.stages.fit.container.volumes.v.mountPath",
            "belongs to Millrace",
        ),
        (
            stage("fit", json!({ "container": { "volumes": { "v": { "mountPath": "/", "memory": {} } } } })),
            "spec.stages.fit.container.volumes.v.mountPath",
            "below /",
        ),
        (stage("fit", json!({ "timeout": "soon" })), "spec.stages.fit.timeout", "such as 90s"),
        (stage("fit", json!({ "timeout": "250ms" })), "spec.stages.fit.timeout", "at least 1s"),
        (stage("fit", json!({ "timeout": "999999999d" })), "spec.stages.fit.timeout", "a hundred years"),
        (json!({ "timeout": "1w" }), "spec.timeout", "such as 90s"),
        (json!({ "history": { "ttl": "1w" } }), "spec.history.ttl", "such as 90s"),
        (
            stage("fit", json!({ "retry": { "limit": 1, "backoff": { "factor": 0.5 } } })),
            "spec.stages.fit.retry.backoff.factor",
            "write 1 to 10",
        ),
        (
            stage("fit", json!({ "retry": { "limit": 1, "backoff": { "initial": "1h", "max": "1m" } } })),
            "spec.stages.fit.retry.backoff.initial",
            "write at most 1m",
        ),
    ];
    for (patch, path, says) in cases {
        // A stage that is two kinds, or none, has other faults that follow from it.
        let problems = checked(patch.clone()).unwrap_err();
        assert!(problems.iter().any(|p| p.path == path && p.message.contains(says)), "{patch}: {problems:#?}");
    }
}

#[test]
fn everything_wrong_is_said_at_once_and_in_order() {
    let patch = json!({ "timeout": "x", "stages": { "fit": { "needs": ["nope"] }, "load": { "uses": "nope" } } });
    let problems = checked(patch).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["spec.stages.fit.needs[0]", "spec.stages.load.uses", "spec.timeout"]);
}

#[test]
fn a_template_is_checked_with_its_own_names() {
    let refused = |patch: Value, path: &str, says: &str| {
        let mut spec = score();
        merge(&mut spec, patch);
        let spec: StageTemplateSpec = serde_json::from_value(spec).unwrap();
        let problems = check_template(&spec, &config()).unwrap_err();
        assert!(problems.iter().any(|p| p.path == path && p.message.contains(says)), "{path}: {problems:#?}");
    };
    let spec: StageTemplateSpec = serde_json::from_value(score()).unwrap();
    assert_eq!(check_template(&spec, &config()), Ok(()));
    refused(
        json!({ "container": { "args": ["$[[ params.trget ]]"] } }),
        "spec.container.args[0]",
        "did you mean `target`?",
    );
    refused(
        json!({ "container": { "args": ["$[[ stages.fit.status ]]"] } }),
        "spec.container.args[0]",
        "`stages` is unknown",
    );
    refused(json!({ "metrics": { "F1": {} } }), "spec.metrics.F1", "a-z, 0-9 and `_`");
    refused(json!({ "inputs": { "A": {} } }), "spec.inputs.A", "a-z, 0-9 and `-`");
    refused(json!({ "timeout": "x" }), "spec.timeout", "such as 90s");
    refused(json!({ "container": { "command": null } }), "spec.container", "command or script is required");
    refused(json!({ "params": { "bins": { "default": 99 } } }), "spec.params.bins.default", "from 1 to 10");
}

#[test]
fn parameters_are_bound_with_defaults_and_types() {
    let declared: BTreeMap<String, ParamSpec> = serde_json::from_value(json!({
        "rows": { "type": "integer", "minimum": 1 },
        "name": { "type": "string", "default": "x" },
        "note": { "type": "string", "optional": true }
    }))
    .unwrap();
    let bind = |given: Value| bind_params(&declared, &serde_json::from_value(given).unwrap(), "spec.params");
    let bound = bind(json!({ "rows": 3.0 })).unwrap();
    assert_eq!(serde_json::to_string(&bound).unwrap(), r#"{"name":"x","note":null,"rows":3}"#);
    let cases = [
        (json!({}), "spec.params.rows", "is required"),
        (json!({ "rows": 0 }), "spec.params.rows", "of at least 1"),
        (json!({ "rows": "1" }), "spec.params.rows", "without quotes"),
        (json!({ "rows": null }), "spec.params.rows", "write a value of type integer"),
        (json!({ "rows": 1, "nam": "y" }), "spec.params.nam", "did you mean `name`?"),
    ];
    for (given, path, says) in cases {
        let problems = bind(given).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].path == path && problems[0].message.contains(says), "{problems:?}");
    }
}
