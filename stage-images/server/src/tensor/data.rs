//! The values of a tensor: one vector of the type that ONNX Runtime takes, so that no value is converted twice.

use half::f16;

use super::Datatype;

/// The values of one tensor. `Bytes` holds text: ONNX strings are UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<String>),
}

/// Does the same with the vector of whichever variant it is.
macro_rules! each_data {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            $crate::tensor::Data::Bool($values) => $body,
            $crate::tensor::Data::Uint8($values) => $body,
            $crate::tensor::Data::Uint16($values) => $body,
            $crate::tensor::Data::Uint32($values) => $body,
            $crate::tensor::Data::Uint64($values) => $body,
            $crate::tensor::Data::Int8($values) => $body,
            $crate::tensor::Data::Int16($values) => $body,
            $crate::tensor::Data::Int32($values) => $body,
            $crate::tensor::Data::Int64($values) => $body,
            $crate::tensor::Data::Fp16($values) => $body,
            $crate::tensor::Data::Fp32($values) => $body,
            $crate::tensor::Data::Fp64($values) => $body,
            $crate::tensor::Data::Bytes($values) => $body,
        }
    };
}
pub(crate) use each_data;

impl Data {
    /// The type of the values.
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Uint8(_) => Datatype::Uint8,
            Self::Uint16(_) => Datatype::Uint16,
            Self::Uint32(_) => Datatype::Uint32,
            Self::Uint64(_) => Datatype::Uint64,
            Self::Int8(_) => Datatype::Int8,
            Self::Int16(_) => Datatype::Int16,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Fp16(_) => Datatype::Fp16,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        each_data!(self, values => values.len())
    }

    /// How many bytes the values take.
    pub fn memory(&self) -> usize {
        let texts = |values: &[String]| values.iter().map(String::len).sum::<usize>();
        match self {
            Self::Bytes(values) => texts(values) + size_of_val(values.as_slice()),
            _ => each_data!(self, values => size_of_val(values.as_slice())),
        }
    }

    /// `count` made-up values: zeros, `false`, empty text.
    pub fn blank(datatype: Datatype, count: usize) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool(vec![false; count]),
            Datatype::Uint8 => Self::Uint8(vec![0; count]),
            Datatype::Uint16 => Self::Uint16(vec![0; count]),
            Datatype::Uint32 => Self::Uint32(vec![0; count]),
            Datatype::Uint64 => Self::Uint64(vec![0; count]),
            Datatype::Int8 => Self::Int8(vec![0; count]),
            Datatype::Int16 => Self::Int16(vec![0; count]),
            Datatype::Int32 => Self::Int32(vec![0; count]),
            Datatype::Int64 => Self::Int64(vec![0; count]),
            Datatype::Fp16 => Self::Fp16(vec![f16::ZERO; count]),
            Datatype::Fp32 => Self::Fp32(vec![0.0; count]),
            Datatype::Fp64 => Self::Fp64(vec![0.0; count]),
            Datatype::Bytes => Self::Bytes(vec![String::new(); count]),
        }
    }

    /// Puts the value at `index` of `other` behind these, if it is of the same type: else `false`.
    #[must_use]
    pub fn push_from(&mut self, other: &Self, index: usize) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => push(a, b, index),
            (Self::Uint8(a), Self::Uint8(b)) => push(a, b, index),
            (Self::Uint16(a), Self::Uint16(b)) => push(a, b, index),
            (Self::Uint32(a), Self::Uint32(b)) => push(a, b, index),
            (Self::Uint64(a), Self::Uint64(b)) => push(a, b, index),
            (Self::Int8(a), Self::Int8(b)) => push(a, b, index),
            (Self::Int16(a), Self::Int16(b)) => push(a, b, index),
            (Self::Int32(a), Self::Int32(b)) => push(a, b, index),
            (Self::Int64(a), Self::Int64(b)) => push(a, b, index),
            (Self::Fp16(a), Self::Fp16(b)) => push(a, b, index),
            (Self::Fp32(a), Self::Fp32(b)) => push(a, b, index),
            (Self::Fp64(a), Self::Fp64(b)) => push(a, b, index),
            (Self::Bytes(a), Self::Bytes(b)) => push(a, b, index),
            _ => false,
        }
    }

    /// Moves the values of `more` behind these. Values of another type are a caller's mistake and are left where they
    /// are: `false`.
    #[must_use]
    pub fn append(&mut self, more: &mut Self) -> bool {
        match (self, more) {
            (Self::Bool(a), Self::Bool(b)) => a.append(b),
            (Self::Uint8(a), Self::Uint8(b)) => a.append(b),
            (Self::Uint16(a), Self::Uint16(b)) => a.append(b),
            (Self::Uint32(a), Self::Uint32(b)) => a.append(b),
            (Self::Uint64(a), Self::Uint64(b)) => a.append(b),
            (Self::Int8(a), Self::Int8(b)) => a.append(b),
            (Self::Int16(a), Self::Int16(b)) => a.append(b),
            (Self::Int32(a), Self::Int32(b)) => a.append(b),
            (Self::Int64(a), Self::Int64(b)) => a.append(b),
            (Self::Fp16(a), Self::Fp16(b)) => a.append(b),
            (Self::Fp32(a), Self::Fp32(b)) => a.append(b),
            (Self::Fp64(a), Self::Fp64(b)) => a.append(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.append(b),
            _ => return false,
        }
        true
    }
}

fn push<T: Clone>(values: &mut Vec<T>, others: &[T], index: usize) -> bool {
    values.extend(others.get(index).cloned());
    index < others.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_type_append_to_their_own_type_only() {
        for datatype in Datatype::ALL {
            let mut data = Data::blank(datatype, 2);
            assert_eq!(data.datatype(), datatype);
            assert!(data.append(&mut Data::blank(datatype, 3)));
            assert_eq!(data.len(), 5);
            let other = if datatype == Datatype::Bool { Datatype::Int8 } else { Datatype::Bool };
            assert!(!data.append(&mut Data::blank(other, 1)));
            assert!(data.push_from(&Data::blank(datatype, 1), 0));
            assert!(!data.push_from(&Data::blank(datatype, 1), 1));
            assert!(!data.push_from(&Data::blank(other, 1), 0));
            assert_eq!(data.len(), 6);
        }
    }
}
