//! Explanations of models whose Shapley values are known.

use serde_json::{Value, json};

use crate::support::{Server, assert_schema, heavy_rows, tabular, tabular_rows};

const PATH: &str = "/v2/models/m/explain";

fn near(found: &Value, expected: &[f64]) {
    let found: Vec<f64> = found.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (one, other) in found.iter().zip(expected) {
        assert!((one - other).abs() < 1e-4, "{found:?} is not {expected:?}");
    }
}

#[test]
fn what_two_features_make_together_is_shared_between_them() {
    let server = Server::ready("product", &[]);
    let inputs: Vec<Value> = [("a", [3.0, 1.0]), ("b", [5.0, 2.0]), ("c", [7.0, 0.5])]
        .iter()
        .map(|(name, data)| json!({"name": name, "shape": [2, 1], "datatype": "FP32", "data": data}))
        .collect();
    let answer = server.caller().post(PATH, &json!({"id": "e", "inputs": inputs}).to_string());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let answer = answer.json();
    assert_schema("inference_response", &answer);
    assert_eq!((&answer["id"], &answer["model_version"]), (&json!("e"), &json!("3")));
    assert_eq!(answer["parameters"], json!({"method": "shapley-exact", "evaluations": 8, "output": "y"}));
    // y = a b + 2 c, and a usual row has a = 1, b = 2, c = 0.5: (a - 1)(b + 2) / 2, (b - 2)(a + 1) / 2 and 2 (c - 0.5).
    assert_eq!(answer["outputs"][0]["shape"], json!([2, 3]));
    near(&answer["outputs"][0]["data"], &[7.0, 6.0, 13.0, 0.0, 0.0, 0.0]);
    assert_eq!(answer["outputs"][1]["data"], json!(["a", "b", "c"]));
    near(&answer["outputs"][2]["data"], &[3.0, 3.0]);
    near(&answer["outputs"][3]["data"], &[29.0, 3.0]);
}

#[test]
fn many_features_are_sampled_and_add_up() {
    let server = Server::ready("wide", &[]);
    let x: Vec<f64> = (0..12).map(f64::from).collect();
    let body = json!({"inputs": [{"name": "x", "shape": [1, 12], "datatype": "FP32", "data": x}]});
    let answer = server.caller().post(PATH, &body.to_string()).json();
    assert_eq!(answer["parameters"]["method"], "shapley-sampled");
    assert!(answer["parameters"]["evaluations"].as_u64().unwrap() <= 2048);
    let expected: Vec<f64> = (0..12).map(|i| f64::from(i + 1) * (f64::from(i) - 1.0)).collect();
    near(&answer["outputs"][0]["data"], &expected);
    assert_eq!(answer["outputs"][1]["data"][11], "x[11]");
}

#[test]
fn the_class_that_the_model_chose_is_explained_or_the_one_asked_for() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    // Without a profile the reference is a row of missing values, which this model takes for light.
    let answer = caller.post(PATH, &tabular_rows(&[(Some(4500.0), "female"), (None, "male")])).json();
    assert_eq!(answer["parameters"]["output"], "probabilities");
    assert_eq!(answer["outputs"][4]["data"], json!([0, 0]));
    near(&answer["outputs"][2]["data"], &[0.377_540_7, 0.377_540_7]);
    near(&answer["outputs"][3]["data"], &[1.0, 0.622_459_3]);
    near(&answer["outputs"][0]["data"], &[0.622_459_3, 0.0, 0.0, 0.244_918_6]);
    let light = tabular().replacen('{', r#"{"parameters":{"output":"probabilities","class":1},"#, 1);
    let answer = caller.post(PATH, &light).json();
    near(&answer["outputs"][0]["data"], &[-0.622_459_3, 0.0]);
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    let with = |parameters: &str| tabular().replacen('{', &format!("{{\"parameters\":{parameters},"), 1);
    let rows = vec![(Some(1.0), "x"); 17];
    for (body, words) in [
        (with(r#"{"class":2}"#), r#"output "probabilities" has 2 columns, so class 2 is none of them"#),
        (with(r#"{"output":"label"}"#), r#"output "label" is not one floating-point number"#),
        (with(r#"{"output":"x"}"#), r#"unknown output "x""#),
        (tabular_rows(&rows), "17 rows: 16 are explained at a time"),
        (tabular().replace("FP32", "INT64"), r#"input "mass" has datatype "INT64""#),
    ] {
        let answer = caller.post(PATH, &body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.error().contains(words), "{}", answer.error());
    }
    for (model, body, words) in [
        ("heavy", heavy_rows(1), "it needs a profile.json"),
        (
            "fixed",
            json!({"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]})
                .to_string(),
            "is not tabular",
        ),
    ] {
        let answer = Server::ready(model, &[]).caller().post(PATH, &body);
        assert_eq!(answer.status, 400, "{model}");
        assert!(answer.error().contains(words), "{}", answer.error());
    }
    let server = Server::ready("wide", &["--explain-budget", "23"]);
    let body = json!({"inputs": [{"name": "x", "shape": [1, 12], "datatype": "FP32", "data": vec![1.0; 12]}]});
    let answer = server.caller().post(PATH, &body.to_string());
    assert_eq!(
        answer.error(),
        "12 features are too many to explain with 23 evaluations: raise --explain-budget, server.explainBudget of a ModelDeployment"
    );
}
