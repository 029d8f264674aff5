//! v1 requests as callers of TensorFlow Serving and KServe write them.

use proptest::prelude::*;

use super::*;
use crate::tensor::{Data, Datatype};

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.to_vec() }
}

fn tabular() -> Signature {
    let inputs = vec![spec("mass", Datatype::Fp32, &[-1, 1]), spec("sex", Datatype::Bytes, &[-1, 1])];
    Signature { inputs, batched: true, ..Signature::default() }
}

fn matrix() -> Signature {
    Signature { inputs: vec![spec("x", Datatype::Fp32, &[-1, 2])], batched: true, ..Signature::default() }
}

fn refusal(body: &str, signature: &Signature) -> String {
    parse_predict(body.as_bytes(), signature).unwrap_err().to_string()
}

#[test]
fn rows_of_a_table_may_be_objects_or_lists() {
    for body in [
        r#"{"instances":[{"sex":"f","mass":1},{"mass":null,"sex":"m"}]}"#,
        r#"{"signature_name":"serving_default","instances":[{"sex":["f"],"mass":[1]},{"mass":[null],"sex":["m"]}]}"#,
        r#"{"instances":[[1,"f"],[null,"m"]]}"#,
        r#"{"instances":[[[1],["f"]],[[null],["m"]]]}"#,
        r#"{"inputs":{"sex":["f","m"],"mass":[[1],[null]]}}"#,
    ] {
        let request = parse_predict(body.as_bytes(), &tabular()).unwrap();
        assert_eq!(request.rows, 2, "{body}");
        assert_eq!(request.inputs[0].shape, [2, 1], "{body}");
        assert!(matches!(&request.inputs[0].data, Data::Fp32(v) if v[0].to_bits() == 1_f32.to_bits() && v[1].is_nan()));
        assert_eq!(request.inputs[1].data, Data::Bytes(vec!["f".into(), "m".into()]), "{body}");
    }
}

#[test]
fn a_model_of_one_input_needs_no_name() {
    let expected = Tensor { shape: vec![2, 2], data: Data::Fp32(vec![1.0, 2.0, 3.0, 4.0]) };
    for (body, form) in [
        (r#"{"instances":[[1,2],[3,4]]}"#, Form::Rows { instances: 2 }),
        (r#"{"instances":[{"x":[1,2]},{"x":[3,4]}]}"#, Form::Rows { instances: 2 }),
        (r#"{"inputs":[[1,2],[3,4]]}"#, Form::Columns),
        (r#"{"inputs":{"x":[[1,2],[3,4]]}}"#, Form::Columns),
    ] {
        let request = parse_predict(body.as_bytes(), &matrix()).unwrap();
        assert_eq!((request.inputs, request.form), (vec![expected.clone()], form), "{body}");
    }
}

#[test]
fn refusals_name_the_instance_and_the_tensor() {
    for (body, expected) in [
        ("{}", r#"send one of "instances" (one entry a row) and "inputs" (one entry a tensor)"#),
        (
            r#"{"instances":[],"inputs":[]}"#,
            r#"send one of "instances" (one entry a row) and "inputs" (one entry a tensor)"#,
        ),
        (r#"{"instances":[]}"#, r#""instances" is not an array with at least one entry"#),
        (r#"{"instances":5}"#, r#""instances" is not an array with at least one entry"#),
        (
            r#"{"instances":[[1,"f"],[1]]}"#,
            r#"instance 1 is neither an object nor an array with one value for each of the inputs "mass", "sex""#,
        ),
        (r#"{"instances":[{"mass":1}]}"#, r#"instance 0 has no "sex": every instance needs a value for each input"#),
        (
            r#"{"instances":[{"mass":1,"sex":"f","age":1}]}"#,
            r#"unknown input "age": the model's inputs are "mass", "sex""#,
        ),
        (
            r#"{"instances":[{"mass":"1","sex":"f"}]}"#,
            r#"input "mass": value 0 is "1", but FP32 needs a number in its range, or null where a value is missing"#,
        ),
        (r#"{"instances":[{"mass":[1,2],"sex":"f"}]}"#, r#"input "mass" has shape [1, 2]: the model expects [-1, 1]"#),
        (
            r#"{"inputs":[1]}"#,
            r#""inputs" is not an object: this model has the inputs "mass", "sex", send the values of each by its name"#,
        ),
        (r#"{"inputs":{"mass":[1],"sex":5}}"#, r#"input "sex" has shape []: the model expects [-1, 1]"#),
    ] {
        assert_eq!(refusal(body, &tabular()), expected, "{body}");
    }
    assert_eq!(
        refusal(r#"{"instances":[[1,2],[3]]}"#, &matrix()),
        r#"input "x": "data" is not nested like shape [2, 2]: send it flat, or with one level of brackets for each dimension"#
    );
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(text in "[\\[\\]{}\",:0-9a-z\\\\ .-]{0,40}") {
        for body in [format!("{{\"instances\":{text}}}"), format!("{{\"inputs\":{text}}}")] {
            for signature in [tabular(), matrix()] {
                let _ = parse_predict(body.as_bytes(), &signature);
            }
        }
    }

    #[test]
    fn no_nesting_makes_it_panic(text in "[\\[\\]1,]{0,60}") {
        let _ = parse_predict(format!("{{\"instances\":[{text}]}}").as_bytes(), &matrix());
    }
}
