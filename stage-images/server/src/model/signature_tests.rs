//! A graph's words against those of `signature.json`.

use super::*;

fn graph(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.to_vec() }
}

fn stated(name: &str, datatype: &str, shape: &[i64]) -> SignatureTensor {
    SignatureTensor { name: name.into(), datatype: datatype.into(), shape: shape.to_vec(), classes: None }
}

fn refusal(graph: TensorSpec, stated: &[SignatureTensor]) -> String {
    agree("input", &mut [graph], stated).unwrap_err().to_string()
}

#[test]
fn a_stated_shape_fills_in_what_the_graph_leaves_open() {
    let mut specs = [graph("x", Datatype::Fp32, &[-1, -1]), graph("y", Datatype::Bytes, &[])];
    agree("input", &mut specs, &[stated("y", "BYTES", &[-1]), stated("x", "FP32", &[-1, 4])]).unwrap();
    assert_eq!(specs[0].shape, [-1, 4]);
    assert_eq!(specs[1].shape, [-1]);
}

#[test]
fn a_contradiction_names_the_tensor_and_both_words() {
    let x = || graph("x", Datatype::Fp32, &[-1, 1]);
    assert_eq!(
        refusal(x(), &[stated("x", "INT64", &[-1, 1])]),
        "signature.json says datatype INT64 for the input \"x\", but the model says FP32"
    );
    assert_eq!(
        refusal(x(), &[stated("x", "FP32", &[-1, 2])]),
        "signature.json says shape [-1, 2] for the input \"x\", but the model says [-1, 1]"
    );
    assert_eq!(refusal(x(), &[]), "signature.json does not have the input \"x\" of the model");
    assert_eq!(
        refusal(x(), &[stated("x", "FP32", &[-1, 1]), stated("z", "FP32", &[1])]),
        "signature.json has the input \"z\", which the model does not have; its inputs are x"
    );
}

#[test]
fn task_and_classes_become_properties() {
    let text = r#"{"task":"classification","inputs":[],"outputs":[
        {"name":"p","datatype":"FP32","shape":[-1,2],"classes":["a","b"]}]}"#;
    let file: SignatureFile = serde_json::from_str(text).unwrap();
    let properties: Vec<_> = file.properties().into_iter().collect();
    let expected = [("p.classes", r#"["a","b"]"#), ("task", "classification")];
    assert_eq!(properties, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}
