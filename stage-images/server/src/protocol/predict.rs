//! The v1 form of an inference request, `:predict`, as TensorFlow Serving and KServe have it.
//!
//! `instances` has one entry a row, `inputs` one entry a tensor. Datatypes are the model's own, and shapes are read off the
//! nesting of the values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::check::{self, Inputs, RequestError};
use super::request::not_json;
use super::values;
use crate::model::Signature;
use crate::tensor::{Tensor, TensorSpec};

/// A request whose every tensor fits the model.
#[derive(Debug)]
pub struct PredictRequest {
    /// In the order of the model's inputs.
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    pub form: Form,
}

/// How the request was written, and so how its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `instances`; the answer has one prediction for each.
    Rows { instances: usize },
    /// `inputs`; the answer has whole tensors.
    Columns,
}

/// Other fields, such as `signature_name`, are read over: a model has one signature.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    instances: Option<&'a RawValue>,
    #[serde(borrow, default)]
    inputs: Option<&'a RawValue>,
}

/// One input's name and the JSON array of its values.
type Column<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Reads a request for the model with this signature.
pub fn parse_predict(body: &[u8], signature: &Signature) -> Result<PredictRequest, RequestError> {
    let wire: Wire = serde_json::from_slice(body).map_err(|error| not_json(body, &error))?;
    let (columns, form) = match (wire.instances, wire.inputs) {
        (Some(instances), None) => rows(instances, signature)?,
        (None, Some(inputs)) => (columns(inputs, signature)?, Form::Columns),
        (None, None) | (Some(_), Some(_)) => return Err(RequestError::PredictForm),
    };
    let mut inputs = Inputs::new(signature);
    for (name, text) in columns {
        let spec = check::input(signature, &name)?;
        let shape = shape(&text, spec);
        let (index, count) = inputs.place(&name, spec.datatype.name(), &shape)?;
        let data = values::read(&text, spec.datatype, &shape, count)
            .map_err(|source| RequestError::Value { name: spec.name.clone(), source })?;
        inputs.put(index, shape, data);
    }
    let (inputs, rows) = inputs.finish()?;
    Ok(PredictRequest { inputs, rows, form })
}

/// `inputs`: an object of tensors, or the tensor itself where the model has one.
fn columns<'a>(inputs: &'a RawValue, signature: &'a Signature) -> Result<Vec<Column<'a>>, RequestError> {
    if inputs.get().starts_with('{') {
        let named: BTreeMap<Cow<str>, &RawValue> = read(inputs)?;
        return Ok(named.into_iter().map(|(name, values)| (name, values.get().into())).collect());
    }
    match signature.inputs.as_slice() {
        [only] => Ok(vec![(only.name.as_str().into(), inputs.get().into())]),
        specs => Err(RequestError::NotNamed { expected: check::names(specs) }),
    }
}

/// `instances`: turns rows into columns, by their text. A row is an object of values; the value itself where the model has
/// one input; or, as KServe's tabular models take it, a list with one value for each input.
fn rows<'a>(instances: &'a RawValue, signature: &'a Signature) -> Result<(Vec<Column<'a>>, Form), RequestError> {
    let all: Vec<&RawValue> = serde_json::from_str(instances.get()).map_err(|_| RequestError::NoInstances)?;
    let form = Form::Rows { instances: all.len() };
    let specs = signature.inputs.as_slice();
    let Some(first) = all.first() else { return Err(RequestError::NoInstances) };
    if let ([only], false) = (specs, first.get().starts_with('{')) {
        return Ok((vec![(only.name.as_str().into(), instances.get().into())], form));
    }
    let mut texts = vec![String::with_capacity(instances.get().len() / specs.len().max(1)); specs.len()];
    for (index, instance) in all.into_iter().enumerate() {
        for (text, value) in texts.iter_mut().zip(row(index, instance, signature)?) {
            text.push(if index == 0 { '[' } else { ',' });
            text.push_str(value.get());
        }
    }
    let names = specs.iter().map(|spec| Cow::Borrowed(spec.name.as_str()));
    Ok((names.zip(texts.into_iter().map(|text| Cow::Owned(text + "]"))).collect(), form))
}

/// The values of one instance, in the order of the model's inputs.
fn row<'a>(index: usize, instance: &'a RawValue, signature: &Signature) -> Result<Vec<&'a RawValue>, RequestError> {
    let specs = &signature.inputs;
    if instance.get().starts_with('{') {
        let mut named: BTreeMap<Cow<str>, &RawValue> = read(instance)?;
        let take = |spec: &TensorSpec| {
            named.remove(spec.name.as_str()).ok_or_else(|| RequestError::Absent { index, name: spec.name.clone() })
        };
        let values = specs.iter().map(take).collect::<Result<_, _>>()?;
        for left in named.keys() {
            check::input(signature, left)?;
        }
        return Ok(values);
    }
    let values: Vec<&RawValue> = serde_json::from_str(instance.get()).unwrap_or_default();
    if values.len() == specs.len() {
        return Ok(values);
    }
    Err(RequestError::Instance { index, expected: check::names(specs) })
}

fn read(object: &RawValue) -> Result<BTreeMap<Cow<'_, str>, &RawValue>, RequestError> {
    serde_json::from_str(object.get()).map_err(|error| not_json(object.get().as_bytes(), &error))
}

/// The shape of a nested array, by the first element of each level. A single number may stand for a row of one.
fn shape(text: &str, spec: &TensorSpec) -> Vec<i64> {
    let mut sizes = values::sizes(text);
    if sizes.len() + 1 == spec.shape.len() && spec.shape.last() == Some(&1) {
        sizes.push(1);
    }
    sizes
}

#[cfg(test)]
#[path = "predict_tests.rs"]
mod tests;
