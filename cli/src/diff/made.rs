//! What something was made of, in five parts, and how two of them differ.

use std::collections::BTreeMap;
use std::fmt::Write;

use millrace_core::api::{Dataset, MLPipelineRun, ModelVersion, RunCode};
use millrace_core::figure;
use millrace_core::pipeline::{Frozen, FrozenKind, FrozenStage, bind_params};
use serde_json::{Map, Value, json};

use crate::show::changes::{Change, between, lines};
use crate::show::style::{DIM, STRONG, paint};

/// So many significant digits of a number are told.
const DIGITS: usize = 6;
const PARTS: [&str; 5] = ["params", "code", "images", "data", "metrics"];

/// By part and name.
#[derive(Debug, Default, PartialEq)]
pub struct Made([Map<String, Value>; 5]);

impl Made {
    pub fn of_run(run: &MLPipelineRun, frozen: Option<&Frozen>) -> Self {
        let stages = run.status.clone().unwrap_or_default().stages;
        let given = &run.spec.params;
        let params = frozen.and_then(|frozen| bind_params(&frozen.params, given, "params").ok());
        let images = stages.iter().filter_map(|(name, stage)| Some((name.clone(), json!(stage.image.as_ref()?))));
        let data = stages.iter().flat_map(|(name, stage)| {
            let outputs =
                stage.outputs.iter().map(move |(output, made)| (format!("{name}.{output}"), json!(made.digest)));
            let inputs = stage.inputs.iter().map(move |(input, read)| {
                let called = given_as(frozen, name, input)
                    .map_or_else(|| format!("{name}.{input} (model)"), |given| format!("inputs.{given}"));
                (called, json!(read.digest))
            });
            outputs.chain(inputs)
        });
        let metrics = stages.iter().flat_map(|(name, stage)| {
            stage.metrics.iter().map(move |(metric, value)| (format!("{name}.{metric}"), json!(value)))
        });
        Self([
            object(&params.unwrap_or_else(|| given.clone())),
            code(frozen, run.spec.code.as_ref()),
            images.collect(),
            data.collect(),
            metrics.collect(),
        ])
    }

    pub fn of_version(version: &ModelVersion, frozen: Option<&Frozen>) -> Self {
        let spec = &version.spec;
        let lineage = spec.lineage.clone().unwrap_or_default();
        let mut data: Map<String, Value> =
            lineage.datasets.iter().map(|set| (called(set).to_owned(), json!(set.digest))).collect();
        data.extend(lineage.models.into_iter().map(|read| (format!("{} (model)", read.name), json!(read.digest))));
        data.insert("the model".to_owned(), json!(spec.artifact.digest));
        Self([
            object(&spec.params),
            code(frozen, lineage.code.as_ref()),
            object(&lineage.images),
            data,
            object(&spec.metrics),
        ])
    }

    /// What differs, part by part.
    fn differs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'static str, usize, Vec<Change>)> + 'a {
        PARTS.iter().zip(self.0.iter().zip(&other.0)).map(|(part, (before, after))| {
            let same = before.iter().filter(|(name, value)| after.get(*name) == Some(value)).count();
            (*part, same, between(Some(&Value::Object(before.clone())), Some(&Value::Object(after.clone()))))
        })
    }
}

/// One that a person wrote may have no name.
fn called(set: &Dataset) -> &str {
    if set.name.is_empty() { &set.uri } else { &set.name }
}

fn object<V: serde::Serialize>(map: &BTreeMap<String, V>) -> Map<String, Value> {
    map.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
}

/// What an input of a stage is called by the pipeline, where a run is given it.
fn given_as<'a>(frozen: Option<&'a Frozen>, stage: &str, input: &str) -> Option<&'a String> {
    let (_, found) = frozen?.stages.get(stage)?.inputs().find(|(name, _)| *name == input)?;
    found.input.as_ref()
}

/// What each stage runs: the program and its settings, and what decides whether it runs.
fn code(frozen: Option<&Frozen>, folder: Option<&RunCode>) -> Map<String, Value> {
    let stages = frozen.iter().flat_map(|frozen| &frozen.stages);
    let folder = folder.map(|folder| {
        let RunCode { digest, size: _, commit, dirty } = folder;
        ("--code".to_owned(), json!({ "digest": digest, "commit": commit, "dirty": dirty }))
    });
    stages.map(|(name, stage)| (name.clone(), program(stage))).chain(folder).collect()
}

fn program(stage: &FrozenStage) -> Value {
    match &stage.kind {
        FrozenKind::Container(container) => json!({
            "when": stage.when, "uses": container.template, "with": container.with, "container": container.container, "gate": container.gate,
            "inputs": container.inputs,
        }),
        FrozenKind::Pipeline(nested) => {
            let each = nested.items().map(|(each, _)| each);
            json!({ "when": stage.when, "pipeline": nested.pipeline, "inputs": nested.inputs, "forEach": each })
        }
        FrozenKind::Approve(approve) => json!({ "when": stage.when, "approve": approve }),
        FrozenKind::Register(register) => json!({ "when": stage.when, "register": register }),
        FrozenKind::Deploy(deploy) => json!({ "when": stage.when, "deploy": deploy }),
        FrozenKind::Report(report) => json!({ "when": stage.when, "report": report }),
    }
}

/// For people: what is the same is only counted.
pub fn text(before: (&str, &Made), after: (&str, &Made)) -> String {
    let mut text = format!("{} → {}\n", paint(before.0, STRONG), paint(after.0, STRONG));
    for (part, same, mut changes) in before.1.differs(after.1) {
        let note = match (same, changes.is_empty()) {
            (0, true) => "none".to_owned(),
            (same, true) => format!("the same ({same})"),
            (0, false) => String::new(),
            (same, false) => format!("{same} the same"),
        };
        let _ = writeln!(text, "{part}: {}", paint(&note, DIM));
        for change in &mut changes {
            let gain = gain(change);
            shorten(change);
            let line = lines("  ", std::slice::from_ref(change));
            match gain {
                Some(gain) => {
                    let _ = writeln!(text, "{} ({gain})", line.trim_end());
                }
                None => text.push_str(&line),
            }
        }
    }
    text
}

/// A digest by its first characters, a number by its first digits.
fn shorten(change: &mut Change) {
    for value in [&mut change.before, &mut change.after].into_iter().flatten() {
        if let Value::String(text) = value
            && let Some((head, digest)) = text.split_once("sha256:").filter(|(_, digest)| digest.len() == 64)
        {
            *value = json!(format!("{head}{}", &digest[..12]));
        }
        round(value);
    }
}

fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let few = number.as_f64().and_then(|exact| figure::rounded(exact, DIGITS).parse::<f64>().ok());
            if let Some(few) = few {
                *value = json!(few);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// By how much a number is another.
fn gain(change: &Change) -> Option<String> {
    let (before, after) = (change.before.as_ref()?.as_f64()?, change.after.as_ref()?.as_f64()?);
    let sign = if after > before { "+" } else { "" };
    Some(format!("{sign}{}", figure::rounded(after - before, 3)))
}

/// For programs.
pub fn document(before: &Made, after: &Made) -> Value {
    before.differs(after).map(|(part, _, changes)| (part.to_owned(), json!(changes))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::style::stripped;

    fn version(f1: f64, data: &str, rows: i64) -> Made {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        Made::of_version(
            &serde_json::from_value(json!({
                "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelVersion", "metadata": { "name": "m-v1" },
                "spec": {
                    "model": "m", "version": 1, "format": "onnx",
                    "artifact": { "uri": "pvc://c/p", "digest": digest(data), "size": 1 },
                    "metrics": { "f1": f1, "accuracy": 0.5 }, "params": { "rows": rows, "word": "w" },
                    "lineage": {
                        "run": "r", "runUid": "u", "stage": "train", "frozen": "f", "paramsDigest": "d",
                        "images": { "train": format!("registry.example.com/i@{}", digest("e")) },
                        "datasets": [{ "name": "ingest.data", "uri": "pvc://c/d", "digest": digest(data) }],
                    },
                },
            }))
            .unwrap(),
            None,
        )
    }

    #[test]
    fn what_differs_is_told_and_the_rest_is_counted() {
        let text = stripped(&text(("a", &version(0.5, "a", 10)), ("b", &version(0.75, "b", 20))));
        assert_eq!(
            text,
            "a → b\n\
             params: 1 the same\n  ~ rows: 10 → 20 (+10)\n\
             code: none\n\
             images: the same (1)\n\
             data: \n  ~ ingest.data: aaaaaaaaaaaa → bbbbbbbbbbbb\n  ~ the model: aaaaaaaaaaaa → bbbbbbbbbbbb\n\
             metrics: 1 the same\n  ~ f1: 0.5 → 0.75 (+0.25)\n"
        );
    }

    #[test]
    fn people_read_six_digits_and_programs_all() {
        let (a, b) = (version(0.982_189_840_113_337_4, "a", 10), version(0.982_189_840_213_337_4, "a", 10));
        let told = stripped(&text(("a", &a), ("b", &b)));
        assert!(told.contains("  ~ f1: 0.98219 → 0.98219 (+1e-10)\n"), "{told}");
        assert_eq!(document(&a, &b)["metrics"][0]["before"], 0.982_189_840_113_337_4);
        let mut list = json!([{ "a": 0.123_456_789 }, 3]);
        round(&mut list);
        assert_eq!(list, json!([{ "a": 0.123_457 }, 3]));
    }

    #[test]
    fn data_without_a_name_are_told_by_their_address_and_models_that_were_read_are_data() {
        let made = |datasets: Value, models: Value| {
            let version = serde_json::from_value(json!({
                "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelVersion", "metadata": { "name": "m-v1" },
                "spec": {
                    "model": "m", "version": 1, "format": "onnx",
                    "artifact": { "uri": "pvc://c/p", "digest": "sha256:a", "size": 1 },
                    "lineage": { "run": "r", "stage": "train", "datasets": datasets, "models": models },
                },
            }));
            Made::of_version(&version.unwrap(), None)
        };
        let sets = |digest: &str| json!([{ "uri": "s3://lake/a", "digest": digest }]);
        let read =
            json!([{ "name": "train.teacher", "modelVersion": "t-v1", "uri": "pvc://c/t", "digest": "sha256:e" }]);
        let text = stripped(&text(("a", &made(sets("b"), json!([]))), ("b", &made(sets("c"), read))));
        assert!(text.contains("  ~ s3://lake/a: b → c\n"), "{text}");
        assert!(text.contains("  + train.teacher (model): sha256:e\n"), "{text}");
    }

    #[test]
    fn for_programs_nothing_is_shortened() {
        let document = document(&version(0.5, "a", 10), &version(0.5, "b", 10));
        assert_eq!(document["data"][0]["after"].as_str().map(str::len), Some(71));
        assert_eq!(document["metrics"], json!([]));
    }
}
