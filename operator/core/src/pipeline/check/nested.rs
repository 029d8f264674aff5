//! A stage that runs another pipeline. What that pipeline has is known when the stage begins: it may be applied later, and change.

use std::collections::BTreeMap;

use super::edges::{Edges, Tie};
use super::expression::Told;
use super::resolve::Resolved;
use super::{Problems, expression, for_each, name, stage, time};
use crate::api::MLPipelineSpec;

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
    if resolved.stage.for_each.is_some() && !nested.outputs.is_empty() {
        let message = "what the run of an item makes stays with that run: leave outputs out, and let results name the stage whose results and \
                       metrics the output `items` is to list";
        problems.add(&outputs, "InvalidForEach", message);
    }
    time::duration(nested.timeout.as_deref(), &format!("{at}.timeout"), problems);
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
