//! Requests as callers write them, and the words with which wrong ones are refused.

use proptest::prelude::*;

use super::*;
use crate::tensor::{Data, Datatype, Tensor, TensorSpec};

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.to_vec() }
}

fn signature() -> Signature {
    Signature {
        inputs: vec![spec("mass", Datatype::Fp32, &[-1, 1]), spec("sex", Datatype::Bytes, &[-1, 1])],
        outputs: vec![spec("label", Datatype::Bytes, &[-1]), spec("probabilities", Datatype::Fp32, &[-1, 2])],
        batched: true,
        ..Signature::default()
    }
}

const MASS: &str = r#"{"name":"mass","shape":[2,1],"datatype":"FP32","data":[1,2]}"#;
const SEX: &str = r#"{"name":"sex","shape":[2,1],"datatype":"BYTES","data":["m","f"]}"#;

fn inputs(list: &[&str]) -> String {
    format!(r#"{{"inputs":[{}]}}"#, list.join(","))
}

fn refusal(body: &str) -> String {
    parse(body.as_bytes(), None, &signature()).unwrap_err().to_string()
}

#[test]
fn inputs_come_out_in_the_models_order_with_their_rows() {
    let request = parse(inputs(&[SEX, MASS]).as_bytes(), None, &signature()).unwrap();
    assert_eq!(request.rows, 2);
    assert_eq!(request.outputs, [0, 1]);
    assert_eq!(request.id, None);
    let mass = Tensor { shape: vec![2, 1], data: Data::Fp32(vec![1.0, 2.0]) };
    let sex = Tensor { shape: vec![2, 1], data: Data::Bytes(vec!["m".into(), "f".into()]) };
    assert_eq!(request.inputs, [mass, sex]);
}

#[test]
fn fields_may_come_in_any_order_and_unknown_ones_are_read_over() {
    let body = format!(
        r#"{{"parameters":{{"a":[1,{{}}]}},"outputs":[{{"parameters":{{"binary_data":false}},"name":"probabilities"}}],
        "inputs":[{{"data":[[1],[2]],"parameters":{{"x":1}},"datatype":"FP32","shape":[2,1],"name":"m\u0061ss"}},{SEX}],
        "id":"a\"b","later":null}}"#
    );
    let request = parse(body.as_bytes(), None, &signature()).unwrap();
    assert_eq!(request.id.as_deref(), Some("a\"b"));
    assert_eq!(request.outputs, [1]);
}

#[test]
fn a_body_without_json_is_the_only_input() {
    let of = |datatype, shape: &[i64]| Signature {
        inputs: vec![spec("x", datatype, shape)],
        outputs: vec![spec("y", Datatype::Fp32, &[-1])],
        batched: shape.first() == Some(&-1),
        ..Signature::default()
    };
    let floats: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    for (shape, found) in [(&[-1, 2][..], [2, 2]), (&[2, 2], [2, 2]), (&[-1, -1], [1, 4]), (&[1, -1], [1, 4])] {
        let request = parse(&floats, Some(0), &of(Datatype::Fp32, shape)).unwrap();
        assert_eq!(request.inputs, [Tensor { shape: found.to_vec(), data: Data::Fp32(vec![1.0, 2.0, 3.0, 4.0]) }]);
        assert_eq!((request.outputs, request.binary), (vec![0], vec![true]));
    }
    let text = parse("ä b".as_bytes(), Some(0), &of(Datatype::Bytes, &[-1, 1])).unwrap();
    assert_eq!(text.inputs, [Tensor { shape: vec![1, 1], data: Data::Bytes(vec!["ä b".into()]) }]);
    let refused = |body: &[u8], signature: &Signature| parse(body, Some(0), signature).unwrap_err().to_string();
    assert!(refused(&floats, &signature()).contains(r#"its inputs are "mass", "sex""#));
    let open = refused(&floats, &of(Datatype::Fp32, &[-1, -1, -1]));
    assert_eq!(
        open,
        r#"input "x" has the shape [-1, -1, -1], which its bytes alone do not tell: send its shape in JSON"#
    );
    assert!(refused(b"a", &of(Datatype::Bytes, &[-1, 3])).contains("[-1, 3], which its bytes alone do not tell"));
    assert!(refused(&floats[..15], &of(Datatype::Fp32, &[-1, 2])).contains("15 bytes"));
    assert!(refused(&floats[..4], &of(Datatype::Fp32, &[-1, 2])).contains("no dimension may be 0"));
    assert_eq!(parse(b"", Some(0), &signature()).unwrap_err(), RequestError::Empty);
}

#[test]
fn refusals_name_the_tensor_and_what_was_expected() {
    let shape = |shape: &str| MASS.replace("[2,1]", shape);
    let cases = [
        (inputs(&[MASS]), r#"input "sex" (BYTES, shape [-1, 1]) is missing"#),
        (inputs(&[MASS, SEX, MASS]), r#"input "mass" is there twice: send it once"#),
        (
            inputs(&[MASS, SEX, &MASS.replace("mass", "age")]),
            r#"unknown input "age": the model's inputs are "mass", "sex""#,
        ),
        (inputs(&[&MASS.replace("FP32", "FP64"), SEX]), r#"input "mass" has datatype "FP64": the model expects FP32"#),
        (inputs(&[&shape("[2]"), SEX]), r#"input "mass" has shape [2]: the model expects [-1, 1]"#),
        (inputs(&[&shape("[1,2]"), SEX]), r#"input "mass" has shape [1, 2]: the model expects [-1, 1]"#),
        (inputs(&[&shape("[2,1,1]"), SEX]), r#"input "mass" has shape [2, 1, 1]: the model expects [-1, 1]"#),
        (
            inputs(&[&shape("[0,1]"), SEX]),
            r#"input "mass" has shape [0, 1]: the model expects [-1, 1]: no dimension may be 0, send at least one row"#,
        ),
        (
            inputs(&[&shape("[-1,1]"), SEX]),
            r#"input "mass" has shape [-1, 1]: the model expects [-1, 1]: -1 stands for the number that you send"#,
        ),
        (inputs(&[&shape("[3,1]"), SEX]), r#"input "mass": "data" has 2 values, but shape [3, 1] needs 3"#),
        (
            inputs(&[MASS, &SEX.replace("[2,1]", "[1,1]").replace(r#","f""#, "")]),
            r#"input "sex" has 1 rows, but input "mass" has 2: every input needs the same number"#,
        ),
        (
            inputs(&[&MASS.replace("[1,2]", "[1,\"x\"]"), SEX]),
            r#"input "mass": value 1 is "x", but FP32 needs a number in its range, or null where a value is missing"#,
        ),
        (
            inputs(&[&MASS.replace(r#","data":[1,2]"#, ""), SEX]),
            r#"input "mass" has no "data", and no "binary_data_size" in its parameters"#,
        ),
        (
            inputs(&[MASS, SEX]).replace("}]}", r#"}],"outputs":[{"name":"score"}]}"#),
            r#"unknown output "score": the model's outputs are "label", "probabilities""#,
        ),
        (String::new(), r#"the body is empty: send an inference request, {"inputs": [...]}"#),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(&body), expected, "{body}");
    }
}

#[test]
fn broken_json_is_refused_with_its_place() {
    assert!(refusal("{\"inputs\":[").contains("line 1 column 11"));
    assert!(refusal("{}").contains("missing field `inputs`"));
    assert!(refusal("[]").starts_with("the body is not an inference request"));
    assert!(refusal(&inputs(&[&MASS.replace("[2,1]", "[2.5,1]"), SEX])).contains("expected i64"));
    assert!(refusal(&(inputs(&[MASS, SEX]) + "x")).contains("trailing characters"));
}

#[test]
fn a_nan_literal_is_refused_with_the_remedy() {
    for literal in ["NaN", "Infinity", "-Infinity", "nan"] {
        let text = refusal(&inputs(&[&MASS.replace("[1,2]", &format!("[1,{literal}]")), SEX]));
        assert!(text.ends_with("write null where a number is missing"), "{literal}: {text}");
    }
    assert!(!refusal("{\"inputs\":[x").contains("NaN"));
}

#[test]
fn a_shape_whose_product_overflows_is_refused() {
    let huge = MASS.replace("[2,1]", "[9223372036854775807,1]");
    assert!(refusal(&inputs(&[&huge, SEX])).contains("needs 9223372036854775807"));
    let wide = Signature { inputs: vec![spec("x", Datatype::Fp32, &[-1, -1, -1])], ..Signature::default() };
    let body = r#"{"inputs":[{"name":"x","shape":[4294967296,4294967296,4294967296],"datatype":"FP32","data":[]}]}"#;
    assert!(parse(body.as_bytes(), None, &wide).unwrap_err().to_string().contains("more values than fit in memory"));
}

#[test]
fn what_a_caller_wrote_is_quoted_short() {
    let long = inputs(&[&MASS.replace("mass", &"é".repeat(100_000)), SEX]);
    assert!(refusal(&long).len() < 400);
}

#[test]
fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    for body in [
        "[".repeat(200_000),
        format!(r#"{{"inputs":[{{"name":"mass","shape":[2,1],"datatype":"FP32","data":{}"#, "[".repeat(200_000)),
    ] {
        assert!(refusal(&body).starts_with("the body is not an inference request"));
    }
}

const RAW_MASS: &str = r#"{"name":"mass","shape":[2,1],"datatype":"FP32","parameters":{"binary_data_size":8}}"#;

/// A request in the binary extension and how much of it is JSON.
fn with_bytes(text: &str, raw: &[u8]) -> (Vec<u8>, Option<usize>) {
    ([text.as_bytes(), raw].concat(), Some(text.len()))
}

#[test]
fn raw_values_are_taken_in_the_order_of_their_inputs() {
    let sex = SEX.replace(r#""data":["m","f"]"#, r#""parameters":{"binary_data_size":10}"#);
    let words = b"\x01\0\0\0m\x01\0\0\0f";
    let numbers = [1_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat();
    for (list, raw) in [
        ([sex.as_str(), RAW_MASS], [&words[..], &numbers].concat()),
        ([RAW_MASS, sex.as_str()], [&numbers, &words[..]].concat()),
        ([RAW_MASS, SEX], numbers.clone()),
    ] {
        let (body, json) = with_bytes(&inputs(&list), &raw);
        let request = parse(&body, json, &signature()).unwrap();
        assert_eq!(request.inputs[0].data, Data::Fp32(vec![1.0, 2.0]));
        assert_eq!(request.inputs[1].data, Data::Bytes(vec!["m".into(), "f".into()]));
        assert_eq!(request.binary, [false, false]);
    }
}

#[test]
fn outputs_are_asked_for_as_bytes_one_by_one_or_all_together() {
    for (asked, binary) in [
        (r#""outputs":[{"name":"label","parameters":{"binary_data":true}},{"name":"probabilities"}]"#, [true, false]),
        (r#""parameters":{"binary_data_output":true}"#, [true, true]),
        (
            r#""parameters":{"binary_data_output":true},"outputs":[{"name":"label","parameters":{"binary_data":false}},{"name":"probabilities"}]"#,
            [false, true],
        ),
    ] {
        let body = inputs(&[MASS, SEX]).replacen('{', &format!("{{{asked},"), 1);
        assert_eq!(parse(body.as_bytes(), None, &signature()).unwrap().binary, binary, "{asked}");
    }
}

#[test]
fn raw_values_that_do_not_add_up_are_refused() {
    let both = RAW_MASS.replace("\"parameters\"", "\"data\":[1,2],\"parameters\"");
    let large = RAW_MASS.replace(":8", ":9");
    for (list, raw, expected) in [
        ([RAW_MASS, SEX], 7, r#"input "mass" has the "binary_data_size" 8, but 7 bytes are left of the body"#),
        ([RAW_MASS, SEX], 9, "1 bytes of the body belong to no input"),
        ([MASS, SEX], 1, "1 bytes of the body belong to no input"),
        ([&both, SEX], 8, r#"input "mass" has both "data" and "binary_data_size": send one of them"#),
        ([&large, SEX], 9, r#"input "mass": it has 9 bytes, but 2 values of shape [2, 1] need 4 bytes each"#),
    ] {
        let (body, json) = with_bytes(&inputs(&list), &vec![0; raw]);
        assert_eq!(parse(&body, json, &signature()).unwrap_err().to_string(), expected);
    }
    assert_eq!(
        refusal(&inputs(&[RAW_MASS, SEX])),
        r#"input "mass" has "binary_data_size", but the request has no header Inference-Header-Content-Length"#
    );
    let error = parse(b"{}", Some(3), &signature()).unwrap_err();
    assert_eq!(error.to_string(), "Inference-Header-Content-Length is 3, but the body has 2 bytes");
}

proptest! {
    #[test]
    fn a_request_with_a_byte_changed_is_answered_or_refused_but_never_panics(
        at in 0_usize..170, byte in any::<u8>(), cut in 0_usize..180,
    ) {
        let mut body = inputs(&[MASS, SEX]).into_bytes();
        let last = body.len() - 1;
        body[at.min(last)] = byte;
        body.truncate(cut);
        let _ = parse(&body, None, &signature());
    }

    #[test]
    fn any_json_is_answered_or_refused_but_never_panics(
        name in "mass|sex|x", shape in proptest::collection::vec(-2_i64..4, 0..4),
        datatype in "FP32|BYTES|INT8|", data in "\\[([0-9]|\"a\"|null|true|\\[|\\]|,){0,8}\\]",
    ) {
        let one = format!(r#"{{"name":"{name}","shape":{shape:?},"datatype":"{datatype}","data":{data}}}"#);
        if let Ok(request) = parse(inputs(&[&one, SEX]).as_bytes(), None, &signature()) {
            for tensor in request.inputs {
                let product: i64 = tensor.shape.iter().product();
                prop_assert_eq!(usize::try_from(product).unwrap(), tensor.data.len());
            }
        }
    }
}
