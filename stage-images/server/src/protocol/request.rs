//! The JSON form of an inference request, with the binary extension: values may stand as raw bytes behind the JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::check::{self, InferRequest, Inputs, RequestError};
use super::{binary, values};
use crate::model::Signature;
use crate::tensor::{Data, Datatype};

/// Fields and parameters that are not here are read over: the protocol lets a server ignore what it does not know.
#[derive(Deserialize)]
struct WireRequest<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<WireInput<'a>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<WireOutput<'a>>>,
    #[serde(default)]
    parameters: Option<RequestParameters>,
}

#[derive(Deserialize)]
struct RequestParameters {
    #[serde(default)]
    binary_data_output: Option<bool>,
}

#[derive(Deserialize)]
struct WireInput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    parameters: Option<InputParameters>,
}

#[derive(Deserialize)]
struct InputParameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
struct WireOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
struct OutputParameters {
    #[serde(default)]
    binary_data: Option<bool>,
}

impl AsRef<str> for WireOutput<'_> {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// Reads a request for the model with this signature. `json` is how many bytes of the body are JSON, where raw bytes follow.
pub fn parse(body: &[u8], json: Option<usize>, signature: &Signature) -> Result<InferRequest, RequestError> {
    if json == Some(0) && !body.is_empty() {
        return bare(body, signature);
    }
    let (text, mut raw) = match json {
        None => (body, &[][..]),
        Some(length) => body.split_at_checked(length).ok_or(RequestError::Header { length, body: body.len() })?,
    };
    let wire: WireRequest = serde_json::from_slice(text).map_err(|error| not_json(text, &error))?;
    let mut inputs = Inputs::new(signature);
    for input in wire.inputs {
        let (index, count) = inputs.place(&input.name, &input.datatype, &input.shape)?;
        let datatype = signature.inputs[index].datatype;
        let name = || signature.inputs[index].name.clone();
        let data = match (input.data, input.parameters.and_then(|parameters| parameters.binary_data_size)) {
            (Some(data), None) => values::read(data.get(), datatype, &input.shape, count),
            (None, Some(_)) if json.is_none() => return Err(RequestError::NoHeader { name: name() }),
            (None, Some(size)) => {
                let left = raw.len();
                let (bytes, rest) =
                    raw.split_at_checked(size).ok_or_else(|| RequestError::Short { name: name(), size, left })?;
                raw = rest;
                binary::read(bytes, datatype, &input.shape, count)
            }
            (None, None) => return Err(RequestError::NoData { name: name() }),
            (Some(_), Some(_)) => return Err(RequestError::TwoData { name: name() }),
        };
        let data = data.map_err(|source| RequestError::Value { name: name(), source })?;
        inputs.put(index, input.shape, data);
    }
    if !raw.is_empty() {
        return Err(RequestError::Left(raw.len()));
    }
    let (inputs, rows) = inputs.finish()?;
    let asked = wire.outputs.unwrap_or_default();
    let outputs = check::outputs(signature, &asked)?;
    let all_binary = wire.parameters.and_then(|parameters| parameters.binary_data_output).unwrap_or(false);
    let is_binary = |output: &WireOutput| output.parameters.as_ref().and_then(|parameters| parameters.binary_data);
    let mut binary: Vec<bool> = asked.iter().map(|output| is_binary(output).unwrap_or(all_binary)).collect();
    binary.resize(outputs.len(), all_binary);
    Ok(InferRequest { id: wire.id, inputs, rows, outputs, binary })
}

/// A body without JSON is the values of the only input, as Triton has it ("raw binary request"); the answer's are raw too.
fn bare(body: &[u8], signature: &Signature) -> Result<InferRequest, RequestError> {
    let [spec] = signature.inputs.as_slice() else {
        return Err(RequestError::RawInputs { expected: check::names(&signature.inputs) });
    };
    let (name, expected) = (spec.name.clone(), check::shape_text(&spec.shape));
    let Some(shape) = binary::shape(spec, body.len()) else { return Err(RequestError::RawShape { name, expected }) };
    let mut inputs = Inputs::new(signature);
    let (index, count) = inputs.place(&spec.name, spec.datatype.name(), &shape)?;
    let data = match spec.datatype {
        Datatype::Bytes => binary::text(0, body).map(|text| Data::Bytes(vec![text])),
        datatype => binary::read(body, datatype, &shape, count),
    };
    inputs.put(index, shape, data.map_err(|source| RequestError::Value { name, source })?);
    let (inputs, rows) = inputs.finish()?;
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    let binary = vec![true; outputs.len()];
    Ok(InferRequest { id: None, inputs, rows, outputs, binary })
}

/// serde's words have the line and column. The commonest mistake gets a remedy: Python's `json.dumps` writes `NaN`.
pub fn not_json(body: &[u8], error: &serde_json::Error) -> RequestError {
    if body.is_empty() {
        return RequestError::Empty;
    }
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let near = &line[error.column().saturating_sub(12).min(line.len())..(error.column() + 12).min(line.len())];
    let has = |word: &[u8]| near.windows(word.len()).any(|window| window == word);
    let hint = if error.is_syntax() && (has(b"NaN") || has(b"Infinity") || has(b"nan")) {
        ": NaN and Infinity are not JSON, write null where a number is missing"
    } else {
        ""
    };
    RequestError::NotJson { problem: check::short_line(&error.to_string()), hint }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
