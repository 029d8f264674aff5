//! Pieces of schema that several types share, and the bound that every string, list and map gets.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::conditions::LONGEST;

/// A string is at most this long unless its type says less.
const MAX_STRING: u64 = 2048;
/// A list or map has at most this many entries unless its type says otherwise.
const MAX_ENTRIES: u64 = 256;

/// A duration such as `90s`, `1h30m` or `7d`; the field may be absent.
pub fn optional_duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "pattern": r"^([0-9]{1,9}(ms|s|m|h|d))+$", "maxLength": 32 })
}

/// The number of a table's snapshot, or text with templates that make one; the field may be absent.
pub fn table_version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "nullable": true, "pattern": r"^([0-9]{1,18}|.*\$\[\[.+\]\].*)$", "maxLength": 256 })
}

/// A point in time, as RFC 3339 has it.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A map of names to any JSON value. An object that keeps what it does not know, because CEL does not see a map whose
/// entries have no type.
pub fn any_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "maxProperties": 128 })
}

/// Any JSON value.
pub fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

/// A list of any JSON values.
pub fn any_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "x-kubernetes-preserve-unknown-fields": true }, "maxItems": 256, "nullable": true })
}

/// Resource names to quantities, written as a number or as text.
pub fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "maxLength": 32
        }
    })
}

/// One quantity.
pub fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "nullable": true,
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE])?$",
        "maxLength": 32
    })
}

/// Gives every string, list and map that has no bound of its own one, so that the cost of CEL rules and the size of an
/// object can be estimated. Strings with a fixed set of values or a format need none.
pub fn bound(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    // The apiserver writes a whole number so.
    if object.get("default").is_some_and(|default| default.as_f64() == Some(0.0)) {
        object.insert("default".to_owned(), json!(0));
    }
    match object.get("type").and_then(Value::as_str) {
        Some("string") => bound_string(object),
        // Kubernetes knows no unsigned formats and warns of them; `minimum` says the same.
        Some("integer") if object.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) => {
            object.insert("format".to_owned(), json!("int64"));
        }
        Some("array") => {
            object.entry("maxItems").or_insert(json!(MAX_ENTRIES));
        }
        Some("object") if object.contains_key("additionalProperties") => {
            object.entry("maxProperties").or_insert(json!(MAX_ENTRIES));
        }
        _ => {}
    }
    if let Some(children) = object.get_mut("properties").and_then(Value::as_object_mut) {
        // A condition: it has room for everything that is wrong with a spec.
        if children.contains_key("lastTransitionTime")
            && let Some(message) = children.get_mut("message").and_then(Value::as_object_mut)
        {
            message.insert("maxLength".to_owned(), json!(LONGEST));
        }
        children.values_mut().for_each(bound);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            bound(child);
        }
    }
}

fn bound_string(object: &mut Map<String, Value>) {
    if !object.contains_key("enum") && !object.contains_key("format") {
        object.entry("maxLength").or_insert(json!(MAX_STRING));
    }
}
