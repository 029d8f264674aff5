//! Whether two answers agree.

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;
use serde_json::value::RawValue;

use super::grpc;
use super::tensor::{Tensor, Values, is_whole, same};
use super::wire::{Unreadable, take};
use crate::graph::{JSON_LENGTH, outputs};

/// Numbers agree within this share: sums of single-precision floats differ by the order of their threads.
const TOLERANCE: f64 = 1e-5;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// An answer in whole.
pub struct Answer<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub trailers: Option<&'a HeaderMap>,
    pub body: &'a [Bytes],
}

impl Answer<'_> {
    fn is(&self, kind: &[u8]) -> bool {
        self.headers.get(CONTENT_TYPE).is_some_and(|found| found.as_bytes().starts_with(kind))
    }

    fn is_json(&self) -> bool {
        self.is(b"application/json")
    }

    /// In the headers where there is no message.
    fn grpc_status(&self) -> Option<&HeaderValue> {
        self.trailers.and_then(|trailers| trailers.get(GRPC_STATUS)).or_else(|| self.headers.get(GRPC_STATUS))
    }
}

/// The status is the same, and so are the outputs, for the rest names the model's version: of the Open Inference Protocol in JSON, with binary tensors
/// and over gRPC, and the `predictions` of v1. Of anything else, and of what cannot be read, every byte. `path` is that of the request.
pub fn agree(path: &str, a: &Answer, b: &Answer) -> bool {
    if a.status != b.status {
        return false;
    }
    if !a.status.is_success() {
        return true;
    }
    let (one, other) = (a.body.concat(), b.body.concat());
    if a.is(b"application/grpc") && b.is(b"application/grpc") {
        let (status, beside) = (a.grpc_status(), b.grpc_status());
        let failed = status.is_some_and(|status| status != OK);
        return status == beside && (failed || grpc::agree(path, &one, &other));
    }
    if [a, b].iter().any(|answer| answer.headers.contains_key(JSON_LENGTH)) {
        let compared = tensors(a, &one).and_then(|read| same(read, tensors(b, &other)?));
        return compared.unwrap_or_else(|Unreadable| one == other);
    }
    if a.is_json()
        && b.is_json()
        && let (Ok(a), Ok(b)) = (serde_json::from_slice(&one), serde_json::from_slice(&other))
    {
        return equal(predicted(&a), predicted(&b), false);
    }
    one == other
}

/// The outputs of an answer in which some are bytes behind the JSON.
fn tensors<'a>(answer: &Answer, body: &'a [u8]) -> Result<Vec<Tensor<'a>>, Unreadable> {
    let end = match answer.headers.get(JSON_LENGTH) {
        Some(length) => length.to_str().ok().and_then(|length| length.parse().ok()).ok_or(Unreadable)?,
        None => body.len(),
    };
    let (json, mut raw) = body.split_at_checked(end).ok_or(Unreadable)?;
    let mut tensors = Vec::new();
    for fields in outputs(json).ok_or(Unreadable)? {
        let field = |name: &str| fields.get(name).copied().ok_or(Unreadable);
        let values = match field("data") {
            Ok(data) => Values::Json(data),
            Err(Unreadable) => Values::Raw(take(&mut raw, binary_size(field("parameters")?)?)?),
        };
        tensors.push(Tensor {
            name: read::<String>(field("name")?)?.into(),
            datatype: read::<String>(field("datatype")?)?.into(),
            shape: read(field("shape")?)?,
            values,
        });
    }
    if raw.is_empty() { Ok(tensors) } else { Err(Unreadable) }
}

fn binary_size(parameters: &RawValue) -> Result<usize, Unreadable> {
    #[derive(serde::Deserialize)]
    struct Parameters {
        binary_data_size: usize,
    }
    read(parameters).map(|Parameters { binary_data_size }| binary_data_size)
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Result<T, Unreadable> {
    serde_json::from_str(value.get()).map_err(|_| Unreadable)
}

fn predicted(answer: &Value) -> &Value {
    answer.get("outputs").or_else(|| answer.get("predictions")).unwrap_or(answer)
}

/// `whole`: of a datatype of which nothing is almost the same.
pub fn equal(a: &Value, b: &Value, whole: bool) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) if !whole => a == b || close(x, y),
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b, whole)),
        (Value::Object(a), Value::Object(b)) => {
            let whole = whole || a.get("datatype").and_then(Value::as_str).is_some_and(is_whole);
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b, whole)))
        }
        _ => a == b,
    }
}

/// Whether two numbers are the same but for how they were added up.
pub fn close(x: f64, y: f64) -> bool {
    let finite = x.is_finite() && y.is_finite();
    // Infinities too; zeros of both signs are near enough.
    x.total_cmp(&y).is_eq() || x.is_nan() && y.is_nan() || finite && (x - y).abs() <= TOLERANCE * x.abs().max(y.abs())
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
