//! One stage.

use std::collections::BTreeMap;

use serde_json::Value;

use super::edges::{Edges, Tie};
use super::expression::{self, References, Told};
use super::resolve::{Kind, Resolved};
use super::{
    Problems, approve, cache, container, declared, for_each, freeze, gate, inputs, locks, name, nested, params, retry,
    time, when,
};
use crate::api::{ArtifactType, MLPipelineSpec, ParamSpec, Report};
use crate::config::Config;
use crate::expr::{self, Names, Type};

/// Checks one stage and draws its edges.
pub(super) fn check(
    name: &str,
    resolved: &Resolved<'_>,
    spec: &MLPipelineSpec,
    all: &BTreeMap<&str, Resolved<'_>>,
    config: &Config,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let at = resolved.at(name);
    for (i, needed) in resolved.stage.needs.iter().enumerate() {
        let path = format!("{at}.needs[{i}]");
        if resolved.finally && all.get(needed.as_str()).is_some_and(|needed| !needed.finally) {
            let written = expr::in_expression(needed);
            let message = format!(
                "a stage of finally runs when all of stages have ended, whatever became of `{needed}`: take it out, or write \
                 when: \"stages.{written}.status == 'Succeeded'\""
            );
            problems.add(path, "InvalidReference", message);
            continue;
        }
        inputs::existing(name, needed, &path, Tie::Follows, all, edges, problems);
    }
    when::check(name, resolved, spec, all, edges, problems);
    belongs(resolved, &at, problems);
    locks::of_stage(name, resolved, spec, problems);
    match resolved.kind {
        Kind::Program => program(name, resolved, spec, all, config, edges, problems),
        Kind::Pipeline => nested::check(name, resolved, spec, all, edges, problems),
        Kind::Approve => approve::check(name, resolved, spec, all, edges, problems),
        Kind::Register => register(name, resolved, &at, all, edges, problems),
        Kind::Deploy => deploy(name, resolved, &at, all, edges, problems),
        Kind::Report => report(name, resolved, &at, all, edges, problems),
        Kind::Unclear => {}
    }
}

/// Fields that another kind of stage has.
fn belongs(resolved: &Resolved<'_>, at: &str, problems: &mut Problems) {
    let stage = resolved.stage;
    let uses = stage.uses.is_some();
    let program = uses || stage.container.is_some();
    let fields = [
        ("with", !stage.with.is_empty(), uses, "a stage with uses"),
        ("overrides", stage.overrides.is_some(), uses, "a stage with uses"),
        (
            "outputs",
            !stage.outputs.is_empty(),
            !uses && program,
            "a stage with container: with uses they come from the StageTemplate",
        ),
        (
            "inputs",
            !stage.inputs.is_empty(),
            program || stage.pipeline.is_some(),
            "a stage with uses, container or pipeline",
        ),
        (
            "forEach",
            stage.for_each.is_some(),
            program || stage.pipeline.is_some(),
            "a stage with uses, container or pipeline",
        ),
        ("gate", stage.gate.is_some(), program, "a stage with uses or container"),
        ("cache", stage.cache.is_some(), program, "a stage with uses or container"),
        ("code", stage.code.is_some(), program, "a stage with uses or container"),
        (
            "retry",
            stage.retry.is_some(),
            program || stage.pipeline.is_some(),
            "a stage with uses, container or pipeline",
        ),
        ("timeout", stage.timeout.is_some(), program, "a stage with uses or container"),
        ("locks", !stage.locks.is_empty(), program || stage.deploy.is_some(), "a stage with uses, container or deploy"),
        ("pendingTimeout", stage.pending_timeout.is_some(), program, "a stage with uses or container"),
    ];
    for (field, given, allowed, whose) in fields {
        if given && !allowed {
            problems.add(format!("{at}.{field}"), "InvalidStage", format!("{field} belongs to {whose}. Leave it out"));
        }
    }
}

fn program(
    name: &str,
    resolved: &Resolved<'_>,
    spec: &MLPipelineSpec,
    all: &BTreeMap<&str, Resolved<'_>>,
    config: &Config,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let at = resolved.at(name);
    let stage = resolved.stage;
    name::labels(&stage.outputs, &format!("{at}.outputs"), "an output", problems);
    name::distinct(stage.outputs.keys(), &format!("{at}.outputs"), problems);
    declared::formats(&stage.outputs, &format!("{at}.outputs"), problems);
    declared::reported(name, resolved.made().into_keys(), &format!("{at}.outputs"), problems);
    time::duration(stage.timeout.as_deref(), &format!("{at}.timeout"), problems);
    time::duration(stage.pending_timeout.as_deref(), &format!("{at}.pendingTimeout"), problems);
    time::retry(stage.retry.as_ref(), &format!("{at}.retry"), &expression::own_names(resolved, spec), problems);
    retry::of_stage(name, resolved, spec, problems);
    if spec.store.is_none() && !resolved.outputs().is_empty() {
        let message = format!(
            "the stage `{name}` has outputs, and they need a place: write store: {{ pvc: {{ claimName: <PersistentVolumeClaim> }} }}, or s3, gcs or azure"
        );
        problems.add("spec.store", "StoreMissing", message);
    }
    inputs::check(name, resolved, spec, all, edges, problems);
    cache::check(name, resolved, spec.store.is_some(), problems);
    let run = expression::run_names(resolved, spec, all);
    let mut found: Vec<References> = vec![gate::check(name, resolved, &run, problems)];
    found.push(for_each::check(name, resolved, &run, all, edges, problems));
    let each = for_each::names(resolved, run.clone());
    let mut handed = References::default();
    for (input, uri) in stage.inputs.iter().filter_map(|(input, of)| Some((input, of.uri.as_ref()?))) {
        handed.text(uri, &format!("{at}.inputs.{input}.uri"), &run, problems);
    }
    found.push(handed);
    if let Some(own) = &stage.container {
        let path = format!("{at}.container");
        container::check(own, &path, config, problems);
        let optional = stage.inputs.iter().map(|(name, input)| (name, input.optional));
        let paths = |names| expression::with_paths(names, optional.clone(), stage.outputs.keys());
        found.push(expression::container(own, &path, &paths(run), &paths(each), problems));
    } else {
        if let Some(template) = resolved.template {
            params::known(&template.params, &stage.with, &format!("{at}.with"), problems);
        }
        let declared = resolved.template.map(|template| &template.params);
        found.push(with(&stage.with, declared, &format!("{at}.with"), &each, problems));
        if let Some(overrides) = &stage.overrides {
            let path = format!("{at}.overrides");
            if let Some(template) = resolved.template {
                // As they will stand together: an override may mount where the template does.
                let together = freeze::overridden(&template.container, Some(overrides));
                container::settings(&together.settings, &path, config, problems);
                // Laid over the template's settings, they are rendered with its names.
                let names = expression::template_names(template);
                References::default().settings(overrides, &path, &names, problems);
            }
        }
    }
    for references in found {
        let tie = |told: Told| match (told, resolved.finally) {
            (Told::Nothing, _) => Tie::Uses,
            (_, true) => Tie::Takes,
            (_, false) => Tie::Follows,
        };
        references.edges(name, tie, all, edges, problems);
    }
}

/// Values for a StageTemplate's parameters. One that holds a template is bound when the stage starts; until then its
/// names and, where it is known, its type are checked.
pub(super) fn with(
    given: &BTreeMap<String, Value>,
    declared: Option<&BTreeMap<String, ParamSpec>>,
    path: &str,
    names: &Names,
    problems: &mut Problems,
) -> References {
    let mut references = References::default();
    for (name, value) in given {
        let at = format!("{path}.{name}");
        let param = declared.and_then(|declared| declared.get(name));
        if holds_template(value) {
            let checked = expr::check_value(value, names);
            if let Some(param) = param {
                let kind = Type::from(param.kind);
                let needed = if param.optional { kind.or_null() } else { kind };
                if checked.faults.is_empty() && !checked.kind.fits(&needed) {
                    let message =
                        format!("this is {}, and the parameter is of type {}", checked.kind, param.kind.as_str());
                    problems.add(&at, "WrongType", format!("{message}: write an expression of that type"));
                }
            }
            references.take(checked, &at, problems);
        } else if let Some(param) = param.filter(|param| !(param.optional && value.is_null())) {
            params::fits(value, param, &at, problems);
        }
    }
    references
}

fn holds_template(value: &Value) -> bool {
    match value {
        Value::String(text) => expr::has_template(text),
        Value::Array(items) => items.iter().any(holds_template),
        Value::Object(map) => map.values().any(holds_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn register(
    name: &str,
    resolved: &Resolved<'_>,
    at: &str,
    all: &BTreeMap<&str, Resolved<'_>>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let Some(register) = &resolved.stage.register else { return };
    if register.model.len() > 50 || !name::is_label(&register.model) {
        let message = format!(
            "`{}` is no name for a model: write at most 50 of a-z, 0-9 and `-`, beginning with a letter and ending with a letter or digit",
            register.model
        );
        problems.add(format!("{at}.register.model"), "InvalidName", message);
    }
    let path = format!("{at}.register.from");
    if inputs::output(name, &register.from, &path, Tie::Uses, all, edges, problems) == Some(ArtifactType::Artifact) {
        let message = format!("`{}` is no model: name an output of type model", register.from);
        problems.add(path, "WrongArtifactType", message);
    }
    if let Some(keep) = register.keep.as_ref().filter(|keep| !(1..=1000).contains(&keep.last)) {
        let message = format!("{} is out of bounds: write 1 to 1000", keep.last);
        problems.add(format!("{at}.register.keep.last"), "OutOfBounds", message);
    }
    if let Some(metrics) = &register.metrics {
        measures(name, metrics, format!("{at}.register.metrics"), all, edges, problems);
    }
}

/// The stage of this name, if it has metrics.
fn measures<'a, 'b>(
    name: &str,
    metrics: &str,
    path: String,
    all: &'b BTreeMap<&'a str, Resolved<'a>>,
    edges: &mut Edges,
    problems: &mut Problems,
) -> Option<&'b Resolved<'a>> {
    let found = inputs::existing(name, metrics, &path, Tie::Uses, all, edges, problems)?;
    let has_none = matches!(found.kind, Kind::Approve | Kind::Register | Kind::Deploy | Kind::Report)
        || found.stage.for_each.is_some()
        || found.stage.pipeline.as_ref().is_some_and(|nested| nested.results.is_none());
    if has_none {
        let message =
            format!("the stage `{metrics}` has no metrics: name a stage with uses or container, without forEach");
        problems.add(path, "InvalidReference", message);
        return None;
    }
    Some(found)
}

fn report(
    name: &str,
    resolved: &Resolved<'_>,
    at: &str,
    all: &BTreeMap<&str, Resolved<'_>>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let Some(Report { model_deployment, metrics, version, samples }) = &resolved.stage.report else { return };
    name::label(model_deployment, &format!("{at}.report.modelDeployment"), "a ModelDeployment", problems);
    let Some(found) = measures(name, metrics, format!("{at}.report.metrics"), all, edges, problems) else { return };
    // A program of one's own declares none.
    let Some(declared) = found.template.map(|template| &template.metrics).filter(|metrics| !metrics.is_empty()) else {
        return;
    };
    for (field, metric) in [("version", version), ("samples", samples)] {
        let Some(metric) = metric.as_ref().filter(|metric| !declared.contains_key(*metric)) else { continue };
        let hint = expr::did_you_mean(metric, declared.keys().map(String::as_str));
        let message = format!("the stage `{metrics}` has no metric `{metric}`: {hint}");
        problems.add(format!("{at}.report.{field}"), "UnknownMetric", message);
    }
}

fn deploy(
    name: &str,
    resolved: &Resolved<'_>,
    at: &str,
    all: &BTreeMap<&str, Resolved<'_>>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let Some(deploy) = &resolved.stage.deploy else { return };
    name::label(&deploy.model_deployment, &format!("{at}.deploy.modelDeployment"), "a ModelDeployment", problems);
    time::duration(deploy.timeout.as_deref(), &format!("{at}.deploy.timeout"), problems);
    let path = format!("{at}.deploy.version");
    let found = inputs::existing(name, &deploy.version, &path, Tie::Uses, all, edges, problems);
    if found.is_some_and(|found| {
        matches!(found.kind, Kind::Program | Kind::Pipeline | Kind::Approve | Kind::Deploy | Kind::Report)
    }) {
        let registers = all.iter().filter(|(_, stage)| stage.kind == Kind::Register).map(|(name, _)| *name);
        let list = registers.collect::<Vec<_>>().join(", ");
        let hint = if list.is_empty() { "add a stage with register".to_owned() } else { format!("name one of {list}") };
        problems.add(path, "InvalidReference", format!("the stage `{}` registers no version: {hint}", deploy.version));
    }
}
