//! Checks an answer against the protocol's own `OpenAPI` document.
//!
//! `oip-schemas.json` is `components.schemas` of `specification/protocol/open_inference_rest.yaml` in
//! github.com/kserve/open-inference-protocol (Apache-2.0), without titles, descriptions and examples. It uses a handful of
//! keywords; another one makes this panic, so that none is passed over.

use serde_json::Value;

/// Panics with the place if the value is not as the schema of this name says.
pub fn assert_schema(name: &str, value: &Value) {
    let schemas: Value = serde_json::from_str(include_str!("../oip-schemas.json")).unwrap();
    let schema = schemas.get(name).unwrap_or_else(|| panic!("no schema {name}"));
    if let Err(problem) = check(&schemas, schema, value, name) {
        panic!("{problem} in {value}");
    }
}

fn check(all: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().unwrap().rsplit('/').next().unwrap();
                check(all, &all[name], value, place)?;
            }
            "type" => {
                let right = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("type {other}"),
                };
                if !right {
                    return Err(format!("{place} is no {rule}"));
                }
            }
            "required" => {
                let missing = rule.as_array().unwrap().iter().find(|name| value.get(name.as_str().unwrap()).is_none());
                if let Some(name) = missing {
                    return Err(format!("{place} has no {name}"));
                }
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(all, schema, value, &format!("{place}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    check(all, rule, value, &format!("{place}.{name}"))?;
                }
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(all, rule, value, &format!("{place}[{index}]"))?;
                }
            }
            "anyOf" => {
                let choices = rule.as_array().unwrap();
                if choices.iter().all(|schema| check(all, schema, value, place).is_err()) {
                    return Err(format!("{place} is none of {rule}"));
                }
            }
            other => panic!("keyword {other}"),
        }
    }
    Ok(())
}

#[test]
fn the_check_finds_what_is_wrong() {
    let wrong =
        serde_json::json!({"model_name": "m", "outputs": [{"name": 1, "shape": [1], "datatype": "FP32", "data": []}]});
    let schemas: Value = serde_json::from_str(include_str!("../oip-schemas.json")).unwrap();
    let problem = check(&schemas, &schemas["inference_response"], &wrong, "answer").unwrap_err();
    assert_eq!(problem, "answer.outputs[0].name is no \"string\"");
}
