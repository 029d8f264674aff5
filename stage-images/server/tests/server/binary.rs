//! The binary extension: values as raw bytes behind the JSON.

use serde_json::{Value, json};

use crate::support::{Answer, Caller, Server, assert_schema, every_type_raw, infer_path};

/// Posts JSON with raw bytes behind it.
fn post(caller: &mut Caller, request: &Value, raw: &[u8]) -> Answer {
    let text = request.to_string();
    let length = text.len().to_string();
    let headers = [("content-type", "application/octet-stream"), ("Inference-Header-Content-Length", length.as_str())];
    caller.post_as(infer_path(), &headers, &[text.as_bytes(), raw].concat()).unwrap()
}

/// The JSON and the raw bytes of an answer.
fn split(answer: &Answer) -> (Value, &[u8]) {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    let length = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let (text, raw) = answer.body.split_at(length);
    (serde_json::from_slice(text).unwrap(), raw)
}

#[test]
fn values_of_every_datatype_go_through_the_model_unchanged() {
    let server = Server::ready("every-type", &[]);
    let inputs: Vec<Value> = every_type_raw()
        .iter()
        .map(|(datatype, raw)| {
            let parameters = json!({"binary_data_size": raw.len()});
            json!({"name": format!("in_{datatype}"), "datatype": datatype, "shape": [1, 2], "parameters": parameters})
        })
        .collect();
    let sent: Vec<u8> = every_type_raw().into_iter().flat_map(|(_, raw)| raw).collect();
    let request = json!({"id": "b", "inputs": inputs, "parameters": {"binary_data_output": true}});
    let answer = post(&mut server.caller(), &request, &sent);
    let (text, raw) = split(&answer);
    assert_eq!(raw, sent);
    assert_eq!(text["id"], "b");
    for (output, (datatype, raw)) in text["outputs"].as_array().unwrap().iter().zip(every_type_raw()) {
        let parameters = json!({"binary_data_size": raw.len()});
        let expected = json!({
            "name": format!("out_{datatype}"), "datatype": datatype, "shape": [1, 2], "parameters": parameters,
        });
        assert_eq!(*output, expected);
    }
}

#[test]
fn bytes_in_and_json_out_and_the_other_way_round() {
    let server = Server::ready("lookup", &[]);
    let mut caller = server.caller();
    let input = json!({"name": "index", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}});
    let raw = [3_i64.to_le_bytes(), 0_i64.to_le_bytes()].concat();
    let answer = post(&mut caller, &json!({"inputs": [input]}), &raw);
    assert_eq!((answer.status, answer.header("inference-header-content-length")), (200, None));
    assert_schema("inference_response", &answer.json());
    assert_eq!(answer.json()["outputs"][0]["data"], json!([3.5, 0.5]));
    let request = json!({
        "inputs": [{"name": "index", "datatype": "INT64", "shape": [2], "data": [3, 0]}],
        "outputs": [{"name": "value", "parameters": {"binary_data": true}}],
    });
    let answer = caller.post(infer_path(), &request.to_string());
    assert_eq!(split(&answer).1, [3.5_f32.to_le_bytes(), 0.5_f32.to_le_bytes()].concat());
}

#[test]
fn requests_that_run_together_get_their_own_bytes() {
    let server = Server::ready("lookup", &[]);
    let callers: Vec<_> = (0..8_u8)
        .map(|number| {
            let mut caller = server.caller();
            std::thread::spawn(move || {
                let index = i64::from(number % 4);
                let expected = (f32::from(number % 4) + 0.5).to_le_bytes();
                let input =
                    json!({"name": "index", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}});
                let request = json!({"inputs": [input], "parameters": {"binary_data_output": true}});
                for _ in 0..100 {
                    let answer = post(&mut caller, &request, &index.to_le_bytes());
                    assert_eq!(split(&answer).1, expected);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn bytes_that_do_not_add_up_are_a_400_that_names_the_tensor() {
    let server = Server::ready("lookup", &[]);
    let mut caller = server.caller();
    let request = |size: usize| {
        json!({"inputs": [
            {"name": "index", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": size}},
        ]})
    };
    for (size, raw, expected) in [
        (16, 15, r#"input "index" has the "binary_data_size" 16, but 15 bytes are left of the body"#),
        (15, 15, r#"input "index": it has 15 bytes, but 2 values of shape [2] need 8 bytes each"#),
        (16, 17, "1 bytes of the body belong to no input"),
    ] {
        let answer = post(&mut caller, &request(size), &vec![0; raw]);
        assert_eq!((answer.status, answer.error().as_str()), (400, expected));
    }
    for (length, expected) in [
        ("x", r#"Inference-Header-Content-Length is "x", not a number of bytes"#),
        ("-1", r#"Inference-Header-Content-Length is "-1", not a number of bytes"#),
        ("9", "Inference-Header-Content-Length is 9, but the body has 2 bytes"),
    ] {
        let answer = caller.post_as(infer_path(), &[("inference-header-content-length", length)], b"{}").unwrap();
        assert_eq!((answer.status, answer.error().as_str()), (400, expected));
    }
    assert_eq!(post(&mut server.caller(), &request(16), &[0; 16]).status, 200);
}
