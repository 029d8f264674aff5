//! Templates of other tools: `{{ params.x }}` is Argo's and Kubeflow's, `${{ … }}` is GitHub's. Here they are text, which reaches
//! the program as it is: rarely what its author means. Text of Helm or Jinja in a script is not taken for one.

use super::stage_path;
use crate::api::{Container, MLPipelineSpec, PodSettings};
use crate::problem::Problem;

/// What they begin with: names of our own, or of Argo's.
const ROOTS: [&str; 5] = ["params", "inputs", "outputs", "workflow", "steps"];

/// Those in a pipeline's stages.
#[must_use]
pub fn in_pipeline(spec: &MLPipelineSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    let both = [(false, &spec.stages), (true, &spec.finally)];
    for (finally, name, stage) in both.into_iter().flat_map(|(f, stages)| stages.iter().map(move |(n, s)| (f, n, s))) {
        let at = stage_path(finally, name);
        if let Some(container) = &stage.container {
            found.extend(in_container(container, &format!("{at}.container")));
        }
        if let Some(approve) = &stage.approve {
            in_text(&approve.message, format!("{at}.approve.message"), &mut found);
        }
        if let Some(overrides) = &stage.overrides {
            in_env(overrides, &format!("{at}.overrides"), &mut found);
        }
    }
    found
}

/// Those in a program.
#[must_use]
pub fn in_container(container: &Container, path: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    let list = |field: &str, texts: &[String], found: &mut Vec<Problem>| {
        for (i, text) in texts.iter().enumerate() {
            in_text(text, format!("{path}.{field}[{i}]"), found);
        }
    };
    list("command", container.command.as_deref().unwrap_or_default(), &mut found);
    list("args", &container.args, &mut found);
    if let Some(script) = &container.script {
        in_text(script, format!("{path}.script"), &mut found);
    }
    in_env(&container.settings, path, &mut found);
    found
}

fn in_env(settings: &PodSettings, path: &str, found: &mut Vec<Problem>) {
    for (name, value) in &settings.env {
        if let Some(text) = &value.value {
            in_text(text, format!("{path}.env.{name}.value"), found);
        }
    }
}

/// The first in a text: whoever corrects it sees the others.
fn in_text(text: &str, path: String, found: &mut Vec<Problem>) {
    let mut pieces = text.split("{{");
    let mut before = pieces.next().unwrap_or_default();
    for piece in pieces {
        if let Some((inside, _)) = piece.split_once("}}")
            && ROOTS.iter().any(|root| inside.trim().strip_prefix(root).is_some_and(|rest| rest.starts_with('.')))
        {
            let dollar = if before.ends_with('$') { "$" } else { "" };
            let message = format!("`{dollar}{{{{{inside}}}}}` is not replaced: write {}", ours(inside.trim()));
            found.push(Problem::new(path, "NotReplaced", message));
            return;
        }
        before = piece;
    }
}

/// The template as it is written here.
fn ours(inside: &str) -> String {
    let inside = inside.replace('-', "_");
    let parts: Vec<&str> = inside.split('.').collect();
    match parts.as_slice() {
        ["inputs" | "workflow", "parameters", name] => format!("$[[ params.{name} ]]"),
        [root @ ("inputs" | "outputs"), "artifacts", name, ..] => format!("$[[ {root}.{name} ]]"),
        ["steps", step, "outputs", ..] => format!("$[[ stages.{step}.results.<name> ]]"),
        ["workflow", name @ ("name" | "namespace" | "uid")] => format!("$[[ run.{name} ]]"),
        ["params" | "inputs" | "outputs", _] => format!("$[[ {inside} ]]"),
        _ => "$[[ … ]] with params, inputs, outputs, stages or run".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(text: &str) -> Option<String> {
        let container = json!({ "image": "i", "command": ["sh", "-c", text] });
        let found = in_container(&serde_json::from_value(container).unwrap(), "spec.container");
        found.first().map(ToString::to_string)
    }

    #[test]
    fn a_template_of_another_tool_is_told_with_what_to_write() {
        for (text, says) in [
            ("a {{ params.x }}", "spec.container.command[2]: `{{ params.x }}` is not replaced: write $[[ params.x ]]"),
            ("${{params.min-f1}}", "`${{params.min-f1}}` is not replaced: write $[[ params.min_f1 ]]"),
            (
                "{{x}} {{inputs.parameters.rows}}",
                "`{{inputs.parameters.rows}}` is not replaced: write $[[ params.rows ]]",
            ),
            ("{{workflow.parameters.rows}}", "write $[[ params.rows ]]"),
            ("{{workflow.name}}", "write $[[ run.name ]]"),
            ("{{inputs.artifacts.data.path}}", "write $[[ inputs.data ]]"),
            ("{{steps.a-b.outputs.result}}", "write $[[ stages.a_b.results.<name> ]]"),
            ("{{ steps.a.status }}", "write $[[ … ]] with params"),
        ] {
            let said = told(text).unwrap_or_default();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn text_of_helm_or_jinja_is_not_bothered() {
        for text in [
            "{{ .Values.x }}",
            "{{ name }}",
            "{{ paramsx.y }}",
            "{{ params }}",
            "{{ params.x",
            "$[[ params.x ]]",
            "{% if params.x %}",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
    }

    #[test]
    fn arguments_scripts_variables_and_overrides_are_looked_at() {
        let text = "{{ params.x }}";
        let spec = json!({ "stages": {
            "a": { "container": { "image": "i", "script": text, "args": [text], "env": { "A": { "value": text } } } },
            "b": { "uses": "t", "overrides": { "env": { "B": { "value": text } } } },
        } });
        let found = in_pipeline(&serde_json::from_value(spec).unwrap());
        let paths: Vec<_> = found.iter().map(|problem| problem.path.trim_start_matches("spec.stages.")).collect();
        let expected =
            ["a.container.args[0]", "a.container.script", "a.container.env.A.value", "b.overrides.env.B.value"];
        assert_eq!(paths, expected);
    }
}
