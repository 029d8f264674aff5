//! Bodies of the Open Inference Protocol: outputs that become inputs, and outputs of several answers in one. Data stays as it is written:
//! nothing of it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// Tensors of a body, at most. A body of tiny ones would take some seventy times its length here.
pub const MOST_TENSORS: usize = 256;
/// Fields of a tensor, at most. The protocol has five.
const MOST_FIELDS: usize = 16;

type Fields<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

#[derive(Deserialize)]
struct Inferred<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "few")]
    outputs: Vec<Read<'a>>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "few")]
    inputs: Vec<Read<'a>>,
}

/// A tensor.
#[derive(Debug)]
struct Read<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

/// Not one more is read than there may be.
fn few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Read<'de>>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Read<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST_TENSORS} tensors")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut tensors = Vec::new();
            while let Some(tensor) = seq.next_element()? {
                if tensors.len() == MOST_TENSORS {
                    return Err(A::Error::invalid_length(MOST_TENSORS + 1, &self));
                }
                tensors.push(tensor);
            }
            Ok(tensors)
        }
    }
    from.deserialize_seq(Few)
}

impl<'de> Deserialize<'de> for Read<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Read<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a tensor with at most {MOST_FIELDS} fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    fields.insert(key, value);
                    if fields.len() > MOST_FIELDS {
                        return Err(A::Error::invalid_length(fields.len(), &self));
                    }
                }
                Ok(Read(fields))
            }
        }
        from.deserialize_map(Fields)
    }
}

#[derive(Serialize)]
struct Ask<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    inputs: Vec<Fields<'a>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    outputs: Vec<Fields<'a>>,
}

/// The fields of each output of an answer. Nothing if it is no answer of the protocol.
pub fn outputs(answer: &[u8]) -> Option<Vec<BTreeMap<Cow<'_, str>, &RawValue>>> {
    let Inferred { id: _, outputs } = serde_json::from_slice(answer).ok()?;
    Some(outputs.into_iter().map(|tensor| tensor.0).collect())
}

/// The outputs of an answer as inputs. Nothing if it is no answer of the protocol.
pub fn asked(answer: &[u8], rename: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let Inferred { id, outputs } = serde_json::from_slice(answer).ok()?;
    let inputs = outputs.into_iter().map(|tensor| called(tensor, |name| rename.get(name).cloned())).collect();
    serde_json::to_vec(&Ask { id, parameters: None, inputs }).ok()
}

/// A request, with other names for its inputs.
pub fn renamed(request: &[u8], rename: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let Asked { id, parameters, inputs } = serde_json::from_slice(request).ok()?;
    let inputs = inputs.into_iter().map(|tensor| called(tensor, |name| rename.get(name).cloned())).collect();
    serde_json::to_vec(&Ask { id, parameters, inputs }).ok()
}

/// The inputs of a request and, behind them, the outputs of an answer.
pub fn both(request: &[u8], answer: &[u8], rename: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let Asked { id, parameters, inputs } = serde_json::from_slice(request).ok()?;
    let Inferred { id: _, outputs } = serde_json::from_slice(answer).ok()?;
    let all = inputs.into_iter().chain(outputs);
    let inputs = all.map(|tensor| called(tensor, |name| rename.get(name).cloned())).collect();
    serde_json::to_vec(&Ask { id, parameters, inputs }).ok()
}

/// One answer of several: each output is named `STEP.OUTPUT`. An error is the step whose answer is none of the protocol.
pub fn together<'a>(graph: &str, answers: &[(&'a str, &'a [u8])]) -> Result<Vec<u8>, &'a str> {
    let mut outputs = Vec::new();
    for (step, answer) in answers {
        let found: Inferred<'_> = serde_json::from_slice(answer).map_err(|_| *step)?;
        let named = found.outputs.into_iter().map(|tensor| called(tensor, |name| Some(format!("{step}.{name}"))));
        outputs.extend(named);
    }
    let whole = serde_json::to_vec(&Answer { model_name: graph, outputs });
    whole.map_err(|_| answers.first().map_or("", |(step, _)| *step))
}

/// An object of several answers. An error is the step whose answer is not JSON.
pub fn by_step<'a>(answers: &[(&'a str, &'a [u8])]) -> Result<Vec<u8>, &'a str> {
    let read = answers.iter().map(|(step, answer)| {
        let answer: &RawValue = serde_json::from_slice(answer).map_err(|_| *step)?;
        Ok::<_, &str>((*step, answer))
    });
    let all = read.collect::<Result<BTreeMap<&str, &RawValue>, &str>>()?;
    serde_json::to_vec(&all).map_err(|_| answers.first().map_or("", |(step, _)| *step))
}

/// A tensor under another name.
fn called<'a>(tensor: Read<'a>, other: impl Fn(&str) -> Option<String>) -> Fields<'a> {
    let mut fields: Fields<'a> = tensor.0.into_iter().map(|(key, value)| (key, Cow::Borrowed(value))).collect();
    let name: Option<String> = fields.get("name").and_then(|name| serde_json::from_str(name.get()).ok());
    if let Some(Ok(name)) = name.and_then(|name| other(&name)).map(|name| to_raw_value(&name)) {
        fields.insert(Cow::Borrowed("name"), Cow::Owned(name));
    }
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ANSWER: &[u8] =
        br#"{"model_name": "a", "id": "7", "outputs": [{"name": "p", "shape": [1], "datatype": "INT64", "data": [9007199254740993]}]}"#;

    fn renames() -> BTreeMap<String, String> {
        BTreeMap::from([("p".to_owned(), "x".to_owned())])
    }

    fn value(bytes: Option<Vec<u8>>) -> Value {
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    #[test]
    fn outputs_become_inputs_and_keep_every_digit() {
        let text = String::from_utf8(asked(ANSWER, &renames()).unwrap()).unwrap();
        assert!(text.contains("9007199254740993"), "{text}");
        let expected = json!({ "id": "7", "inputs": [{ "name": "x", "shape": [1], "datatype": "INT64", "data": [9_007_199_254_740_993_u64] }] });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        for other in [&b"{}"[..], b"[]", b"text", br#"{"outputs": 1}"#] {
            assert_eq!(asked(other, &renames()), None);
        }
    }

    #[test]
    fn a_body_of_very_many_tensors_or_fields_is_not_read() {
        // What a caller may send by default: read whole it would take the memory of the router.
        let bomb = format!(r#"{{"inputs": [{}{{}}]}}"#, r#"{"":1},"#.repeat((4 << 20) / 7 - 3));
        assert!(bomb.len() <= 4 << 20);
        let why = |body: &str| serde_json::from_str::<Asked<'_>>(body).err().map(|error| error.to_string());
        let error = why(&bomb).unwrap();
        assert!(error.starts_with("invalid length 257, expected at most 256 tensors"), "{error}");
        // It stops where it is too much and not at the end.
        assert!(error.ends_with(&format!("at line 1 column {}", 12 + 257 * 7)), "{error}");
        assert_eq!((renamed(bomb.as_bytes(), &renames()), both(bomb.as_bytes(), ANSWER, &renames())), (None, None));
        let answer = bomb.replacen("inputs", "outputs", 1);
        assert_eq!(asked(answer.as_bytes(), &renames()), None);
        assert_eq!(together("g", &[("a", answer.as_bytes())]), Err("a"));
        let of = |tensors: usize, fields: usize| {
            let fields: Vec<String> = (0..fields).map(|i| format!(r#""f{i}": [{i}]"#)).collect();
            let tensors = vec![format!("{{{}}}", fields.join(",")); tensors];
            why(&format!(r#"{{"inputs": [{}]}}"#, tensors.join(",")))
        };
        assert_eq!((of(256, 16), of(0, 0)), (None, None));
        assert!(of(257, 1).is_some());
        assert!(of(1, 17).unwrap().contains("a tensor with at most 16 fields"));
    }

    #[test]
    fn a_step_may_have_the_request_and_the_answer() {
        let request = br#"{"id": "1", "parameters": {"k": 1}, "outputs": [{"name": "p"}], "inputs": [{"name": "q", "data": [1.50]}]}"#;
        let found = value(both(request, ANSWER, &renames()));
        let names: Vec<&Value> = found["inputs"].as_array().unwrap().iter().map(|tensor| &tensor["name"]).collect();
        assert_eq!(
            (names, &found["id"], &found["parameters"]["k"]),
            (vec![&json!("q"), &json!("x")], &json!("1"), &json!(1))
        );
        assert!(found.get("outputs").is_none(), "which outputs the caller wants is not what the next model has");
        assert_eq!(
            value(renamed(request, &BTreeMap::from([("q".to_owned(), "r".to_owned())])))["inputs"][0]["name"],
            "r"
        );
    }

    #[test]
    fn answers_are_put_together() {
        let other = br#"{"outputs": [{"name": "p", "data": [1]}, {"name": "q", "data": [2]}]}"#;
        let found = value(together("g", &[("a", ANSWER), ("b", other)]).ok());
        let names: Vec<&str> =
            found["outputs"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        assert_eq!((names, &found["model_name"]), (vec!["a.p", "b.p", "b.q"], &json!("g")));
        assert_eq!(together("g", &[("a", ANSWER), ("b", b"{}")]), Err("b"));
        assert_eq!(value(by_step(&[("a", b"1"), ("b", br#"{"x": [2]}"#)]).ok()), json!({ "a": 1, "b": { "x": [2] } }));
        assert_eq!(by_step(&[("a", b"1"), ("b", b"<html>")]), Err("b"));
    }
}
