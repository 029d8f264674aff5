//! Whether two answers of the Open Inference Protocol over gRPC agree. Its messages are those of
//! specification/protocol/open_inference_grpc.proto in github.com/kserve/open-inference-protocol.

use std::borrow::Cow;

use super::tensor::{Tensor, Values, same};
use super::wire::{Fields, Unreadable, Wire, take, varint};
use crate::graph::MOST_TENSORS;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
/// Which versions there are, in `ModelMetadataResponse`.
const VERSIONS: u64 = 2;
/// More than any tensor has.
const MOST_AXES: usize = 64;

/// Of two answers with the same status: by their outputs, whatever model and version they name. Of other calls every byte counts.
pub fn agree(path: &str, one: &[u8], other: &[u8]) -> bool {
    let compared = if path.ends_with(INFER) {
        outputs(one).and_then(|one| same(one, outputs(other)?))
    } else if path.ends_with(METADATA) {
        same_metadata(one, other)
    } else {
        Err(Unreadable)
    };
    compared.unwrap_or_else(|Unreadable| one == other)
}

/// The one message of a body. One that is compressed is not read: it cannot be told how long it is.
fn message(mut body: &[u8]) -> Result<&[u8], Unreadable> {
    let [compressed, length @ ..] = take(&mut body, 5)? else { return Err(Unreadable) };
    let length = u32::from_be_bytes(length.try_into().map_err(|_| Unreadable)?);
    if *compressed != 0 || usize::try_from(length) != Ok(body.len()) {
        return Err(Unreadable);
    }
    Ok(body)
}

/// The outputs of a `ModelInferResponse`.
fn outputs(body: &[u8]) -> Result<Vec<Tensor<'_>>, Unreadable> {
    let mut fields = Fields(message(body)?);
    let (mut outputs, mut raw) = (Vec::new(), Vec::new());
    while let Some(field) = fields.next()? {
        match field {
            (5, Wire::Long(bytes)) => outputs.push(output(bytes)?),
            (6, Wire::Long(bytes)) => raw.push(bytes),
            _ => {}
        }
        if outputs.len().max(raw.len()) > MOST_TENSORS {
            return Err(Unreadable);
        }
    }
    // All of them are raw, or none is.
    if !raw.is_empty() {
        if raw.len() != outputs.len() {
            return Err(Unreadable);
        }
        for (output, bytes) in outputs.iter_mut().zip(raw) {
            output.values = Values::Raw(bytes);
        }
    }
    Ok(outputs)
}

/// An `InferOutputTensor`.
fn output(message: &[u8]) -> Result<Tensor<'_>, Unreadable> {
    let mut fields = Fields(message);
    let (mut name, mut datatype, mut contents) = (Cow::Borrowed(""), Cow::Borrowed(""), None);
    let mut shape = Vec::new();
    while let Some(field) = fields.next()? {
        match field {
            (1, Wire::Long(bytes)) => name = text(bytes)?,
            (2, Wire::Long(bytes)) => datatype = text(bytes)?,
            (3, Wire::Varint(axis)) => shape.push(axis.cast_signed()),
            (3, Wire::Long(mut packed)) => {
                while !packed.is_empty() && shape.len() <= MOST_AXES {
                    shape.push(varint(&mut packed)?.cast_signed());
                }
            }
            // A second one would have to be added to the first.
            (5, Wire::Long(_)) if contents.is_some() => return Err(Unreadable),
            (5, Wire::Long(bytes)) => contents = Some(bytes),
            _ => {}
        }
        if shape.len() > MOST_AXES {
            return Err(Unreadable);
        }
    }
    Ok(Tensor { name, datatype, shape, values: Values::Contents(contents.unwrap_or_default()) })
}

fn text(bytes: &[u8]) -> Result<Cow<'_, str>, Unreadable> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Unreadable)
}

/// All but the versions.
fn same_metadata(one: &[u8], other: &[u8]) -> Result<bool, Unreadable> {
    let (mut one, mut other) = (Fields(message(one)?), Fields(message(other)?));
    loop {
        let (a, b) = (unversioned(&mut one)?, unversioned(&mut other)?);
        if a != b || a.is_none() {
            return Ok(a == b);
        }
    }
}

fn unversioned<'a>(fields: &mut Fields<'a>) -> Result<Option<(u64, Wire<'a>)>, Unreadable> {
    loop {
        let field = fields.next()?;
        if field.is_none_or(|(number, _)| number != VERSIONS) {
            return Ok(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with its length.
    fn long(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        assert!(length < 128);
        [&[number << 3 | 2, length][..], bytes].concat()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    fn tensor(name: &str, datatype: &str, contents: &[u8]) -> Vec<u8> {
        let shape = long(3, &[1, 2]);
        let contents = if contents.is_empty() { Vec::new() } else { long(5, contents) };
        long(5, &[long(1, name.as_bytes()), long(2, datatype.as_bytes()), shape, contents].concat())
    }

    /// As the model server writes it: names, then outputs, then raw bytes.
    fn answer(version: &str, id: &str, rest: &[Vec<u8>]) -> Vec<u8> {
        let head = [long(1, b"penguins"), long(2, version.as_bytes()), long(3, id.as_bytes())].concat();
        framed(&[head, rest.concat()].concat())
    }

    fn singles(a: f32, b: f32) -> Vec<u8> {
        [a.to_le_bytes(), b.to_le_bytes()].concat()
    }

    /// What Google's own library makes of the message: a probability, a label and an index of version 1 as contents, of version 2 raw, and others of
    /// version 2 raw.
    const WRITTEN: [&str; 3] = [
        "0a0870656e6775696e731201311a01612a2e0a0d70726f626162696c69746965731204465033321a02010222070a016b120210072a0a32080000803e0000403f2a1b0a056c6162656c120542595445531a01012a0842064164656c69652a1f0a05696e6465781205494e5433321a01012a0c120affffffffffffffffff01",
        "0a0870656e6775696e731201321a01612a220a0d70726f626162696c69746965731204465033321a02010222070a016b120210072a110a056c6162656c120542595445531a01012a110a05696e6465781205494e5433321a010132080000803e0000403f320a060000004164656c69653204ffffffff",
        "0a0870656e6775696e731201321a01612a220a0d70726f626162696c69746965731204465033321a02010222070a016b120210072a110a056c6162656c120542595445531a01012a110a05696e6465781205494e5433321a010132080000003f0000003f320a060000004164656c69653204ffffffff",
    ];

    #[test]
    fn what_googles_library_writes_is_read() {
        let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
        let bytes =
            |hex: &str| hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect::<Vec<_>>();
        let [contents, raw, other] = WRITTEN.map(|hex| framed(&bytes(hex)));
        let read = outputs(&contents).unwrap();
        let shapes: Vec<_> = read.iter().map(|output| (&*output.name, &*output.datatype, &output.shape[..])).collect();
        let expected = [("probabilities", "FP32", &[1, 2][..]), ("label", "BYTES", &[1]), ("index", "INT32", &[1])];
        assert_eq!(shapes, expected);
        assert!(agreed(&contents, &raw));
        assert!(!agreed(&contents, &other) && !agreed(&raw, &other));
    }

    fn agreed(one: &[u8], other: &[u8]) -> bool {
        agree(INFER, one, other)
    }

    #[test]
    fn another_version_with_the_same_outputs_agrees() {
        let of = |version, id, a, b| answer(version, id, &[tensor("p", "FP32", &long(6, &singles(a, b)))]);
        assert!(agreed(&of("1", "x", 0.1, 2.0), &of("2", "y", 0.100_000_1, 2.0)));
        assert!(!agreed(&of("1", "x", 0.1, 2.0), &of("1", "x", 0.2, 2.0)));
        let raw = |version, a, b| answer(version, "", &[tensor("p", "FP32", &[]), long(6, &singles(a, b))]);
        assert!(agreed(&raw("1", 0.1, 2.0), &raw("2", 0.1, 2.0)));
        assert!(agreed(&raw("1", 0.1, 2.0), &of("2", "", 0.1, 2.0)), "the same values in another form");
        assert!(!agreed(&raw("1", 0.1, 2.0), &raw("2", 0.1, 3.0)));
    }

    #[test]
    fn outputs_are_found_by_their_names() {
        let (p, q) =
            (tensor("p", "INT64", &long(3, &[1, 2])), tensor("q", "BYTES", &[long(8, b"a"), long(8, b"b")].concat()));
        let both = answer("1", "", &[p.clone(), q.clone()]);
        assert!(agreed(&both, &answer("2", "", &[q.clone(), p.clone()])));
        assert!(!agreed(&both, &answer("1", "", std::slice::from_ref(&p))));
        assert!(!agreed(&both, &answer("1", "", &[p.clone(), tensor("r", "BYTES", &[])])));
        assert!(!agreed(&both, &answer("1", "", &[tensor("p", "INT32", &long(3, &[1, 2])), q])));
        assert!(!agreed(&both, &answer("1", "", &[p.clone(), p])));
    }

    #[test]
    fn what_cannot_be_read_agrees_only_with_itself() {
        let good = answer("1", "", &[tensor("p", "INT64", &long(3, &[1, 2]))]);
        let mut compressed = good.clone();
        compressed[0] = 1;
        let cut = &good[..good.len() - 1];
        let twice = [good.clone(), good.clone()].concat();
        for broken in [
            &compressed[..],
            cut,
            &twice,
            b"",
            &answer("1", "", &[tensor("p", "INT64", &[]), long(6, b"a"), long(6, b"b")]),
        ] {
            assert!(agreed(broken, broken));
            assert!(!agreed(broken, &good) && !agreed(&good, broken), "{broken:?}");
        }
    }

    #[test]
    fn an_answer_of_very_many_outputs_is_not_read() {
        let many = |version: &str| answer(version, "", &vec![tensor("", "", &[]); MOST_TENSORS + 1]);
        assert!(agreed(&many("1"), &many("1")));
        assert!(!agreed(&many("1"), &many("2")));
        assert!(agreed(
            &answer("1", "", &vec![long(5, b""); MOST_TENSORS]),
            &answer("2", "", &vec![long(5, b""); MOST_TENSORS])
        ));
    }

    #[test]
    fn metadata_agrees_whatever_versions_there_are_and_of_other_calls_every_byte_counts() {
        let of = |version: &[u8], name: &[u8]| framed(&[long(1, b"m"), long(2, version), long(4, name)].concat());
        assert!(agree(METADATA, &of(b"1", b"x"), &of(b"2", b"x")));
        assert!(!agree(METADATA, &of(b"1", b"x"), &of(b"1", b"y")));
        assert!(!agree("/other.Service/Call", &of(b"1", b"x"), &of(b"2", b"x")));
        assert!(agree("/other.Service/Call", &of(b"1", b"x"), &of(b"1", b"x")));
    }
}
