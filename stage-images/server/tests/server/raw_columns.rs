//! A model whose file begins with the graph of the stage `features`: it is asked with raw columns, and answers as its estimator does of the features
//! that the stage wrote. The trainer's `tests/features/make.py` makes the model and what it has to answer.

use serde_json::{Value, json};

use crate::support::{Server, infer_path, model_dir};

fn strange() -> Value {
    serde_json::from_str(&std::fs::read_to_string(model_dir("raw-columns").join("strange.json")).unwrap()).unwrap()
}

#[test]
fn missing_values_unknown_texts_and_far_numbers_are_answered_as_the_features_of_the_table_are() {
    let server = Server::ready("raw-columns", &[]);
    let expected = strange();
    let answer = server.caller().post(infer_path(), &expected["request"].to_string());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let answer = answer.json();
    assert_eq!(answer["outputs"][0]["data"], expected["label"]);
    let found: Vec<f64> =
        answer["outputs"][1]["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    let rows = expected["probabilities"].as_array().unwrap();
    let wanted: Vec<f64> = rows.iter().flat_map(|row| row.as_array().unwrap()).map(|p| p.as_f64().unwrap()).collect();
    assert_eq!(found.len(), wanted.len());
    assert!(rows.len() > 200);
    assert!(found.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-6));
}

/// A request of some of the rows.
fn only(expected: &Value, rows: &[usize]) -> String {
    let some = |input: &Value| {
        let data: Vec<&Value> = rows.iter().map(|row| &input["data"][*row]).collect();
        json!({"name": input["name"], "datatype": input["datatype"], "shape": [rows.len(), 1], "data": data})
    };
    let inputs: Vec<Value> = expected["request"]["inputs"].as_array().unwrap().iter().map(some).collect();
    json!({"inputs": inputs}).to_string()
}

#[test]
fn a_row_asked_alone_is_answered_as_in_a_batch() {
    let server = Server::ready("raw-columns", &[]);
    let (mut caller, expected) = (server.caller(), strange());
    let last = expected["rows"].as_array().unwrap().len() - 1;
    // Nothing has a value in the last one.
    for row in [0, 7, 100, 200, last] {
        let answer = caller.post(infer_path(), &only(&expected, &[row]));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json()["outputs"][0]["data"], json!([expected["label"][row]]));
    }
}

#[test]
fn an_answer_is_explained_by_raw_columns() {
    let server = Server::ready("raw-columns", &[]);
    let answer = server.caller().post("/v2/models/m/explain", &only(&strange(), &[0, 1, 2]));
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let answer = answer.json();
    let names = answer["outputs"][1]["data"].as_array().unwrap();
    assert_eq!(answer["outputs"][0]["shape"], json!([3, names.len()]));
    assert!(
        names.contains(&json!("city")) && names.contains(&json!("age")) && !names.contains(&json!("age_x_age")),
        "{names:?}"
    );
}
