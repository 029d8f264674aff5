//! `when`, `onFailure`, `finally` and inputs with something else to take.

use serde_json::{Value, json};

use super::{checked, refused, stage};
use crate::pipeline::Bond;

fn finally(patch: Value) -> Value {
    let mut tell = json!({ "container": { "image": "i", "command": ["tell"] } });
    super::merge(&mut tell, patch);
    json!({ "finally": { "tell": tell } })
}

#[test]
fn a_when_is_checked_as_a_gate_is() {
    let when = |text: &str| stage("score", json!({ "when": text }));
    let at = "spec.stages.score.when";
    refused(when("params.rate"), at, "a boolean is needed here");
    refused(when("params.ratio > 1"), at, "`params.ratio` is unknown");
    refused(when("stages.fitt.metrics.r2 > 1"), at, "`stages.fitt` is unknown");
    refused(when("$[[ params.rate > 0 ]]"), at, "leave the `$[[` and `]]` out");
    refused(when("run.status == 'Failed'"), at, "`run.status` is unknown");
    refused(when("stages.load.metrics.f1 == 'x'"), at, "with the same type");
    refused(when("stages.load.status == 'succeeded'"), at, "is never `succeeded`: did you mean `Succeeded`?");
    refused(
        when("stages.load.status in ['Failed', 'Done']"),
        at,
        "is never `Done`: there is Succeeded, Failed, Skipped",
    );
    refused(finally(json!({ "when": "run.status == 'failed'" })), "spec.finally.tell.when", "did you mean `Failed`?");
}

#[test]
fn how_a_stage_hangs_on_another_follows_from_what_it_names() {
    let bond = |patch: Value, need: &str| checked(stage("score", patch)).unwrap().stages["score"].bond(need);
    assert_eq!(
        bond(json!({ "when": "stages.load.status == 'Succeeded'" }), "load"),
        Bond::Uses,
        "its input is load.data"
    );
    assert_eq!(bond(json!({ "needs": ["fit"] }), "fit"), Bond::Uses, "its input is fit.model");
    let apart = |patch: Value| {
        let mut other = json!({ "container": { "image": "i", "command": ["c"] } });
        super::merge(&mut other, patch);
        checked(stage("other", other)).unwrap().stages["other"].bond("fit")
    };
    assert_eq!(apart(json!({ "needs": ["fit"] })), Bond::Follows);
    assert_eq!(apart(json!({ "when": "stages.fit.metrics.r2 > 0.0" })), Bond::Uses);
    assert_eq!(apart(json!({ "needs": ["fit"], "when": "stages.fit.status != 'Failed'" })), Bond::Asks);
    let model = |more: Value| {
        let mut input = json!({ "from": "fit.model" });
        super::merge(&mut input, more);
        json!({ "inputs": { "model": input } })
    };
    assert_eq!(apart(model(json!({}))), Bond::Uses);
    assert_eq!(apart(model(json!({ "optional": true }))), Bond::Takes);
    assert_eq!(apart(model(json!({ "default": { "from": "load.data" } }))), Bond::Takes);
}

#[test]
fn a_default_that_cannot_be_taken_is_refused() {
    let data = |input: Value| stage("score", json!({ "inputs": { "data": input } }));
    let at = "spec.stages.score.inputs.data";
    refused(data(json!({ "default": { "from": "fit.logs" } })), &format!("{at}.default.from"), "did you mean");
    refused(data(json!({ "optional": true })), &format!("{at}.optional"), "the StageTemplate needs this input");
    let champion = json!({ "inputs": { "champion": { "default": { "from": "fit.model" } } } });
    refused(stage("score", champion), "spec.stages.score.inputs.champion.default", "write from: fit.model");
    let model = json!({ "inputs": { "model": { "default": { "from": "load.data" } } } });
    refused(stage("score", model), "spec.stages.score.inputs.model.default.from", "is no model");
}

#[test]
fn an_expression_that_asks_for_the_status_decides_what_it_takes_of_the_rest() {
    let asking = |args: Value| {
        let other = json!({ "container": { "image": "i", "command": ["c"], "args": args } });
        checked(stage("other", other)).unwrap().stages["other"].bond("fit")
    };
    let asks = "$[[ stages.fit.status == 'Succeeded' ? stages.fit.metrics.rmse : 0.0 ]]";
    assert_eq!(asking(json!([asks])), Bond::Follows);
    assert_eq!(asking(json!(["$[[ stages.fit.reason ]] $[[ stages.fit.message ]]"])), Bond::Follows);
    assert_eq!(asking(json!(["$[[ stages.fit.metrics.rmse ]]", "$[[ stages.fit.status ]]"])), Bond::Uses);
    assert_eq!(asking(json!(["$[[ stages.fit.metrics.rmse ]] $[[ stages.fit.status ]]"])), Bond::Uses);
    assert_eq!(asking(json!([asks, "$[[ stages.fit.metrics.rmse ]]"])), Bond::Uses, "one asks and the other does not");
}

#[test]
fn what_is_in_finally_comes_after_all_else_and_nobody_waits_for_it() {
    assert!(checked(finally(json!({ "when": "run.status == 'Failed' && stages.fit.status == 'Failed'" }))).is_ok());
    let frozen = checked(finally(json!({ "container": { "args": ["$[[ stages.fit.status ]]"] } }))).unwrap();
    assert_eq!(frozen.stages["tell"].bond("fit"), Bond::Takes);
    refused(finally(json!({ "needs": ["fit"] })), "spec.finally.tell.needs[0]", "stages.fit.status == 'Succeeded'");
    refused(finally(json!({ "uses": "lod", "container": null })), "spec.finally.tell.uses", "did you mean");
    let mut named = finally(json!({}));
    super::merge(&mut named, stage("fit", json!({ "needs": ["tell"] })));
    refused(named, "spec.stages.fit.needs[0]", "the stage `tell` is in finally");
    let mut named = finally(json!({}));
    super::merge(&mut named, stage("fit", json!({ "when": "stages.tell.status == 'Failed'" })));
    refused(named, "spec.stages.fit.when", "stages.tell");
    let same = json!({ "finally": { "fit": { "container": { "image": "i", "command": ["c"] } } } });
    refused(same, "spec.finally.fit", "give this one another name");
}
