//! The gate of a stage: a judgement on the metrics it reported.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pass::{Pass, Stages};
use super::scope;
use crate::api::{Gate, Input, StageStatus};
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
pub(super) fn judge(
    pass: &Pass<'_>,
    gate: &Gate,
    inputs: &BTreeMap<String, Input>,
    status: &StageStatus,
    stages: &Stages,
) -> Verdict {
    let mut champions = inputs.iter().filter(|(name, input)| input.is_champion(name));
    let deployed = champions.find_map(|(name, _)| status.inputs.get(name)?.model_version.as_deref());
    let champion = if deployed.is_none() && status.champion.is_empty() {
        Value::Null
    } else {
        json!({ "metrics": status.champion, "modelVersion": deployed })
    };
    let scope = scope::of_run(pass, stages).with("metrics", json!(status.metrics)).with("champion", champion);
    match expr::eval_bool(&gate.pass, &scope) {
        Ok(true) => Verdict::Pass,
        Ok(false) => Verdict::No(figures(&gate.pass, &scope, deployed)),
        Err(error) => Verdict::Unknown(error),
    }
}

/// What decided in a condition that is false, and the values that it names.
pub(super) fn figures(condition: &str, scope: &Scope, deployed: Option<&str>) -> String {
    let decisive = expr::decisive(condition, scope);
    // It was evaluated: it can be parsed.
    let figures = expr::figures(condition, scope).unwrap_or_default();
    let digits = figure::told_apart(figures.iter().filter_map(|(_, value)| value.as_f64()));
    // A side that was not needed may name a metric that nobody reports: a slip that would sleep until it is.
    let unreported = expr::unknown(condition, scope).unwrap_or_default();
    let unreported = unreported.iter().map(|name| format!("{name} was not reported"));
    let told = figures.iter().map(|figure| told(figure, digits, deployed)).chain(unreported).collect::<Vec<_>>();
    if told.is_empty() {
        format!("`{decisive}` is false")
    } else {
        format!("`{decisive}` is false: {}", told.join(", "))
    }
}

fn told((name, value): &Figure, digits: usize, deployed: Option<&str>) -> String {
    let value = match value.as_f64() {
        Some(number) => figure::rounded(number, digits),
        None => head(&value.to_string(), LONGEST_VALUE),
    };
    let whose = deployed.filter(|_| name.starts_with("champion."));
    format!("{name} = {value}{}", whose.map(|version| format!(" ({version})")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_tells_what_decided_with_its_figures_and_what_was_not_reported() {
        let scope = Scope::new().with("metrics", json!({ "f1": 0.5 })).with("params", json!({ "on": false }));
        let told = |condition: &str| figures(condition, &scope, None);
        assert_eq!(told("metrics.f1 > 0.9"), "`metrics.f1 > 0.9` is false: metrics.f1 = 0.5");
        assert_eq!(told("size(metrics) == 0"), "`size(metrics) == 0` is false");
        assert_eq!(
            told("metrics.f1 > 0.9 && metrics.f2 > 1"),
            "`metrics.f1 > 0.9` is false: metrics.f1 = 0.5, metrics.f2 was not reported"
        );
    }
}
