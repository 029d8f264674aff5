//! Outputs of the Open Inference Protocol, in whichever form an answer has them, compared by their values. They are read where they lie.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::compare::{close, equal};
use super::wire::{Fields, Unreadable, Wire, take, varint};

/// An output.
#[derive(Debug)]
pub struct Tensor<'a> {
    pub name: Cow<'a, str>,
    pub datatype: Cow<'a, str>,
    pub shape: Vec<i64>,
    pub values: Values<'a>,
}

/// Where the values of an output are.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// `data` of JSON.
    Json(&'a RawValue),
    /// Little-endian and in row-major order: behind the JSON, or raw in gRPC.
    Raw(&'a [u8]),
    /// `InferTensorContents` of gRPC.
    Contents(&'a [u8]),
}

/// The same outputs, in whatever order.
pub fn same(mut one: Vec<Tensor>, mut other: Vec<Tensor>) -> Result<bool, Unreadable> {
    if one.len() != other.len() {
        return Ok(false);
    }
    one.sort_by(|a, b| a.name.cmp(&b.name));
    other.sort_by(|a, b| a.name.cmp(&b.name));
    for (a, b) in one.iter().zip(&other) {
        let same_kind = (&a.name, &a.datatype, &a.shape) == (&b.name, &b.datatype, &b.shape);
        if !same_kind || !same_values(&a.datatype, a.values, b.values)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Numbers of this datatype are counted, not measured: one that is almost the same is another one.
pub fn is_whole(datatype: &str) -> bool {
    matches!(Kind::of(datatype), Some(Kind::Whole { .. }))
}

fn same_values(datatype: &str, one: Values, other: Values) -> Result<bool, Unreadable> {
    let (mut one, mut other) = match (one, other) {
        (Values::Json(a), Values::Json(b)) => {
            let read = |data: &RawValue| serde_json::from_str(data.get()).map_err(|_| Unreadable);
            return Ok(equal(&read(a)?, &read(b)?, is_whole(datatype)));
        }
        (Values::Raw(a), Values::Raw(b)) | (Values::Contents(a), Values::Contents(b)) if a == b => return Ok(true),
        (Values::Raw(_), Values::Raw(_)) if Kind::of(datatype).is_none() => return Ok(false),
        (a, b) => {
            let kind = Kind::of(datatype).ok_or(Unreadable)?;
            (Walk::new(kind, a)?, Walk::new(kind, b)?)
        }
    };
    loop {
        match (one.next()?, other.next()?) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) if a.is(b) => {}
            _ => return Ok(false),
        }
    }
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Half,
    Brain,
    Single,
    Double,
    Bool,
    Whole { bytes: usize, signed: bool },
    Text,
}

impl Kind {
    fn of(datatype: &str) -> Option<Self> {
        let signed = |bytes| Self::Whole { bytes, signed: true };
        let unsigned = |bytes| Self::Whole { bytes, signed: false };
        Some(match datatype {
            "FP16" => Self::Half,
            "BF16" => Self::Brain,
            "FP32" => Self::Single,
            "FP64" => Self::Double,
            "BOOL" => Self::Bool,
            "UINT8" => unsigned(1),
            "UINT16" => unsigned(2),
            "UINT32" => unsigned(4),
            "UINT64" => unsigned(8),
            "INT8" => signed(1),
            "INT16" => signed(2),
            "INT32" => signed(4),
            "INT64" => signed(8),
            "BYTES" => Self::Text,
            _ => return None,
        })
    }

    /// One value of those that are written one after the other.
    fn raw<'a>(self, bytes: &mut &'a [u8]) -> Result<Scalar<'a>, Unreadable> {
        Ok(match self {
            Self::Half => Scalar::Number(half(u16::from_le_bytes(array(bytes)?))),
            Self::Brain => Scalar::Number(f32::from_bits(u32::from(u16::from_le_bytes(array(bytes)?)) << 16).into()),
            Self::Single => Scalar::Number(f32::from_le_bytes(array(bytes)?).into()),
            Self::Double => Scalar::Number(f64::from_le_bytes(array(bytes)?)),
            Self::Bool => Scalar::Whole(take(bytes, 1)?.iter().map(|byte| u64::from(*byte != 0)).sum()),
            Self::Whole { bytes: width, signed } => {
                let mut all = [0; 8];
                for (to, from) in all.iter_mut().zip(take(bytes, width)?) {
                    *to = *from;
                }
                let unused = 64 - 8 * u32::try_from(width).unwrap_or(8);
                let value = u64::from_le_bytes(all);
                Scalar::Whole(if signed { ((value << unused).cast_signed() >> unused).cast_unsigned() } else { value })
            }
            Self::Text => {
                let length = u32::from_le_bytes(array(bytes)?);
                Scalar::Text(take(bytes, usize::try_from(length).map_err(|_| Unreadable)?)?)
            }
        })
    }

    /// The field of `InferTensorContents` that has them. Halves have none.
    fn field(self) -> Option<u64> {
        Some(match self {
            Self::Half | Self::Brain => return None,
            Self::Bool => 1,
            Self::Single => 6,
            Self::Double => 7,
            Self::Whole { bytes: 8, signed: true } => 3,
            Self::Whole { bytes: 8, signed: false } => 5,
            Self::Whole { signed: true, .. } => 2,
            Self::Whole { signed: false, .. } => 4,
            Self::Text => 8,
        })
    }
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    take(bytes, N)?.try_into().map_err(|_| Unreadable)
}

/// A number of the format binary16 of IEEE 754.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from((bits >> 10) & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

#[derive(Clone, Copy, Debug)]
enum Scalar<'a> {
    Number(f64),
    /// Of 64 bits, with its sign.
    Whole(u64),
    Text(&'a [u8]),
}

impl Scalar<'_> {
    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => close(a, b),
            (Self::Whole(a), Self::Whole(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            _ => false,
        }
    }
}

/// The values of an output, one after the other.
struct Walk<'a> {
    kind: Kind,
    from: From<'a>,
}

enum From<'a> {
    Raw(&'a [u8]),
    /// `packed`: what is left of the field that was read last.
    Contents {
        field: u64,
        fields: Fields<'a>,
        packed: &'a [u8],
    },
}

impl<'a> Walk<'a> {
    fn new(kind: Kind, values: Values<'a>) -> Result<Self, Unreadable> {
        let from = match values {
            // One answer in JSON and one in bytes.
            Values::Json(_) => return Err(Unreadable),
            Values::Raw(bytes) => From::Raw(bytes),
            Values::Contents([]) => From::Raw(&[]),
            Values::Contents(message) => {
                From::Contents { field: kind.field().ok_or(Unreadable)?, fields: Fields(message), packed: &[] }
            }
        };
        Ok(Self { kind, from })
    }

    fn next(&mut self) -> Result<Option<Scalar<'a>>, Unreadable> {
        match &mut self.from {
            From::Raw([]) => Ok(None),
            From::Raw(bytes) => self.kind.raw(bytes).map(Some),
            From::Contents { field, fields, packed } => loop {
                if !packed.is_empty() {
                    return match self.kind {
                        Kind::Bool | Kind::Whole { .. } => varint(packed).map(|value| Some(Scalar::Whole(value))),
                        kind => kind.raw(packed).map(Some),
                    };
                }
                let Some((number, wire)) = fields.next()? else { return Ok(None) };
                // What is for another datatype is not read by callers either.
                if number != *field {
                    continue;
                }
                match (self.kind, wire) {
                    (Kind::Text, Wire::Long(text)) => return Ok(Some(Scalar::Text(text))),
                    (Kind::Bool | Kind::Whole { .. }, Wire::Varint(value)) => return Ok(Some(Scalar::Whole(value))),
                    (Kind::Single, Wire::Four(mut bytes)) | (Kind::Double, Wire::Eight(mut bytes)) => {
                        return self.kind.raw(&mut bytes).map(Some);
                    }
                    (Kind::Text, _) => return Err(Unreadable),
                    (_, Wire::Long(bytes)) => *packed = bytes,
                    _ => return Err(Unreadable),
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<'a>(datatype: &'a str, values: Values<'a>) -> Vec<Tensor<'a>> {
        vec![Tensor { name: "y".into(), datatype: datatype.into(), shape: vec![2], values }]
    }

    fn raw(datatype: &str, a: &[u8], b: &[u8]) -> Result<bool, Unreadable> {
        same(tensor(datatype, Values::Raw(a)), tensor(datatype, Values::Raw(b)))
    }

    #[test]
    fn numbers_agree_by_what_they_are() {
        let singles = |a: f32, b: f32| [a.to_le_bytes(), b.to_le_bytes()].concat();
        assert_eq!(raw("FP32", &singles(0.1, 2.0), &singles(0.100_000_1, 2.0)), Ok(true));
        assert_eq!(raw("FP32", &singles(0.1, 2.0), &singles(0.2, 2.0)), Ok(false));
        assert_eq!(raw("FP32", &singles(0.1, 2.0), &0.1_f32.to_le_bytes()), Ok(false));
        assert_eq!(raw("FP32", &singles(f32::NAN, 0.0), &singles(-f32::NAN, -0.0)), Ok(true));
        assert_eq!(raw("FP32", &singles(f32::INFINITY, 1.0), &singles(f32::MAX, 1.0)), Ok(false));
        assert_eq!(raw("FP64", &1.0_f64.to_le_bytes(), &1.000_001_f64.to_le_bytes()), Ok(true));
        // 1.0 and the next number; 1.0 and 2.0.
        assert_eq!(raw("FP16", &[0, 0x3c], &[1, 0x3c]), Ok(false));
        assert_eq!(raw("BF16", &[0x80, 0x3f], &[0, 0x40]), Ok(false));
        // A label is another one, however large it is.
        assert_eq!(raw("INT64", &1_000_000_i64.to_le_bytes(), &1_000_001_i64.to_le_bytes()), Ok(false));
        assert_eq!(raw("BYTES", b"\x02\0\0\0ab\0\0\0\0", b"\x02\0\0\0ac\0\0\0\0"), Ok(false));
        assert_eq!(raw("BOOL", &[1, 0], &[1, 0]), Ok(true));
    }

    #[test]
    fn halves_are_read() {
        for (bits, number) in
            [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (1, 2_f64.powi(-24)), (0x7c00, f64::INFINITY)]
        {
            assert!(half(bits).total_cmp(&number).is_eq(), "{bits:x}: {}", half(bits));
        }
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn what_is_no_whole_value_is_not_read() {
        assert_eq!(raw("FP32", &[0; 8], &[1; 7]), Ok(false), "the first value differs already");
        assert_eq!(raw("FP32", &[0; 8], &[0; 7]), Err(Unreadable));
        assert_eq!(raw("BYTES", b"\x02\0\0\0ab", b"\x09\0\0\0ab"), Err(Unreadable));
        // Nobody knows what is in it.
        assert_eq!(raw("COMPLEX", &[0], &[0]), Ok(true));
        assert_eq!(raw("COMPLEX", &[0], &[1]), Ok(false));
    }

    #[test]
    fn contents_and_raw_bytes_are_the_same_values() {
        let both = |datatype, contents: &[u8], raw: &[u8]| {
            same(tensor(datatype, Values::Contents(contents)), tensor(datatype, Values::Raw(raw)))
        };
        let singles = [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat();
        // Field 6, packed and one by one.
        assert_eq!(both("FP32", &[&[0x32, 8][..], &singles].concat(), &singles), Ok(true));
        let unpacked = [&[0x35][..], &singles[..4], &[0x35], &singles[4..]].concat();
        assert_eq!(both("FP32", &unpacked, &singles), Ok(true));
        // Field 2: −1 has ten bytes.
        let minus = b"\x12\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x05";
        assert_eq!(both("INT8", minus, &[0xff, 5]), Ok(true));
        assert_eq!(both("INT32", minus, &[0xff, 0xff, 0xff, 0xff, 5, 0, 0, 0]), Ok(true));
        assert_eq!(both("INT8", minus, &[0xff, 6]), Ok(false));
        assert_eq!(both("BOOL", b"\x0a\x02\x01\x00", &[2, 0]), Ok(true));
        assert_eq!(both("BYTES", b"\x42\x02ab\x42\x00", b"\x02\0\0\0ab\0\0\0\0"), Ok(true));
        assert_eq!(both("UINT8", b"\x22\x02\x01\x02", &[1, 2]), Ok(true));
        assert_eq!(both("FP16", b"\x32\x04\0\0\0\0", &[0, 0]), Err(Unreadable));
    }
}
