//! The v1 protocol, as callers of TensorFlow Serving and KServe know it.

use serde_json::{Value, json};

use crate::support::{Server, infer_path, tabular_rows};

const PATH: &str = "/v1/models/m:predict";

#[test]
fn instances_get_one_prediction_each_with_the_values_that_v2_gives() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    let rows = [(Some(4500.0), "female"), (Some(3000.0), "male"), (None, "male"), (None, "")];
    let outputs = caller.post(infer_path(), &tabular_rows(&rows)).json()["outputs"].clone();
    let labels = outputs[0]["data"].as_array().unwrap();
    let probabilities = outputs[1]["data"].as_array().unwrap();
    let expected: Vec<Value> = (0..rows.len())
        .map(|row| json!({"label": labels[row], "probabilities": &probabilities[row * 2..row * 2 + 2]}))
        .collect();
    let objects: Vec<Value> = rows.iter().map(|(mass, sex)| json!({"mass": mass, "sex": sex})).collect();
    let lists: Vec<Value> = rows.iter().map(|(mass, sex)| json!([mass, sex])).collect();
    for path in [PATH, "/v1/models/m/versions/3:predict"] {
        for instances in [&objects, &lists] {
            let answer = caller.post(path, &json!({"instances": instances}).to_string());
            assert_eq!((answer.status, answer.json()), (200, json!({"predictions": expected})));
        }
    }
    let (mass, sex): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    let answer = caller.post(PATH, &json!({"inputs": {"mass": mass, "sex": sex}}).to_string()).json();
    assert_eq!(answer["outputs"]["label"], outputs[0]["data"]);
    assert_eq!(answer["outputs"]["probabilities"].as_array().unwrap().len(), rows.len());
}

#[test]
fn a_model_of_one_input_and_one_output_needs_no_names() {
    let server = Server::ready("lookup", &[]);
    let mut caller = server.caller();
    assert_eq!(caller.post(PATH, r#"{"instances":[0,3]}"#).json(), json!({"predictions": [0.5, 3.5]}));
    assert_eq!(caller.post(PATH, r#"{"inputs":[0,3]}"#).json(), json!({"outputs": [0.5, 3.5]}));
    let server = Server::ready("fixed", &[]);
    let answer = server.caller().post(PATH, r#"{"instances":[[1,2,3],[4,5,6]]}"#).json();
    assert_eq!(answer, json!({"predictions": [6.0, 15.0]}));
}

#[test]
fn an_output_without_rows_is_answered_whole_or_not_at_all() {
    let server = Server::ready("total", &[]);
    let mut caller = server.caller();
    let answer = caller.post(PATH, r#"{"instances":[1,2]}"#);
    let words = r#"output "total" has no row for each instance: send "inputs" in place of "instances""#;
    assert_eq!((answer.status, answer.error().as_str()), (400, words));
    assert_eq!(caller.post(PATH, r#"{"inputs":[1,2]}"#).json(), json!({"outputs": [[3.0]]}));
}

#[test]
fn wrong_requests_are_refused_and_counted_as_those_of_v2() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    let answer = caller.post(PATH, r#"{"instances":[{"mass":"x","sex":"y"}]}"#);
    assert_eq!(answer.status, 400);
    assert!(answer.error().starts_with(r#"input "mass": value 0 is "x""#), "{}", answer.error());
    for (path, status) in [("/v1/models/other:predict", 404), ("/v1/models/m/versions/4:predict", 404)] {
        assert_eq!(caller.post(path, r#"{"instances":[[1,"x"]]}"#).status, status, "{path}");
    }
    assert_eq!(caller.get(PATH).header("allow"), Some("POST"));
    server.wait_for_metric("millrace_server_requests_total{code=\"4xx\"}", 3.0);
}

#[test]
fn status_is_in_the_words_of_both_servers() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    assert_eq!(caller.get("/v1/models").json(), json!({"models": ["m"]}));
    for path in ["/v1/models/m", "/v1/models/m/versions/3"] {
        let status = json!({"error_code": "OK", "error_message": ""});
        let versions = json!([{"version": "3", "state": "AVAILABLE", "status": status}]);
        assert_eq!(
            caller.get(path).json(),
            json!({"name": "m", "ready": true, "model_version_status": versions}),
            "{path}"
        );
    }
}
