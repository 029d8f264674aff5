//! `predict`: real ONNX models through ONNX Runtime, held against what `evaluate` counts of the same model and rows, which scikit-learn confirms.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::evaluate::library;
use crate::support::{Files, Run, Stage, fixture, stage, table_of};

fn predictor(model: &str) -> Stage {
    stage("predict").variable("ORT_DYLIB_PATH", library()).input("model", fixture("models").join(model))
}

/// The rows that the models are judged on.
fn rows() -> Run {
    stage("ingest").run(&json!({"source": fixture("models/test.csv").display().to_string()})).well()
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture("golden/models.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].clone()
}

fn files(run: &Run) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(run.output("data")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn labels_and_probabilities_are_the_models_beside_the_columns_kept() {
    for (name, target, classes) in
        [("many", "kind", &["high", "low", "middle"][..]), ("two", "passed", &["no", "yes"]), ("grades", "grade", &[])]
    {
        let run = predictor(name).input("data", rows().output("data")).run(&json!({"batchSize": 50})).well();
        let table = run.table("data");
        let truth = table.column(target);
        let predicted = table.column("prediction");
        let right = truth.iter().zip(&predicted).filter(|(truth, predicted)| truth == predicted).count();
        let accuracy = right as f64 / truth.len() as f64;
        let expected = golden(name)["accuracy"].as_f64().unwrap();
        assert!((accuracy - expected).abs() < 1e-12, "{name}: {accuracy}, expected {expected}");
        assert_eq!(truth.len(), 120);
        // The label is the class of the largest probability, and the columns are in the model's order.
        for class in classes {
            assert!(table.columns.contains(&format!("probability_{class}: Float32")), "{:?}", table.columns);
        }
        for (row, predicted) in predicted.iter().enumerate().filter(|_| !classes.is_empty()) {
            let of = |class: &&str| table.column(&format!("probability_{class}"))[row].parse::<f64>().unwrap();
            let likely = classes.iter().max_by(|a, b| of(a).total_cmp(&of(b))).unwrap();
            assert_eq!(likely, predicted);
            assert!((classes.iter().map(of).sum::<f64>() - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn labels_that_are_numbers_stay_numbers() {
    let run = predictor("grades").input("data", rows().output("data")).run(&json!({"keep": ["grade"]})).well();
    let columns = run.table("data").columns;
    assert_eq!(&columns[..2], ["grade: Int64", "prediction: Int64"]);
    // Whoever reads it can compare them.
    let sql = json!({"sql": "SELECT count(*) AS right FROM data WHERE grade = prediction"});
    let right = stage("transform").input("data", run.output("data")).run(&sql).well().table("data").rows[0][0].clone();
    let expected = golden("grades")["accuracy"].as_f64().unwrap() * 120.0;
    assert_eq!(right.parse::<f64>().unwrap(), expected.round());
}

#[test]
fn a_regressors_prediction_is_a_number() {
    let run = predictor("numbers").input("data", rows().output("data")).run(&json!({"keep": ["price"]})).well();
    let table = run.table("data");
    assert_eq!(table.columns, ["price: Float64", "prediction: Float32"]);
    let numbers =
        |name: &str| table.column(name).into_iter().map(|text| text.parse::<f64>().unwrap()).collect::<Vec<_>>();
    let errors: Vec<f64> = numbers("price")
        .iter()
        .zip(numbers("prediction"))
        .map(|(truth, predicted)| (truth - predicted).abs())
        .collect();
    let mae = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!((mae - golden("numbers")["mae"].as_f64().unwrap()).abs() < 1e-6, "{mae}");
}

#[test]
fn what_is_kept_is_chosen_and_the_figures_are_told() {
    let params = json!({"keep": ["kind", "size"], "probabilities": false});
    let run = predictor("many").input("data", rows().output("data")).run(&params).well();
    assert_eq!(run.table("data").columns, ["kind: Utf8", "size: Float64", "prediction: Utf8"]);
    assert_eq!(run.result("rows"), json!(120));
    let numbers = run.numbers("metrics.json");
    assert_eq!(numbers["rows"], 120.0);
    assert!(numbers["rows_per_second"] > 0.0);
    // Nothing but the predictions, too.
    let run = predictor("many").input("data", rows().output("data")).run(&json!({"keep": [], "probabilities": false}));
    assert_eq!(run.well().table("data").columns, ["prediction: Utf8"]);
}

/// A table of three files, the second without rows and the last of more than one piece.
fn large() -> (tempfile::TempDir, usize) {
    let folder = tempfile::tempdir().unwrap();
    let small = rows();
    let counts = [120, 0, 700_000];
    for (number, count) in counts.into_iter().enumerate() {
        let sql = format!(
            "SELECT data.*, g.value AS number FROM generate_series(0, 5999) AS g CROSS JOIN data ORDER BY number, size, weight LIMIT {count}"
        );
        let made =
            stage("transform").input("data", small.output("data")).run(&json!({"sql": sql, "allowEmpty": true})).well();
        let from = made.output("data").join("part-00000.parquet");
        std::fs::copy(from, folder.path().join(format!("{number}.parquet"))).unwrap();
    }
    (folder, counts.iter().sum())
}

#[test]
fn a_large_table_is_scored_in_pieces_and_keeps_its_order() {
    let (folder, count) = large();
    let params = json!({"keep": ["number", "size"], "probabilities": false});
    let run = predictor("many").input("data", folder.path()).run(&params).well();
    let found = run.table("data");
    assert_eq!(found.rows.len(), count);
    // A piece of the first file, and two of the last.
    assert_eq!(files(&run).len(), 3);
    let plain = json!({"sql": "SELECT number, size FROM data"});
    let expected = stage("transform").input("data", folder.path()).run(&plain).well().table("data");
    assert!(found.rows.iter().zip(&expected.rows).all(|(found, expected)| found[..2] == expected[..]));
    // The same bytes again, whoever scored which piece.
    let again = predictor("many").input("data", folder.path()).run(&params).well();
    for (one, other) in files(&run).iter().zip(files(&again)) {
        assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{}", one.display());
    }
}

#[test]
fn parts_that_are_scored_apart_are_the_whole() {
    let (folder, count) = large();
    let part = |part: u32, parts: u32| {
        let params = json!({"keep": ["number", "size"], "probabilities": false, "part": part, "parts": parts});
        predictor("many").input("data", folder.path()).run(&params).well()
    };
    let whole = predictor("many")
        .input("data", folder.path())
        .run(&json!({"keep": ["number", "size"], "probabilities": false}))
        .well();
    // There are fewer row groups: a part that has nothing is a table all the same.
    let runs: Vec<_> = (0..10).map(|number| part(number, 10)).collect();
    let tables: Vec<_> = runs.iter().map(|run| run.table("data")).collect();
    assert!(tables.iter().all(|table| table.columns == whole.table("data").columns));
    let sizes: Vec<usize> = tables.iter().map(|table| table.rows.len()).collect();
    assert_eq!((sizes.iter().sum::<usize>(), sizes.contains(&0)), (count, true), "{sizes:?}");
    let together: Vec<_> = tables.into_iter().flat_map(|table| table.rows).collect();
    assert!(together == whole.table("data").rows);
    assert_eq!(runs.iter().map(|run| run.result("rows").as_u64().unwrap()).sum::<u64>(), count as u64);
}

#[test]
fn a_table_without_rows_gives_one() {
    let sql = json!({"sql": "SELECT * FROM data WHERE size < 0", "allowEmpty": true});
    let none = stage("transform").input("data", rows().output("data")).run(&sql).well();
    let run = predictor("many").input("data", none.output("data")).run(&json!({"keep": ["kind"]})).well();
    let table = run.table("data");
    assert_eq!((table.columns.len(), table.rows.len()), (5, 0));
    assert_eq!(run.result("rows"), json!(0));
}

#[test]
fn columns_that_do_not_fit_are_told_with_what_the_signature_asks() {
    let run =
        |csv: &str, params: Value| predictor("many").input("data", table_of(csv).output("data")).run(&params).error();
    let error = run("size,colour\n1,red\n", json!({}));
    assert!(
        error.contains(
            "the data has no column `weight`, which the model takes: its signature asks for size (FP32), weight (FP32), colour (BYTES); the data's columns are: size, colour"
        ),
        "{error}"
    );
    let good = "size,weight,colour,kind\n1,2,red,low\n";
    for (csv, params, words) in [
        ("size,weight,colour\nbig,2,red\n", json!({}), "column size is of type string, but the model needs number"),
        ("size,weight,colour\n1,2,0.5\n", json!({}), "column colour is of type number, but the model needs string"),
        (
            "size,weight,colour,prediction\n1,2,red,x\n",
            json!({}),
            "the data has a column `prediction`, which is the name of one that the model adds; leave it out of the parameter keep",
        ),
        (
            good,
            json!({"keep": ["x"]}),
            "parameter keep: the data has no column `x`; its columns are: size, weight, colour, kind",
        ),
        (good, json!({"keep": ["kind", "kind"]}), "parameter keep: `kind` is named twice"),
        (good, json!({"keep": "kind"}), "predict: parameter keep: invalid type: string \"kind\", expected a sequence"),
        (good, json!({"batchSize": 0}), "predict: parameter batchSize: invalid value"),
        (
            good,
            json!({"part": 3, "parts": 3}),
            "predict: parameter part: 3 is none of 3 parts: write a number from 0 to 2",
        ),
        (good, json!({"part": 0}), "predict: parameter part: of how many is not said: write parts, too"),
        (good, json!({"parts": 2}), "predict: parameter part: which of the parts is not said: write a number from 0"),
    ] {
        let error = run(csv, params.clone());
        assert!(error.contains(words), "{csv} {params}: {error}");
    }
}

#[test]
fn files_of_other_columns_and_broken_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, csv) in [("a", "size,weight,colour\n1,2,red\n"), ("b", "size,weight,colour\n1.5,2,red\n")] {
        let table = table_of(csv);
        std::fs::copy(table.output("data").join("part-00000.parquet"), folder.path().join(format!("{name}.parquet")))
            .unwrap();
    }
    let error = predictor("many").input("data", folder.path()).run(&json!({})).error();
    assert!(error.contains("b.parquet: column size is of type number, but in the first file it is integer"), "{error}");
    let broken = Files::new(&[("part-00000.parquet", b"PAR1, and then nothing".as_slice())]);
    let error = predictor("many").input("data", broken.path("part-00000.parquet")).run(&json!({})).error();
    assert!(error.contains("is no complete Parquet file"), "{error}");
    let none = Files::new(&[("README.md", b"no model".as_slice())]);
    let error = stage("predict")
        .variable("ORT_DYLIB_PATH", library())
        .input("model", none.path(""))
        .input("data", rows().output("data"))
        .run(&json!({}))
        .error();
    assert!(error.contains("has no model.onnx, found: README.md"), "{error}");
}

#[test]
fn a_model_with_features_takes_raw_columns_and_answers_as_the_served_one() {
    // What the server's tests ask the same model with, and what it answers there.
    let folder = fixture("../../server/tests/models/raw-columns");
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("strange.json")).unwrap()).unwrap();
    let raw = fixture("../../train-tabular/tests/features/strange.parquet");
    let run = stage("predict")
        .variable("ORT_DYLIB_PATH", library())
        .input("model", folder)
        .input("data", raw)
        .run(&json!({"keep": ["left"], "batchSize": 1000}))
        .well();
    let table = run.table("data");
    assert_eq!(table.rows.len(), 4003);
    let asked = expected["rows"].as_array().unwrap().iter().map(|row| usize::try_from(row.as_u64().unwrap()).unwrap());
    let asked: Vec<usize> = asked.collect();
    let labels = table.column("prediction");
    assert!(asked.len() > 200);
    assert!(asked.iter().zip(expected["label"].as_array().unwrap()).all(|(row, label)| label == labels[*row]));
    for (class, column) in ["probability_no", "probability_yes"].into_iter().enumerate() {
        let found = table.column(column);
        for (row, likely) in asked.iter().zip(expected["probabilities"].as_array().unwrap()) {
            let (found, likely) = (found[*row].parse::<f64>().unwrap(), likely[class].as_f64().unwrap());
            assert!((found - likely).abs() < 1e-6, "row {row}, {column}: {found}, expected {likely}");
        }
    }
}
