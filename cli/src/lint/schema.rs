//! The schema of an object's kind, as the apiserver looks at it: unknown fields, types, bounds, patterns.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use millrace_core::api::{API_VERSION, GROUP, all_crds};
use millrace_core::expr;
use millrace_core::problem::{Problem, head};
use regex::Regex;
use serde_json::{Value, json};

use super::files::Object;
use super::foreign;
use crate::yaml::{Content, Node};

/// By kind.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let crds = all_crds().into_iter().filter_map(|crd| {
        let kind = crd.spec.names.kind.clone();
        let version = crd.spec.versions.into_iter().next()?;
        let mut schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
        // Every object has these; a CRD leaves them out.
        for (field, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
            schema["properties"][field] = json!({ "type": kind });
        }
        Some((kind, schema))
    });
    crds.collect()
});

/// The schema of a kind.
pub fn of(kind: &str) -> Option<&'static Value> {
    SCHEMAS.get(kind)
}

/// What is wrong with an object.
pub fn object(object: &Object) -> Vec<Problem> {
    let version = object.node.get("apiVersion").and_then(Node::text).unwrap_or_default();
    if version != API_VERSION {
        let ours = expr::nearest(version.split('/').next().unwrap_or_default(), [GROUP]).is_some();
        let message = match (ours, version) {
            (true, _) => format!("there is no {version}: write {API_VERSION}"),
            (false, "") => format!("it is missing: write apiVersion: {API_VERSION}"),
            (false, _) => format!("{version} has no kind {}: did you mean apiVersion: {API_VERSION}?", object.kind),
        };
        return vec![Problem::new("apiVersion", "UnknownVersion", message)];
    }
    let Some(schema) = of(&object.kind) else {
        let hint = expr::did_you_mean(&object.kind, SCHEMAS.keys().map(String::as_str));
        return vec![Problem::new("kind", "UnknownKind", format!("there is no kind `{}`: {hint}", object.kind))];
    };
    let mut found = Vec::new();
    name(object, &mut found);
    check(&object.node, schema, "", &mut found);
    found
}

fn name(object: &Object, found: &mut Vec<Problem>) {
    let generated = object.node.get("metadata").is_some_and(|metadata| metadata.get("name").is_none());
    let name = if generated { object.name.trim_end_matches(['-', '.']) } else { object.name.as_str() };
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if object.name.is_empty() {
        found.push(Problem::new("metadata.name", "NoName", "a name is missing: write metadata.name"));
    } else if name.len() > 253 || !name.split('.').all(part) {
        let message = format!(
            "`{}` is no name: write at most 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit",
            object.name
        );
        found.push(Problem::new("metadata.name", "InvalidName", message));
    }
}

fn check(node: &Node, schema: &Value, path: &str, found: &mut Vec<Problem>) {
    if node.content == Content::Null && nullable(schema) {
        return;
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    match (kind, &node.content) {
        ("object", Content::Map(_)) => object_of(node, schema, path, found),
        ("array", Content::List(items)) => {
            size(items.len(), schema, ["minItems", "maxItems"], "entries", path, found);
            for (index, item) in items.iter().enumerate() {
                check(item, &schema["items"], &format!("{path}[{index}]"), found);
            }
        }
        ("string", Content::Text(text)) => text_of(text, schema, path, found),
        ("integer" | "number", Content::Number(number)) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if kind == "integer" && number.fract() != 0.0 {
                wrong(node, "an integer", path, found);
            }
            range(number, schema, path, found);
        }
        ("", Content::Text(text)) if schema["x-kubernetes-int-or-string"] == true => text_of(text, schema, path, found),
        ("", Content::Number(number)) if schema["x-kubernetes-int-or-string"] == true => {
            if number.as_f64().is_some_and(|number| number.fract() != 0.0) {
                wrong(node, "an integer or text", path, found);
            }
        }
        ("", _) if schema["x-kubernetes-int-or-string"] == true => wrong(node, "an integer or text", path, found),
        // Without a type it may be any value.
        ("boolean", Content::Bool(_)) | ("", _) => {}
        (kind, _) => wrong(node, noun(kind), path, found),
    }
}

fn object_of(node: &Node, schema: &Value, path: &str, found: &mut Vec<Problem>) {
    let properties = schema["properties"].as_object();
    let others = &schema["additionalProperties"];
    let any = schema["x-kubernetes-preserve-unknown-fields"] == true || (properties.is_none() && others.is_null());
    for field in node.fields() {
        let at = join(path, &field.key);
        if let Some(truth) = field.otherwise {
            let message =
                format!("kubectl reads the key `{}` as {truth}: write it in quotes, or another name", field.key);
            found.push(Problem::new(at.as_str(), "AmbiguousKey", message));
        }
        match properties.and_then(|known| known.get(&field.key)) {
            // The apiserver takes it out.
            Some(schema) if field.value.content == Content::Null && !nullable(schema) => {}
            Some(schema) => check(&field.value, schema, &at, found),
            None if others.is_object() => check(&field.value, others, &at, found),
            None if any => {}
            None => {
                let known: Vec<&str> = properties.iter().flat_map(|known| known.keys()).map(String::as_str).collect();
                let hint = foreign::instead(&field.key, &known)
                    .unwrap_or_else(|| expr::did_you_mean(&field.key, known.iter().copied()));
                found.push(Problem::new(at, "UnknownField", format!("there is no such field: {hint}")));
            }
        }
    }
    let is_there = |name: &str| {
        node.get(name).is_some_and(|value| value.content != Content::Null || nullable(&schema["properties"][name]))
    };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !is_there(name) && schema["properties"][name]["default"].is_null() {
            let what = noun(schema["properties"][name]["type"].as_str().unwrap_or_default());
            found.push(Problem::new(join(path, name), "MissingField", format!("this field is required: write {what}")));
        }
    }
    size(node.fields().len(), schema, ["minProperties", "maxProperties"], "entries", path, found);
}

fn text_of(text: &str, schema: &Value, path: &str, found: &mut Vec<Problem>) {
    if let Some(allowed) = schema["enum"].as_array() {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        if !allowed.contains(&text) {
            let meant = expr::nearest(text, allowed.iter().copied()).map(|meant| format!("did you mean `{meant}`? "));
            let message = format!(
                "`{}` is not allowed: {}write one of {}",
                head(text, 60),
                meant.unwrap_or_default(),
                allowed.join(", ")
            );
            found.push(Problem::new(path, "NotAllowed", message));
        }
        return;
    }
    size(text.chars().count(), schema, ["minLength", "maxLength"], "characters", path, found);
    if let Some(pattern) = schema["pattern"].as_str()
        && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        found.push(Problem::new(path, "NoMatch", format!("`{}` does not match {}", head(text, 60), words(pattern))));
    }
}

/// A pattern with an example where one says more.
fn words(pattern: &str) -> String {
    if pattern.contains("(ms|s|m|h|d)") {
        return "a duration: write one such as 90s, 1h30m or 7d".to_owned();
    }
    format!("the pattern {pattern}")
}

fn size(count: usize, schema: &Value, bounds: [&str; 2], what: &str, path: &str, found: &mut Vec<Problem>) {
    let [least, most] = bounds.map(|bound| schema[bound].as_u64().and_then(|bound| usize::try_from(bound).ok()));
    if let Some(least) = least.filter(|least| count < *least) {
        found.push(Problem::new(path, "TooFew", format!("there are {count} {what}: write at least {least}")));
    }
    if let Some(most) = most.filter(|most| count > *most) {
        found.push(Problem::new(path, "TooMany", format!("there are {count} {what}: write at most {most}")));
    }
}

fn range(number: f64, schema: &Value, path: &str, found: &mut Vec<Problem>) {
    let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
        let bound = match (least, most) {
            (Some(least), Some(most)) => format!("from {least} to {most}"),
            (Some(least), None) => format!("of at least {least}"),
            (None, Some(most)) => format!("of at most {most}"),
            (None, None) => String::new(),
        };
        found.push(Problem::new(path, "OutOfBounds", format!("{number} is out of bounds: write a number {bound}")));
    }
}

fn wrong(node: &Node, wanted: &str, path: &str, found: &mut Vec<Problem>) {
    let is = match &node.content {
        Content::Null => "nothing".to_owned(),
        Content::Bool(value) => format!("`{value}`, which is true or false"),
        Content::Number(number) => format!("`{number}`, which is a number"),
        Content::Text(text) => format!("`{}`, which is text", head(text, 60)),
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a map".to_owned(),
    };
    let quotes = match &node.content {
        Content::Bool(_) | Content::Number(_) if wanted == "text" => ", in quotes",
        _ => "",
    };
    found.push(Problem::new(path, "WrongType", format!("here is {is}: write {wanted}{quotes}")));
}

fn noun(kind: &str) -> &'static str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "text",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "a value",
    }
}

fn nullable(schema: &Value) -> bool {
    schema["nullable"] == true
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
