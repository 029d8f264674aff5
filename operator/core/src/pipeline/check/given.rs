//! Inputs of a pipeline: what a run is given, besides its parameters. What lies at an address becomes an input by `uri` of each stage that
//! reads it, before anything else is looked at; what a stage made is known when the run begins, and is read where it lies.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::address::address;
use super::{Problems, name, params, time};
use crate::api::{
    AddressInput, ArtifactType, Input, InputMode, MLPipelineRunSpec, MLPipelineSpec, ModelArtifact, PipelineInput,
    RunInput, Triggers,
};
use crate::pipeline::stage_path;
use crate::problem::Problem;
use crate::store;
use crate::{access, expr};

/// Reason of a run that was not given what its pipeline needs.
pub const MISSING_INPUT: &str = "MissingInput";

/// A pipeline with what a run is given by address, or has by default.
pub(super) struct Filled<'a> {
    pub spec: Cow<'a, MLPipelineSpec>,
    /// Of each input that was filled in, by its path: where the address is written, and what has to lie there.
    pub written: BTreeMap<String, (String, ArtifactType)>,
}

/// What is declared wrong, or is read and not declared, is said here.
pub(super) fn fill<'a>(
    spec: &'a MLPipelineSpec,
    given: &BTreeMap<String, RunInput>,
    problems: &mut Problems,
) -> Filled<'a> {
    declared(spec, problems);
    let addresses: BTreeMap<&String, AddressInput> =
        spec.inputs.iter().filter_map(|(name, input)| Some((name, by_address(input, given.get(name))?))).collect();
    let mut filled = Filled { spec: Cow::Borrowed(spec), written: BTreeMap::new() };
    for finally in [false, true] {
        let stages = if finally { &spec.finally } else { &spec.stages };
        for (stage, of) in stages {
            for (called, input) in &of.inputs {
                let at = format!("{}.inputs.{called}", stage_path(finally, stage));
                reads(spec, input, &at, problems);
                let Some((named, found)) = input.input.as_ref().and_then(|name| addresses.get_key_value(name)) else {
                    continue;
                };
                // What is wrong beside it is found where all inputs are looked at: it stays as it is written.
                let alone = Input { optional: input.optional, mode: input.mode, ..Input::default() };
                if *input != (Input { input: input.input.clone(), ..alone }) {
                    continue;
                }
                let field = if given.contains_key(*named) { "" } else { ".default" };
                let kind = spec.inputs.get(*named).map(|declared| declared.kind).unwrap_or_default();
                filled.written.insert(at, (format!("spec.inputs.{named}{field}"), kind));
                let whole = filled.spec.to_mut();
                let into = if finally { &mut whole.finally } else { &mut whole.stages };
                if let Some(into) = into.get_mut(stage).and_then(|stage| stage.inputs.get_mut(called)) {
                    *into = by_uri(found, input.mode);
                }
            }
        }
    }
    filled
}

fn by_uri(found: &AddressInput, mode: InputMode) -> Input {
    let AddressInput { uri, digest, max_age, access } = found.clone();
    match mode {
        InputMode::Path => Input { uri: Some(uri), digest, max_age, access, ..Input::default() },
        // Nothing is read where the address alone is handed over.
        InputMode::Uri => Input { uri: Some(uri), mode, ..Input::default() },
    }
}

impl Filled<'_> {
    /// What is wrong with an address that was filled in is told where it is written.
    pub fn told(&self, problems: &mut Problems) {
        const FIELDS: [&str; 4] = ["uri", "digest", "maxAge", "access"];
        for problem in &mut problems.0 {
            let found = self.written.iter().find_map(|(at, (written, _))| {
                let rest = problem.path.strip_prefix(at.as_str())?;
                let field = rest.strip_prefix('.')?.split('.').next()?;
                FIELDS.contains(&field).then(|| format!("{written}{rest}"))
            });
            if let Some(path) = found {
                problem.path = path;
            }
        }
    }
}

/// What is read at an address, if that is right: one that is not was found where it is written.
fn by_address(input: &PipelineInput, given: Option<&RunInput>) -> Option<AddressInput> {
    let found = given.map_or_else(|| input.default.clone(), RunInput::address)?;
    let mut problems = Problems::default();
    look(&found, "", &mut problems);
    problems.0.is_empty().then_some(found)
}

fn declared(spec: &MLPipelineSpec, problems: &mut Problems) {
    name::labels(&spec.inputs, "spec.inputs", "an input", problems);
    name::distinct(spec.inputs.keys(), "spec.inputs", problems);
    for (name, input) in &spec.inputs {
        let at = format!("spec.inputs.{name}");
        if let Some(default) = &input.default {
            if input.optional {
                let message = "what has a default is always there: take optional out";
                problems.add(format!("{at}.optional"), "InvalidInput", message);
            }
            look(default, &format!("{at}.default"), problems);
        } else if !input.optional && spec.triggers.as_ref().is_some_and(|triggers| *triggers != Triggers::default()) {
            let message = format!(
                "a run that a trigger starts has nothing for the input `{name}`: give it a default, write optional: true, or leave triggers out"
            );
            problems.add(at, MISSING_INPUT, message);
        }
    }
}

/// What is wrong with an address.
fn look(found: &AddressInput, at: &str, problems: &mut Problems) {
    let AddressInput { uri, digest, max_age, access } = found;
    let input = Input { digest: digest.clone(), max_age: max_age.clone(), ..Input::default() };
    address(uri, &input, &access.as_deref().cloned().unwrap_or_default(), at, problems);
    time::duration(max_age.as_deref(), &format!("{at}.maxAge"), problems);
}

/// An input that names one of the pipeline's.
fn reads(spec: &MLPipelineSpec, input: &Input, at: &str, problems: &mut Problems) {
    let Some(named) = &input.input else { return };
    let Some(declared) = spec.inputs.get(named) else {
        let hint = expr::did_you_mean(named, spec.inputs.keys().map(String::as_str));
        let message = format!("the pipeline has no input `{named}`: {hint}");
        problems.add(format!("{at}.input"), "UnknownInput", message);
        return;
    };
    if declared.optional && declared.default.is_none() && !input.optional {
        let message = format!("a run need not be given `{named}`: write optional: true here too, or give it a default");
        problems.add(format!("{at}.optional"), "InvalidInput", message);
    }
    if !declared.optional && input.optional {
        let message = format!("every run has `{named}`: take optional out, or write it at spec.inputs.{named}");
        problems.add(format!("{at}.optional"), "InvalidInput", message);
    }
}

/// What is wrong with what a run is given. `path` is where it stands.
pub fn bind_inputs(
    declared: &BTreeMap<String, PipelineInput>,
    given: &BTreeMap<String, RunInput>,
    path: &str,
) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    for (name, found) in given {
        let at = format!("{path}.{name}");
        match declared.get(name) {
            Some(wanted) => fits(name, wanted, found, &at, &mut problems),
            None => {
                let hint = expr::did_you_mean(name, declared.keys().map(String::as_str));
                problems.add(at, "UnknownInput", format!("the pipeline has no input `{name}`: {hint}"));
            }
        }
    }
    for (name, wanted) in declared {
        if !(wanted.optional || wanted.default.is_some() || given.contains_key(name)) {
            let message = format!(
                "the pipeline needs the input `{name}`: write {name}: {{ uri: … }} here, or at the stage \
                 that runs the pipeline inputs: {{ {name}: {{ from: <stage>.<output> }} }}"
            );
            problems.add(format!("{path}.{name}"), MISSING_INPUT, message);
        }
    }
    problems.result()
}

/// What is wrong with the values and the inputs that a run is given. `path` is where both stand.
#[must_use]
pub fn bind(pipeline: &MLPipelineSpec, run: &MLPipelineRunSpec, path: &str) -> Vec<Problem> {
    let params = params::bind_params(&pipeline.params, &run.params, &format!("{path}params")).err();
    let inputs = bind_inputs(&pipeline.inputs, &run.inputs, &format!("{path}inputs")).err();
    params.into_iter().chain(inputs).flatten().collect()
}

fn fits(name: &str, wanted: &PipelineInput, found: &RunInput, at: &str, problems: &mut Problems) {
    match (found.address(), &found.artifact) {
        (Some(address), None) => {
            look(&address, at, problems);
            if expr::has_template(&address.uri) {
                let message = "nothing is filled in here: write the address as it is";
                problems.add(format!("{at}.uri"), "InvalidAddress", message);
            }
        }
        (None, Some(artifact)) => {
            let ModelArtifact { uri, access, .. } = artifact.as_ref();
            let fields = access::of_data(uri, &access.clone().unwrap_or_default(), &format!("{at}.artifact.access"));
            if !fields.is_empty() {
                problems.0.extend(fields);
            } else if expr::has_template(uri) {
                let message = "nothing is filled in here: write the address as it is";
                problems.add(format!("{at}.artifact.uri"), "InvalidAddress", message);
            } else if store::place(uri, access.as_ref()).is_none() {
                let message = format!("`{uri}` is no address of an artifact: those are {}", store::ADDRESSES);
                problems.add(format!("{at}.artifact.uri"), "InvalidAddress", message);
            }
            if wanted.kind == ArtifactType::Model && found.kind != ArtifactType::Model {
                let message = format!(
                    "the input `{name}` is a model, and what is given is none, or is not said to be one: give what a stage made as type: model; by hand \
                     write type: model beside artifact"
                );
                problems.add(at, "WrongArtifactType", message);
            }
        }
        _ => problems.add(at, "InvalidInput", "exactly one of uri and artifact is required: write one of them"),
    }
}
