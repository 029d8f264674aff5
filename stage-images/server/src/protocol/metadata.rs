//! The metadata answers of the protocol.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Provider, Signature};
use crate::tensor::TensorSpec;

/// By the names that Triton gave them.
pub const EXTENSIONS: &[&str] = &["binary_tensor_data", "model_repository"];

pub const PLATFORM: &str = "onnx_onnxruntime";

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: &'static [&'static str],
}

#[derive(Serialize)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: [&'a str; 1],
    platform: &'static str,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
    /// What the protocol has no field for: the task, the classes in the order of `probabilities`, as JSON text, and what runs the model.
    properties: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
}

/// The v1 answers of KServe (`name`, `ready`) and TensorFlow Serving (`model_version_status`) in one.
#[derive(Serialize)]
struct ModelStatus<'a> {
    name: &'a str,
    ready: bool,
    model_version_status: [VersionStatus<'a>; 1],
}

#[derive(Serialize)]
struct VersionStatus<'a> {
    version: &'a str,
    state: &'static str,
    status: StatusWords,
}

#[derive(Serialize)]
struct StatusWords {
    error_code: &'static str,
    error_message: &'static str,
}

#[derive(Serialize)]
struct ModelNames<'a> {
    models: Vec<&'a str>,
}

/// The answer to `GET /v1/models`.
pub fn model_names(models: Vec<&str>) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&ModelNames { models })
}

/// The answer to `GET /v1/models/<name>` of a model that answers.
pub fn model_status(name: &str, version: &str) -> Result<Vec<u8>, serde_json::Error> {
    let status = StatusWords { error_code: "OK", error_message: "" };
    let model_version_status = [VersionStatus { version, state: "AVAILABLE", status }];
    serde_json::to_vec(&ModelStatus { name, ready: true, model_version_status })
}

/// The answer to `GET /v2`.
pub fn server_metadata() -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&ServerMetadata {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        extensions: EXTENSIONS,
    })
}

/// The answer to `GET /v2/models/<name>`.
pub fn model_metadata(
    name: &str,
    version: &str,
    signature: &Signature,
    provider: Provider,
) -> Result<Vec<u8>, serde_json::Error> {
    let stated = signature.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    serde_json::to_vec(&ModelMetadata {
        name,
        versions: [version],
        platform: PLATFORM,
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
        properties: stated.chain([("execution_provider", provider.name())]).collect(),
    })
}

fn tensor(spec: &TensorSpec) -> TensorMetadata<'_> {
    TensorMetadata { name: &spec.name, datatype: spec.datatype.name(), shape: &spec.shape }
}
