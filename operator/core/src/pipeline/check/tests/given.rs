//! Inputs of a pipeline: how they are declared, who may read them, and what a run's address becomes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{base, checked, config, merge, refused, stage, templates};
use crate::api::{ArtifactType, InputMode, MLPipelineRunSpec, MLPipelineSpec, PipelineInput};
use crate::pipeline::{FrozenContainer, FrozenKind, bind_inputs, check_run};

/// The stage `other` that reads the pipeline's input `data`.
#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn reads(input: Value, declared: Value) -> Value {
    let other = json!({ "container": { "image": "i", "command": ["c"] }, "inputs": { "data": input } });
    let mut spec = stage("other", other);
    merge(&mut spec, json!({ "inputs": declared }));
    spec
}

fn other(frozen: &crate::pipeline::Frozen) -> &FrozenContainer {
    let FrozenKind::Container(found) = &frozen.stages["other"].kind else { panic!("no program") };
    found
}

const DATA: &str = "spec.stages.other.inputs.data";

#[test]
fn an_input_is_declared_and_read_by_its_name() {
    let frozen = checked(reads(json!({ "input": "data" }), json!({ "data": {} }))).unwrap();
    assert_eq!(other(&frozen).inputs["data"].input.as_deref(), Some("data"));
    assert!(frozen.inputs.contains_key("data"));
    refused(
        reads(json!({ "input": "dat" }), json!({ "data": {} })),
        &format!("{DATA}.input"),
        "the pipeline has no input `dat`: did you mean `data`?",
    );
    refused(
        reads(json!({ "input": "data", "from": "load.data" }), json!({ "data": {} })),
        DATA,
        "exactly one of from, uri, table, deployed, model and input is required",
    );
}

#[test]
fn what_a_run_need_not_be_given_is_optional_on_both_sides() {
    let read = json!({ "input": "data", "optional": true });
    checked(reads(read.clone(), json!({ "data": { "optional": true } }))).unwrap();
    refused(
        reads(json!({ "input": "data" }), json!({ "data": { "optional": true } })),
        &format!("{DATA}.optional"),
        "write optional: true here too",
    );
    refused(reads(read, json!({ "data": {} })), &format!("{DATA}.optional"), "take optional out");
    refused(
        reads(json!({ "input": "data" }), json!({ "data": { "optional": true, "default": { "uri": "https://h/x" } } })),
        "spec.inputs.data.optional",
        "what has a default is always there",
    );
}

#[test]
fn a_default_is_an_address_that_each_reader_reads() {
    let declared = json!({ "data": { "default": { "uri": "https://example.com/x.csv", "maxAge": "1h" } } });
    let frozen = checked(reads(json!({ "input": "data" }), declared)).unwrap();
    assert_eq!(other(&frozen).inputs["data"].from.as_deref(), Some("other-data.data"));
    let FrozenKind::Container(made) = &frozen.stages["other-data"].kind else { panic!("no program") };
    assert_eq!(made.cache.as_ref().unwrap().max_age_seconds, Some(3600));
    refused(
        reads(json!({ "input": "data" }), json!({ "data": { "default": { "uri": "ftp://h/x" } } })),
        "spec.inputs.data.default.uri",
        "nobody reads ftp://",
    );
    let uri = json!({ "data": { "default": { "uri": "s3://lake/x/", "access": { "anonymous": true } } } });
    let frozen = checked(reads(json!({ "input": "data", "mode": "Uri" }), uri)).unwrap();
    let read = &other(&frozen).inputs["data"];
    assert_eq!((read.uri.as_deref(), read.mode, &read.access), (Some("s3://lake/x/"), InputMode::Uri, &None));
}

#[test]
fn what_is_wrong_with_a_default_is_told_where_it_is_written() {
    let declared = json!({ "data": { "default": { "uri": "https://example.com/$[[ params.nobody ]]" } } });
    refused(reads(json!({ "input": "data" }), declared), "spec.inputs.data.default.uri", "`params.nobody` is unknown");
    let beside = json!({ "data": { "default": { "uri": "https://example.com/x" } } });
    refused(reads(json!({ "input": "data", "from": "load.data" }), beside), DATA, "exactly one of");
}

#[test]
fn a_model_by_address_is_looked_at() {
    let declared = json!({ "data": { "type": "model", "default": { "uri": "s3://models/base/" } } });
    let frozen = checked(reads(json!({ "input": "data" }), declared)).unwrap();
    let FrozenKind::Container(made) = &frozen.stages["other-data"].kind else { panic!("no program") };
    assert_eq!(made.outputs["data"].kind, ArtifactType::Model);
}

#[test]
fn what_a_run_is_given_goes_before_the_default() {
    let declared = json!({ "data": { "default": { "uri": "https://example.com/x.csv" } } });
    let mut spec = base();
    merge(&mut spec, reads(json!({ "input": "data" }), declared));
    let spec: MLPipelineSpec = serde_json::from_value(spec).unwrap();
    let run = |given: Value| {
        let inputs = serde_json::from_value(given).unwrap();
        let run = MLPipelineRunSpec { inputs, ..MLPipelineRunSpec::default() };
        check_run(&spec, &run, &templates(), &config()).unwrap()
    };
    let frozen = run(json!({ "data": { "uri": "https://example.com/y.csv" } }));
    let FrozenKind::Container(made) = &frozen.stages["other-data"].kind else { panic!("no program") };
    assert_eq!(made.container.args[2], "https://example.com/y.csv");
    let mut optional = spec.clone();
    optional.inputs.insert("data".to_owned(), PipelineInput { optional: true, ..PipelineInput::default() });
    let reader = optional.stages.get_mut("other").unwrap().inputs.get_mut("data").unwrap();
    reader.optional = true;
    let given = serde_json::from_value(json!({ "data": { "uri": "https://example.com/z.csv" } })).unwrap();
    let given = MLPipelineRunSpec { inputs: given, ..MLPipelineRunSpec::default() };
    let frozen = check_run(&optional, &given, &templates(), &config()).unwrap();
    assert!(frozen.stages.contains_key("other-data"), "what is given is read, though it need not be");
    let artifact = json!({ "uri": "pvc://c/runs/a", "digest": format!("sha256:{:064}", 1), "size": 1 });
    let frozen = run(json!({ "data": { "artifact": artifact } }));
    assert!(!frozen.stages.contains_key("other-data"), "it is read where it lies");
    assert_eq!(other(&frozen).inputs["data"].input.as_deref(), Some("data"));
}

#[test]
fn a_trigger_gives_nothing() {
    let mut spec = reads(json!({ "input": "data" }), json!({ "data": {} }));
    merge(&mut spec, json!({ "triggers": { "onChange": true } }));
    refused(spec, "spec.inputs.data", "a run that a trigger starts has nothing for the input `data`");
}

#[test]
fn a_template_that_takes_a_model_is_given_one() {
    let with = |declared: Value| {
        let mut spec = stage("score", json!({ "inputs": { "model": { "from": null, "input": "m" } } }));
        merge(&mut spec, json!({ "inputs": { "m": declared } }));
        spec
    };
    refused(with(json!({})), "spec.stages.score.inputs.model.input", "write type: model at spec.inputs.m");
    checked(with(json!({ "type": "model" }))).unwrap();
}

#[test]
fn a_pipeline_stage_hands_over_no_mode_and_tries_by_itself() {
    let nested = |more: Value| {
        let mut stage = json!({ "pipeline": { "name": "inner" } });
        merge(&mut stage, more);
        json!({ "stages": { "inner": stage } })
    };
    checked(nested(json!({ "inputs": { "rows": { "from": "load.data" } }, "retry": { "limit": 2 } }))).unwrap();
    let at = "spec.stages.inner";
    for (more, field, words) in [
        (
            json!({ "inputs": { "rows": { "uri": "s3://lake/rows", "mode": "Uri" } } }),
            "inputs.rows.mode",
            "take mode out",
        ),
        (json!({ "inputs": { "rows": { "from": "lod.data" } } }), "inputs.rows.from", "did you mean `load`?"),
        (json!({ "retry": { "limit": 1, "when": "exitCode == 1" } }), "retry.when", "when is for a program"),
        (
            json!({ "retry": { "limit": 1, "memoryGrowth": { "max": "1Gi" } } }),
            "retry.memoryGrowth",
            "is for a program",
        ),
        (json!({ "retry": { "limit": 1 }, "forEach": { "range": { "count": 2 } } }), "retry", "each item has one run"),
    ] {
        refused(nested(more), &format!("{at}.{field}"), words);
    }
}

#[test]
fn an_input_that_is_needed_and_not_given_is_told_with_what_to_write() {
    let declared = serde_json::from_value(json!({ "data": {}, "m": { "optional": true } })).unwrap();
    let problems = bind_inputs(&declared, &BTreeMap::new(), "spec.inputs").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].path.as_str(), problems[0].reason), ("spec.inputs.data", "MissingInput"));
}
