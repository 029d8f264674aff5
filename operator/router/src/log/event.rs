//! CloudEvents 1.0 in JSON: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>. A request and its answer
//! are an event each, of one `requestid`, as KServe's logger has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::record::{Answer, Payload, Record};

pub const REQUEST: &str = "dev.millrace.inference.request";
pub const RESPONSE: &str = "dev.millrace.inference.response";
/// What a body is that nobody says anything of.
const BYTES: &str = "application/octet-stream";
/// Lists and objects in one another that a body may have as JSON. Some readers take 100, and the event and its list are around it.
const DEEPEST: usize = 90;

/// The events of a record.
pub fn events(record: &Record) -> Vec<String> {
    let request = event(record, REQUEST, "request", record.came, &record.request, Map::new());
    let answer = record.answer.as_ref().map(|answer| {
        let Answer { status, after, at, payload } = answer;
        let milliseconds = i32::try_from(after.as_millis()).unwrap_or(i32::MAX);
        let mut own = Map::new();
        own.insert("statuscode".to_owned(), json!(status.as_u16()));
        own.insert("durationms".to_owned(), json!(milliseconds));
        event(record, RESPONSE, "response", *at, payload, own)
    });
    std::iter::once(request).chain(answer).collect()
}

fn event(
    record: &Record,
    kind: &str,
    part: &str,
    at: Timestamp,
    payload: &Payload,
    mut own: Map<String, Value>,
) -> String {
    let Record { ring, id, caller_id, path, revision, .. } = record;
    let namespace = &ring.asked.namespace;
    let mut set = |name: &str, value: Value| own.insert(name.to_owned(), value);
    set("specversion", json!("1.0"));
    set("id", json!(format!("{id}-{part}")));
    set("type", json!(kind));
    set("source", json!(format!("/namespaces/{namespace}/modeldeployments/{}", ring.model)));
    set("subject", json!(path));
    set("time", json!(at.to_string()));
    set("requestid", json!(id));
    set("namespace", json!(namespace));
    set("modeldeployment", json!(ring.model));
    set("model", json!(ring.asked.model));
    set("revision", json!(revision));
    if let Some(version) = ring.asked.versions.get(revision) {
        set("modelversion", json!(version));
    }
    if let Some(digest) = ring.asked.digests.get(revision) {
        set("modeldigest", json!(digest));
    }
    if let Some(caller_id) = caller_id {
        set("callerid", json!(caller_id));
    }
    if let Some(encoding) = &payload.encoding {
        set("contentencoding", json!(encoding));
    }
    if payload.length > 0 {
        set("datacontenttype", json!(payload.kind.as_deref().unwrap_or(BYTES)));
        set("datalength", json!(i32::try_from(payload.length).unwrap_or(i32::MAX)));
    }
    let omitted = match payload {
        Payload { too_long: true, .. } => Some("TooLong"),
        Payload { ended: false, .. } => Some("BrokenOff"),
        Payload { .. } => None,
    };
    if let Some(why) = omitted {
        set("dataomitted", json!(why));
    }
    let head = Value::Object(own).to_string();
    if omitted.is_some() || payload.data.is_empty() {
        return head;
    }
    // The text itself: what is read and written again has other numbers.
    let open = head.strip_suffix('}').unwrap_or_default();
    match as_json(payload) {
        Some(text) => format!("{open},\"data\":{text}}}"),
        None => format!("{open},\"data_base64\":\"{}\"}}", STANDARD.encode(&payload.data)),
    }
}

fn as_json(payload: &Payload) -> Option<&str> {
    let kind = payload.kind.as_deref().filter(|_| payload.encoding.is_none())?;
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json" || kind.ends_with("+json");
    let text = std::str::from_utf8(&payload.data).ok().filter(|_| is_json)?;
    // What one reader would not take costs everybody in the list their events.
    serde_json::from_str::<Value>(text).ok().filter(|value| is_flat(value, DEEPEST)).map(|_| text)
}

/// No deeper than that.
fn is_flat(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(items), Some(left)) => items.iter().all(|item| is_flat(item, left)),
        (Value::Object(fields), Some(left)) => fields.values().all(|field| is_flat(field, left)),
        (Value::Array(_) | Value::Object(_), None) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(data: &str) -> Payload {
        let (kind, length) = (Some("application/json; charset=utf-8".to_owned()), data.len() as u64);
        Payload { kind, data: data.as_bytes().to_vec(), length, ended: true, ..Payload::default() }
    }

    #[test]
    fn json_is_what_every_reader_takes_and_stays_as_it_was_written() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for text in ["{\"a\": 1.10}", " [1, 2] ", "\"\\ud83d\\ude00\"", &nested(DEEPEST)] {
            assert_eq!(as_json(&payload(text)), Some(text));
        }
        for text in ["\"\\ud800\"", "1},{\"a\":2", "{", "1e999", &nested(DEEPEST + 1), &nested(100_000)] {
            assert_eq!(as_json(&payload(text)), None, "{}", text.get(..40).unwrap_or(text));
        }
        let zipped = Payload { encoding: Some("gzip".to_owned()), ..payload("1") };
        assert_eq!(as_json(&zipped), None);
    }
}
