//! Typed contents: one repeated field for each kind of number.

use bytes::Bytes;

use super::messages::InferTensorContents;
use crate::protocol::{Slice, ValueError, binary, shape_text};
use crate::tensor::{Data, Datatype};

/// The values of an input of this datatype. `count` is the product of `shape`.
pub fn read(
    contents: InferTensorContents,
    datatype: Datatype,
    shape: &[i64],
    count: usize,
) -> Result<Data, ValueError> {
    let whole = |field, found| {
        if found == count {
            return Ok(());
        }
        Err(ValueError::Contents { field, found, expected: count, shape: shape_text(shape) })
    };
    macro_rules! take {
        ($field:ident) => {{
            whole(stringify!($field), contents.$field.len())?;
            contents.$field
        }};
    }
    match datatype {
        Datatype::Bool => Ok(Data::Bool(take!(bool_contents))),
        Datatype::Uint8 => narrow(take!(uint_contents), datatype).map(Data::Uint8),
        Datatype::Uint16 => narrow(take!(uint_contents), datatype).map(Data::Uint16),
        Datatype::Uint32 => Ok(Data::Uint32(take!(uint_contents))),
        Datatype::Uint64 => Ok(Data::Uint64(take!(uint64_contents))),
        Datatype::Int8 => narrow(take!(int_contents), datatype).map(Data::Int8),
        Datatype::Int16 => narrow(take!(int_contents), datatype).map(Data::Int16),
        Datatype::Int32 => Ok(Data::Int32(take!(int_contents))),
        Datatype::Int64 => Ok(Data::Int64(take!(int64_contents))),
        Datatype::Fp16 => Err(ValueError::NoContents),
        Datatype::Fp32 => Ok(Data::Fp32(take!(fp32_contents))),
        Datatype::Fp64 => Ok(Data::Fp64(take!(fp64_contents))),
        Datatype::Bytes => {
            let texts = take!(bytes_contents);
            let texts = texts.iter().enumerate().map(|(index, bytes)| binary::text(index, bytes));
            Ok(Data::Bytes(texts.collect::<Result<_, _>>()?))
        }
    }
}

fn narrow<W: Copy + Into<i64>, N: TryFrom<W>>(values: Vec<W>, datatype: Datatype) -> Result<Vec<N>, ValueError> {
    let narrow = |(index, wide): (usize, W)| {
        N::try_from(wide).map_err(|_| ValueError::Range { index, found: wide.into(), datatype })
    };
    values.into_iter().enumerate().map(narrow).collect()
}

/// The values of an output; `None` for FP16, which has no typed form.
pub fn write(slice: &Slice) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    let values = slice.values();
    macro_rules! put {
        ($all:expr, $field:ident) => {
            contents.$field = $all.get(values).unwrap_or_default().iter().map(|value| (*value).into()).collect()
        };
    }
    match &slice.tensor.data {
        Data::Bool(all) => put!(all, bool_contents),
        Data::Uint8(all) => put!(all, uint_contents),
        Data::Uint16(all) => put!(all, uint_contents),
        Data::Uint32(all) => put!(all, uint_contents),
        Data::Uint64(all) => put!(all, uint64_contents),
        Data::Int8(all) => put!(all, int_contents),
        Data::Int16(all) => put!(all, int_contents),
        Data::Int32(all) => put!(all, int_contents),
        Data::Int64(all) => put!(all, int64_contents),
        Data::Fp16(_) => return None,
        Data::Fp32(all) => put!(all, fp32_contents),
        Data::Fp64(all) => put!(all, fp64_contents),
        Data::Bytes(all) => {
            let texts = all.get(values).unwrap_or_default();
            contents.bytes_contents = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        }
    }
    Some(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Tensor, TensorSpec};

    #[test]
    fn values_of_every_type_but_fp16_read_back_as_they_were_written() {
        for datatype in Datatype::ALL {
            let tensor = Tensor { shape: vec![3], data: Data::blank(datatype, 3) };
            let spec = TensorSpec { name: "y".into(), datatype, shape: vec![-1] };
            match write(&Slice { spec: &spec, tensor: &tensor, rows: None }) {
                Some(contents) => assert_eq!(read(contents, datatype, &[3], 3), Ok(tensor.data)),
                None => assert_eq!(datatype, Datatype::Fp16),
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let contents = || InferTensorContents { int_contents: vec![1, -129], ..InferTensorContents::default() };
        let error = |datatype| read(contents(), datatype, &[2], 2).unwrap_err().to_string();
        assert_eq!(error(Datatype::Int8), "value 1 is -129, which INT8 has no room for");
        assert_eq!(error(Datatype::Fp32), "fp32_contents has 0 values, but shape [2] needs 2");
        assert_eq!(error(Datatype::Fp16), "FP16 has no typed contents: send raw_input_contents");
        let texts = InferTensorContents { bytes_contents: vec![Bytes::from_static(b"\xff")], ..Default::default() };
        assert_eq!(read(texts, Datatype::Bytes, &[1], 1), Err(ValueError::NoText { index: 0 }));
    }
}
