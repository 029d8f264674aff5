//! Collects a request and its answer while they pass by.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, Response, StatusCode};
use tokio::sync::mpsc;

use crate::state::{Model, Policy, Revision, State, lock};

/// Copies that wait for the shadow.
const QUEUED: usize = 256;
/// Bytes in all copies of this router, so that its memory stays small.
const BYTES: usize = 8 << 20;

/// The way to the shadow's thread.
#[derive(Clone, Debug)]
pub struct ShadowQueue {
    sender: mpsc::Sender<Copied>,
    bytes: Arc<AtomicUsize>,
}

impl ShadowQueue {
    pub fn new() -> (Self, mpsc::Receiver<Copied>) {
        let (sender, receiver) = mpsc::channel(QUEUED);
        (Self { sender, bytes: Arc::default() }, receiver)
    }
}

/// A whole request with the answer that the caller got.
#[derive(Debug)]
pub struct Copied {
    pub model: Arc<Model>,
    pub revision: Arc<Revision>,
    pub parts: Parts,
    pub request: Vec<Bytes>,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub response: Vec<Bytes>,
    pub trailers: Option<HeaderMap>,
    pub body_bytes: usize,
    _reserved: Reserved,
}

/// Shared by the two bodies. Whichever ends last sends the copy on.
#[derive(Debug)]
pub struct Tee(Mutex<Option<Collecting>>);

#[derive(Debug)]
struct Collecting {
    queue: ShadowQueue,
    model: Arc<Model>,
    revision: Arc<Revision>,
    parts: Parts,
    request: Chunks,
    head: Option<(StatusCode, HeaderMap)>,
    response: Chunks,
    trailers: Option<HeaderMap>,
    limit: usize,
    reserved: Reserved,
}

#[derive(Debug, Default)]
struct Chunks {
    all: Vec<Bytes>,
    bytes: usize,
    ended: bool,
}

/// What is taken of the router's bytes for copies.
#[derive(Debug)]
struct Reserved {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Reserved {
    fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Tee {
    /// `None` if this request is not copied.
    pub fn begin<B>(
        state: &State,
        model: &Arc<Model>,
        policy: &Policy,
        chosen: &Arc<Revision>,
        request: &Request<B>,
    ) -> Option<Arc<Self>> {
        let shadow = policy.shadow.as_ref()?;
        if Arc::ptr_eq(&shadow.revision, chosen) || fastrand::f64() >= shadow.sample {
            return None;
        }
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = request.method().clone();
        parts.uri = request.uri().clone();
        parts.headers = request.headers().clone();
        let collecting = Collecting {
            queue: state.shadows.clone(),
            model: model.clone(),
            revision: shadow.revision.clone(),
            parts,
            request: Chunks::default(),
            head: None,
            response: Chunks::default(),
            trailers: None,
            limit: shadow.body_bytes,
            reserved: Reserved { all: state.shadows.bytes.clone(), bytes: 0 },
        };
        Some(Arc::new(Self(Mutex::new(Some(collecting)))))
    }

    pub fn request_data(&self, data: &Bytes) {
        self.collect(data, |collecting| &mut collecting.request);
    }

    pub fn request_ended(&self) {
        self.end(|collecting| &mut collecting.request);
    }

    pub fn response<B>(&self, response: &Response<B>) {
        if let Some(collecting) = lock(&self.0).as_mut() {
            collecting.head = Some((response.status(), response.headers().clone()));
        }
    }

    pub fn response_data(&self, data: &Bytes) {
        self.collect(data, |collecting| &mut collecting.response);
    }

    pub fn response_trailers(&self, trailers: &HeaderMap) {
        if let Some(collecting) = lock(&self.0).as_mut() {
            collecting.trailers = Some(trailers.clone());
        }
    }

    pub fn response_ended(&self) {
        self.end(|collecting| &mut collecting.response);
    }

    fn collect(&self, data: &Bytes, of: fn(&mut Collecting) -> &mut Chunks) {
        let mut guard = lock(&self.0);
        let Some(collecting) = guard.as_mut() else { return };
        let limit = collecting.limit;
        let chunks = of(collecting);
        chunks.all.push(data.clone());
        chunks.bytes += data.len();
        if chunks.bytes > limit || !collecting.reserved.add(data.len()) {
            collecting.drop_counted();
            *guard = None;
        }
    }

    fn end(&self, of: fn(&mut Collecting) -> &mut Chunks) {
        let mut guard = lock(&self.0);
        let Some(collecting) = guard.as_mut() else { return };
        of(collecting).ended = true;
        if collecting.request.ended
            && collecting.response.ended
            && let Some(collecting) = guard.take()
        {
            collecting.send();
        }
    }
}

impl Collecting {
    fn drop_counted(&self) {
        self.revision.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn send(self) {
        let Self { queue, model, revision, parts, request, head, response, trailers, limit, reserved } = self;
        let Some((status, headers)) = head else { return };
        let copied = Copied {
            model,
            revision,
            parts,
            request: request.all,
            status,
            headers,
            response: response.all,
            trailers,
            body_bytes: limit,
            _reserved: reserved,
        };
        if let Err(mpsc::error::TrySendError::Full(copied) | mpsc::error::TrySendError::Closed(copied)) =
            queue.sender.try_send(copied)
        {
            copied.revision.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
