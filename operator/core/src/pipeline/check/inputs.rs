//! Inputs: where they come from, and that the stage takes them.

use std::collections::BTreeMap;

use super::edges::{Edges, Tie};
use super::resolve::{Kind, Resolved};
use super::{Problems, name};
use crate::api::{ArtifactType, Input, InputMode, MLPipelineSpec, Store, TemplateInput};
use crate::expr;

type Stages<'a> = BTreeMap<&'a str, Resolved<'a>>;

/// The inputs of one stage.
pub(super) fn check(
    stage: &str,
    resolved: &Resolved<'_>,
    spec: &MLPipelineSpec,
    all: &Stages<'_>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let path = format!("{}.inputs", resolved.at(stage));
    let inputs = &resolved.stage.inputs;
    name::labels(inputs, &path, "an input", problems);
    name::distinct(inputs.keys(), &path, problems);
    for (name, input) in inputs {
        let at = format!("{path}.{name}");
        let wanted = resolved.template.and_then(|template| declared(&template.inputs, name));
        if let (Some(template), None) = (resolved.template, wanted) {
            let hint = expr::did_you_mean(name, template.inputs.keys().map(String::as_str));
            problems.add(&at, "UnknownInput", format!("the StageTemplate takes no input `{name}`: {hint}"));
        }
        source(stage, input, &at, wanted, all, edges, problems);
        given(input, &at, wanted, spec, problems);
        handed_over(input, &at, spec.store.as_ref(), problems);
    }
    for (name, declared) in resolved.template.iter().flat_map(|template| &template.inputs) {
        if name != "*" && !declared.optional && !inputs.contains_key(name) {
            let message =
                format!("the StageTemplate needs the input `{name}`: write {name}: {{ from: <stage>.<output> }}");
            problems.add(format!("{path}.{name}"), "MissingInput", message);
        }
    }
}

fn declared<'a>(inputs: &'a BTreeMap<String, TemplateInput>, name: &str) -> Option<&'a TemplateInput> {
    inputs.get(name).or_else(|| inputs.get("*"))
}

fn source(
    stage: &str,
    input: &Input,
    at: &str,
    wanted: Option<&TemplateInput>,
    all: &Stages<'_>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    if let (Some(default), None) = (&input.default, &input.from) {
        let message = format!("default belongs to an input with from: write from: {} instead", default.from);
        problems.add(format!("{at}.default"), "InvalidInput", message);
    }
    if (input.from.is_some() || input.input.is_some())
        && input.optional
        && wanted.is_some_and(|wanted| !wanted.optional)
    {
        let message = if input.from.is_some() {
            "the StageTemplate needs this input: leave optional out, or write default: { from: <stage>.<output> }"
        } else {
            "the StageTemplate needs this input: leave optional out here and at the pipeline's input, or give that a default"
        };
        problems.add(format!("{at}.optional"), "InvalidInput", message);
    }
    match (&input.from, &input.deployed, &input.uri, &input.model, &input.input) {
        (Some(from), None, None, None, None) => {
            let tie = if input.optional || input.default.is_some() { Tie::Takes } else { Tie::Uses };
            let default = input.default.as_ref().map(|default| (format!("{at}.default.from"), &default.from));
            for (path, from) in [(format!("{at}.from"), from)].into_iter().chain(default) {
                let kind = output(stage, from, &path, tie, all, edges, problems);
                let model = wanted.is_some_and(|wanted| wanted.kind == ArtifactType::Model);
                if model && kind == Some(ArtifactType::Artifact) {
                    let message =
                        format!("`{from}` is no model, and this input needs one: name an output of type model");
                    problems.add(path, "WrongArtifactType", message);
                }
            }
        }
        // Who reads an address is a stage of its own, and its form was looked at there. What the pipeline is given is looked at by itself.
        (None, None, Some(_), None, None) | (None, None, None, None, Some(_)) => {}
        (None, Some(deployed), None, None, None) => {
            name::label(deployed, &format!("{at}.deployed"), "a ModelDeployment", problems);
        }
        (None, None, None, Some(model), None) => {
            name::label(&model.name, &format!("{at}.model.name"), "a model", problems);
        }
        _ => problems.add(
            at,
            "InvalidInput",
            "exactly one of from, uri, table, deployed, model and input is required: write one of them",
        ),
    }
}

/// What the pipeline is given is what the stage takes.
fn given(input: &Input, at: &str, wanted: Option<&TemplateInput>, spec: &MLPipelineSpec, problems: &mut Problems) {
    let Some(named) = &input.input else { return };
    let model = wanted.is_some_and(|wanted| wanted.kind == ArtifactType::Model);
    let declared = spec.inputs.get(named).map(|declared| declared.kind);
    if model && declared == Some(ArtifactType::Artifact) {
        let message = format!(
            "the pipeline's input `{named}` is no model, and this input needs one: write type: model at spec.inputs.{named}"
        );
        problems.add(format!("{at}.input"), "WrongArtifactType", message);
    }
}

/// What the schema says of fields beside one another, for a spec that no schema saw; and that a program can use the address that it is handed.
fn handed_over(input: &Input, at: &str, store: Option<&Store>, problems: &mut Problems) {
    let fields =
        [("digest", input.digest.is_some()), ("maxAge", input.max_age.is_some()), ("access", input.access.is_some())];
    for (field, _) in fields.iter().filter(|(_, given)| *given) {
        let message = match (&input.uri, input.mode) {
            (None, _) => format!("{field} belongs to an input with uri: take it out"),
            (Some(_), InputMode::Uri) => format!("with mode: Uri nothing is read: take {field} out"),
            (Some(_), InputMode::Path) => continue,
        };
        problems.add(format!("{at}.{field}"), "InvalidInput", message);
    }
    if input.uri.is_some() && input.optional {
        let message = "what a uri names has to be there: take optional out";
        problems.add(format!("{at}.optional"), "InvalidInput", message);
    }
    let claim = store.is_none_or(|store| store.pvc.is_some());
    if input.mode == InputMode::Uri && input.from.is_some() && claim {
        let message = "what a stage made lies on a claim, which has no address that a program could use: leave mode out, or let the store be a bucket";
        problems.add(format!("{at}.mode"), "InvalidInput", message);
    }
}

/// The type of the output that `<stage>.<output>` names, if there is one. The reference becomes an edge.
pub(super) fn output(
    stage: &str,
    from: &str,
    path: &str,
    tie: Tie,
    all: &Stages<'_>,
    edges: &mut Edges,
    problems: &mut Problems,
) -> Option<ArtifactType> {
    let Some((producer, output)) = from.split_once('.') else {
        problems.add(
            path,
            "InvalidReference",
            format!("`{from}` is no output: write <stage>.<output>, as in ingest.data"),
        );
        return None;
    };
    let resolved = existing(stage, producer, path, tie, all, edges, problems)?;
    if matches!(resolved.kind, Kind::Approve | Kind::Register | Kind::Deploy | Kind::Report) {
        let message = format!("the stage `{producer}` has no outputs: name a stage with uses, container or pipeline");
        problems.add(path, "UnknownOutput", message);
        return None;
    }
    if resolved.unknown || resolved.kind == Kind::Unclear {
        return None;
    }
    let made = resolved.made();
    if let Some(found) = made.get(output) {
        return Some(*found);
    }
    let hint = expr::did_you_mean(output, made.keys().copied());
    problems.add(path, "UnknownOutput", format!("the stage `{producer}` has no output `{output}`: {hint}"));
    None
}

/// The stage that a field names, if there is one. The reference becomes an edge.
pub(super) fn existing<'a, 'b>(
    stage: &str,
    named: &str,
    path: &str,
    tie: Tie,
    all: &'b Stages<'a>,
    edges: &mut Edges,
    problems: &mut Problems,
) -> Option<&'b Resolved<'a>> {
    let seen = |other: &Resolved<'_>| all.get(stage).is_none_or(|this| this.sees(other));
    let Some(found) = all.get(named) else {
        let others = all.iter().filter(|(other, found)| **other != stage && seen(found)).map(|(other, _)| *other);
        let hint = expr::did_you_mean(named, others);
        problems.add(path, "UnknownStage", format!("there is no stage `{named}`: {hint}"));
        return None;
    };
    if !seen(found) {
        let message = format!(
            "the stage `{named}` is in finally, which begins when all others have ended: move this stage there"
        );
        problems.add(path, "InvalidReference", message);
        return None;
    }
    edges.add(stage, named, path, tie);
    Some(found)
}
