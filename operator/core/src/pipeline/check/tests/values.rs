//! Parameters: what declares them and what is given.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::bind_params;
use super::{checked, refused, stage};
use crate::api::ParamSpec;

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
fn parameters_are_bound_with_defaults_and_types() {
    let declared: BTreeMap<String, ParamSpec> = serde_json::from_value(json!({
        "rows": { "type": "integer", "minimum": 1 },
        "name": { "type": "string", "default": "x" },
        "full_name": { "type": "string", "default": "x y" },
        "note": { "type": "string", "optional": true }
    }))
    .unwrap();
    let bind = |given: Value| bind_params(&declared, &serde_json::from_value(given).unwrap(), "spec.params");
    let bound = bind(json!({ "rows": 3.0 })).unwrap();
    assert_eq!(serde_json::to_string(&bound).unwrap(), r#"{"full_name":"x y","name":"x","note":null,"rows":3}"#);
    let cases = [
        (json!({}), "spec.params.rows", "is required"),
        (json!({ "rows": 0 }), "spec.params.rows", "of at least 1"),
        (json!({ "rows": "1" }), "spec.params.rows", "without quotes"),
        (json!({ "rows": null }), "spec.params.rows", "write a value of type integer"),
        (json!({ "rows": 1, "nam": "y" }), "spec.params.nam", "did you mean `name`?"),
        (json!({ "rows": 1, "full-name": "y" }), "spec.params.full-name", "its name is `full_name`"),
    ];
    for (given, path, says) in cases {
        let problems = bind(given).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].path == path && problems[0].message.contains(says), "{problems:?}");
    }
}
