//! YAML with the line and column of every field.

use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub place: Place,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub key: String,
    pub place: Place,
    pub value: Node,
    /// What kubectl makes of the key where that is another one: its YAML is 1.1, in which `n` and `on` are truths.
    pub otherwise: Option<bool>,
}

/// Why a text is no YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub place: Place,
    pub message: String,
}

/// The documents of a text.
pub fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    let options = serde_saphyr::options! { with_snippet: false };
    let parsed = serde_saphyr::from_multiple_with_options::<Node>(text, options);
    let lines: Vec<&str> = text.lines().collect();
    parsed.map(|nodes| nodes.into_iter().map(|node| node.marked(&lines)).collect()).map_err(|error| {
        let place = error.location().map(|at| Place { line: at.line(), column: at.column() }).unwrap_or_default();
        // The place is told once.
        let said = error.to_string();
        let message = said.split(" at line ").next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Fault { place, message }
    })
}

/// A truth of YAML 1.1 that is text in YAML 1.2.
fn truth(word: &str) -> Option<bool> {
    match word {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

impl Node {
    /// Marks the keys that stand there without quotes and are no text for kubectl.
    fn marked(mut self, lines: &[&str]) -> Self {
        self.content = match self.content {
            Content::List(items) => Content::List(items.into_iter().map(|item| item.marked(lines)).collect()),
            Content::Map(fields) => {
                let fields = fields.into_iter().map(|mut field| {
                    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or_default();
                    let line = lines.get(index(field.place.line)).copied().unwrap_or_default();
                    let plain =
                        line.chars().skip(index(field.place.column)).take(field.key.len()).eq(field.key.chars());
                    field.otherwise = truth(&field.key).filter(|_| plain);
                    field.value = field.value.marked(lines);
                    field
                });
                Content::Map(fields.collect())
            }
            other => other,
        };
        self
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.fields().iter().find(|field| field.key == key).map(|field| &field.value)
    }

    pub fn fields(&self) -> &[Field] {
        match &self.content {
            Content::Map(fields) => fields,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Without the places.
    pub fn json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Node::json).collect()),
            Content::Map(fields) => {
                Value::Object(fields.iter().map(|field| (field.key.clone(), field.value.json())).collect::<Map<_, _>>())
            }
        }
    }

    /// Where the field of a path such as `spec.stages.train.args[1]` stands, or the nearest above it that is there. A key may hold dots.
    pub fn locate(&self, path: &str) -> Place {
        let (mut here, mut place, mut rest) = (self, self.place, path);
        loop {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let next = match &here.content {
                Content::Map(fields) => {
                    let begins = |field: &&Field| {
                        let after = rest.strip_prefix(field.key.as_str());
                        !field.key.is_empty()
                            && after.is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
                    };
                    let longest = fields.iter().filter(begins).max_by_key(|field| field.key.len());
                    longest.map(|field| (&field.value, field.place, &rest[field.key.len()..]))
                }
                Content::List(items) => {
                    rest.strip_prefix('[').and_then(|inside| inside.split_once(']')).and_then(|(index, after)| {
                        let item = items.get(index.parse::<usize>().ok()?)?;
                        Some((item, item.place, after))
                    })
                }
                Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => None,
            };
            let Some(found) = next else { return place };
            (here, place, rest) = found;
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { place: Place { line: referenced.line(), column: referenced.column() }, content: value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        // What JSON has no number for reaches the apiserver as text.
        Ok(Number::from_f64(value).map_or_else(|| Content::Text(value.to_string()), Content::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Node>()? {
            let place = Place { line: key.referenced.line(), column: key.referenced.column() };
            fields.push(Field { key: key.value, place, value, otherwise: None });
        }
        Ok(Content::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "\
a: 1
---
metadata: { name: x, labels: { a.b/c: \"1\", a: { b: 2 } } }
spec:
  list: [yes, 0.5, ~]
  long: |
    one
    two
  1: key
";

    #[test]
    fn documents_are_what_json_would_be() {
        let documents = documents(TEXT).unwrap();
        let second = json!({
            "metadata": { "name": "x", "labels": { "a.b/c": "1", "a": { "b": 2 } } },
            "spec": { "list": [true, 0.5, null], "long": "one\ntwo\n", "1": "key" },
        });
        assert_eq!(documents.iter().map(Node::json).collect::<Vec<_>>(), [json!({ "a": 1 }), second]);
    }

    #[test]
    fn a_path_leads_to_its_field_or_to_the_nearest_above_it() {
        let documents = documents(TEXT).unwrap();
        let at = |path: &str| {
            let Place { line, column } = documents[1].locate(path);
            (line, column)
        };
        assert_eq!(at("metadata.name"), (3, 13));
        assert_eq!((at("metadata.labels.a.b/c"), at("metadata.labels.a.b")), ((3, 32), (3, 49)));
        assert_eq!((at("spec.list"), at("spec.list[1]"), at("spec.list[7]")), ((5, 3), (5, 15), (5, 3)));
        assert_eq!((at("spec.missing.more"), at("spec.long"), at("spec.1")), ((4, 1), (6, 3), (9, 3)));
    }

    #[test]
    fn keys_that_are_truths_for_kubectl_are_marked_unless_they_are_quoted() {
        let text = "stages:\n  n: { 'y': 1, \"on\": 2, off: 3, north: 4 }\n";
        let fields = |node: &Node| node.fields().iter().map(|f| (f.key.clone(), f.otherwise)).collect::<Vec<_>>();
        let stages = documents(text).unwrap().remove(0).get("stages").unwrap().clone();
        assert_eq!(fields(&stages), [("n".to_owned(), Some(false))]);
        let inner = fields(stages.get("n").unwrap());
        let marks: Vec<_> = inner.iter().map(|(key, mark)| (key.as_str(), *mark)).collect();
        assert_eq!(marks, [("y", None), ("on", None), ("off", Some(false)), ("north", None)]);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        let fault = documents("a:\n  b: [1, 2\nc: 3\n").unwrap_err();
        assert!(fault.place.line >= 2 && !fault.message.contains("line"), "{fault:?}");
        let twice = documents("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!((twice.place.line, twice.message.contains("duplicate")), (3, true), "{twice:?}");
    }
}
