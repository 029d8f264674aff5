//! A stage that waits for a person: somebody must wait for it, and what is asked may hold templates.

use std::collections::BTreeMap;

use super::edges::{Edges, Tie};
use super::expression::{self, References, Told};
use super::resolve::{Kind, Resolved};
use super::{Problems, time};
use crate::api::{MLPipelineSpec, OnFailure};

/// Checks one and draws the edges of its message.
pub(super) fn check(
    name: &str,
    resolved: &Resolved<'_>,
    spec: &MLPipelineSpec,
    all: &BTreeMap<&str, Resolved<'_>>,
    edges: &mut Edges,
    problems: &mut Problems,
) {
    let Some(approve) = &resolved.stage.approve else { return };
    let at = resolved.at(name);
    if resolved.finally {
        let message = "nobody is asked in finally, which runs to its end by itself: move the stage to stages";
        problems.add(&at, "InvalidStage", message);
        return;
    }
    if resolved.stage.on_failure.is_some_and(|on_failure| on_failure != OnFailure::Stop) {
        let message =
            "what follows would go on without an answer where the question cannot be asked: leave onFailure out";
        problems.add(format!("{at}.onFailure"), "InvalidStage", message);
    }
    let path = format!("{at}.approve.message");
    if approve.message.trim().is_empty() {
        problems.add(&path, "InvalidStage", "it is empty: write what is asked, such as Ship penguins?");
    }
    time::duration(approve.timeout.as_deref(), &format!("{at}.approve.timeout"), problems);
    let mut references = References::default();
    references.text(&approve.message, &path, &expression::run_names(resolved, spec, all), problems);
    let tie = |told: Told| if told == Told::Nothing { Tie::Uses } else { Tie::Follows };
    references.edges(name, tie, all, edges, problems);
}

/// One that nothing waits for would ask for nothing. To be called once all edges are drawn.
pub(super) fn needed(all: &BTreeMap<&str, Resolved<'_>>, edges: &Edges, problems: &mut Problems) {
    let asked = all.iter().filter(|(_, stage)| stage.kind == Kind::Approve && !stage.finally);
    for (name, stage) in asked {
        let waits = all.iter().any(|(other, found)| !found.finally && edges.refers(other, name));
        if !waits {
            let message = format!(
                "nothing depends on `{name}`, so that its answer would change nothing: write needs: [{name}] into the stages that are to wait for it"
            );
            problems.add(stage.at(name), "NothingDepends", message);
        }
    }
}
