//! The JSON form of an inference request.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::check::{self, InferRequest, Inputs, RequestError};
use super::values;
use crate::model::Signature;

/// Fields that are not here (`parameters`, extensions) are read over: the protocol lets a server ignore what it does not
/// know.
#[derive(Deserialize)]
struct WireRequest<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<WireInput<'a>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<WireOutput<'a>>>,
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
}

#[derive(Deserialize)]
struct WireOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default, rename = "parameters")]
    _parameters: Option<IgnoredAny>,
}

impl AsRef<str> for WireOutput<'_> {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// Reads a request for the model with this signature.
pub fn parse(body: &[u8], signature: &Signature) -> Result<InferRequest, RequestError> {
    let wire: WireRequest = serde_json::from_slice(body).map_err(|error| not_json(body, &error))?;
    let mut inputs = Inputs::new(signature);
    for input in wire.inputs {
        let (index, count) = inputs.place(&input.name, &input.datatype, &input.shape)?;
        let name = || signature.inputs[index].name.clone();
        let Some(data) = input.data else { return Err(RequestError::NoData { name: name() }) };
        let data = values::read(data.get(), signature.inputs[index].datatype, &input.shape, count)
            .map_err(|source| RequestError::Value { name: name(), source })?;
        inputs.put(index, input.shape, data);
    }
    let (inputs, rows) = inputs.finish()?;
    let outputs = check::outputs(signature, wire.outputs.as_deref().unwrap_or_default())?;
    Ok(InferRequest { id: wire.id, inputs, rows, outputs })
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
