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
        ("$[[ quote() ]]", "`quote()` takes one text, or a list of texts"),
        ("$[[ quote(params.model_name, 'b') ]]", "`quote()` takes one text"),
        ("$[[ params.model_name.quote() ]]", "`quote()` takes one text"),
        ("$[[ quote(quote(params.model_name)) ]]", "quote() stands inside quote()"),
        ("$[[ params.rate > 0 and true ]]", "`and` is no operator: CEL writes &&, ||, ! and =="),
        ("$[[ params.rate > 0 or true ]]", "`or` is no operator"),
        ("$[[ not (params.rate > 0) ]]", "CEL writes &&, ||, ! and =="),
        ("$[[ true && not params.rate ]]", "`not` is no operator"),
        ("$[[ params.rate = 0.5 ]]", "`=` is no operator"),
        ("$[[ params.model_name == 'a and b' 3 ]]", "cannot be parsed"),
        (
            "$[[ stages.score.metrics.f1-score ]]",
            "no hyphen, which is a minus here: report it as stages.score.metrics.f1_score",
        ),
        ("$[[ stages.load.results.row-count ]]", "report it as stages.load.results.row_count"),
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
    let other = json!({ "outputs": { "raw-data": {} }, "container": { "image": "i", "command": ["c"] } });
    let mut raw = args("$[[ stages.other.outputs.raw-data.uri ]]");
    super::merge(&mut raw, stage("other", other));
    refused(raw, "spec.stages.fit.container.args[0]", "write stages.other.outputs.raw_data");
    for of in ["score", "fit"] {
        let gate = json!({ "gate": { "pass": "metrics.f1-score > 0.9" } });
        refused(
            stage(of, gate),
            &format!("spec.stages.{of}.gate.pass"),
            "report it as metrics.f1_score, and write that",
        );
    }
    refused(args("$[[ size(stages) ]]"), "spec.stages.fit.container.args[0]", "name the stage");
}

#[test]
fn what_is_quoted_stands_where_a_shell_takes_it_for_a_word() {
    let script = |text: &str| {
        let script = format!("#!/bin/sh\n{text}\n");
        stage("fit", json!({ "container": { "command": null, "args": null, "script": script } }))
    };
    let at = "spec.stages.fit.container.script";
    let quoted = "$[[ quote(params.model_name) ]]";
    for (text, says) in [
        (format!("echo \"{quoted}\""), "take the quotes away"),
        (format!("echo '{quoted}'"), "take the quotes away"),
        (format!("echo \"it's {quoted} of mine\""), "take the quotes away"),
        (format!("echo x # for {quoted}"), "take it out of the comment"),
        ("echo $[[ [quote(params.model_name), 'b'] ]]".to_owned(), "write quote(<list>)"),
    ] {
        refused(script(&text), at, says);
    }
    for text in [
        format!("echo {quoted}"),
        format!("echo 'a'{quoted}'b' \"c\""),
        format!("echo \\\"{quoted}\\\""),
        format!("echo ${{#x}} {quoted} # done"),
        format!("cat <<'E'\nDon't {quoted}\nE"),
        "echo $[[ quote(['a', params.model_name]) ]]".to_owned(),
        "echo \"$[[ params.model_name ]]\"".to_owned(),
    ] {
        assert!(checked(script(&text)).is_ok(), "{text}: {:?}", checked(script(&text)));
    }
    let command = json!({ "container": { "command": ["sh", "-c", format!("echo \"{quoted}\"")] } });
    refused(stage("fit", command), "spec.stages.fit.container.command[2]", "take the quotes away");
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
