//! From a message to checked tensors.

use super::contents;
use super::messages::{ModelInferRequest, infer_parameter::ParameterChoice};
use crate::model::Signature;
use crate::protocol::{self, InferRequest, Inputs, RequestError, binary};

/// Reads a request for the model with this signature. Its outputs go back in the form in which its inputs came, unless it
/// asks for raw ones by Triton's parameter.
pub fn parse(request: ModelInferRequest, signature: &Signature) -> Result<InferRequest, RequestError> {
    let ModelInferRequest { model_name: _, model_version: _, id, parameters, inputs, outputs, raw_input_contents: raw } =
        request;
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(RequestError::RawCount { found: raw.len(), expected: inputs.len() });
    }
    let asked = parameters.get("binary_data_output").and_then(|parameter| parameter.parameter_choice.as_ref());
    let as_bytes = !raw.is_empty() || asked == Some(&ParameterChoice::BoolParam(true));
    let mut found = Inputs::new(signature);
    let mut raw = raw.into_iter();
    for input in inputs {
        let (index, count) = found.place(&input.name, &input.datatype, &input.shape)?;
        let datatype = signature.inputs[index].datatype;
        let data = match (raw.next(), input.contents) {
            (Some(bytes), None) => binary::read(&bytes, datatype, &input.shape, count),
            (Some(_), Some(_)) => return Err(RequestError::TwoContents { name: input.name }),
            (None, contents) => contents::read(contents.unwrap_or_default(), datatype, &input.shape, count),
        };
        let data = data.map_err(|source| RequestError::Value { name: input.name, source })?;
        found.put(index, input.shape, data);
    }
    let (inputs, rows) = found.finish()?;
    let names: Vec<String> = outputs.into_iter().map(|output| output.name).collect();
    let outputs = protocol::outputs(signature, &names)?;
    let binary = vec![as_bytes; outputs.len()];
    Ok(InferRequest { id: Some(id).filter(|id| !id.is_empty()), inputs, rows, outputs, binary })
}
