//! Expressions and templates of a pipeline: which names they may use where, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use super::edges::{Edges, Tie};
use super::resolve::{Kind, Resolved};
use super::{Problems, base_names};
use crate::api::{Container, Described, MLPipelineSpec, PodSettings, StageTemplateSpec, TemplateInput};
use crate::expr::{self, Checked, Fault, Names, Type, in_expression};

/// What is told of a stage, and in `finally` of the run, whatever became of it.
const TOLD: [&str; 3] = ["status", "reason", "message"];

/// `params`, `run` and `stages`: what a stage may use in `when` and `with`, and in a container of its own. In `finally` the run has
/// a status.
pub(super) fn run_names(of: &Resolved<'_>, spec: &MLPipelineSpec, all: &BTreeMap<&str, Resolved<'_>>) -> Names {
    let seen = all.iter().filter(|(_, stage)| of.sees(stage));
    let stages = seen.map(|(name, stage)| ((*name).to_owned(), stage_type(stage)));
    let mut names = own_names(of, spec);
    names.insert("stages".to_owned(), Type::Named(stages.collect()));
    names
}

/// The same without other stages.
pub(super) fn own_names(of: &Resolved<'_>, spec: &MLPipelineSpec) -> Names {
    let mut names = base_names(&spec.params);
    if let Some(Type::Record(run)) = names.get_mut("run").filter(|_| of.finally) {
        run.extend(TOLD.map(|name| (name.to_owned(), Type::Text)));
    }
    names
}

/// Adds `inputs` and `outputs`: paths.
pub(super) fn with_paths<'a>(
    mut names: Names,
    inputs: impl Iterator<Item = (&'a String, bool)>,
    outputs: impl Iterator<Item = &'a String>,
) -> Names {
    let inputs =
        inputs.map(|(name, optional)| (name.clone(), if optional { Type::Text.or_null() } else { Type::Text }));
    names.insert("inputs".to_owned(), Type::Named(inputs.collect()));
    names.insert("outputs".to_owned(), Type::Named(outputs.map(|name| (name.clone(), Type::Text)).collect()));
    names
}

/// What a StageTemplate's container may use: its own parameters, never other stages.
pub(super) fn template_names(spec: &StageTemplateSpec) -> Names {
    let nullable = |(name, input): (&'_ String, &TemplateInput)| (name.clone(), input.optional);
    let inputs: Vec<(String, bool)> = spec.inputs.iter().filter(|(name, _)| *name != "*").map(nullable).collect();
    let paths = inputs.iter().map(|(name, optional)| (name, *optional));
    let mut names = with_paths(base_names(&spec.params), paths, spec.outputs.keys());
    if spec.inputs.contains_key("*") {
        names.insert("inputs".to_owned(), Type::map_of(Type::Text.or_null()));
    }
    names
}

/// What `stages.<name>` is.
fn stage_type(stage: &Resolved<'_>) -> Type {
    let facts = |declared: Option<&BTreeMap<String, Described>>, kind: Type| match declared {
        Some(declared) if !declared.is_empty() => {
            Type::Record(declared.keys().map(|name| (name.clone(), kind.clone())).collect())
        }
        _ => Type::map_of(kind),
    };
    let mut members = BTreeMap::from(TOLD.map(|name| (name.to_owned(), Type::Text)));
    let output = Type::Record(["uri", "digest"].map(|name| (name.to_owned(), Type::Text)).into());
    if stage.stage.for_each.is_some() {
        let counts = ["total", "succeeded", "failed"].map(|name| (name.to_owned(), Type::Number));
        members.insert("items".to_owned(), Type::Record(counts.into()));
    }
    if let Some(nested) = &stage.stage.pipeline {
        let outputs = stage.made().into_keys().map(|name| (name.to_owned(), output.clone()));
        members.insert("outputs".to_owned(), Type::Named(outputs.collect()));
        if nested.results.is_some() && stage.stage.for_each.is_none() {
            members.insert("results".to_owned(), Type::map_of(Type::Any));
            members.insert("metrics".to_owned(), Type::map_of(Type::Number));
        }
    }
    if stage.kind == Kind::Program {
        let outputs = if stage.unknown {
            Type::map_of(output)
        } else {
            Type::Named(stage.made().keys().map(|name| ((*name).to_owned(), output.clone())).collect())
        };
        members.insert("outputs".to_owned(), outputs);
        if stage.stage.for_each.is_some() {
            return Type::Record(members);
        }
        members.insert("results".to_owned(), facts(stage.template.map(|template| &template.results), Type::Any));
        members.insert("metrics".to_owned(), metrics_type(stage));
    }
    Type::Record(members)
}

/// The metrics of a stage: those that its StageTemplate declares, if it declares any.
pub(super) fn metrics_type(stage: &Resolved<'_>) -> Type {
    match stage.template.map(|template| &template.metrics) {
        Some(declared) if !declared.is_empty() => {
            Type::Record(declared.keys().map(|name| (name.clone(), Type::Number)).collect())
        }
        _ => Type::map_of(Type::Number),
    }
}

/// Everything in a container that is rendered. The image is the same for every item: its names may be fewer.
pub(super) fn container(
    container: &Container,
    path: &str,
    of_image: &Names,
    names: &Names,
    problems: &mut Problems,
) -> References {
    let mut all = References::default();
    all.text(&container.image, &format!("{path}.image"), of_image, problems);
    for (i, text) in container.command.iter().flatten().enumerate() {
        all.program(text, &format!("{path}.command[{i}]"), names, problems);
    }
    for (i, text) in container.args.iter().enumerate() {
        all.program(text, &format!("{path}.args[{i}]"), names, problems);
    }
    if let Some(script) = &container.script {
        all.program(script, &format!("{path}.script"), names, problems);
    }
    all.settings(&container.settings, path, names, problems);
    all
}

/// References that were found, each with its field, and what every expression that names it asks besides of what is told of its stage.
#[derive(Default)]
pub(super) struct References(BTreeMap<Vec<String>, (String, Told)>);

impl References {
    pub fn text(&mut self, text: &str, path: &str, names: &Names, problems: &mut Problems) {
        if expr::has_template(text) {
            let checked = expr::check_text(text, names);
            self.take(checked, path, problems);
        }
    }

    /// Text that may be a shell's, as a script or behind `sh -c`.
    fn program(&mut self, text: &str, path: &str, names: &Names, problems: &mut Problems) {
        if expr::has_template(text) {
            self.take(expr::check_script(text, names), path, problems);
        }
    }

    /// Environment variables.
    pub fn settings(&mut self, settings: &PodSettings, path: &str, names: &Names, problems: &mut Problems) {
        for (name, value) in &settings.env {
            if let Some(text) = &value.value {
                self.text(text, &format!("{path}.env.{name}.value"), names, problems);
            }
        }
    }

    /// Takes what a check found, and tells its faults.
    pub fn take(&mut self, checked: Checked, path: &str, problems: &mut Problems) {
        faults(checked.faults, path, problems);
        for references in checked.references {
            let mut asked: BTreeMap<String, Told> = BTreeMap::new();
            for (stage, told) in references.iter().filter_map(|found| told_of(found)) {
                let most = asked.entry(stage.clone()).or_insert(told);
                *most = told.max(*most);
            }
            for reference in references {
                let asks = match reference.as_slice() {
                    [root, of, ..] if root == "stages" => asked.get(of).copied().unwrap_or(Told::Nothing),
                    _ => Told::Nothing,
                };
                let least = &mut self.0.entry(reference).or_insert_with(|| (path.to_owned(), asks)).1;
                *least = asks.min(*least);
            }
        }
    }

    /// Draws an edge for every stage that is named. `tie` says what a name of what is told, or else of another thing, means. An expression that asks for
    /// the status decides itself what it takes of the rest.
    pub fn edges(
        &self,
        stage: &str,
        tie: impl Fn(Told) -> Tie,
        all: &BTreeMap<&str, Resolved<'_>>,
        edges: &mut Edges,
        problems: &mut Problems,
    ) {
        let written: BTreeMap<String, &str> = all.keys().map(|name| (in_expression(name), *name)).collect();
        let mut bare = BTreeSet::new();
        for (reference, (path, asks)) in &self.0 {
            match reference.as_slice() {
                [root, named, ..] if root == "stages" => {
                    if let Some(name) = written.get(named) {
                        edges.add(stage, name, path, tie(*asks));
                    }
                }
                // All of them, or one that is known only when it runs: no edge could be drawn.
                [root] if root == "stages" => {
                    bare.insert(path);
                }
                _ => {}
            }
        }
        for path in bare {
            let message = "`stages` stands for itself: name the stage, as in stages.fit.metrics.r2";
            problems.add(path.as_str(), "InvalidExpression", message);
        }
    }
}

/// What an expression asks for of a stage that is told whatever became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Nothing,
    /// How many items there were, and how many of them failed.
    Counts,
    /// Its status or the like.
    Status,
}

/// The stage of which something is named that is told.
fn told_of(reference: &[String]) -> Option<(&String, Told)> {
    match reference {
        [root, name, member, ..] if root == "stages" && TOLD.contains(&member.as_str()) => Some((name, Told::Status)),
        [root, name, member, ..] if root == "stages" && member == "items" => Some((name, Told::Counts)),
        _ => None,
    }
}

/// Tells what is wrong with an expression.
fn faults(faults: Vec<Fault>, path: &str, problems: &mut Problems) {
    for fault in faults {
        let reason = match &fault {
            Fault::Syntax(_) | Fault::Arguments | Fault::Misplaced { .. } => "InvalidExpression",
            Fault::UnknownName { root, .. } | Fault::Hyphen { root, .. } => match root.as_str() {
                "params" => "UnknownParameter",
                "stages" => "UnknownStage",
                _ => "UnknownName",
            },
            Fault::FactHyphen { .. } | Fault::NoMember { .. } | Fault::UnknownFunction { .. } => "UnknownName",
            Fault::Mismatch { .. } | Fault::Operand { .. } | Fault::Result { .. } => "WrongType",
        };
        problems.add(path, reason, fault.to_string());
    }
}
