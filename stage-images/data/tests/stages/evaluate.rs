//! `evaluate`: real ONNX models through ONNX Runtime, held against what scikit-learn says about the same rows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{Files, Run, Stage, fixture, stage};

/// The library that the environment names, or the pinned one.
pub fn library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        std::env::var("ORT_DYLIB_PATH").unwrap_or_else(|_| {
            let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/onnxruntime/fetch");
            let output = Command::new(fetch).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    })
}

fn evaluator() -> Stage {
    stage("evaluate").variable("ORT_DYLIB_PATH", library())
}

/// The rows that the models are judged on.
fn rows() -> Run {
    stage("ingest").run(&json!({"source": fixture("models/test.csv").display().to_string()})).well()
}

fn model(name: &str) -> PathBuf {
    fixture("models").join(name)
}

fn evaluate(name: &str, params: &Value) -> Run {
    evaluator().input("model", model(name)).input("data", rows().output("data")).run(params)
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture("golden/models.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].clone()
}

/// All that scikit-learn says is said, to 1e-9.
#[track_caller]
fn agrees(found: &Value, expected: &Value) {
    for (name, expected) in expected.as_object().unwrap() {
        match expected.as_f64() {
            Some(expected) => {
                let found = found[name].as_f64().unwrap_or_else(|| panic!("no {name} in {found}"));
                assert!(
                    (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
                    "{name}: {found}, expected {expected}"
                );
            }
            None => assert!(found.get(name).is_none(), "{name} is not defined, found {found}"),
        }
    }
}

fn report(run: &Run) -> Value {
    serde_json::from_str(&run.text("report", "metrics.json")).unwrap()
}

#[test]
fn models_are_judged_as_scikit_learn_judges_them() {
    for (name, target) in [("many", "kind"), ("two", "passed"), ("grades", "grade"), ("numbers", "price")] {
        let run = evaluate(name, &json!({"target": target, "batchSize": 50})).well();
        agrees(&report(&run)["candidate"]["metrics"], &golden(name));
        let in_status = serde_json::to_value(run.numbers("metrics.json")).unwrap();
        let key = if name == "numbers" { "rmse" } else { "f1" };
        assert_eq!(in_status[key], report(&run)["candidate"]["metrics"][key]);
    }
}

#[test]
fn candidate_and_champion_are_judged_on_the_same_rows() {
    let run = evaluator()
        .input("model", model("many"))
        .input("champion", model("many-champion"))
        .input("data", rows().output("data"))
        .run(&json!({"target": "kind"}))
        .well();
    agrees(&report(&run)["candidate"]["metrics"], &golden("many"));
    agrees(&report(&run)["champion"]["metrics"], &golden("many-champion"));
    assert_eq!(run.numbers("champion.json")["rows"], 120.0);
    assert!(run.text("report", "report.html").contains("<th>champion</th>"));
}

#[test]
fn slices_are_judged_apart_and_the_worst_gap_is_marked() {
    let run = evaluate("many", &json!({"target": "kind", "slices": ["colour", "grade"]})).well();
    let expected = golden("many by colour");
    let report = report(&run);
    let table = &report["candidate"]["slices"][0];
    assert_eq!(table["slices"].as_array().unwrap().len(), 4);
    let accuracy = |slice: &Value| slice["metrics"]["accuracy"].as_f64().unwrap();
    for slice in table["slices"].as_array().unwrap() {
        agrees(&slice["metrics"], &expected[slice["value"].as_str().unwrap()]);
    }
    let all: Vec<f64> = table["slices"].as_array().unwrap().iter().map(accuracy).collect();
    let gap = all.iter().copied().fold(0.0, f64::max) - all.iter().copied().fold(1.0, f64::min);
    assert!((table["gap"].as_f64().unwrap() - gap).abs() < 1e-12);
    let widest = report["candidate"]["slices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| table["gap"].as_f64().unwrap())
        .fold(0.0, f64::max);
    assert_eq!(run.numbers("metrics.json")["slice_gap"], widest);
    let page = run.text("report", "report.html");
    assert_eq!(page.matches("(worst)").count(), 1);
    assert!(page.contains("blue &amp; &lt;b&gt;bold&lt;/b&gt;") && !page.contains("<b>bold"));
}

#[test]
fn the_report_holds_the_drawings() {
    let run = evaluate("two", &json!({"target": "passed"})).well();
    for drawing in ["confusion.svg", "roc.svg", "precision-recall.svg", "calibration.svg"] {
        let svg = run.text("report", drawing);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"), "{drawing}");
        assert!(run.text("report", "report.html").contains(&svg), "{drawing}");
    }
    let run = evaluate("numbers", &json!({"target": "price"})).well();
    assert_eq!(run.text("report", "residuals.svg").matches("<circle").count(), 120);
}

#[test]
fn the_positive_label_can_be_chosen() {
    let yes = evaluate("two", &json!({"target": "passed"})).well().numbers("metrics.json");
    let no = evaluate("two", &json!({"target": "passed", "positive": "no"})).well().numbers("metrics.json");
    assert_ne!(yes["f1"], no["f1"]);
    assert!((yes["roc_auc"] - no["roc_auc"]).abs() < 1e-6);
    let error = evaluate("two", &json!({"target": "passed", "positive": "maybe"})).error();
    assert!(error.contains("the model has no class `maybe`; its classes are: no, yes"), "{error}");
}

#[test]
fn files_that_are_no_models_are_told() {
    let onnx = std::fs::read(model("two").join("model.onnx")).unwrap();
    let signature = std::fs::read(model("two").join("signature.json")).unwrap();
    let data = rows();
    let open = |files: &[(&str, &[u8])]| {
        let folder = Files::new(files);
        evaluator()
            .input("model", folder.path(""))
            .input("data", data.output("data"))
            .run(&json!({"target": "passed"}))
            .error()
    };
    for (files, words) in [
        (
            vec![("model.onnx", &onnx[..onnx.len() / 2]), ("signature.json", &signature[..])],
            "is no ONNX model or is truncated",
        ),
        (vec![("model.onnx", &b"this is a text"[..])], "(14 bytes) is no ONNX model"),
        (vec![("model.onnx", &b""[..])], "model.onnx is empty"),
        (vec![("weights.bin", &b"x"[..])], "has no model.onnx, found: weights.bin"),
        (vec![("model.onnx", &onnx[..]), ("signature.json", &b"{"[..])], "the signature is not as it should be"),
    ] {
        let error = open(&files);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_signature_in_the_file_serves_where_there_is_none_beside_it() {
    let onnx = std::fs::read(model("two").join("model.onnx")).unwrap();
    let folder = Files::new(&[("model.onnx", &onnx)]);
    let run = evaluator()
        .input("model", folder.path(""))
        .input("data", rows().output("data"))
        .run(&json!({"target": "passed"}))
        .well();
    agrees(&report(&run)["candidate"]["metrics"], &golden("two"));
}

#[test]
fn data_that_does_not_fit_the_model_is_told() {
    let table = |csv: &str| crate::support::table_of(csv);
    let run = |csv: &str, target: &str| {
        evaluator()
            .input("model", model("two"))
            .input("data", table(csv).output("data"))
            .run(&json!({"target": target}))
            .error()
    };
    for (csv, target, words) in [
        (
            "size,weight,passed\n1,2,yes\n",
            "passed",
            "the data has no column `colour`, which the model needs; its columns are: size, weight, passed",
        ),
        (
            "size,weight,colour,passed\nbig,2,red,yes\n",
            "passed",
            "column size is of type string, but the model needs number",
        ),
        (
            "size,weight,colour,passed\n1,2,0.5,yes\n",
            "passed",
            "column colour is of type number, but the model needs string",
        ),
        (
            "size,weight,colour,passed\n1,2,red,perhaps\n",
            "passed",
            "labels that the model does not know: perhaps (1 rows); its classes are: no, yes",
        ),
        ("size,weight,colour,passed\n1,2,red,yes\n1,2,red,\n", "passed", "the target passed has no value in row 1"),
        ("size,weight,colour,passed\n1,2,red,yes\n", "result", "parameter target: the data has no column `result`"),
    ] {
        let error = run(csv, target);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn missing_features_are_scored_as_missing() {
    let csv = "size,weight,colour,kind\n,,,low\n10,50,red,high\n";
    let run = evaluator()
        .input("model", model("many"))
        .input("data", crate::support::table_of(csv).output("data"))
        .run(&json!({"target": "kind"}));
    // A linear model has no answer for NaN: the error names the row.
    assert!(run.error().contains("the model gave NaN in row 0, expected probabilities from 0 to 1"), "{}", run.stderr);
}

#[test]
fn a_champion_that_lacks_the_newest_class_is_judged_all_the_same() {
    // `two` knows yes and no; seen as the champion of a model for `kind` it knows none of the labels.
    let run = evaluator()
        .input("model", model("many"))
        .input("champion", model("two"))
        .input("data", rows().output("data"))
        .run(&json!({"target": "kind"}))
        .well();
    assert_eq!(run.numbers("champion.json")["accuracy"], 0.0);
}

#[test]
fn a_champion_of_another_task_is_refused() {
    let run = evaluator()
        .input("model", model("many"))
        .input("champion", model("numbers"))
        .input("data", rows().output("data"))
        .run(&json!({"target": "kind"}));
    assert!(run.error().contains("the model is a classifier, but the champion is a regressor"), "{}", run.stderr);
}

#[test]
fn a_runtime_that_is_not_there_is_told() {
    let run = stage("evaluate")
        .variable("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
        .input("model", model("two"))
        .input("data", rows().output("data"))
        .run(&json!({"target": "passed"}));
    assert!(run.error().contains("failed to load ONNX Runtime from /nowhere/libonnxruntime.so"), "{}", run.stderr);
}
