//! The gate of a stage: a judgement on the metrics it reported.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pass::{Pass, Stages};
use super::scope;
use crate::api::{Gate, StageStatus};
use crate::expr::{self, ExprError};

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
        Ok(false) => Verdict::No(figures(gate, status, deployed)),
        Err(error) => Verdict::Unknown(error),
    }
}

fn figures(gate: &Gate, status: &StageStatus, deployed: Option<&str>) -> String {
    let champion = deployed.map(|version| format!("; champion {version}: {}", listed(&status.champion)));
    format!("`{}` is false: {}{}", gate.pass, listed(&status.metrics), champion.unwrap_or_default())
}

fn listed(metrics: &BTreeMap<String, f64>) -> String {
    if metrics.is_empty() {
        return "no metrics".to_owned();
    }
    metrics.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
}
