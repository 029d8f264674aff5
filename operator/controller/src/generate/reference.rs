//! The API reference: every field of every kind with its type, bounds, rules and description.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// Fields are listed this deep; what Kubernetes itself defines (affinity, tolerations) goes deeper and is described there.
const DEEPEST: usize = 9;
/// Types that Kubernetes documents.
const KUBERNETES: [&str; 3] = ["affinity", "tolerations", "conditions"];
/// Has the fields of `stages`, which are told there.
const AS_STAGES: &str = "finally";

/// The whole page.
pub fn markdown(crds: &[CustomResourceDefinition]) -> Result<String, Box<dyn std::error::Error>> {
    let mut out = String::from(
        "# API reference\n\nGenerated from the schemas by `millrace-controller reference`: do not edit.\n",
    );
    for crd in crds {
        let kind = &crd.spec.names.kind;
        let short = crd.spec.names.short_names.iter().flatten().next().map_or("", String::as_str);
        let json = serde_json::to_value(crd)?;
        let schema = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        writeln!(out, "\n## {kind}\n\n`kubectl get {}` or `{short}`.", crd.spec.names.plural)?;
        for part in ["spec", "status"] {
            let root = &schema["properties"][part];
            let description = root["description"].as_str().map(|text| format!("{}\n\n", one_line(text)));
            writeln!(
                out,
                "\n### {kind} {part}\n\n{}| field | type | what |\n|---|---|---|",
                description.unwrap_or_default()
            )?;
            rules(&mut out, part, root)?;
            fields(&mut out, part, root, 0)?;
        }
    }
    Ok(out)
}

/// One row for each field below a schema.
fn fields(out: &mut String, path: &str, schema: &Value, depth: usize) -> std::fmt::Result {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let must = if required.contains(&name.as_str()) { "**required** " } else { "" };
        let what = field["description"].as_str().map(one_line).unwrap_or_default();
        writeln!(out, "| `{path}` | {} | {must}{what}{} |", type_of(field), bounds(field))?;
        if depth < DEEPEST && name != AS_STAGES && !KUBERNETES.contains(&name.as_str()) {
            below(out, &path, field, depth)?;
        }
    }
    Ok(())
}

/// The fields of what a field holds, itself or as entries.
fn below(out: &mut String, path: &str, field: &Value, depth: usize) -> std::fmt::Result {
    rules(out, path, field)?;
    fields(out, path, field, depth + 1)?;
    for (entries, mark) in [("additionalProperties", ".<name>"), ("items", "[]")] {
        if field[entries].is_object() {
            let path = format!("{path}{mark}");
            rules(out, &path, &field[entries])?;
            fields(out, &path, &field[entries], depth + 1)?;
        }
    }
    Ok(())
}

fn rules(out: &mut String, path: &str, schema: &Value) -> std::fmt::Result {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let (cel, message) = (rule["rule"].as_str().unwrap_or_default(), rule["message"].as_str().unwrap_or_default());
        writeln!(out, "| `{path}` | rule | {}: `{}` |", one_line(message), one_line(cel))?;
    }
    Ok(())
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "number or text".into();
    }
    let values = field["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let values: Vec<String> = values.map(|v| format!("`{v}`")).collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    match field["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&field["additionalProperties"]))
        }
        Some(name) => name.to_owned(),
        None => "any".into(),
    }
}

fn bounds(field: &Value) -> String {
    let names = [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "characters: at least"),
        ("maxLength", "characters: at most"),
        ("minItems", "entries: at least"),
        ("maxItems", "entries: at most"),
        ("minProperties", "entries: at least"),
        ("maxProperties", "entries: at most"),
        ("default", "default"),
        ("pattern", "pattern"),
    ];
    let found: Vec<String> = names
        .iter()
        .filter(|(key, _)| !field[*key].is_null())
        .map(|(key, words)| format!("{words} `{}`", one_line(&plain(&field[*key]))))
        .collect();
    if found.is_empty() { String::new() } else { format!(" ({})", found.join("; ")) }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // Bounds of integers are doubles in a schema.
        Value::Number(number) => {
            number.as_f64().filter(|n| n.fract() == 0.0).map_or(number.to_string(), |n| format!("{n:.0}"))
        }
        other => other.to_string(),
    }
}

/// Text as it may stand in a cell of a table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use millrace_core::api::all_crds;

    use super::*;

    #[test]
    fn the_reference_shows_types_bounds_rules_and_descriptions() {
        let page = markdown(&all_crds()).unwrap();
        for part in [
            "## ModelDeployment",
            "| `spec.stages.<name>.gate.otherwise` | `Reject`, `Fail` |",
            "| `spec.scale.max` | integer | Pods at most. Default: `min`, but at least 1. (at least `1`; at most `1000`) |",
            "a stage is exactly one of uses, container, pipeline, approve, register, deploy and report",
            "**required** Stages by name.",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }
}
