//! Whether the tensors of a request are what the model takes. Every refusal names the tensor, what was found and what
//! the model expects.

use std::fmt::Write as _;

use thiserror::Error;

use super::values::ValueError;
use crate::model::Signature;
use crate::tensor::{Data, Datatype, Tensor, TensorSpec};

/// A request whose every tensor fits the model.
#[derive(Debug)]
pub struct InferRequest {
    pub id: Option<String>,
    /// In the order of the model's inputs.
    pub inputs: Vec<Tensor>,
    /// The common first dimension, or 1 for a model that takes no batches.
    pub rows: usize,
    /// Which of the model's outputs to answer, in the order asked for.
    pub outputs: Vec<usize>,
    /// Which of these to answer as raw bytes.
    pub binary: Vec<bool>,
}

/// Why a request is refused. All of these are the caller's to mend.
#[derive(Debug, Error, PartialEq)]
pub enum RequestError {
    #[error("the body is not an inference request: {problem}{hint}")]
    NotJson { problem: String, hint: &'static str },
    #[error("the body is empty: send an inference request, {{\"inputs\": [...]}}")]
    Empty,
    #[error("unknown input {found:?}: the model's inputs are {expected}")]
    UnknownInput { found: String, expected: String },
    #[error("input {name:?} is there twice: send it once")]
    Twice { name: String },
    #[error("input {name:?} ({datatype}, shape {shape}) is missing")]
    Missing { name: String, datatype: Datatype, shape: String },
    #[error("input {name:?} has datatype {found:?}: the model expects {expected}")]
    Datatype { name: String, found: String, expected: Datatype },
    #[error("input {name:?} has shape {found}: the model expects {expected}{hint}")]
    Shape { name: String, found: String, expected: String, hint: &'static str },
    #[error("input {name:?} has {found} rows, but input {first:?} has {expected}: every input needs the same number")]
    Rows { name: String, found: i64, first: String, expected: i64 },
    #[error("input {name:?}: {source}")]
    Value { name: String, source: ValueError },
    #[error("input {name:?} has no \"data\", and no \"binary_data_size\" in its parameters")]
    NoData { name: String },
    #[error("input {name:?} has both \"data\" and \"binary_data_size\": send one of them")]
    TwoData { name: String },
    #[error("input {name:?} has \"binary_data_size\", but the request has no header Inference-Header-Content-Length")]
    NoHeader { name: String },
    #[error("Inference-Header-Content-Length is {length}, but the body has {body} bytes")]
    Header { length: usize, body: usize },
    #[error("input {name:?} has the \"binary_data_size\" {size}, but {left} bytes are left of the body")]
    Short { name: String, size: usize, left: usize },
    #[error(
        "Inference-Header-Content-Length is 0: then the body is the values of the model's only input, but its inputs are {expected}; send JSON"
    )]
    RawInputs { expected: String },
    #[error("input {name:?} has the shape {expected}, which its bytes alone do not tell: send its shape in JSON")]
    RawShape { name: String, expected: String },
    #[error("raw_input_contents has {found} entries, but there are {expected} inputs: send one for each, or none")]
    RawCount { found: usize, expected: usize },
    #[error("input {name:?} has both \"contents\" and raw_input_contents: send one of them")]
    TwoContents { name: String },
    #[error("{0} bytes of the body belong to no input")]
    Left(usize),
    #[error("send one of \"instances\" (one entry a row) and \"inputs\" (one entry a tensor)")]
    PredictForm,
    #[error("\"instances\" is not an array with at least one entry")]
    NoInstances,
    #[error("\"inputs\" is not an object: this model has the inputs {expected}, send the values of each by its name")]
    NotNamed { expected: String },
    #[error("instance {index} has no {name:?}: every instance needs a value for each input")]
    Absent { index: usize, name: String },
    #[error("instance {index} is neither an object nor an array with one value for each of the inputs {expected}")]
    Instance { index: usize, expected: String },
    #[error("output {name:?} has no row for each instance: send \"inputs\" in place of \"instances\"")]
    NotRows { name: String },
    #[error("unknown output {found:?}: the model's outputs are {expected}")]
    UnknownOutput { found: String, expected: String },
}

/// Collects the inputs of one request.
pub struct Inputs<'m> {
    signature: &'m Signature,
    found: Vec<Option<Tensor>>,
}

impl<'m> Inputs<'m> {
    pub fn new(signature: &'m Signature) -> Self {
        Self { signature, found: signature.inputs.iter().map(|_| None).collect() }
    }

    /// Where the input belongs and how many values it must have, or why it does not fit.
    pub fn place(&self, name: &str, datatype: &str, shape: &[i64]) -> Result<(usize, usize), RequestError> {
        let specs = &self.signature.inputs;
        let index = specs.iter().position(|spec| spec.name == name).ok_or_else(|| unknown(self.signature, name))?;
        let spec = &self.signature.inputs[index];
        if self.found[index].is_some() {
            return Err(RequestError::Twice { name: spec.name.clone() });
        }
        if Datatype::from_name(datatype) != Some(spec.datatype) {
            return Err(RequestError::Datatype {
                name: spec.name.clone(),
                found: short(datatype),
                expected: spec.datatype,
            });
        }
        count(spec, shape).map(|values| (index, values))
    }

    pub fn put(&mut self, index: usize, shape: Vec<i64>, data: Data) {
        self.found[index] = Some(Tensor { shape, data });
    }

    /// All inputs in the model's order, and the number of rows.
    pub fn finish(self) -> Result<(Vec<Tensor>, usize), RequestError> {
        let specs = &self.signature.inputs;
        let mut inputs = Vec::with_capacity(specs.len());
        for (spec, found) in specs.iter().zip(self.found) {
            match found {
                Some(tensor) => inputs.push(tensor),
                None => {
                    return Err(RequestError::Missing {
                        name: spec.name.clone(),
                        datatype: spec.datatype,
                        shape: shape_text(&spec.shape),
                    });
                }
            }
        }
        let rows = if self.signature.batched { common_rows(specs, &inputs)? } else { 1 };
        Ok((inputs, rows))
    }
}

/// What the model says about the input of this name.
pub fn input<'m>(signature: &'m Signature, name: &str) -> Result<&'m TensorSpec, RequestError> {
    signature.inputs.iter().find(|spec| spec.name == name).ok_or_else(|| unknown(signature, name))
}

fn unknown(signature: &Signature, name: &str) -> RequestError {
    RequestError::UnknownInput { found: short(name), expected: names(&signature.inputs) }
}

/// The outputs that are asked for; all of them if none is named.
pub fn outputs(signature: &Signature, names_asked: &[impl AsRef<str>]) -> Result<Vec<usize>, RequestError> {
    if names_asked.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let find = |asked: &str| {
        signature
            .outputs
            .iter()
            .position(|spec| spec.name == asked)
            .ok_or_else(|| RequestError::UnknownOutput { found: short(asked), expected: names(&signature.outputs) })
    };
    names_asked.iter().map(|asked| find(asked.as_ref())).collect()
}

fn common_rows(specs: &[TensorSpec], inputs: &[Tensor]) -> Result<usize, RequestError> {
    let first = |tensor: &Tensor| tensor.shape.first().copied().unwrap_or(1);
    let Some(expected) = inputs.first().map(first) else { return Ok(1) };
    for (spec, tensor) in specs.iter().zip(inputs) {
        if first(tensor) != expected {
            return Err(RequestError::Rows {
                name: spec.name.clone(),
                found: first(tensor),
                first: specs[0].name.clone(),
                expected,
            });
        }
    }
    Ok(usize::try_from(expected).unwrap_or(1))
}

/// How many values a tensor of this shape has, if the model takes the shape.
fn count(spec: &TensorSpec, shape: &[i64]) -> Result<usize, RequestError> {
    let refuse = |hint| {
        Err(RequestError::Shape {
            name: spec.name.clone(),
            found: shape_text(shape),
            expected: shape_text(&spec.shape),
            hint,
        })
    };
    if shape.len() != spec.shape.len() {
        return refuse("");
    }
    if shape.contains(&0) {
        return refuse(": no dimension may be 0, send at least one row");
    }
    if shape.iter().any(|size| *size < 0) {
        return refuse(": -1 stands for the number that you send");
    }
    if shape.iter().zip(&spec.shape).any(|(found, expected)| *expected >= 0 && found != expected) {
        return refuse("");
    }
    let product = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?));
    match product {
        Some(values) => Ok(values),
        None => refuse(": that is more values than fit in memory"),
    }
}

/// `[-1, 1]`, cut if a caller sent a very long one.
pub fn shape_text(shape: &[i64]) -> String {
    let mut text = String::from("[");
    for (index, size) in shape.iter().enumerate() {
        if index == 16 {
            text.push_str(", …");
            break;
        }
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{size}");
    }
    text.push(']');
    text
}

/// `"mass", "sex"`.
pub fn names(specs: &[TensorSpec]) -> String {
    let mut text = String::new();
    for (index, spec) in specs.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{:?}", spec.name);
    }
    text
}

/// A caller's own word in a message: never longer than a line.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A parser's own words, which may quote the caller's.
pub fn short_line(text: &str) -> String {
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
