//! A gate: true or false over the stage's own metrics, the champion's and the parameters.

use super::Problems;
use super::expression::{References, metrics_type};
use super::resolve::Resolved;
use crate::expr::{self, Names, Type};

/// Checks a gate and returns what it refers to.
pub(super) fn check(stage: &str, resolved: &Resolved<'_>, run: &Names, problems: &mut Problems) -> References {
    let mut references = References::default();
    let Some(gate) = &resolved.stage.gate else { return references };
    let path = format!("{}.gate.pass", resolved.at(stage));
    let mut names = run.clone();
    names.insert("metrics".to_owned(), metrics_type(resolved));
    let champion = resolved.stage.inputs.iter().any(|(name, input)| input.is_champion(name));
    if champion {
        let members =
            [("metrics".to_owned(), metrics_type(resolved)), ("modelVersion".to_owned(), Type::Text.or_null())];
        names.insert("champion".to_owned(), Type::Record(members.into()).or_null());
    } else if expr::references(&gate.pass).is_ok_and(|used| used.iter().any(|path| path[0] == "champion")) {
        let message = "`champion` is the model that is deployed, and no input of this stage brings it: add an input such as champion: { deployed: <ModelDeployment>, optional: true }, or a registered model as champion: { model: { name: <model> } }";
        problems.add(&path, "UnknownName", message);
        // Said once, and better.
        names.insert("champion".to_owned(), Type::Any);
    }
    references.take(expr::check(&gate.pass, &names, &Type::Boolean), &path, problems);
    references
}
