//! Answers: a status, a JSON body, and the headers that a refusal needs.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::body::HEADER_LENGTH;
use crate::protocol::{Written, error_body};

pub type Answer = Response<Full<Bytes>>;

/// A status with a JSON body.
pub fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    body_of(status, HeaderValue::from_static("application/json"), body)
}

/// An answer to infer, perhaps in the binary extension.
pub fn inferred(written: Written) -> Answer {
    let Written { body, json: length } = written;
    let Some(length) = length else { return json(StatusCode::OK, body) };
    let mut answer = body_of(StatusCode::OK, HeaderValue::from_static("application/octet-stream"), body);
    answer.headers_mut().insert(HEADER_LENGTH, length.into());
    answer
}

/// A body of any type.
pub fn body_of(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// The protocol's error object. 405 says what is allowed and 503 when to come again.
pub fn refuse(status: StatusCode, why: impl std::fmt::Display) -> Answer {
    let mut answer = json(status, error_body(why));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut answer, RETRY_AFTER, "1");
    }
    answer
}

pub fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, format_args!("this path takes {allowed} only"));
    set(&mut answer, ALLOW, allowed);
    answer
}

/// The last answer of its connection.
pub fn last(mut answer: Answer) -> Answer {
    set(&mut answer, CONNECTION, "close");
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}
