//! The gate of a stage: a judgement on the metrics it reported.

use serde_json::{Value, json};

use super::pass::{Pass, Stages};
use super::scope;
use crate::api::{Gate, StageStatus};
use crate::expr::{self, ExprError, Figure, Scope};
use crate::figure;
use crate::problem::head;

/// A text parameter may be long.
const LONGEST_VALUE: usize = 60;

/// What the gate says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Pass,
    /// It says no, and the figures.
    No(String),
    /// It has no value: a metric that it names was not reported, for one.
    Unknown(ExprError),
}

/// Judges a stage that has succeeded.
pub(super) fn judge(pass: &Pass<'_>, gate: &Gate, status: &StageStatus, stages: &Stages) -> Verdict {
    let deployed = status.inputs.values().find_map(|input| input.model_version.as_deref());
    let champion = if deployed.is_none() && status.champion.is_empty() {
        Value::Null
    } else {
        json!({ "metrics": status.champion, "modelVersion": deployed })
    };
    let scope = scope::of_run(pass, stages).with("metrics", json!(status.metrics)).with("champion", champion);
    match expr::eval_bool(&gate.pass, &scope) {
        Ok(true) => Verdict::Pass,
        Ok(false) => Verdict::No(figures(gate, &scope, deployed)),
        Err(error) => Verdict::Unknown(error),
    }
}

/// What decided, and the values that the gate names.
fn figures(gate: &Gate, scope: &Scope, deployed: Option<&str>) -> String {
    let decisive = expr::decisive(&gate.pass, scope);
    // It was evaluated: it can be parsed.
    let figures = expr::figures(&gate.pass, scope).unwrap_or_default();
    format!("`{decisive}` is false: {}", listed(&figures, deployed))
}

fn listed(figures: &[Figure], deployed: Option<&str>) -> String {
    let numbers = figure::told_apart(figures.iter().filter_map(|(_, value)| value.as_f64()));
    let listed = figures.iter().map(|(name, value)| {
        let value = match value.as_f64() {
            Some(number) => figure::rounded(number, numbers),
            None => head(&value.to_string(), LONGEST_VALUE),
        };
        let whose = deployed.filter(|_| name.starts_with("champion."));
        format!("{name} = {value}{}", whose.map(|version| format!(" ({version})")).unwrap_or_default())
    });
    listed.collect::<Vec<_>>().join(", ")
}
