//! From tensors and descriptions to messages.

use bytes::Bytes;

use super::contents;
use super::messages::model_infer_response::InferOutputTensor;
use super::messages::model_metadata_response::TensorMetadata;
use super::messages::{InferTensorContents, ModelInferResponse, ModelMetadataResponse, ServerMetadataResponse};
use crate::protocol::{EXTENSIONS, PLATFORM, Slice, binary};
use crate::serving::Model;
use crate::tensor::TensorSpec;

/// An answer to infer. All outputs are raw, or none is: the protocol knows no mixture, and FP16 has no other form.
pub fn inferred(model: &Model, id: Option<String>, outputs: &[Slice], as_bytes: bool) -> ModelInferResponse {
    let typed: Option<Vec<_>> = if as_bytes { None } else { outputs.iter().map(contents::write).collect() };
    let mut raw_output_contents = Vec::new();
    let mut output = |slice: &Slice, contents: Option<InferTensorContents>| {
        if contents.is_none() {
            let mut bytes = Vec::new();
            binary::write(&mut bytes, slice);
            raw_output_contents.push(Bytes::from(bytes));
        }
        let TensorSpec { name, datatype, shape: _ } = slice.spec;
        let (name, datatype) = (name.clone(), datatype.to_string());
        InferOutputTensor { name, datatype, shape: slice.shape().collect(), contents, ..InferOutputTensor::default() }
    };
    let outputs = match typed {
        Some(typed) => outputs.iter().zip(typed).map(|(slice, contents)| output(slice, Some(contents))).collect(),
        None => outputs.iter().map(|slice| output(slice, None)).collect(),
    };
    ModelInferResponse {
        model_name: model.name.clone(),
        model_version: model.version.clone(),
        id: id.unwrap_or_default(),
        outputs,
        raw_output_contents,
        ..ModelInferResponse::default()
    }
}

pub fn server_metadata() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.iter().map(|name| (*name).to_owned()).collect(),
    }
}

pub fn model_metadata(model: &Model) -> ModelMetadataResponse {
    let tensor = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.to_string(),
        shape: spec.shape.clone(),
    };
    ModelMetadataResponse {
        name: model.name.clone(),
        versions: vec![model.version.clone()],
        platform: PLATFORM.to_owned(),
        inputs: model.signature.inputs.iter().map(tensor).collect(),
        outputs: model.signature.outputs.iter().map(tensor).collect(),
    }
}
