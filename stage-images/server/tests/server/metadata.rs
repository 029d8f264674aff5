//! What the server says about itself and its model.

use serde_json::json;

use crate::support::{Server, assert_schema};

#[test]
fn server_and_model_describe_themselves_as_the_protocol_says() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    for path in ["/v2", "/v2/"] {
        let answer = caller.get(path);
        assert_eq!(answer.status, 200);
        assert_schema("metadata_server_response", &answer.json());
        assert_eq!(answer.json()["name"], "millrace-server");
        assert_eq!(answer.json()["extensions"], json!(["binary_tensor_data", "model_repository"]));
    }
    for path in ["/v2/models/m", "/v2/models/m/versions/3"] {
        let answer = caller.get(path);
        assert_eq!(answer.status, 200);
        assert_schema("metadata_model_response", &answer.json());
        let expected = json!({
            "name": "m", "versions": ["3"], "platform": "onnx_onnxruntime",
            "inputs": [
                {"name": "mass", "datatype": "FP32", "shape": [-1, 1]},
                {"name": "sex", "datatype": "BYTES", "shape": [-1, 1]},
            ],
            "outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
            ],
            "properties": {"task": "classification", "probabilities.classes": "[\"heavy\",\"light\"]",
                "execution_provider": "CPUExecutionProvider"},
        });
        assert_eq!(answer.json(), expected);
    }
}

#[test]
fn health_is_answered_for_the_server_and_the_model() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    assert_eq!(caller.get("/v2/health/live").json(), json!({"live": true}));
    assert_eq!(caller.get("/v2/health/ready").json(), json!({"ready": true}));
    assert_eq!(caller.get("/v2/models/m/ready").json(), json!({"name": "m", "ready": true}));
    assert_eq!(caller.get("/v2/models/m/versions/3/ready").json(), json!({"name": "m", "ready": true}));
}

#[test]
fn what_does_not_exist_is_a_404_that_says_what_does() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    let answer = caller.get("/v2/models/other");
    assert_eq!((answer.status, answer.error()), (404, "unknown model \"other\": this server has \"m\"".into()));
    let answer = caller.get("/v2/models/m/versions/4/ready");
    assert_eq!(
        (answer.status, answer.error()),
        (404, "model \"m\" has no version \"4\": this server has \"3\"".into())
    );
    assert_eq!(caller.get("/v1/models/other").status, 404);
    let answer = caller.get("/v2/models/m/infer");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_schema("metadata_server_error_response", &answer.json());
}

#[test]
fn a_model_without_a_signature_is_described_by_its_graph() {
    let server = Server::ready("fixed", &[]);
    let model = server.caller().get("/v2/models/m").json();
    assert_eq!(model["inputs"], json!([{"name": "x", "datatype": "FP32", "shape": [2, 3]}]));
    assert_eq!(model["outputs"], json!([{"name": "sum", "datatype": "FP32", "shape": [2]}]));
}
