//! Expressions and gates, before a run.

use serde_json::json;

use super::{checked, refused, stage};

#[test]
fn a_name_or_type_in_an_expression_is_checked_before_a_run() {
    let args = |text: &str| stage("fit", json!({ "container": { "args": [text] } }));
    let cases = [
        ("$[[ params.rat ]]", "did you mean `rate`?"),
        ("$[[ params.model-name ]]", "a hyphen is written `_` in an expression: write params.model_name"),
        ("$[[ params.rate > 0.1 ? params.model-name : 'x' ]]", "write params.model_name"),
        ("$[[ params.modelname ]]", "did you mean `model_name`? There is limit, model-name, rate"),
        ("$[[ quote(params.rate) ]]", "`quote()` needs text, and this is a number"),
        ("$[[ quote() ]]", "`quote()` takes one text in its brackets"),
        ("$[[ quote(params.model_name, 'b') ]]", "`quote()` takes one text in its brackets"),
        ("$[[ params.model_name.quote() ]]", "`quote()` takes one text in its brackets"),
        ("$[[ ['a'].map(x, quote(x)) ]]", "quote() stands inside a macro"),
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
    let both = checked(args("$[[ params.model-name > stages.laod.x ]]")).unwrap_err();
    let said = |part: &str| both.iter().any(|problem| problem.message.contains(part));
    assert!(both.len() == 2 && said("write params.model_name") && said("did you mean `load`?"), "{both:#?}");
    refused(args("$[[ params.model-name ]]"), "spec.stages.fit.container.args[0]", "a hyphen is written");
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
