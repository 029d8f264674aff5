//! A version beside what a run made: every artifact by digest, every metric by its value.

use std::fmt::Write;

use kube::ResourceExt;
use millrace_core::api::{MLPipelineRun, ModelVersion, StageStatus};
use millrace_core::figure;
use serde::Serialize;
use serde_json::{Value, json};

use super::made::Sources;
use crate::show::style::{BAD, DIM, GOOD, PLAIN, paint};
use crate::show::table::{Cell, table};
use crate::tree;

/// Characters of a digest that people are shown.
const SHORT: usize = 19;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Data,
    Model,
    Metric,
    /// Told, but no verdict: another image that makes the same is no difference.
    Image,
}

/// One thing that both should have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    kind: Kind,
    name: String,
    version: Option<Value>,
    run: Option<Value>,
    same: bool,
}

/// Everything that was compared.
#[derive(Debug)]
pub struct Comparison {
    version: String,
    run: String,
    succeeded: bool,
    rows: Vec<Row>,
}

/// A part of a value, from none to all of it.
pub fn tolerance(text: &str) -> Result<f64, String> {
    let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "write a part of the value from 0 to 1: 0.01 is one per cent".to_owned())
}

pub fn compare(version: &ModelVersion, run: &MLPipelineRun, sources: &Sources, tolerance: f64) -> Comparison {
    let spec = &version.spec;
    let lineage = spec.lineage.clone().unwrap_or_default();
    let stage = |name: &str| run.status.as_ref().and_then(|status| status.stages.get(name));
    let digest = |name: &str| {
        let (producer, output) = name.split_once('.')?;
        Some(json!(stage(producer)?.outputs.get(output)?.digest))
    };
    let row = |kind, name: &str, before: Value, after: Option<Value>| {
        let same = after.as_ref() == Some(&before);
        Row { kind, name: name.to_owned(), version: Some(before), run: after, same }
    };
    let mut rows = Vec::new();
    // What was made beside the way to the model was not made again.
    let above =
        lineage.datasets.iter().filter(|set| set.name.split_once('.').is_some_and(|(name, _)| stage(name).is_some()));
    rows.extend(above.map(|set| row(Kind::Data, &set.name, json!(set.digest), digest(&set.name))));
    rows.push(row(Kind::Model, &sources.model, json!(spec.artifact.digest), digest(&sources.model)));
    let judged: Option<&StageStatus> = sources.metrics.as_deref().and_then(stage);
    rows.extend(spec.metrics.iter().map(|(name, before)| {
        let after = judged.and_then(|stage| stage.metrics.get(name).copied());
        let same = after.is_some_and(|after| is_near(*before, after, tolerance));
        let after = after.map(|after| json!(after));
        Row { kind: Kind::Metric, name: name.clone(), version: Some(json!(before)), run: after, same }
    }));
    rows.extend(lineage.images.iter().filter_map(|(name, image)| {
        Some(row(Kind::Image, name, json!(image), stage(name)?.image.as_ref().map(|image| json!(image))))
    }));
    Comparison { version: version.name_any(), run: run.name_any(), succeeded: tree::end(run) == Some(true), rows }
}

/// Within a part of the larger of the two.
fn is_near(before: f64, after: f64, tolerance: f64) -> bool {
    (before - after).abs() <= tolerance * before.abs().max(after.abs())
}

impl Comparison {
    /// The run made the same data and the same model, and came to the same metrics.
    pub fn is_same(&self) -> bool {
        self.succeeded && self.judged().all(|row| row.same)
    }

    fn judged(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.kind != Kind::Image)
    }

    pub fn document(&self) -> Value {
        json!({ "version": self.version, "run": self.run, "succeeded": self.succeeded, "same": self.is_same(), "compared": self.rows })
    }

    /// `options`: those that a further command takes to find the run.
    pub fn text(&self, options: &str) -> String {
        let shown = self.rows.iter().filter(|row| row.kind != Kind::Image || !row.same);
        let lines = shown.map(|row| {
            let (word, style) = match (row.same, row.kind, &row.run) {
                (true, ..) => ("same", GOOD),
                (false, _, None) => ("not made", BAD),
                (false, Kind::Image, _) => ("another", DIM),
                (false, ..) => ("differs", BAD),
            };
            let kind = format!("{:?}", row.kind).to_lowercase();
            let name = Cell::new(&row.name, PLAIN);
            [
                kind.into(),
                name,
                told(row.version.as_ref()).into(),
                told(row.run.as_ref()).into(),
                Cell::new(word, style),
            ]
        });
        let mut text = table("", ["WHAT", "NAME", "VERSION", "RUN", ""], lines);
        let differ = self.judged().filter(|row| !row.same).count();
        let says = match (self.succeeded, differ) {
            (true, 0) => paint(&format!("run {} made {} again", self.run, self.version), GOOD),
            (true, _) => paint(&format!("{differ} of {} differ", self.judged().count()), BAD),
            (false, _) => {
                let run = &self.run;
                paint(&format!("run {run} did not succeed: kubectl millrace tree {run}{options}"), BAD)
            }
        };
        let _ = writeln!(text, "{says}");
        text
    }
}

fn told(value: Option<&Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::String(digest)) => digest.chars().take(SHORT).collect(),
        Some(value) => value.as_f64().map_or_else(|| value.to_string(), |number| figure::rounded(number, 6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::style::stripped;

    fn version() -> ModelVersion {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelVersion", "metadata": { "name": "m-v1" },
            "spec": {
                "model": "m", "version": 1, "format": "onnx", "metrics": { "f1": 0.9, "rows": 100.0 },
                "artifact": { "uri": "pvc://c/x", "digest": "sha256:mm", "size": 1 },
                "lineage": {
                    "run": "r", "runUid": "u", "stage": "train", "frozen": "f", "paramsDigest": "p", "images": { "train": "sha256:ii" },
                    "datasets": [{ "name": "load.data", "uri": "pvc://c/d", "digest": "sha256:dd" }, { "name": "sign.gone", "uri": "pvc://c/e", "digest": "e" }],
                },
            },
        }))
        .unwrap()
    }

    fn run(state: &str, model: &str, f1: f64) -> MLPipelineRun {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": "again" }, "spec": {},
            "status": {
                "completionTime": "2026-01-01T00:00:00Z",
                "conditions": [{ "type": "Succeeded", "status": state, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                "stages": {
                    "load": { "state": "Succeeded", "outputs": { "data": { "uri": "u", "digest": "sha256:dd", "size": 1 } } },
                    "train": { "state": "Succeeded", "image": "sha256:jj", "outputs": { "model": { "uri": "u", "digest": model, "size": 1 } } },
                    "judge": { "state": "Succeeded", "metrics": { "f1": f1, "rows": 100.0 } },
                },
            },
        }))
        .unwrap()
    }

    fn sources() -> Sources {
        Sources { version: "m-v1".to_owned(), model: "train.model".to_owned(), metrics: Some("judge".to_owned()) }
    }

    /// A line with these words.
    fn has(text: &str, words: &str) -> bool {
        text.lines().any(|line| line.split_whitespace().eq(words.split(' ')))
    }

    #[test]
    fn what_is_the_same_is_the_same_whatever_image_made_it() {
        let found = compare(&version(), &run("True", "sha256:mm", 0.9), &sources(), 0.0);
        assert!(found.is_same(), "{found:?}");
        let text = stripped(&found.text(" -n team"));
        assert!(has(&text, "image train sha256:ii sha256:jj another"), "{text}");
        assert!(text.ends_with("run again made m-v1 again\n"), "{text}");
        assert!(!text.contains("sign.gone"), "{text}");
    }

    #[test]
    fn another_model_or_metric_differs_and_a_metric_may_be_near() {
        let found = compare(&version(), &run("True", "sha256:xx", 0.905), &sources(), 0.0);
        assert!(!found.is_same());
        let text = stripped(&found.text(" -n team"));
        assert!(has(&text, "model train.model sha256:mm sha256:xx differs"), "{text}");
        assert!(text.ends_with("2 of 4 differ\n"), "{text}");
        assert!(compare(&version(), &run("True", "sha256:mm", 0.905), &sources(), 0.01).is_same());
        assert!(!compare(&version(), &run("True", "sha256:mm", 0.905), &sources(), 0.001).is_same());
        assert!(!is_near(0.9, f64::NAN, 1.0));
    }

    #[test]
    fn what_was_not_made_is_told_and_a_run_that_failed_is_no_reproduction() {
        let mut failed = run("False", "sha256:mm", 0.9);
        failed.status.as_mut().unwrap().stages.remove("judge");
        failed.status.as_mut().unwrap().stages.get_mut("train").unwrap().outputs.clear();
        let found = compare(&version(), &failed, &sources(), 0.0);
        let text = stripped(&found.text(" -n team"));
        assert!(
            !found.is_same()
                && text.contains("not made")
                && text.ends_with("did not succeed: kubectl millrace tree again -n team\n"),
            "{text}"
        );
        assert_eq!(found.document()["compared"].as_array().unwrap().len(), 5);
        assert!(!compare(&version(), &run("False", "sha256:mm", 0.9), &sources(), 0.0).is_same());
    }

    #[test]
    fn a_tolerance_is_a_part() {
        assert_eq!(tolerance("0.01"), Ok(0.01));
        for text in ["1.5", "-0.1", "NaN", "x"] {
            assert!(tolerance(text).is_err(), "{text}");
        }
    }
}
