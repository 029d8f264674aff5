//! Collects a request and its answer while they pass by. Of their heads it keeps what an event has, and no header that could hold a secret.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc::error::TrySendError;

use super::{BYTES, MODEL_BYTES, OVERHEAD, Ring, deliver};
use crate::state::{Policy, lock};

/// By which a caller finds its request again.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of a header, or of a path, that an event has.
const LONGEST: usize = 256;

/// Shared by the two bodies: whichever goes last puts what was collected into the ring.
#[derive(Debug)]
pub struct Recording(Mutex<Option<Record>>);

/// A request, and its answer if a pod gave one.
#[derive(Debug)]
pub struct Record {
    pub ring: Arc<Ring>,
    /// Pairs the two events.
    pub id: String,
    /// What the caller calls it.
    pub caller_id: Option<String>,
    pub path: String,
    pub revision: String,
    pub came: Timestamp,
    pub request: Payload,
    pub answer: Option<Answer>,
    began: Instant,
    taken: Taken,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// From the request's arrival to the head of the answer.
    pub after: Duration,
    pub at: Timestamp,
    pub payload: Payload,
}

/// A body.
#[derive(Debug, Default)]
pub struct Payload {
    pub kind: Option<String>,
    pub encoding: Option<String>,
    /// Nothing where it is too long.
    pub data: Vec<u8>,
    pub length: u64,
    pub too_long: bool,
    pub ended: bool,
}

impl Payload {
    fn of(headers: &HeaderMap) -> Self {
        Self { kind: text(headers, &CONTENT_TYPE), encoding: text(headers, &CONTENT_ENCODING), ..Self::default() }
    }
}

/// What a record takes of the bytes of its model and of the router.
#[derive(Debug)]
struct Taken {
    of: [Arc<AtomicUsize>; 2],
    bytes: usize,
}

impl Taken {
    /// False where there is no room for so many more.
    fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let [model, all] = &self.of;
        let model = model.fetch_add(bytes, Ordering::Relaxed) + bytes <= MODEL_BYTES;
        all.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES && model
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.of.iter().for_each(|of| {
            of.fetch_sub(bytes, Ordering::Relaxed);
        });
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

impl Recording {
    /// `None` if this request is not logged. Inferences are POSTs: probes and questions for metadata are none. Nor are events of a log, or a
    /// sink that is a logged model would never have them all.
    pub fn begin<B>(policy: &Policy, revision: &str, request: &Request<B>) -> Option<Arc<Self>> {
        let ring = policy.log.as_ref().filter(|_| request.method() == Method::POST)?;
        if is_events(request.headers()) || fastrand::f64() >= ring.asked.sampling {
            return None;
        }
        let mut taken = Taken { of: [ring.bytes.clone(), ring.all.clone()], bytes: 0 };
        if !taken.add(OVERHEAD) {
            // Its answer would be another.
            ring.outlet.counts.drops(2);
            return None;
        }
        let record = Record {
            ring: ring.clone(),
            id: format!("{:032x}", fastrand::u128(..)),
            caller_id: text(request.headers(), &REQUEST_ID),
            // Without the query, which may hold a key.
            path: short(request.uri().path()),
            revision: revision.to_owned(),
            came: Timestamp::now(),
            request: Payload::of(request.headers()),
            answer: None,
            began: Instant::now(),
            taken,
        };
        Some(Arc::new(Self(Mutex::new(Some(record)))))
    }

    pub fn request_data(&self, data: &Bytes) {
        self.collect(data, |record| Some(&mut record.request));
    }

    pub fn request_ended(&self) {
        if let Some(record) = lock(&self.0).as_mut() {
            record.request.ended = true;
        }
    }

    /// The head of a pod's answer, of this revision.
    pub fn answered<B>(&self, response: &Response<B>, revision: &str) {
        if let Some(record) = lock(&self.0).as_mut() {
            revision.clone_into(&mut record.revision);
            record.answer = Some(Answer {
                status: response.status(),
                after: record.began.elapsed(),
                at: Timestamp::now(),
                payload: Payload::of(response.headers()),
            });
        }
    }

    pub fn answer_data(&self, data: &Bytes) {
        self.collect(data, |record| record.answer.as_mut().map(|answer| &mut answer.payload));
    }

    pub fn answer_ended(&self) {
        if let Some(answer) = lock(&self.0).as_mut().and_then(|record| record.answer.as_mut()) {
            answer.payload.ended = true;
        }
    }

    fn collect(&self, data: &Bytes, of: fn(&mut Record) -> Option<&mut Payload>) {
        let mut guard = lock(&self.0);
        let Some(record) = guard.as_mut() else { return };
        let limit = record.ring.asked.body_bytes;
        let Some(payload) = of(record) else { return };
        payload.length += data.len() as u64;
        if payload.too_long {
            return;
        }
        if payload.length > limit {
            payload.too_long = true;
            let kept = std::mem::take(&mut payload.data).len();
            record.taken.give_back(kept);
            return;
        }
        // A copy: a piece would keep the whole buffer that it was read into.
        payload.data.extend_from_slice(data);
        if !record.taken.add(data.len()) {
            record.ring.outlet.counts.drops(2);
            *guard = None;
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(record) = lock(&self.0).take() {
            record.queue();
        }
    }
}

impl Record {
    /// Events that it becomes.
    pub fn events(&self) -> u64 {
        1 + u64::from(self.answer.is_some())
    }

    fn queue(self) {
        let sender = self.ring.sender.clone();
        if let Err(TrySendError::Full(record) | TrySendError::Closed(record)) = sender.try_send(self) {
            record.ring.outlet.counts.drops(record.events());
        }
    }
}

/// A router sends it to its sink.
fn is_events(headers: &HeaderMap) -> bool {
    let is = |name: &HeaderName, known: &[&str]| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| known.contains(&value))
    };
    is(&USER_AGENT, &[deliver::AGENT]) && is(&CONTENT_TYPE, &deliver::KINDS)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (!text.is_empty()).then(|| short(text))
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
