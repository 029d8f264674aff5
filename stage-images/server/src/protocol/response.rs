//! The JSON form of an answer, with the binary extension, written straight into the bytes that go out.

use std::fmt::Display;

use super::json::{Json as _, string};
use super::{Slice, binary};
use crate::tensor::each_data;

/// The body of an answer.
#[derive(Debug)]
pub struct Written {
    pub body: Vec<u8>,
    /// How many bytes of it are JSON, where raw bytes follow.
    pub json: Option<usize>,
}

/// Writes an answer. Outputs whose place in `binary` is true stand as raw bytes behind the JSON.
pub fn write_answer(model: &str, version: &str, id: Option<&str>, outputs: &[Slice], binary: &[bool]) -> Written {
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
        slice.write(&mut body, binary.get(index) == Some(&true));
    }
    body.extend_from_slice(b"]}");
    let mut json = None;
    for (slice, _) in outputs.iter().zip(binary).filter(|(_, binary)| **binary) {
        json.get_or_insert(body.len());
        binary::write(&mut body, slice);
    }
    Written { body, json }
}

/// The protocol's error object.
pub fn error_body(error: impl Display) -> Vec<u8> {
    let mut body = b"{\"error\":".to_vec();
    string(&mut body, &error.to_string());
    body.push(b'}');
    body
}

impl Slice<'_> {
    fn write(&self, body: &mut Vec<u8>, binary: bool) {
        body.extend_from_slice(b"{\"name\":");
        string(body, &self.spec.name);
        body.extend_from_slice(b",\"datatype\":\"");
        body.extend_from_slice(self.spec.datatype.name().as_bytes());
        body.extend_from_slice(b"\",\"shape\":[");
        for (axis, size) in self.shape().enumerate() {
            if axis > 0 {
                body.push(b',');
            }
            size.json(body);
        }
        if binary {
            body.extend_from_slice(b"],\"parameters\":{\"binary_data_size\":");
            binary::size(self).json(body);
            return body.extend_from_slice(b"}}");
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
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
