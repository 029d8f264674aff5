//! `when`: true or false over the parameters, the run and earlier stages.

use std::collections::BTreeMap;

use super::Problems;
use super::edges::{Edges, Tie};
use super::expression::{self, References};
use super::resolve::Resolved;
use crate::api::MLPipelineSpec;
use crate::expr::{self, Type};

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
    let tie = |status: bool| if status { Tie::WhenStatus } else { Tie::WhenValue };
    references.edges(name, tie, all, edges, problems);
}
