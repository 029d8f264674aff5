//! `when`: true or false over the parameters, the run and earlier stages.

use std::collections::BTreeMap;

use super::Problems;
use super::edges::{Edges, Tie};
use super::expression::{self, References, Told};
use super::resolve::Resolved;
use crate::api::MLPipelineSpec;
use crate::expr::{self, Type};

/// A stage that is asked about has ended.
const ENDS_OF_STAGES: &[&str] = &["Succeeded", "Failed", "Skipped"];
const ENDS_OF_RUNS: &[&str] = &["Succeeded", "Failed", "Canceled"];

/// Checks a `when` and draws its edges.
pub(super) fn check(
    name: &str,
    resolved: &Resolved<'_>,
    spec: &MLPipelineSpec,
    all: &BTreeMap<&str, Resolved<'_>>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let Some(when) = &resolved.stage.when else { return };
    let path = format!("{}.when", resolved.at(name));
    if expr::has_template(when) {
        let message = "when is an expression by itself: leave the `$[[` and `]]` out";
        problems.add(path, "InvalidExpression", message);
        return;
    }
    let mut references = References::default();
    references.take(expr::check(when, &expression::run_names(resolved, spec, all), &Type::Boolean), &path, problems);
    statuses(when, &path, resolved.finally, all, problems);
    let tie = |told: Told| match (told, resolved.finally) {
        (Told::Status, _) => Tie::WhenStatus,
        // Nobody goes on after a failure because of a number.
        (Told::Counts, false) => Tie::Follows,
        (Told::Counts, true) => Tie::Takes,
        (Told::Nothing, _) => Tie::WhenValue,
    };
    references.edges(name, tie, all, edges, problems);
}

/// A status that no run or stage ever has would never be true, in silence.
fn statuses(when: &str, path: &str, finally: bool, all: &BTreeMap<&str, Resolved<'_>>, problems: &mut Problems) {
    let stages = all.keys().map(|name| (format!("stages.{}.status", expr::in_expression(name)), ENDS_OF_STAGES));
    let run = finally.then(|| ("run.status".to_owned(), ENDS_OF_RUNS));
    for (name, known) in stages.chain(run) {
        for text in expr::compared(when, &name).unwrap_or_default() {
            if !known.contains(&text.as_str()) {
                let hint = expr::did_you_mean(&text, known.iter().copied());
                problems.add(path, "InvalidExpression", format!("`{name}` is never `{text}`: {hint}"));
            }
        }
    }
}
