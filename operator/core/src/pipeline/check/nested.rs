//! A stage that runs another pipeline. What that pipeline has is known when the stage begins: it may be applied later, and change.

use std::collections::BTreeMap;

use super::edges::{Edges, Tie};
use super::expression::Told;
use super::resolve::Resolved;
use super::{Problems, base_names, declared, expression, for_each, inputs, name, stage, time};
use crate::api::{InputMode, MLPipelineSpec, Retry};

/// Checks one and draws the edges of its parameters.
pub(super) fn check(
    name: &str,
    resolved: &Resolved<'_>,
    spec: &MLPipelineSpec,
    all: &BTreeMap<&str, Resolved<'_>>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let Some(nested) = &resolved.stage.pipeline else { return };
    let at = format!("{}.pipeline", resolved.at(name));
    let outputs = format!("{at}.outputs");
    name::labels(&nested.outputs, &outputs, "an output", problems);
    name::distinct(nested.outputs.keys(), &outputs, problems);
    for (output, wanted) in &nested.outputs {
        let parts: Vec<&str> = wanted.from.split('.').collect();
        if parts.len() != 2 || parts.iter().any(|part| part.is_empty()) {
            let message = format!(
                "`{}` is no output: write <stage>.<output> of the pipeline {}, as in ingest.data",
                wanted.from, nested.name
            );
            problems.add(format!("{outputs}.{output}.from"), "InvalidReference", message);
        }
    }
    if resolved.stage.for_each.is_some() {
        declared::reported(name, resolved.made().into_keys(), &outputs, problems);
    }
    if resolved.stage.for_each.is_some() && !nested.outputs.is_empty() && !resolved.stored {
        let message = "without a store there is nowhere to keep what the runs of items make: write store into the pipeline, or leave outputs out";
        problems.add(&outputs, "InvalidForEach", message);
    }
    time::duration(nested.timeout.as_deref(), &format!("{at}.timeout"), problems);
    inputs::check(name, resolved, spec, all, edges, problems);
    for (input, _) in resolved.stage.inputs.iter().filter(|(_, input)| input.mode == InputMode::Uri) {
        let message =
            "the other pipeline is given what lies there, and says itself what its programs are handed: take mode out";
        problems.add(format!("{}.inputs.{input}.mode", resolved.at(name)), "InvalidInput", message);
    }
    retried(resolved, spec, &format!("{}.retry", resolved.at(name)), problems);
    let names = expression::run_names(resolved, spec, all);
    let over = for_each::check(name, resolved, &names, all, edges, problems);
    let names = for_each::names(resolved, names);
    let params = stage::with(&nested.params, None, &format!("{at}.params"), &names, problems);
    let tie = |told: Told| match (told, resolved.finally) {
        (Told::Nothing, _) => Tie::Uses,
        (_, true) => Tie::Takes,
        (_, false) => Tie::Follows,
    };
    for references in [over, params] {
        references.edges(name, tie, all, edges, problems);
    }
}

/// Another try is another run, of which nobody knows here why it failed.
fn retried(resolved: &Resolved<'_>, spec: &MLPipelineSpec, at: &str, problems: &mut Problems) {
    let Some(retry) = &resolved.stage.retry else { return };
    let Retry { when, memory_growth, .. } = retry;
    for (field, _) in
        [("when", when.is_some()), ("memoryGrowth", memory_growth.is_some())].iter().filter(|(_, set)| *set)
    {
        let message = format!("{field} is for a program: write it at the stages of the other pipeline");
        problems.add(format!("{at}.{field}"), "InvalidRetry", message);
    }
    if resolved.stage.for_each.is_some() {
        let message = "with forEach each item has one run: write retry at the stages of the other pipeline, and begin items that failed again with retryFrom";
        problems.add(at, "InvalidRetry", message);
    }
    let plain = Retry { when: None, memory_growth: None, ..retry.clone() };
    time::retry(Some(&plain), at, &base_names(&spec.params), problems);
}
