//! What the server counts of the rows that it is asked for, and says to the operator alone.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Server, eventually, infer_path, model_dir, tabular_rows};

/// The model "tabular" with a profile.
fn with_profile() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.onnx", "signature.json"] {
        std::fs::copy(model_dir("tabular").join(file), dir.path().join(file)).unwrap();
    }
    let profile = json!({ "version": 1, "rows": 100,
        "features": {
            "mass": { "type": "numeric", "count": 100, "missing": 0, "importance": 0.9,
                "histogram": { "edges": [3000, 4000, 5000], "counts": [50, 50] } },
            "sex": { "type": "categorical", "count": 100, "missing": 0, "other": 0, "importance": 0.1,
                "categories": [{ "value": "female", "count": 50 }, { "value": "male", "count": 50 }] } },
        "predictions": { "type": "categorical", "count": 100, "categories": [
            { "value": "heavy", "count": 50, "meanProbability": 0.5 },
            { "value": "light", "count": 50, "meanProbability": 0.5 }] } });
    std::fs::write(dir.path().join("profile.json"), profile.to_string()).unwrap();
    dir
}

fn server(dir: &Path, flags: &[&str]) -> Server {
    Server::ready(dir.to_str().unwrap(), &[&["--admin-port", "0"], flags].concat())
}

fn counts(server: &Server) -> Value {
    let answer = server.operator().get("/drift?window=300");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap()
}

fn ask(server: &Server, rows: &[(Option<f64>, &str)]) {
    assert_eq!(server.caller().post(infer_path(), &tabular_rows(rows)).status, 200);
}

#[test]
fn rows_of_callers_are_counted_once_the_operator_has_asked() {
    let dir = with_profile();
    let server = server(dir.path(), &[]);
    let row = [(Some(3500.0), "male")];
    ask(&server, &row);
    // Rows are looked at after their answer, before the next job: once this one has its answer the first is past that.
    assert_eq!(server.caller().post("/v2/models/m/explain", &tabular_rows(&row)).status, 200);
    let first = counts(&server);
    assert_eq!((&first["model"], &first["version"], &first["rows"]), (&json!("m"), &json!("3"), &json!(0)));
    ask(&server, &[(Some(3500.0), "male"), (None, "female")]);
    ask(&server, &[(Some(9000.0), "other")]);
    // Counting comes after the answer.
    eventually("three rows", || counts(&server)["rows"] == json!(3));
    let counts = counts(&server);
    assert_eq!(counts["outliers"], json!(1));
    let [mass, sex] = counts["features"].as_array().unwrap().as_slice() else { panic!("{counts}") };
    assert_eq!((&mass["name"], &mass["counts"], &mass["strange"]), (&json!("mass"), &json!([1, 1, 1]), &json!(1)));
    assert_eq!((&sex["name"], &sex["counts"], &sex["strange"]), (&json!("sex"), &json!([0, 1, 1, 1]), &json!(1)));
    assert_eq!(counts["predictions"]["counts"], json!([0, 1, 2, 0]));
    let series = |feature: &str, found: &str| {
        format!("millrace_server_feature_values_total{{model=\"m\",feature=\"{feature}\",found=\"{found}\"}}")
    };
    server.wait_for_metric(&series("mass", "missing"), 1.0);
    server.wait_for_metric(&series("mass", "outside"), 1.0);
    server.wait_for_metric(&series("sex", "outside"), 1.0);
}

#[test]
fn every_row_of_a_batch_is_counted_and_rows_of_an_explanation_are_not() {
    let dir = with_profile();
    let server = server(dir.path(), &["--max-delay", "50ms"]);
    counts(&server);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..25).for_each(|_| ask(&server, &[(Some(3500.0), "male"), (Some(4500.0), "female")])));
        }
    });
    eventually("all rows", || counts(&server)["rows"] == json!(400));
    let answer = server.caller().post("/v2/models/m/explain", &tabular_rows(&[(Some(3500.0), "male")]));
    assert_eq!(answer.status, 200);
    ask(&server, &[(Some(3500.0), "male")]);
    eventually("the row after it", || counts(&server)["rows"] == json!(401));
    assert_eq!(counts(&server)["features"][0]["counts"], json!([0, 201, 200]));
}

#[test]
fn callers_of_the_model_are_told_nothing() {
    let dir = with_profile();
    let server = server(dir.path(), &[]);
    assert_eq!(server.caller().get("/drift?window=300").status, 404);
    let mut operator = server.operator();
    assert_eq!(operator.post(infer_path(), &tabular_rows(&[(None, "male")])).status, 405);
    assert_eq!(server.operator().get("/v2/models/m").status, 404);
    for query in ["", "?window=5", "?window=1h", "?window=9999999"] {
        let answer = server.operator().get(&format!("/drift{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(String::from_utf8_lossy(&answer.body).contains("write the window in seconds, from 60 to 604800"));
    }
}

#[test]
fn a_model_without_a_profile_says_so() {
    let server = server(&model_dir("tabular"), &[]);
    assert_eq!(counts(&server)["nothing"], json!("the model has no profile.json"));
}
