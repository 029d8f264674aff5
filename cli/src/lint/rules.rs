//! The CEL rules in the schemas, over an object with its defaults. Rules about a change need what was there before: they are the apiserver's.

use millrace_core::expr::{Scope, eval_bool};
use millrace_core::problem::Problem;
use serde_json::Value;

use super::files::Object;
use super::schema;

/// What an object breaks.
pub fn object(object: &Object) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(schema) = schema::of(&object.kind) {
        check(&with_defaults(object.node.json(), schema), schema, "", &mut found);
    }
    found
}

fn check(value: &Value, schema: &Value, path: &str, found: &mut Vec<Problem>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap_or_default();
        // One that cannot be evaluated here, because the value is too large for example, is the apiserver's.
        let holds =
            text.contains("oldSelf") || eval_bool(text, &Scope::new().with("self", value.clone())).unwrap_or(true);
        if !holds {
            found.push(Problem::new(path, "InvalidSpec", rule["message"].as_str().unwrap_or(text)));
        }
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let known = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                check(value, known, &at, found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(item, &schema["items"], &format!("{path}[{index}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// As the apiserver keeps it: without fields that are null, with those that have a default.
fn with_defaults(value: Value, schema: &Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            let known = |key: &str| schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
            if schema["properties"].is_object() {
                fields.retain(|_, value| !value.is_null());
            }
            for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = schema.get("default") {
                    fields.entry(key.clone()).or_insert_with(|| default.clone());
                }
            }
            Value::Object(
                fields.into_iter().map(|(key, value)| (key.clone(), with_defaults(value, known(&key)))).collect(),
            )
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| with_defaults(item, &schema["items"])).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::expr;
    use serde_json::json;

    use super::*;

    /// All rules of a schema.
    fn rules(schema: &Value, found: &mut Vec<String>) {
        found.extend(
            schema["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|rule| rule["rule"].as_str().unwrap().to_owned()),
        );
        match schema {
            Value::Object(fields) => fields.values().for_each(|value| rules(value, found)),
            Value::Array(items) => items.iter().for_each(|value| rules(value, found)),
            _ => {}
        }
    }

    /// A rule that is not understood here would be passed over in silence.
    #[test]
    fn every_rule_of_the_crds_is_understood() {
        let mut found = Vec::new();
        for kind in
            ["MLPipeline", "MLPipelineRun", "StageTemplate", "ModelVersion", "ModelDeployment", "InferenceGraph"]
        {
            rules(schema::of(kind).unwrap(), &mut found);
        }
        found.retain(|rule| !rule.contains("oldSelf"));
        assert!(found.len() > 40, "{}", found.len());
        for rule in found {
            assert!(expr::references(&rule).is_ok(), "{rule}: {:?}", expr::references(&rule));
        }
    }

    #[test]
    fn defaults_are_there_before_rules_are_asked() {
        let schema = json!({ "properties": {
            "a": { "default": 1 }, "b": { "properties": { "c": { "default": true } } }, "list": { "items": { "properties": { "d": { "default": 2 } } } },
        } });
        let value = with_defaults(json!({ "b": { "x": 1, "y": null }, "list": [{}] }), &schema);
        assert_eq!(value, json!({ "a": 1, "b": { "c": true, "x": 1 }, "list": [{ "d": 2 }] }));
    }
}
