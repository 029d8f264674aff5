//! What is declared: parameters, and what a StageTemplate takes and gives.

use std::collections::BTreeMap;

use millrace_contract::{ArtifactKind, Outcome, OutputRecord, REPORT_LIMIT, Report, ReportReason, Usage};

use super::{Problems, name, params};
use crate::api::{ArtifactType, Output, ParamSpec, ParamType, StageTemplateSpec};

/// Declared parameters: their names, and that a default and the allowed values keep to the declaration.
pub(super) fn params(declared: &BTreeMap<String, ParamSpec>, path: &str, problems: &mut Problems) {
    name::distinct(declared.keys(), path, problems);
    for (name, param) in declared {
        let at = format!("{path}.{name}");
        if !name::is_param(name) {
            let message = format!(
                "`{name}` is no name for a parameter: write at most 63 letters, digits and `-`, beginning with a letter and ending with a letter or digit"
            );
            problems.add(at.clone(), "InvalidName", message);
        }
        bounds(param, &at, problems);
        if let Some(default) = param.default.as_ref().filter(|value| !value.is_null()) {
            params::fits(default, param, &format!("{at}.default"), problems);
        }
    }
}

/// What a stage makes is told in its pod's report, which the kubelet keeps so much of.
pub(super) fn reported<'a>(stage: &str, outputs: impl Iterator<Item = &'a str>, path: &str, problems: &mut Problems) {
    let digest = format!("sha256:{}", "0".repeat(64));
    let record = OutputRecord {
        kind: ArtifactKind::Artifact,
        digest,
        size: 0,
        files: 1,
        items: None,
        signature: None,
        format: None,
    };
    let outputs: BTreeMap<String, OutputRecord> = outputs.map(|name| (name.to_owned(), record.clone())).collect();
    let count = outputs.len();
    let report = Report {
        millrace: "v1".to_owned(),
        run_uid: "0".repeat(36),
        stage: stage.to_owned(),
        attempt: 1,
        outcome: Outcome::Succeeded,
        reason: ReportReason::Completed,
        message: String::new(),
        exit_code: Some(0),
        winner: Some(1),
        results: BTreeMap::new(),
        metrics: BTreeMap::new(),
        champion: BTreeMap::new(),
        outputs,
        tail: String::new(),
        usage: Usage::default(),
    };
    let size = serde_json::to_string(&report).map_or(0, |text| text.len());
    if size > REPORT_LIMIT {
        let message = format!(
            "{count} outputs need {size} bytes in the report of the stage, which has {REPORT_LIMIT}: declare fewer, with shorter names, or one that is a folder"
        );
        problems.add(path, "TooManyOutputs", message);
    }
}

fn bounds(param: &ParamSpec, at: &str, problems: &mut Problems) {
    let numeric = matches!(param.kind, ParamType::Number | ParamType::Integer);
    if (param.minimum.is_some() || param.maximum.is_some()) && !numeric {
        let message = format!(
            "minimum and maximum need type number or integer, and this is {}: leave them out",
            param.kind.as_str()
        );
        problems.add(at, "ContradictoryBounds", message);
    }
    if let (Some(minimum), Some(maximum)) = (param.minimum, param.maximum)
        && minimum > maximum
    {
        let message =
            format!("minimum {minimum} is greater than maximum {maximum}: write a minimum of at most {maximum}");
        problems.add(format!("{at}.minimum"), "ContradictoryBounds", message);
    }
    if let Some(allowed) = &param.allowed {
        if allowed.is_empty() {
            let message = "it is empty, so that no value is allowed: list at least one, or leave enum out";
            problems.add(format!("{at}.enum"), "ContradictoryBounds", message);
        }
        let free = ParamSpec { allowed: None, ..param.clone() };
        for (i, value) in allowed.iter().enumerate() {
            params::fits(value, &free, &format!("{at}.enum[{i}]"), problems);
        }
    }
}

/// What models are.
pub(super) fn formats(outputs: &BTreeMap<String, Output>, path: &str, problems: &mut Problems) {
    const LONGEST: usize = 32;
    for (name, output) in outputs {
        let Some(format) = &output.format else { continue };
        let at = format!("{path}.{name}.format");
        if output.kind != ArtifactType::Model {
            let message = "only a model has a format: write type: model beside it, or leave format out";
            problems.add(at, "InvalidFormat", message);
            continue;
        }
        let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if format.is_empty() || format.len() > LONGEST || !is_name(format) {
            let message =
                format!("`{format}` is no format: write at most {LONGEST} of a-z, 0-9 and `-`, such as pytorch");
            problems.add(at, "InvalidFormat", message);
        }
    }
}

/// The names of a StageTemplate's inputs, outputs, results and metrics.
pub(super) fn template_names(spec: &StageTemplateSpec, problems: &mut Problems) {
    for name in spec.inputs.keys().filter(|name| *name != "*") {
        name::label(name, &format!("spec.inputs.{name}"), "an input", problems);
    }
    name::labels(&spec.outputs, "spec.outputs", "an output", problems);
    name::distinct(spec.inputs.keys(), "spec.inputs", problems);
    name::distinct(spec.outputs.keys(), "spec.outputs", problems);
    formats(&spec.outputs, "spec.outputs", problems);
    let facts = [("results", "a result", &spec.results), ("metrics", "a metric", &spec.metrics)];
    for (field, what, map) in facts {
        for name in map.keys().filter(|name| !name::is_fact(name)) {
            let message = format!(
                "`{name}` is no name for {what}: write at most 63 of a-z, 0-9 and `_`, beginning with a letter"
            );
            problems.add(format!("spec.{field}.{name}"), "InvalidName", message);
        }
    }
}
