//! Answers, read back with serde.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tensor::{Data, Datatype, Tensor, TensorSpec};

fn spec(name: &str, datatype: Datatype) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: vec![-1] }
}

fn json_answer(id: Option<&str>, outputs: &[Slice]) -> Vec<u8> {
    let written = write_answer("m", "3", id, outputs, &[]);
    assert_eq!(written.json, None);
    written.body
}

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn an_answer_has_the_protocols_fields() {
    let tensor = Tensor { shape: vec![2, 2], data: Data::Fp32(vec![0.1, 1.0, 1e-7, -3.5e20]) };
    let spec = spec("y", Datatype::Fp32);
    let body = json_answer(Some("id"), &[Slice { spec: &spec, tensor: &tensor, rows: None }]);
    let output = json!({"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [0.1, 1.0, 1e-7, -3.5e20]});
    assert_eq!(read(&body), json!({"model_name": "m", "model_version": "3", "id": "id", "outputs": [output]}));
}

#[test]
fn a_request_gets_its_own_rows_of_a_batch() {
    let tensor = Tensor { shape: vec![3, 2], data: Data::Int64(vec![1, 2, 3, 4, 5, 6]) };
    let spec = spec("y", Datatype::Int64);
    let body = json_answer(None, &[Slice { spec: &spec, tensor: &tensor, rows: Some(1..3) }]);
    assert_eq!(read(&body)["outputs"][0]["shape"], json!([2, 2]));
    assert_eq!(read(&body)["outputs"][0]["data"], json!([3, 4, 5, 6]));
}

#[test]
fn what_json_has_no_number_for_is_null() {
    let tensor = Tensor { shape: vec![3], data: Data::Fp64(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]) };
    let spec = spec("y", Datatype::Fp64);
    let body = json_answer(None, &[Slice { spec: &spec, tensor: &tensor, rows: None }]);
    assert_eq!(read(&body)["outputs"][0]["data"], json!([null, null, null]));
}

#[test]
fn outputs_asked_for_as_bytes_stand_behind_the_json_in_their_order() {
    let numbers = Tensor { shape: vec![3], data: Data::Int32(vec![1, 2, 3]) };
    let words = Tensor { shape: vec![3], data: Data::Bytes(vec!["a".into(), "bc".into(), String::new()]) };
    let (n, w) = (spec("n", Datatype::Int32), spec("w", Datatype::Bytes));
    let slice = |spec, tensor| Slice { spec, tensor, rows: Some(1..3) };
    let written = write_answer("m", "3", None, &[slice(&w, &words), slice(&n, &numbers)], &[true, true]);
    let (text, raw) = written.body.split_at(written.json.unwrap());
    assert_eq!(read(text)["outputs"][0]["parameters"], json!({"binary_data_size": 10}));
    assert_eq!(read(text)["outputs"][1]["parameters"], json!({"binary_data_size": 8}));
    assert_eq!(raw, b"\x02\0\0\0bc\0\0\0\0\x02\0\0\0\x03\0\0\0");
    let written = write_answer("m", "3", None, &[slice(&w, &words), slice(&n, &numbers)], &[false, true]);
    let (text, raw) = written.body.split_at(written.json.unwrap());
    assert_eq!(read(text)["outputs"][0]["data"], json!(["bc", ""]));
    assert_eq!(raw.len(), 8);
}

#[test]
fn an_error_is_one_object_whatever_it_quotes() {
    assert_eq!(read(&error_body("a \"b\"\n\\ \u{1}é")), json!({"error": "a \"b\"\n\\ \u{1}é"}));
}

proptest! {
    #[test]
    fn numbers_and_texts_read_back_as_they_were(
        singles in proptest::collection::vec(any::<f32>(), 0..9),
        texts in proptest::collection::vec(any::<String>(), 0..9),
    ) {
        let shape = |length: usize| vec![i64::try_from(length).unwrap()];
        let singles: Vec<f32> = singles.into_iter().filter(|value| value.is_finite()).collect();
        let numbers = Tensor { shape: shape(singles.len()), data: Data::Fp32(singles.clone()) };
        let words = Tensor { shape: shape(texts.len()), data: Data::Bytes(texts.clone()) };
        let specs = [spec("n", Datatype::Fp32), spec("w", Datatype::Bytes)];
        let slices = [
            Slice { spec: &specs[0], tensor: &numbers, rows: None },
            Slice { spec: &specs[1], tensor: &words, rows: None },
        ];
        let body = String::from_utf8(json_answer(None, &slices)).unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        let list = answer["outputs"][0]["data"].as_array().unwrap();
        // serde reads a number as a double: the nearest single of that is the one that was written.
        let back: Vec<f32> = list.iter().map(|value| value.to_string().parse().unwrap()).collect();
        prop_assert_eq!(back, singles);
        prop_assert_eq!(&answer["outputs"][1]["data"], &json!(texts));
    }
}
