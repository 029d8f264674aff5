//! A message that comes, and those that are made of it. Key, headers and time go along.

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use krafka::{ConsumerRecord, Record};

use super::answer::Refusal;

/// Where an answer is from, as `TOPIC/PARTITION/OFFSET`: the same message may be answered twice.
const SOURCE: &str = "millrace-source";
/// Why a message is a dead letter, what was answered to it, and the beginning of that.
const ERROR: &str = "millrace-error";
const STATUS: &str = "millrace-status";
const ANSWER: &str = "millrace-answer";
const CONTENT_TYPE: &str = "content-type";

/// The answer to a message; none to one without a value, which says that its key is gone.
pub fn answered(
    message: &ConsumerRecord,
    topic: &str,
    partitions: i32,
    answer: Option<(Bytes, Option<HeaderValue>)>,
) -> Record {
    let mut record = carried(message, topic, partitions, &[SOURCE, CONTENT_TYPE]);
    match answer {
        None => record.value = None,
        Some((body, content_type)) => {
            record.value = Some(body);
            if let Some(kind) = content_type {
                record = record.header(CONTENT_TYPE, kind.as_bytes().to_vec());
            }
        }
    }
    record
}

/// A message that the model does not take, as it is, and why.
pub fn dead(message: &ConsumerRecord, topic: &str, partitions: i32, refusal: &Refusal) -> Record {
    let mut record = carried(message, topic, partitions, &[SOURCE, ERROR, STATUS, ANSWER]);
    record.value.clone_from(&message.value);
    record = record.header(ERROR, refusal.says.clone());
    if let Some(status) = refusal.status {
        record = record.header(STATUS, status.to_string());
    }
    if !refusal.excerpt.is_empty() {
        record = record.header(ANSWER, refusal.excerpt.clone());
    }
    record
}

/// In the partition of the same number, so that what has one key stays in order however many partitions there are, and whoever chose them.
fn carried(message: &ConsumerRecord, topic: &str, partitions: i32, without: &[&str]) -> Record {
    let mut record = Record::new(topic, Bytes::new());
    record.partition = Some(message.partition.rem_euclid(partitions.max(1)));
    record.key.clone_from(&message.key);
    record.timestamp = Some(message.timestamp).filter(|time| *time >= 0);
    record.headers = message.headers.iter().filter(|(name, _)| !without.contains(&name.as_str())).cloned().collect();
    record.header(SOURCE, format!("{}/{}/{}", message.topic, message.partition, message.offset))
}

/// Bytes that it takes here.
pub fn bytes(message: &ConsumerRecord) -> usize {
    let headers = message.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len));
    let len = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    len(&message.key) + len(&message.value) + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::super::answer::By;
    use super::*;

    fn message() -> ConsumerRecord {
        let (key, value) = (Some(Bytes::from_static(b"k")), Some(Bytes::from_static(b"[1]")));
        let mut message = ConsumerRecord::new("in", 5, 42, key, value);
        message.timestamp = 1_700_000_000_000;
        message.headers = vec![
            ("trace".to_owned(), Some(Bytes::from_static(b"t"))),
            (SOURCE.to_owned(), Some(Bytes::from_static(b"before/0/1"))),
            (CONTENT_TYPE.to_owned(), Some(Bytes::from_static(b"application/json"))),
        ];
        message
    }

    fn headers(record: &Record) -> Vec<(&str, &[u8])> {
        record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap())).collect()
    }

    #[test]
    fn an_answer_has_the_key_the_headers_the_time_and_the_partition() {
        let answer = Some((Bytes::from_static(b"{}"), Some(HeaderValue::from_static("text/plain"))));
        let record = answered(&message(), "out", 4, answer);
        assert_eq!(
            (record.topic.as_str(), record.partition, record.timestamp),
            ("out", Some(1), Some(1_700_000_000_000))
        );
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(b"k".as_slice()), Some(b"{}".as_slice())));
        let expected: [(&str, &[u8]); 3] = [("trace", b"t"), (SOURCE, b"in/5/42"), (CONTENT_TYPE, b"text/plain")];
        assert_eq!(headers(&record), expected);
        assert!(answered(&message(), "out", 4, None).is_tombstone());
    }

    #[test]
    fn a_dead_letter_is_the_message_and_why() {
        let refusal = Refusal {
            by: By::Model,
            status: Some(400),
            says: "no".to_owned(),
            excerpt: Bytes::from_static(b"expected 4 numbers"),
        };
        let record = dead(&message(), "dead", 8, &refusal);
        assert_eq!((record.partition, record.value.as_deref()), (Some(5), Some(b"[1]".as_slice())));
        let expected: [(&str, &[u8]); 6] = [
            ("trace", b"t"),
            (CONTENT_TYPE, b"application/json"),
            (SOURCE, b"in/5/42"),
            (ERROR, b"no"),
            (STATUS, b"400"),
            (ANSWER, b"expected 4 numbers"),
        ];
        assert_eq!(headers(&record), expected);
    }
}
