//! `forEach`.

use serde_json::{Value, json};

use super::{checked, container, merge, refused, stage};
use crate::pipeline::{Bond, FrozenKind};

const AT: &str = "spec.stages.fan.forEach";

/// A stage that runs over something, and what is said besides.
#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn fan(for_each: Value, more: Value) -> Value {
    let mut fan =
        json!({ "forEach": for_each, "outputs": { "part": {} }, "container": { "image": "i", "command": ["c"] } });
    merge(&mut fan, more);
    stage("fan", fan)
}

fn over(for_each: Value) -> Value {
    fan(for_each, json!({}))
}

fn list() -> Value {
    json!({ "items": [1] })
}

#[test]
fn a_stage_runs_over_a_list_a_range_or_a_file() {
    for each in [
        json!({ "items": ["a", 1, { "x": "$[[ params.rate ]]" }] }),
        json!({ "items": "$[[ stages.load.results.rows ]]" }),
        json!({ "range": { "count": 10 } }),
        json!({ "range": { "count": "$[[ stages.load.results.rows ]]", "start": 0.5, "step": "$[[ params.rate ]]" } }),
        json!({ "from": "load.data", "parallelism": 1000, "failFast": false }),
    ] {
        let found = checked(over(each.clone()));
        assert!(found.is_ok(), "{each}: {found:?}");
    }
    let frozen = checked(over(json!({ "from": "load.data" }))).unwrap();
    assert_eq!(container(&frozen, "load").lists.iter().collect::<Vec<_>>(), ["data"]);
    assert_eq!(frozen.stages["fan"].needs, ["load"]);
}

#[test]
fn what_cannot_be_run_over_is_refused_with_what_to_write() {
    for (each, field, says) in [
        (json!({}), "", "exactly one of items, range and from"),
        (json!({ "items": [], "range": { "count": 1 } }), "", "exactly one of items, range and from"),
        (json!({ "items": "a, b" }), ".items", "write a list"),
        (json!({ "items": { "a": 1 } }), ".items", "write a list"),
        (json!({ "items": "$[[ params.rate ]]" }), ".items", "one expression that gives a list"),
        (json!({ "items": vec![0; 10_001] }), ".items", "at most 10000"),
        (json!({ "items": ["$[[ params.rat ]]"] }), ".items[0]", "`params.rat` is unknown"),
        (json!({ "range": { "count": -1 } }), ".range.count", "from 0 to 10000"),
        (json!({ "range": { "count": 1.5 } }), ".range.count", "whole number"),
        (json!({ "range": { "count": "ten" } }), ".range.count", "write a number"),
        (json!({ "range": { "count": 1, "step": [] } }), ".range.step", "write a number"),
        (json!({ "from": "load.dat" }), ".from", "no output `dat`"),
        (json!({ "from": "fit.model" }), ".from", "is a model"),
        (json!({ "items": [1], "parallelism": 0 }), ".parallelism", "from 1 to 1000"),
    ] {
        let field = field.strip_suffix("[0]").unwrap_or(field);
        refused(over(each), &format!("{AT}{field}"), says);
    }
}

#[test]
fn only_the_program_knows_the_item() {
    let command = |word: &str| json!({ "container": { "command": ["c", word] } });
    let each = fan(list(), command("$[[ item.x ]]-$[[ index + 1 ]]"));
    assert!(checked(each.clone()).is_ok(), "{:?}", checked(each));
    let unknown = "`item` is unknown";
    refused(stage("fit", command("$[[ item ]]")), "spec.stages.fit.container.command[1]", unknown);
    refused(
        fan(list(), json!({ "container": { "image": "i:$[[ item ]]" } })),
        "spec.stages.fan.container.image",
        unknown,
    );
    refused(fan(list(), json!({ "when": "item > 1" })), "spec.stages.fan.when", unknown);
    let with = json!({
        "forEach": list(), "uses": "score", "with": { "target": "$[[ item ]]" },
        "inputs": { "model": { "from": "fit.model" }, "data": { "from": "load.data" } },
    });
    assert!(checked(stage("fan", with.clone())).is_ok(), "{:?}", checked(stage("fan", with)));
}

#[test]
fn what_it_makes_are_folders_and_the_list_of_its_items() {
    let after = |more: Value| {
        let mut spec = over(list());
        let mut after = json!({ "container": { "image": "i", "command": ["c"] } });
        merge(&mut after, more);
        merge(&mut spec, stage("after", after));
        spec
    };
    for from in ["fan.items", "fan.part"] {
        assert!(checked(after(json!({ "inputs": { "x": { "from": from } } }))).is_ok(), "{from}");
    }
    let counts = "stages.fan.items.failed == 0.0 && stages.fan.items.total > 1.0";
    let bond = |when: &str| checked(after(json!({ "when": when }))).unwrap().stages["after"].bond("fan");
    assert_eq!(bond(counts), Bond::Follows, "no number makes it go on after a failure that stops the others");
    assert_eq!(bond(&format!("{counts} && stages.fan.status == 'Failed'")), Bond::Asks);
    let args = json!({ "container": { "args": ["$[[ stages.fan.items.failed ]]"] } });
    assert_eq!(checked(after(args)).unwrap().stages["after"].bond("fan"), Bond::Follows);
    assert!(checked(after(json!({ "forEach": { "from": "fan.items" } }))).is_ok());
    let with_outputs = |each: Value, after: Value| {
        let mut spec =
            runs(list(), json!({ "pipeline": { "outputs": { "model": { "from": "fit.model", "type": "model" } } } }));
        let mut stage_after = json!({ "container": { "image": "i", "command": ["c"] } });
        merge(&mut stage_after, after);
        merge(&mut spec, json!({ "stages": { "fan": { "forEach": each }, "after": stage_after } }));
        spec
    };
    assert!(
        checked(with_outputs(list(), json!({ "inputs": { "x": { "from": "fan.model" } } }))).is_ok(),
        "a folder of models"
    );
    let mut models = with_outputs(list(), json!({}));
    merge(&mut models, stage("register", json!({ "register": { "from": "fan.model" } })));
    refused(models, "spec.stages.register.register.from", "is no model");
    let again = json!({ "forEach": { "from": "fan.model" } });
    refused(with_outputs(list(), again.clone()), "spec.stages.after.forEach.from", "name fan.items");
    let mut once = with_outputs(Value::Null, again);
    once["stages"]["fan"]["pipeline"]["outputs"]["model"] = json!({ "from": "fit.list" });
    refused(once, "spec.stages.after.forEach.from", "nobody has counted");
    refused(after(json!({ "forEach": { "from": "fan.part" } })), "spec.stages.after.forEach.from", "name fan.items");
    let mut may = over(json!({ "from": "other.x" }));
    let other = json!({ "container": { "image": "i", "command": ["c"] }, "outputs": { "x": { "optional": true } } });
    merge(&mut may, stage("other", other));
    refused(may, &format!("{AT}.from"), "always writes");
    refused(
        after(json!({ "inputs": { "x": { "from": "fan.item" } } })),
        "spec.stages.after.inputs.x.from",
        "did you mean",
    );
    refused(
        after(json!({ "when": "stages.fan.metrics.f1 > 1" })),
        "spec.stages.after.when",
        "`stages.fan.metrics` is unknown",
    );
    let mut models = fan(list(), json!({ "outputs": { "part": { "type": "model" } } }));
    merge(&mut models, stage("register", json!({ "register": { "from": "fan.part" } })));
    refused(models, "spec.stages.register.register.from", "is no model");
    let mut metrics = over(list());
    merge(&mut metrics, stage("register", json!({ "register": { "metrics": "fan" } })));
    refused(metrics, "spec.stages.register.register.metrics", "without forEach");
}

#[test]
fn what_has_no_meaning_for_many_items_is_refused() {
    let at = |field: &str| format!("spec.stages.fan.{field}");
    refused(fan(list(), json!({ "gate": { "pass": "metrics.f1 > 0" } })), &at("gate"), "in a later stage");
    refused(
        fan(list(), json!({ "retry": { "limit": 1, "backoff": { "initial": "1s" } } })),
        &at("retry.backoff"),
        "leave backoff out",
    );
    refused(fan(list(), json!({ "outputs": { "items": {} } })), &at("outputs.items"), "use another name");
    refused(stage("register", json!({ "forEach": list() })), "spec.stages.register.forEach", "belongs to");
}

/// A stage that runs a pipeline over something, and what is said besides.
#[allow(clippy::needless_pass_by_value)]
fn runs(for_each: Value, more: Value) -> Value {
    let mut fan = json!({ "forEach": for_each, "pipeline": { "name": "train", "results": "fit" } });
    merge(&mut fan, more);
    stage("fan", fan)
}

#[test]
fn a_pipeline_is_run_over_items_too() {
    let params = json!({ "pipeline": { "params": { "a": "$[[ item.x ]]", "b": "$[[ index + params.rate ]]", "c": { "d": 1 } } } });
    for each in [list(), json!({ "range": { "count": 1000 } }), json!({ "items": "$[[ stages.load.results.rows ]]" })] {
        let found = checked(runs(each.clone(), params.clone()));
        assert!(found.is_ok(), "{each}: {found:?}");
    }
    let over_results = checked(runs(json!({ "items": "$[[ stages.load.results.rows ]]" }), json!({}))).unwrap();
    assert_eq!(over_results.stages["fan"].needs, ["load"]);
    let FrozenKind::Pipeline(nested) = &over_results.stages["fan"].kind else { panic!("no pipeline") };
    let (_, collector) = nested.items().unwrap();
    assert_eq!(collector.container.settings.service_account_name.as_deref(), Some("trainer"));
    let after = |more: Value| {
        let mut spec = runs(list(), json!({}));
        let mut after = json!({ "container": { "image": "i", "command": ["c"] } });
        merge(&mut after, more);
        merge(&mut spec, stage("after", after));
        spec
    };
    assert!(checked(after(json!({ "inputs": { "x": { "from": "fan.items" } } }))).is_ok());
    assert!(checked(after(json!({ "forEach": { "from": "fan.items" } }))).is_ok());
    assert!(checked(after(json!({ "when": "stages.fan.items.failed < 1.0" }))).is_ok());
    refused(
        after(json!({ "when": "stages.fan.metrics.f1 > 1" })),
        "spec.stages.after.when",
        "`stages.fan.metrics` is unknown",
    );
    let mut without = after(json!({ "inputs": { "x": { "from": "fan.items" } } }));
    merge(&mut without, stage("fan", json!({ "pipeline": { "results": null } })));
    refused(without, "spec.stages.after.inputs.x.from", "no output `items`");
}

#[test]
fn what_a_pipeline_cannot_do_for_each_item_is_refused_with_what_to_write() {
    let at = |field: &str| format!("spec.stages.fan.{field}");
    refused(runs(json!({ "items": vec![0; 1001] }), json!({})), &at("forEach.items"), "at most 1000");
    refused(runs(json!({ "range": { "count": 1001 } }), json!({})), &at("forEach.range.count"), "from 0 to 1000");
    refused(
        runs(json!({ "from": "load.data" }), json!({})),
        &at("forEach.from"),
        "reads no file as `load.data`: write items",
    );
    let outputs = |name: &str| json!({ "pipeline": { "outputs": { name: { "from": "fit.model", "type": "model" } } } });
    refused(runs(list(), outputs("items")), &at("pipeline.outputs.items"), "use another name");
    let mut unkept = runs(list(), outputs("model"));
    unkept["store"] = Value::Null;
    let problems = checked(unkept).unwrap_err();
    assert!(
        problems.iter().any(|p| p.path == at("pipeline.outputs") && p.message.contains("write store")),
        "{problems:?}"
    );
    let many = |count: usize| {
        let outputs: serde_json::Map<String, Value> =
            (0..count).map(|n| (format!("o{n}"), json!({ "from": "fit.data" }))).collect();
        runs(list(), json!({ "pipeline": { "outputs": outputs } }))
    };
    assert!(checked(many(28)).is_ok());
    refused(many(32), &at("pipeline.outputs"), "33 outputs need");
    let unknown = json!({ "pipeline": { "params": { "a": "$[[ itm ]]" } } });
    refused(runs(list(), unknown), &at("pipeline.params.a"), "`itm` is unknown");
    let once = json!({ "pipeline": { "params": { "a": "$[[ item ]]" } }, "forEach": null });
    refused(runs(list(), once), &at("pipeline.params.a"), "`item` is unknown");
    refused(runs(list(), json!({ "retry": { "limit": 1 } })), &at("retry"), "each item has one run");
}
