//! Whether two answers agree.

use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

/// Numbers agree within this share: sums of single-precision floats differ by the order of their threads.
const TOLERANCE: f64 = 1e-5;

/// An answer in whole.
pub struct Answer<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub body: &'a [Bytes],
}

/// The status is the same, and so are the outputs: of JSON the `outputs` (Open Inference Protocol) or `predictions` (v1) alone, for the
/// rest names the model's version; of anything else every byte.
pub fn agree(a: &Answer, b: &Answer) -> bool {
    if a.status != b.status {
        return false;
    }
    if !a.status.is_success() {
        return true;
    }
    if is_json(a.headers)
        && is_json(b.headers)
        && let (Ok(a), Ok(b)) = (serde_json::from_slice(&a.body.concat()), serde_json::from_slice(&b.body.concat()))
    {
        return equal(outputs(&a), outputs(&b));
    }
    a.body.concat() == b.body.concat()
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

fn outputs(answer: &Value) -> &Value {
    answer.get("outputs").or_else(|| answer.get("predictions")).unwrap_or(answer)
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) => a == b || (x - y).abs() <= TOLERANCE * x.abs().max(y.abs()),
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(kind: &'static str, a: (u16, &'static str), b: (u16, &'static str)) -> bool {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
        let (x, y) = ([Bytes::from_static(a.1.as_bytes())], [Bytes::from_static(b.1.as_bytes())]);
        agree(
            &Answer { status: StatusCode::from_u16(a.0).unwrap(), headers: &headers, body: &x },
            &Answer { status: StatusCode::from_u16(b.0).unwrap(), headers: &headers, body: &y },
        )
    }

    #[test]
    fn outputs_decide_and_what_names_the_version_does_not() {
        let json = "application/json";
        let a = (200, r#"{"model_version": "1", "outputs": [{"name": "p", "data": [0.1, 2]}]}"#);
        assert!(agreed(
            json,
            a,
            (200, r#"{"model_version": "2", "outputs": [{"data": [0.1000001, 2], "name": "p"}]}"#)
        ));
        assert!(!agreed(json, a, (200, r#"{"model_version": "1", "outputs": [{"name": "p", "data": [0.2, 2]}]}"#)));
        assert!(!agreed(json, a, (200, r#"{"outputs": [{"name": "p", "data": [0.1]}]}"#)));
        assert!(!agreed(json, a, (500, a.1)));
        assert!(agreed(json, (400, "a"), (400, "b")));
        assert!(agreed(json, (200, r#"{"predictions": ["x"], "id": 1}"#), (200, r#"{"predictions": ["x"]}"#)));
        assert!(!agreed("text/plain", (200, "[1.0]"), (200, "[1.00]")));
    }
}
