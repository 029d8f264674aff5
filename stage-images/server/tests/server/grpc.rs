//! gRPC, on the port that REST has.

use bytes::Bytes;

use crate::support::messages::infer_parameter::ParameterChoice;
use crate::support::messages::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::support::messages::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use crate::support::{
    Called, GrpcCaller, Server, assert_schema, every_type_raw, framed, infer_path, tabular, tabular_rows,
};

const OK: u32 = 0;
const INVALID_ARGUMENT: u32 = 3;
const DEADLINE_EXCEEDED: u32 = 4;
const NOT_FOUND: u32 = 5;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const UNAVAILABLE: u32 = 14;

fn input(name: &str, datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    let (name, datatype) = (name.into(), datatype.into());
    InferInputTensor { name, datatype, shape: shape.to_vec(), contents, ..InferInputTensor::default() }
}

fn request(inputs: Vec<InferInputTensor>) -> ModelInferRequest {
    ModelInferRequest { model_name: "m".into(), inputs, ..ModelInferRequest::default() }
}

/// The row that `tabular()` has.
fn typed() -> ModelInferRequest {
    let mass = InferTensorContents { fp32_contents: vec![4500.0], ..InferTensorContents::default() };
    let sex =
        InferTensorContents { bytes_contents: vec![Bytes::from_static(b"female")], ..InferTensorContents::default() };
    request(vec![input("mass", "FP32", &[1, 1], Some(mass)), input("sex", "BYTES", &[1, 1], Some(sex))])
}

fn lookup_raw(index: &[i64]) -> ModelInferRequest {
    let raw: Vec<u8> = index.iter().flat_map(|index| index.to_le_bytes()).collect();
    let shape = [i64::try_from(index.len()).unwrap()];
    let raw_input_contents = vec![raw.into()];
    ModelInferRequest { raw_input_contents, ..request(vec![input("index", "INT64", &shape, None)]) }
}

/// A row for the model "heavy".
fn heavy_row() -> ModelInferRequest {
    let x = InferTensorContents { fp32_contents: vec![1.0], ..InferTensorContents::default() };
    request(vec![input("x", "FP32", &[1, 1], Some(x))])
}

fn infer(caller: &mut GrpcCaller, request: &ModelInferRequest) -> Called<ModelInferResponse> {
    caller.call("ModelInfer", request)
}

#[test]
fn server_and_model_describe_themselves() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.grpc();
    assert!(caller.call::<ServerLiveResponse>("ServerLive", &ServerLiveRequest {}).message.unwrap().live);
    assert!(caller.call::<ServerReadyResponse>("ServerReady", &ServerReadyRequest {}).message.unwrap().ready);
    let metadata: ServerMetadataResponse = caller.call("ServerMetadata", &ServerMetadataRequest {}).message.unwrap();
    assert_eq!(metadata.name, "millrace-server");
    assert_eq!(metadata.extensions, ["binary_tensor_data", "model_repository"]);
    for version in ["", "3"] {
        let (name, version) = ("m".to_owned(), version.to_owned());
        let asked = ModelReadyRequest { name: name.clone(), version: version.clone() };
        assert!(caller.call::<ModelReadyResponse>("ModelReady", &asked).message.unwrap().ready);
        let asked = ModelMetadataRequest { name, version };
        let model: ModelMetadataResponse = caller.call("ModelMetadata", &asked).message.unwrap();
        assert_eq!(
            (model.name.as_str(), model.versions[0].as_str(), model.platform.as_str()),
            ("m", "3", "onnx_onnxruntime")
        );
        let tensors: Vec<_> =
            model.inputs.iter().map(|t| (t.name.as_str(), t.datatype.as_str(), &t.shape[..])).collect();
        assert_eq!(tensors, [("mass", "FP32", &[-1, 1][..]), ("sex", "BYTES", &[-1, 1])]);
        assert_eq!(model.outputs[1].shape, [-1, 2]);
    }
    for (name, version) in [("other", ""), ("m", "4")] {
        let asked = ModelReadyRequest { name: name.into(), version: version.into() };
        let called = caller.call::<ModelReadyResponse>("ModelReady", &asked);
        assert_eq!(called.code, NOT_FOUND);
        assert!(called.words.contains("this server has"), "{}", called.words);
    }
}

#[test]
fn typed_values_get_typed_answers_that_are_those_of_rest() {
    let server = Server::ready("tabular", &[]);
    let rest = server.caller().post(infer_path(), &tabular()).json();
    let answer = infer(&mut server.grpc(), &ModelInferRequest { id: "7".into(), ..typed() });
    assert_eq!((answer.code, answer.words.as_str()), (OK, ""));
    let answer = answer.message.unwrap();
    assert_eq!((answer.model_name.as_str(), answer.model_version.as_str(), answer.id.as_str()), ("m", "3", "7"));
    assert_eq!(answer.outputs[0].contents.as_ref().unwrap().bytes_contents, [&b"heavy"[..]]);
    let probabilities = &answer.outputs[1].contents.as_ref().unwrap().fp32_contents;
    assert_eq!(serde_json::json!(probabilities), rest["outputs"][1]["data"]);
    assert_eq!(answer.outputs[1].shape, [1, 2]);
    assert!(answer.raw_output_contents.is_empty());
}

#[test]
fn raw_values_of_every_datatype_go_through_the_model_unchanged() {
    let server = Server::ready("every-type", &[]);
    let inputs: Vec<_> =
        every_type_raw().iter().map(|(name, _)| input(&format!("in_{name}"), name, &[1, 2], None)).collect();
    let raw: Vec<Bytes> = every_type_raw().into_iter().map(|(_, raw)| raw.into()).collect();
    let asked = ModelInferRequest { raw_input_contents: raw.clone(), ..request(inputs) };
    let answer = infer(&mut server.grpc(), &asked).message.unwrap();
    assert_eq!(answer.raw_output_contents, raw);
    for (output, (datatype, _)) in answer.outputs.iter().zip(every_type_raw()) {
        assert_eq!((output.name.as_str(), output.datatype.as_str()), (format!("out_{datatype}").as_str(), datatype));
        assert_eq!((&output.shape[..], &output.contents), (&[1, 2][..], &None));
    }
}

#[test]
fn outputs_are_chosen_and_raw_ones_asked_for() {
    let server = Server::ready("tabular", &[]);
    let outputs = ["probabilities", "label"]
        .map(|name| InferRequestedOutputTensor { name: name.into(), ..InferRequestedOutputTensor::default() });
    let raw = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let asked = ModelInferRequest {
        outputs: outputs.to_vec(),
        parameters: [("binary_data_output".to_owned(), raw)].into(),
        ..typed()
    };
    let answer = infer(&mut server.grpc(), &asked).message.unwrap();
    assert_eq!(
        answer.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(),
        ["probabilities", "label"]
    );
    assert_eq!(answer.raw_output_contents[0].len(), 8);
    assert_eq!(answer.raw_output_contents[1], &b"\x05\0\0\0heavy"[..]);
}

#[test]
fn wrong_requests_are_invalid_arguments_that_name_the_tensor() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.grpc();
    let changed = |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = typed();
        change(&mut request);
        request
    };
    let cases = [
        (changed(&|r| r.inputs[0].shape = vec![1, 2]), r#"input "mass" has shape [1, 2]: the model expects [-1, 1]"#),
        (
            changed(&|r| r.inputs[0].datatype = "INT64".into()),
            r#"input "mass" has datatype "INT64": the model expects FP32"#,
        ),
        (
            changed(&|r| r.inputs[1].name = "gender".into()),
            r#"unknown input "gender": the model's inputs are "mass", "sex""#,
        ),
        (changed(&|r| drop(r.inputs.pop())), r#"input "sex" (BYTES, shape [-1, 1]) is missing"#),
        (
            changed(&|r| r.inputs[0].contents = None),
            r#"input "mass": fp32_contents has 0 values, but shape [1, 1] needs 1"#,
        ),
        (
            changed(&|r| r.raw_input_contents = vec![Bytes::new()]),
            "raw_input_contents has 1 entries, but there are 2 inputs: send one for each, or none",
        ),
        (
            changed(&|r| r.raw_input_contents = vec![Bytes::new(); 2]),
            r#"input "mass" has both "contents" and raw_input_contents: send one of them"#,
        ),
    ];
    for (request, expected) in cases {
        let called = infer(&mut caller, &request);
        assert_eq!((called.code, called.words.as_str()), (INVALID_ARGUMENT, expected));
        assert_eq!(infer(&mut caller, &typed()).code, OK);
    }
    for (name, version) in [("other", ""), ("m", "4")] {
        let (model_name, model_version) = (name.into(), version.into());
        let called = infer(&mut caller, &ModelInferRequest { model_name, model_version, ..typed() });
        assert_eq!(called.code, NOT_FOUND, "{}", called.words);
    }
    server.wait_for_metric("millrace_server_requests_total{code=\"4xx\"}", 9.0);
}

#[test]
fn what_is_no_call_of_the_protocol_is_refused_in_its_own_words() {
    let server = Server::ready("lookup", &["--max-body", "1Ki"]);
    let mut caller = server.grpc();
    assert_eq!(caller.call::<ModelInferResponse>("ModelStreamInfer", &typed()).code, UNIMPLEMENTED);
    let called = infer(&mut caller, &lookup_raw(&[0; 200]));
    assert_eq!(called.code, RESOURCE_EXHAUSTED, "{}", called.words);
    assert!(called.words.contains("raise --max-body"), "{}", called.words);
    // A compressed message.
    let headers = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-encoding", "gzip")];
    let mut bytes = framed(&lookup_raw(&[0])).to_vec();
    bytes[0] = 1;
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let (head, _, _) = caller.send(path, &headers, bytes.into()).unwrap();
    assert_eq!(head["grpc-status"], UNIMPLEMENTED.to_string().as_str());
    let index = infer(&mut caller, &lookup_raw(&[99]));
    assert_eq!(index.code, INVALID_ARGUMENT, "{}", index.words);
    assert!(index.words.contains("out of data bounds"), "{}", index.words);
    assert_eq!(infer(&mut caller, &lookup_raw(&[0])).code, OK);
}

#[test]
fn many_calls_on_one_connection_run_together_and_get_their_own_rows() {
    let server = Server::ready("lookup", &[]);
    let mut caller = server.grpc();
    let calls: Vec<_> = (0..400_i64).map(|number| lookup_raw(&[number % 4, (number + 1) % 4])).collect();
    let answers: Vec<Called<ModelInferResponse>> = caller.call_all("ModelInfer", &calls);
    let value = |number: usize| (f32::from(u8::try_from(number % 4).unwrap()) + 0.5).to_le_bytes();
    for (number, answer) in answers.into_iter().enumerate() {
        let expected = [value(number), value(number + 1)].concat();
        assert_eq!(answer.message.unwrap().raw_output_contents[0], expected);
    }
    let batches = server.metric("millrace_server_batch_requests_count");
    assert!(batches < 400.0, "nothing ran together: {batches} batches");
}

#[test]
fn a_full_queue_is_unavailable_and_a_late_answer_exceeds_its_deadline() {
    // The delay keeps the first one waiting, until it is too late for it.
    let server = Server::ready("heavy", &["--max-queue", "1", "--max-delay", "1m", "--request-timeout", "1s"]);
    let answers: Vec<Called<ModelInferResponse>> = server.grpc().call_all("ModelInfer", &vec![heavy_row(); 6]);
    let (refused, late): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.code == UNAVAILABLE);
    assert_eq!(refused[0].words, "1 requests wait for this model already: try again");
    assert_eq!(late[0].code, DEADLINE_EXCEEDED);
}

#[test]
fn a_call_that_is_taken_back_is_dropped() {
    let server = Server::ready("heavy", &["--max-delay", "1m"]);
    server.grpc().call_and_leave("ModelInfer", &heavy_row(), || {
        server.wait_for_metric("millrace_server_queue_length", 1.0);
    });
    server.wait_for_metric("millrace_server_requests_total{code=\"gone\"}", 1.0);
}

#[test]
fn rest_is_served_over_http_2_too() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.grpc();
    let json = [("content-type", "application/json")];
    let rows: Vec<(Option<f64>, &str)> = vec![(Some(4500.0), "x"); 20_000];
    for (path, body, status) in [
        (infer_path(), tabular(), "200"),
        (infer_path(), tabular_rows(&rows), "200"),
        (infer_path(), "{}".to_owned(), "400"),
        ("/v2/models/other/infer", tabular(), "404"),
        (infer_path(), " ".repeat(9_000_000), "413"),
    ] {
        let (head, body, _) = caller.send(path, &json, body.into()).unwrap();
        assert_eq!(head["status"], status, "{}", String::from_utf8_lossy(&body));
        let answer = serde_json::from_slice(&body).unwrap();
        assert_schema(if status == "200" { "inference_response" } else { "inference_error_response" }, &answer);
        assert!(!head.contains_key("connection"));
    }
    assert_eq!(infer(&mut caller, &typed()).code, OK);
}
