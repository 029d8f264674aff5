//! Names, and references to what is not there or goes in a circle.

use serde_json::{Value, json};

use super::super::check;
use super::{checked, config, refused, stage, templates};
use crate::api::MLPipelineSpec;

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
fn everything_wrong_is_said_at_once_and_in_order() {
    let patch = json!({ "timeout": "x", "stages": { "fit": { "needs": ["nope"] }, "load": { "uses": "nope" } } });
    let problems = checked(patch).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["spec.stages.fit.needs[0]", "spec.stages.load.uses", "spec.timeout"]);
}
