//! The `data` of a tensor, read straight from JSON text into the vector that ONNX Runtime takes.
//!
//! The text is known to be valid JSON (serde checked it), so this only walks brackets and cuts tokens. Numbers are
//! parsed by the standard library from their own text: exactly rounded to the type, never through another one.

use std::str::FromStr;

use half::f16;
use thiserror::Error;

use super::check::{shape_text, short};
use crate::tensor::{Data, Datatype};

/// What is wrong with the values of one tensor.
#[derive(Debug, Error, PartialEq)]
pub enum ValueError {
    #[error("\"data\" is not an array: send an array of values, flat or nested like the shape")]
    NotArray,
    #[error("\"data\" has {found} values, but shape {shape} needs {expected}")]
    Count { found: usize, expected: usize, shape: String },
    #[error("\"data\" has more than the {expected} values of shape {shape}")]
    TooMany { expected: usize, shape: String },
    #[error(
        "\"data\" is not nested like shape {shape}: send it flat, or with one level of brackets for each dimension"
    )]
    Nesting { shape: String },
    #[error("value {index} is {found}, but {datatype} needs {needs}")]
    Value { index: usize, found: String, datatype: Datatype, needs: &'static str },
    #[error("it has {found} bytes, but {values} values of shape {shape} need {width} bytes each")]
    Bytes { found: usize, values: usize, width: usize, shape: String },
    #[error(
        "{whole} whole values and {left} more bytes, but shape {shape} needs {expected} values, each with its length in four bytes before it"
    )]
    Texts { whole: usize, left: usize, expected: usize, shape: String },
    #[error("{field} has {found} values, but shape {shape} needs {expected}")]
    Contents { field: &'static str, found: usize, expected: usize, shape: String },
    #[error("FP16 has no typed contents: send raw_input_contents")]
    NoContents,
    #[error("value {index} is {found}, which {datatype} has no room for")]
    Range { index: usize, found: i64, datatype: Datatype },
    #[error("value {index} is no text in UTF-8 without NUL")]
    NoText { index: usize },
}

/// Reads `count` values of `datatype` from the JSON array `text`. `count` is the product of `shape`.
pub fn read(text: &str, datatype: Datatype, shape: &[i64], count: usize) -> Result<Data, ValueError> {
    let walk = Walk { text, datatype, shape, count };
    match datatype {
        Datatype::Bool => walk.values(boolean).map(Data::Bool),
        Datatype::Uint8 => walk.values(number).map(Data::Uint8),
        Datatype::Uint16 => walk.values(number).map(Data::Uint16),
        Datatype::Uint32 => walk.values(number).map(Data::Uint32),
        Datatype::Uint64 => walk.values(number).map(Data::Uint64),
        Datatype::Int8 => walk.values(number).map(Data::Int8),
        Datatype::Int16 => walk.values(number).map(Data::Int16),
        Datatype::Int32 => walk.values(number).map(Data::Int32),
        Datatype::Int64 => walk.values(number).map(Data::Int64),
        Datatype::Fp16 => walk.values(half_float).map(Data::Fp16),
        Datatype::Fp32 => walk.values(single).map(Data::Fp32),
        Datatype::Fp64 => walk.values(double).map(Data::Fp64),
        Datatype::Bytes => walk.values(string).map(Data::Bytes),
    }
}

/// One value as it stands in the text, with the quotes if it is a string.
type Token<'a> = &'a str;

struct Walk<'a> {
    text: &'a str,
    datatype: Datatype,
    shape: &'a [i64],
    count: usize,
}

impl Walk<'_> {
    fn values<T>(&self, read: impl Fn(Token) -> Option<T>) -> Result<Vec<T>, ValueError> {
        let bytes = self.text.as_bytes();
        if bytes.first() != Some(&b'[') {
            return Err(ValueError::NotArray);
        }
        // A value takes at least two bytes of text, so a lying shape cannot make this allocate more than the body.
        let mut values = Vec::with_capacity(self.count.min(bytes.len() / 2 + 1));
        let rank = self.shape.len().max(1);
        // How many children each open bracket has, and the depth at which the values stand.
        let mut children = [0_i64; MAX_RANK];
        let mut depth = 0_usize;
        let mut leaf_depth = None;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
                b'[' => {
                    if depth == rank || depth == MAX_RANK {
                        return Err(self.nesting());
                    }
                    if depth > 0 {
                        children[depth - 1] += 1;
                    }
                    children[depth] = 0;
                    depth += 1;
                    at += 1;
                }
                b']' => {
                    depth = depth.saturating_sub(1);
                    let flat = leaf_depth.unwrap_or(1) == 1;
                    if !flat && self.shape.get(depth) != children.get(depth) {
                        return Err(self.nesting());
                    }
                    at += 1;
                }
                b'{' => return Err(self.bad_value(values.len(), "an object")),
                _ => {
                    if depth != *leaf_depth.get_or_insert(depth) || (depth != 1 && depth != rank) {
                        return Err(self.nesting());
                    }
                    if values.len() == self.count {
                        let shape = shape_text(self.shape);
                        return Err(ValueError::TooMany { expected: self.count, shape });
                    }
                    let end = token_end(bytes, at);
                    let token = self.text.get(at..end).unwrap_or_default();
                    let Some(value) = read(token) else { return Err(self.bad_value(values.len(), token)) };
                    values.push(value);
                    if let Some(siblings) = children.get_mut(depth.wrapping_sub(1)) {
                        *siblings += 1;
                    }
                    at = end;
                }
            }
        }
        if values.len() == self.count {
            return Ok(values);
        }
        Err(ValueError::Count { found: values.len(), expected: self.count, shape: shape_text(self.shape) })
    }

    fn nesting(&self) -> ValueError {
        ValueError::Nesting { shape: shape_text(self.shape) }
    }

    fn bad_value(&self, index: usize, found: &str) -> ValueError {
        let needs = match self.datatype {
            Datatype::Bool => "true or false",
            Datatype::Bytes => "a string without NUL",
            Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => {
                "a number in its range, or null where a value is missing"
            }
            _ => "a whole number in its range, without a decimal point",
        };
        ValueError::Value { index, found: short(found), datatype: self.datatype, needs }
    }
}

/// How many entries each level of a nested array has, by its first elements. Empty for what is no array.
pub fn sizes(text: &str) -> Vec<i64> {
    let bytes = text.as_bytes();
    let mut sizes: Vec<i64> = Vec::new();
    // Levels whose first array has ended: their size is known.
    let mut known = [false; MAX_RANK];
    let mut depth = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => continue,
            b']' => {
                // Brackets inside an object, which `read` refuses, may not match.
                depth = usize::saturating_sub(depth, 1);
                if let Some(known) = known.get_mut(depth) {
                    *known = true;
                }
                continue;
            }
            b'[' => {}
            _ => at = token_end(bytes, at - 1),
        }
        let parent = depth.wrapping_sub(1);
        if known.get(parent) == Some(&false)
            && let Some(size) = sizes.get_mut(parent)
        {
            *size += 1;
        }
        if byte == b'[' {
            if depth == sizes.len() && depth < MAX_RANK {
                sizes.push(0);
            }
            depth += 1;
        }
    }
    sizes
}

/// Deeper tensors than this are not served.
const MAX_RANK: usize = 16;

/// The first byte behind the value that begins at `start`.
fn token_end(bytes: &[u8], start: usize) -> usize {
    if bytes[start] != b'"' {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        return bytes[start..].iter().position(ends).map_or(bytes.len(), |length| start + length);
    }
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn boolean(token: Token) -> Option<bool> {
    match token {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number<T: FromStr>(token: Token) -> Option<T> {
    token.parse().ok()
}

fn single(token: Token) -> Option<f32> {
    if token == "null" {
        return Some(f32::NAN);
    }
    token.parse().ok().filter(|value: &f32| value.is_finite())
}

fn double(token: Token) -> Option<f64> {
    if token == "null" {
        return Some(f64::NAN);
    }
    token.parse().ok().filter(|value: &f64| value.is_finite())
}

fn half_float(token: Token) -> Option<f16> {
    if token == "null" {
        return Some(f16::NAN);
    }
    token.parse().ok().map(f16::from_f64).filter(|value| value.is_finite())
}

/// Text; `null` is the empty string, which is what a missing text is in a model's signature. ONNX Runtime takes strings
/// up to a NUL, so a NUL would silently cut the value.
fn string(token: Token) -> Option<String> {
    if token == "null" {
        return Some(String::new());
    }
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(token).ok().filter(|text: &String| !text.contains('\0'));
    }
    Some(inner.to_owned())
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
