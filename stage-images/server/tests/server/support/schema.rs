//! Checks an answer against the protocol's own `OpenAPI` document.
//!
//! `oip-schemas.json` is `components.schemas` of `specification/protocol/open_inference_rest.yaml` in
//! github.com/kserve/open-inference-protocol (Apache-2.0), without titles, descriptions and examples. It uses a handful of
//! keywords; another one makes this panic, so that none is passed over.

use serde_json::Value;

/// Panics with the place if the value is not as the schema of this name says.
pub fn assert_schema(name: &str, value: &Value) {
    let schemas: Value = serde_json::from_str(include_str!("../oip-schemas.json")).unwrap();
    if let Err(problem) = matches_schema(&schemas, name, value) {
        panic!("{problem} in {value}");
    }
}

/// Whether the value is as the schema of this name says; if not, where.
pub fn matches_schema(schemas: &Value, name: &str, value: &Value) -> Result<(), String> {
    let schema = schemas.get(name).unwrap_or_else(|| panic!("no schema {name}"));
    check(schemas, schema, value, name)
}

fn check(all: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().unwrap().rsplit('/').next().unwrap();
                check(all, &all[name], value, place)?;
            }
            "type" => {
                let either = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
                if !either.iter().any(|kind| is(kind.as_str().unwrap(), value)) {
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
            "oneOf" => {
                let right = rule.as_array().unwrap().iter().filter(|schema| check(all, schema, value, place).is_ok());
                if right.count() != 1 {
                    return Err(format!("{place} is not one of {rule}"));
                }
            }
            "const" if value != rule => return Err(format!("{place} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => return Err(format!("{place} is not one of {rule}")),
            "prefixItems" => {
                for (index, (value, schema)) in
                    value.as_array().into_iter().flatten().zip(rule.as_array().unwrap()).enumerate()
                {
                    check(all, schema, value, &format!("{place}[{index}]"))?;
                }
            }
            "minItems" | "maxItems" | "minimum" | "maximum" => {
                let size = value.as_array().map(|values| values.len() as f64).or(value.as_f64()).unwrap_or(0.0);
                let bound = rule.as_f64().unwrap();
                if if keyword.starts_with("min") { size < bound } else { size > bound } {
                    return Err(format!("{place} has {keyword} {rule}"));
                }
            }
            "const" | "enum" => {}
            other => panic!("keyword {other}"),
        }
    }
    Ok(())
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let wrong =
        serde_json::json!({"model_name": "m", "outputs": [{"name": 1, "shape": [1], "datatype": "FP32", "data": []}]});
    let schemas: Value = serde_json::from_str(include_str!("../oip-schemas.json")).unwrap();
    let problem = check(&schemas, &schemas["inference_response"], &wrong, "answer").unwrap_err();
    assert_eq!(problem, "answer.outputs[0].name is no \"string\"");
}
