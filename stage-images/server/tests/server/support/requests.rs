//! Right requests for the models of the tests.

use serde_json::json;

pub fn infer_path() -> &'static str {
    "/v2/models/m/infer"
}

/// One row that is "heavy" by its mass.
pub fn tabular() -> String {
    tabular_rows(&[(Some(4500.0), "female")])
}

pub fn tabular_rows(rows: &[(Option<f64>, &str)]) -> String {
    let (mass, sex): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    let shape = [rows.len(), 1];
    json!({"inputs": [
        {"name": "mass", "shape": shape, "datatype": "FP32", "data": mass},
        {"name": "sex", "shape": shape, "datatype": "BYTES", "data": sex},
    ]})
    .to_string()
}

pub fn lookup(index: &[i64]) -> String {
    json!({"inputs": [{"name": "index", "shape": [index.len()], "datatype": "INT64", "data": index}]}).to_string()
}

/// A request that takes the model "heavy" long enough for others to come meanwhile.
pub fn heavy() -> String {
    heavy_rows(6000)
}

pub fn heavy_rows(rows: usize) -> String {
    json!({"inputs": [{"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": vec![1; rows]}]}).to_string()
}
