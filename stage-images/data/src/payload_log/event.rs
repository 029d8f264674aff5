//! Events as routers send them (`operator/router/src/log/event.rs`), and as they wait: a line of JSON each.

use std::str::from_utf8;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::say;

/// Characters of what is found that a message repeats.
const SHOWN: usize = 60;

#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("the body is not UTF-8; CloudEvents are JSON")]
    Text,
    #[error("the body is no {expected}: {reason}")]
    Json { expected: &'static str, reason: String },
    #[error("event {number}: attribute {attribute}: {reason}")]
    Attribute { number: usize, attribute: String, reason: String },
}

/// A CloudEvent. Attributes that are not named here are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Event {
    #[serde(default, skip_serializing)]
    specversion: Option<String>,
    #[serde(default)]
    pub id: String,
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requestid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callerid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modeldeployment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modelversion: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modeldigest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuscode: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durationms: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contentencoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datalength: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataomitted: Option<String>,
    /// As it was sent: numbers that are read and written again are others. On a line it is a text, because it may have line ends of its own.
    #[serde(default, deserialize_with = "as_sent", skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// What `data` is there is data: also a `null`.
fn as_sent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Writes the events of a body as lines. How many there are.
pub fn lines(body: &[u8], batched: bool, to: &mut Vec<u8>) -> Result<usize, EventError> {
    let text = from_utf8(body).map_err(|_| EventError::Text)?;
    let unfit = |expected| move |error: serde_json::Error| EventError::Json { expected, reason: error.to_string() };
    // One at a time: events that are read take more room than their text.
    let events: Vec<&RawValue> = if batched {
        serde_json::from_str(text).map_err(unfit("JSON list of CloudEvents"))?
    } else {
        vec![serde_json::from_str(text).map_err(unfit("JSON object of a CloudEvent"))?]
    };
    for (number, event) in (1..).zip(&events) {
        let unfit = |(attribute, reason)| EventError::Attribute { number, attribute, reason };
        let event = Event::read(event.get()).map_err(unfit)?;
        event.checked().map_err(|(attribute, reason)| unfit((attribute.to_owned(), reason)))?;
        event.write(to).map_err(|error| unfit(("data".to_owned(), error.to_string())))?;
        to.push(b'\n');
    }
    Ok(events.len())
}

impl Event {
    /// Otherwise the attribute that is wrong, and why.
    fn read(text: &str) -> Result<Self, (String, String)> {
        let mut reader = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let reason = error.inner().to_string();
            // Its place in the text of one event is nobody's.
            let reason = reason.rfind(" at line ").map_or(reason.as_str(), |at| &reason[..at]);
            (if path == "." { "(all)".to_owned() } else { path }, say::excerpt(reason, 3 * SHOWN))
        })
    }

    /// What the types do not say.
    fn checked(&self) -> Result<(), (&'static str, String)> {
        for (attribute, value) in [("id", &self.id), ("type", &self.kind), ("time", &self.time)] {
            if value.is_empty() {
                return Err((attribute, "it is missing or empty, and every event has one".to_owned()));
            }
        }
        let found = |text: &str, expected: &str| format!("found {:?}, expected {expected}", say::excerpt(text, SHOWN));
        if let Some(other) = self.specversion.as_deref().filter(|version| *version != "1.0") {
            return Err(("specversion", found(other, "1.0")));
        }
        if self.at().is_none() {
            return Err(("time", found(&self.time, "a time, as 2026-11-01T12:00:00Z")));
        }
        if self.data.is_some() && self.data_base64.is_some() {
            return Err(("data_base64", "there is `data` too; an event has one of them".to_owned()));
        }
        self.bytes().map(drop).map_err(|error| ("data_base64", format!("it is no base64: {error}")))
    }

    fn write(mut self, to: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        self.data = self.data.map(|data| to_raw_value(data.get())).transpose()?;
        serde_json::to_writer(to, &self)
    }

    /// The event of a line, or none where it is cut.
    pub fn of_line(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|event: &Self| event.checked().is_ok())
    }

    /// Microseconds since 1970.
    pub fn at(&self) -> Option<i64> {
        self.time.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
    }

    /// The JSON of an event of a line.
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(self.data.as_ref()?.get()).ok()
    }

    pub fn bytes(&self) -> Result<Option<Vec<u8>>, base64::DecodeError> {
        self.data_base64.as_ref().map(|text| STANDARD.decode(text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        r#""id": "1-request", "type": "dev.millrace.inference.request", "time": "2026-11-01T12:00:00.25Z""#;

    fn read(body: &str, batched: bool) -> Result<Vec<Event>, String> {
        let mut written = Vec::new();
        let count = lines(body.as_bytes(), batched, &mut written).map_err(|error| error.to_string())?;
        let events: Vec<_> =
            from_utf8(&written).unwrap().lines().map(|l| Event::of_line(l.as_bytes()).unwrap()).collect();
        assert_eq!(events.len(), count);
        Ok(events)
    }

    #[test]
    fn data_is_what_was_sent_to_the_letter() {
        for data in ["{\"a\":\n 1.10, \"b\": 1e400}", "null", "\"\\ud83d\\ude00 \\u00e4 é\"", "12345678901234567890123"]
        {
            let events = read(&format!("{{{HEAD}, \"data\": {data}}}"), false).unwrap();
            assert_eq!(events[0].text().as_deref(), Some(data));
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(read(&format!("{{\"data\":{deep}, {HEAD}}}"), false).unwrap()[0].text(), Some(deep));
    }

    #[test]
    fn a_batch_has_many_and_unknown_attributes_are_left_out() {
        let body = format!(
            r#"[{{{HEAD}, "specversion": "1.0", "statuscode": 200, "modelversion": 5000000000, "traceparent": {{"a": []}}}},
                {{{HEAD}, "data_base64": "AAH/", "callerid": null}}]"#
        );
        let events = read(&body, true).unwrap();
        assert_eq!((events[0].statuscode, events[0].modelversion), (Some(200), Some(5_000_000_000)));
        assert_eq!((events[0].text(), events[0].bytes().unwrap()), (None, None));
        assert_eq!(events[0].at(), Some(1_793_534_400_250_000));
        assert_eq!((events[1].bytes().unwrap(), &events[1].callerid), (Some(vec![0, 1, 255]), &None));
        assert!(read("[]", true).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_event_is_named_by_its_attribute() {
        let with = |more: &str| format!("{{{HEAD}, {more}}}");
        for (body, words) in [
            ("{".to_owned(), "the body is no JSON object of a CloudEvent: EOF"),
            ("3".to_owned(), "event 1: attribute (all): invalid type: integer `3`"),
            (r#"{"type": "t", "time": "2026-11-01T12:00:00Z"}"#.to_owned(), "attribute id: it is missing or empty"),
            (r#"{"id": "1", "time": "2026-11-01T12:00:00Z"}"#.to_owned(), "attribute type: it is missing or empty"),
            (r#"{"id": "1", "type": "t"}"#.to_owned(), "attribute time: it is missing or empty"),
            (
                r#"{"id": "1", "type": "t", "time": "noon"}"#.to_owned(),
                "attribute time: found \"noon\", expected a time",
            ),
            (with(r#""statuscode": true"#), "attribute statuscode: invalid type: boolean `true`, expected i32"),
            (with(r#""specversion": "0.3""#), "attribute specversion: found \"0.3\", expected 1.0"),
            (with(r#""data_base64": "?""#), "attribute data_base64: it is no base64"),
            (with(r#""data": 1, "data_base64": "AA==""#), "attribute data_base64: there is `data` too"),
        ] {
            let error = read(&body, false).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{body}: {error}");
        }
        let error = read(&format!("[{{{HEAD}}}, {{}}]"), true).unwrap_err();
        assert_eq!(error, "event 2: attribute id: it is missing or empty, and every event has one");
        assert!(read("{}", true).unwrap_err().contains("the body is no JSON list of CloudEvents"));
        assert_eq!(
            lines(b"\xff", false, &mut Vec::new()).unwrap_err().to_string(),
            "the body is not UTF-8; CloudEvents are JSON"
        );
    }
}
