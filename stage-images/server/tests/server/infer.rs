//! Right requests and their answers.

use serde_json::{Value, json};

use crate::support::{Server, assert_schema, infer_path, tabular, tabular_rows};

#[test]
fn a_classifier_gives_label_and_probabilities_for_raw_columns() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    let rows = [(Some(4500.0), "female"), (Some(3000.0), "male"), (None, "male"), (None, "")];
    let answer = caller.post(infer_path(), &tabular_rows(&rows));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = answer.json();
    assert_schema("inference_response", &answer);
    assert_eq!(answer["model_name"], "m");
    assert_eq!(answer["model_version"], "3");
    assert_eq!(answer.get("id"), None);
    assert_eq!(answer["outputs"][0]["name"], "label");
    assert_eq!(answer["outputs"][0]["data"], json!(["heavy", "light", "heavy", "light"]));
    assert_eq!(answer["outputs"][1]["shape"], json!([4, 2]));
    let probabilities = answer["outputs"][1]["data"].as_array().unwrap();
    let sure = |index: usize| probabilities[index].as_f64().unwrap();
    assert!((sure(4) - 0.622_459_3).abs() < 1e-6, "{}", sure(4));
    assert!((sure(6) - 0.377_540_7).abs() < 1e-6, "{}", sure(6));
}

#[test]
fn the_version_may_be_named_and_the_id_comes_back() {
    let server = Server::ready("tabular", &[]);
    let body = tabular().replacen('{', "{\"id\":\"a \\\"1\\\"\",", 1);
    let answer = server.caller().post("/v2/models/m/versions/3/infer", &body);
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("a \"1\"")));
}

#[test]
fn only_the_outputs_asked_for_are_given_in_their_order() {
    let server = Server::ready("tabular", &[]);
    let names = |asked: &str| -> Vec<Value> {
        let body = tabular().replacen('{', &format!("{{\"outputs\":{asked},"), 1);
        let answer = server.caller().post(infer_path(), &body).json();
        answer["outputs"].as_array().unwrap().iter().map(|output| output["name"].clone()).collect()
    };
    assert_eq!(names(r#"[{"name":"probabilities"}]"#), ["probabilities"]);
    assert_eq!(names(r#"[{"name":"probabilities"},{"name":"label"}]"#), ["probabilities", "label"]);
    assert_eq!(names("[]"), ["label", "probabilities"]);
}

#[test]
fn values_of_every_datatype_go_through_the_model_unchanged() {
    let server = Server::ready("every-type", &[]);
    let values = [
        ("BOOL", json!([true, false])),
        ("UINT8", json!([0, 255])),
        ("UINT16", json!([0, 65535])),
        ("UINT32", json!([0, 4_294_967_295_u32])),
        ("UINT64", json!([0, u64::MAX])),
        ("INT8", json!([-128, 127])),
        ("INT16", json!([-32768, 32767])),
        ("INT32", json!([i32::MIN, i32::MAX])),
        ("INT64", json!([i64::MIN, i64::MAX])),
        ("FP16", json!([0.5, -65504.0])),
        ("FP32", json!([0.1, 3.4e38])),
        ("FP64", json!([0.1, 1e308])),
        ("BYTES", json!(["", "ä \"quoted\"\n😀"])),
    ];
    let inputs: Vec<Value> = values
        .iter()
        .map(|(datatype, data)| json!({"name": format!("in_{datatype}"), "datatype": datatype, "shape": [1, 2], "data": data}))
        .collect();
    let answer = server.caller().post(infer_path(), &json!({"inputs": inputs}).to_string());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let answer = answer.json();
    assert_schema("inference_response", &answer);
    for (output, (datatype, data)) in answer["outputs"].as_array().unwrap().iter().zip(&values) {
        assert_eq!(output["datatype"], *datatype);
        assert_eq!(output["name"], format!("out_{datatype}"));
        assert_eq!(output["shape"], json!([1, 2]));
        assert_eq!(&output["data"], data, "{datatype}");
    }
}

#[test]
fn a_missing_number_goes_in_and_comes_out_as_null() {
    let server = Server::ready("every-type", &[]);
    let all = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
        "BYTES",
    ];
    let inputs: Vec<Value> = all
        .iter()
        .map(|datatype| {
            let data = match *datatype {
                "BOOL" => json!([[true, true]]),
                "FP16" | "FP32" | "FP64" | "BYTES" => json!([[null, null]]),
                _ => json!([[1, 1]]),
            };
            json!({"name": format!("in_{datatype}"), "datatype": datatype, "shape": [1, 2], "data": data})
        })
        .collect();
    let answer = server.caller().post(infer_path(), &json!({"inputs": inputs}).to_string()).json();
    for index in 9..12 {
        assert_eq!(answer["outputs"][index]["data"], json!([null, null]));
    }
    assert_eq!(answer["outputs"][12]["data"], json!(["", ""]));
}

#[test]
fn a_model_of_fixed_shape_answers_that_shape() {
    let server = Server::ready("fixed", &[]);
    let body = |shape: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32","data":[[1,2,3],[4,5,6]]}}]}}"#)
    };
    let answer = server.caller().post(infer_path(), &body("[2,3]")).json();
    assert_eq!(answer["outputs"][0], json!({"name": "sum", "datatype": "FP32", "shape": [2], "data": [6.0, 15.0]}));
    let answer = server.caller().post(infer_path(), &body("[3,2]"));
    assert_eq!((answer.status, answer.error()), (400, "input \"x\" has shape [3, 2]: the model expects [2, 3]".into()));
}

#[test]
fn a_request_of_many_rows_is_answered_whole() {
    let server = Server::ready("tabular", &[]);
    let rows: Vec<(Option<f64>, &str)> = (0..50_000).map(|row| (Some(f64::from(row % 2) * 9000.0), "x")).collect();
    let answer = server.caller().post(infer_path(), &tabular_rows(&rows)).json();
    let labels = answer["outputs"][0]["data"].as_array().unwrap();
    assert_eq!(labels.len(), rows.len());
    assert!(labels.chunks(2).all(|pair| pair == ["light", "heavy"]));
}

#[test]
fn a_body_in_chunks_and_several_requests_on_one_connection_are_answered() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    for _ in 0..3 {
        let body = tabular();
        let (first, second) = body.split_at(20);
        let chunked = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            infer_path(),
            first.len(),
            second.len()
        );
        let answer = caller.send(chunked.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert!(!answer.closes());
    }
}
