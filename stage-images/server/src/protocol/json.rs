//! Values as JSON text.

use std::io::Write as _;

use half::f16;

/// A value as JSON text.
pub trait Json {
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
pub fn string(body: &mut Vec<u8>, text: &str) {
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
