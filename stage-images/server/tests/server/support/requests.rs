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

/// Two values of each datatype as raw bytes, in the order of the model "every-type".
pub fn every_type_raw() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("BOOL", vec![1, 0]),
        ("UINT8", vec![0, 255]),
        ("UINT16", vec![0, 0, 255, 255]),
        ("UINT32", [0_u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat()),
        ("UINT64", [0_u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat()),
        ("INT8", vec![128, 127]),
        ("INT16", [i16::MIN.to_le_bytes(), i16::MAX.to_le_bytes()].concat()),
        ("INT32", [i32::MIN.to_le_bytes(), i32::MAX.to_le_bytes()].concat()),
        ("INT64", [i64::MIN.to_le_bytes(), i64::MAX.to_le_bytes()].concat()),
        // 0.5 and the largest number below zero.
        ("FP16", vec![0x00, 0x38, 0xff, 0xfb]),
        ("FP32", [f32::NAN.to_le_bytes(), f32::INFINITY.to_le_bytes()].concat()),
        ("FP64", [f64::MIN_POSITIVE.to_le_bytes(), f64::MAX.to_le_bytes()].concat()),
        ("BYTES", b"\0\0\0\0\x06\0\0\0\xc3\xa4\xf0\x9f\x98\x80".to_vec()),
    ]
}
