//! Values as raw bytes, little-endian and in row-major order: the binary extension of REST and the raw contents of gRPC.
//!
//! A text is its length in four bytes and then itself.

use half::f16;

use super::Slice;
use super::check::shape_text;
use super::values::ValueError;
use crate::tensor::{Data, Datatype, TensorSpec, each_data};

/// Reads `count` values of `datatype`. `count` is the product of `shape`.
pub fn read(bytes: &[u8], datatype: Datatype, shape: &[i64], count: usize) -> Result<Data, ValueError> {
    if let Some(width) = width(datatype)
        && count.checked_mul(width) != Some(bytes.len())
    {
        let (found, shape) = (bytes.len(), shape_text(shape));
        return Err(ValueError::Bytes { found, values: count, width, shape });
    }
    match datatype {
        Datatype::Bool => Ok(Data::Bool(bytes.iter().map(|byte| *byte != 0).collect())),
        Datatype::Uint8 => Ok(Data::Uint8(bytes.to_vec())),
        Datatype::Uint16 => Ok(Data::Uint16(numbers(bytes, u16::from_le_bytes))),
        Datatype::Uint32 => Ok(Data::Uint32(numbers(bytes, u32::from_le_bytes))),
        Datatype::Uint64 => Ok(Data::Uint64(numbers(bytes, u64::from_le_bytes))),
        Datatype::Int8 => Ok(Data::Int8(numbers(bytes, i8::from_le_bytes))),
        Datatype::Int16 => Ok(Data::Int16(numbers(bytes, i16::from_le_bytes))),
        Datatype::Int32 => Ok(Data::Int32(numbers(bytes, i32::from_le_bytes))),
        Datatype::Int64 => Ok(Data::Int64(numbers(bytes, i64::from_le_bytes))),
        Datatype::Fp16 => Ok(Data::Fp16(numbers(bytes, f16::from_le_bytes))),
        Datatype::Fp32 => Ok(Data::Fp32(numbers(bytes, f32::from_le_bytes))),
        Datatype::Fp64 => Ok(Data::Fp64(numbers(bytes, f64::from_le_bytes))),
        Datatype::Bytes => texts(bytes, shape, count).map(Data::Bytes),
    }
}

/// The shape of a tensor whose bytes are all that is known of it: the one dimension that the model leaves open, beside which a first one is 1, is
/// what fits. A text is one value.
pub fn shape(spec: &TensorSpec, bytes: usize) -> Option<Vec<i64>> {
    let Some(width) = width(spec.datatype) else {
        return spec.shape.iter().all(|size| *size <= 1).then(|| vec![1; spec.shape.len()]);
    };
    let mut shape = spec.shape.clone();
    let open: Vec<usize> = (0..shape.len()).filter(|i| shape[*i] < 0).collect();
    let left = match open.as_slice() {
        [] => None,
        [one] => Some(*one),
        [0, one] => {
            shape[0] = 1;
            Some(*one)
        }
        _ => return None,
    };
    if let Some(left) = left {
        shape[left] = 1;
        let known = shape.iter().try_fold(1_usize, |all, size| all.checked_mul(usize::try_from(*size).ok()?))?;
        shape[left] = i64::try_from(bytes / width / known.max(1)).ok()?;
    }
    Some(shape)
}

/// How many bytes a value takes; texts differ.
fn width(datatype: Datatype) -> Option<usize> {
    match datatype {
        Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
        Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 => Some(2),
        Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
        Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
        Datatype::Bytes => None,
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

fn texts(mut bytes: &[u8], shape: &[i64], count: usize) -> Result<Vec<String>, ValueError> {
    // A text takes at least four bytes, so a lying shape cannot make this allocate more than a few times the body.
    let mut texts = Vec::with_capacity(count.min(bytes.len() / 4 + 1));
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if texts.len() == count || length > rest.len() {
            break;
        }
        let (text, rest) = rest.split_at(length);
        texts.push(self::text(texts.len(), text)?);
        bytes = rest;
    }
    if texts.len() == count && bytes.is_empty() {
        return Ok(texts);
    }
    Err(ValueError::Texts { whole: texts.len(), left: bytes.len(), expected: count, shape: shape_text(shape) })
}

/// A text that ONNX Runtime takes whole: a NUL would silently cut it.
pub fn text(index: usize, bytes: &[u8]) -> Result<String, ValueError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(ValueError::NoText { index }),
    }
}

/// How many bytes [`write`] adds.
pub fn size(slice: &Slice) -> usize {
    match (&slice.tensor.data, width(slice.tensor.data.datatype())) {
        (Data::Bytes(texts), _) => {
            texts.get(slice.values()).unwrap_or_default().iter().map(|text| 4 + text.len()).sum()
        }
        (_, width) => slice.values().len() * width.unwrap_or(0),
    }
}

/// Writes the values of an output.
pub fn write(out: &mut Vec<u8>, slice: &Slice) {
    out.reserve(size(slice));
    each_data!(&slice.tensor.data, all => {
        for value in all.get(slice.values()).unwrap_or_default() {
            value.write(out);
        }
    });
}

trait Raw {
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($type:ty),*) => { $(impl Raw for $type {
        fn write(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_le_bytes());
        }
    })* };
}
numbers!(u8, u16, u32, u64, i8, i16, i32, i64, f16, f32, f64);

impl Raw for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Raw for String {
    fn write(&self, out: &mut Vec<u8>) {
        // No text of a request or a model comes near 4 GiB.
        out.extend_from_slice(&u32::try_from(self.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(self.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::{Tensor, TensorSpec};

    fn written(data: Data) -> Vec<u8> {
        let spec = TensorSpec { name: "y".into(), datatype: data.datatype(), shape: vec![-1] };
        let tensor = Tensor { shape: vec![i64::try_from(data.len()).unwrap()], data };
        let slice = Slice { spec: &spec, tensor: &tensor, rows: None };
        let mut out = Vec::new();
        write(&mut out, &slice);
        assert_eq!(out.len(), size(&slice));
        out
    }

    #[test]
    fn values_of_every_type_read_back_as_they_were_written() {
        for datatype in Datatype::ALL {
            let data = Data::blank(datatype, 3);
            assert_eq!(read(&written(data.clone()), datatype, &[3], 3), Ok(data));
        }
        assert_eq!(written(Data::Int32(vec![1, -2])), [1, 0, 0, 0, 254, 255, 255, 255]);
        assert_eq!(written(Data::Bytes(vec!["ab".into(), String::new()])), *b"\x02\0\0\0ab\0\0\0\0");
    }

    #[test]
    fn too_few_and_too_many_bytes_are_refused_with_what_was_expected() {
        let error = read(&[0; 7], Datatype::Fp32, &[2, 1], 2).unwrap_err();
        assert_eq!(error.to_string(), "it has 7 bytes, but 2 values of shape [2, 1] need 4 bytes each");
        for bytes in [&b"\x02\0\0\0a"[..], b"\x01\0\0\0a", b"\0\0\0\0\0\0\0\0\0", b"\x01\0\0\0a\xff\xff\xff\xff"] {
            assert!(matches!(read(bytes, Datatype::Bytes, &[2], 2), Err(ValueError::Texts { .. })), "{bytes:?}");
        }
        let lying = read(b"\0\0\0\0", Datatype::Bytes, &[1 << 40], 1 << 40).unwrap_err();
        assert!(matches!(lying, ValueError::Texts { whole: 1, .. }));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for bytes in [&b"\x01\0\0\0\xff"[..], b"\x01\0\0\0\0"] {
            assert_eq!(read(bytes, Datatype::Bytes, &[1], 1), Err(ValueError::NoText { index: 0 }));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), count in 0_usize..9) {
            for datatype in Datatype::ALL {
                let _ = read(&bytes, datatype, &[1], count);
            }
        }
    }
}
