//! The JSON form of an answer, written straight into the bytes that go out.

use std::fmt::Display;
use std::io::Write as _;
use std::ops::Range;

use half::f16;

use crate::tensor::{Tensor, TensorSpec, each_data};

/// The rows of one request in the outputs of a batch. `rows` is absent where the answer is the whole tensor.
pub struct Slice<'a> {
    pub spec: &'a TensorSpec,
    pub tensor: &'a Tensor,
    pub rows: Option<Range<usize>>,
}

/// The body of an answer.
pub fn write_answer(model: &str, version: &str, id: Option<&str>, outputs: &[Slice]) -> Vec<u8> {
    let mut body = Vec::with_capacity(256 + outputs.iter().map(|slice| 96 + slice.values().len() * 12).sum::<usize>());
    body.extend_from_slice(b"{\"model_name\":");
    string(&mut body, model);
    body.extend_from_slice(b",\"model_version\":");
    string(&mut body, version);
    if let Some(id) = id {
        body.extend_from_slice(b",\"id\":");
        string(&mut body, id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    for (index, slice) in outputs.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        slice.write(&mut body);
    }
    body.extend_from_slice(b"]}");
    body
}

/// The protocol's error object.
pub fn error_body(error: impl Display) -> Vec<u8> {
    let mut body = b"{\"error\":".to_vec();
    string(&mut body, &error.to_string());
    body.push(b'}');
    body
}

impl Slice<'_> {
    fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(b"{\"name\":");
        string(body, &self.spec.name);
        body.extend_from_slice(b",\"datatype\":\"");
        body.extend_from_slice(self.spec.datatype.name().as_bytes());
        body.extend_from_slice(b"\",\"shape\":[");
        for (axis, size) in self.tensor.shape.iter().enumerate() {
            if axis > 0 {
                body.push(b',');
            }
            match &self.rows {
                Some(rows) if axis == 0 => rows.len().json(body),
                _ => size.json(body),
            }
        }
        body.extend_from_slice(b"],\"data\":[");
        let values = self.values();
        each_data!(&self.tensor.data, all => {
            for (index, value) in all.get(values).unwrap_or_default().iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                value.json(body);
            }
        });
        body.extend_from_slice(b"]}");
    }

    /// Which values of the tensor are in the rows.
    fn values(&self) -> Range<usize> {
        let Some(rows) = &self.rows else { return 0..self.tensor.data.len() };
        let all = self.tensor.shape.first().and_then(|size| usize::try_from(*size).ok()).unwrap_or(1).max(1);
        let width = self.tensor.data.len() / all;
        rows.start * width..rows.end * width
    }
}

/// A value as JSON text.
trait Json {
    fn json(&self, body: &mut Vec<u8>);
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(impl Json for $type {
        fn json(&self, body: &mut Vec<u8>) {
            body.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
        }
    })* };
}
whole_numbers!(u8, u16, u32, u64, i8, i16, i32, i64, usize);

/// The shortest text that reads back as the same number. JSON has no NaN and no infinity: both are `null`.
macro_rules! floats {
    ($($type:ty),*) => { $(impl Json for $type {
        fn json(&self, body: &mut Vec<u8>) {
            if self.is_finite() {
                body.extend_from_slice(ryu::Buffer::new().format_finite(*self).as_bytes());
            } else {
                body.extend_from_slice(b"null");
            }
        }
    })* };
}
floats!(f32, f64);

impl Json for f16 {
    fn json(&self, body: &mut Vec<u8>) {
        self.to_f32().json(body);
    }
}

impl Json for bool {
    fn json(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Json for String {
    fn json(&self, body: &mut Vec<u8>) {
        string(body, self);
    }
}

/// A JSON string. Most names and labels need no escape and are copied as they are.
fn string(body: &mut Vec<u8>, text: &str) {
    body.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        body.extend_from_slice(&rest.as_bytes()[..at]);
        match rest.as_bytes()[at] {
            b'"' => body.extend_from_slice(b"\\\""),
            b'\\' => body.extend_from_slice(b"\\\\"),
            // Writing into a Vec cannot fail.
            control => drop(write!(body, "\\u{control:04x}")),
        }
        rest = &rest[at + 1..];
    }
    body.extend_from_slice(rest.as_bytes());
    body.push(b'"');
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
