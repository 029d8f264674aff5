//! Bodies as they pass through: counted, bounded, shown to those who copy them, never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{HeaderMap, Response};
use millrace_routes::Outcome;

use crate::callers::{InHand, Timer, Wait};
use crate::fault::Fault;
use crate::flight::{Flight, grpc_outcome};
use crate::graph::Room;
use crate::log::Recording;
use crate::shadow::Tee;
use crate::state::Lease;
use crate::upstream::Taken;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("failed to read a body")]
    Read(#[source] hyper::Error),
    #[error("a body is longer than its limit")]
    TooLong,
    #[error("the rest of a body did not come in time")]
    Silent,
}

/// Who gets a copy of a request and of its answer.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    pub tee: Option<Arc<Tee>>,
    pub log: Option<Arc<Recording>>,
}

impl Copies {
    fn request_data(&self, data: &Bytes) {
        if let Some(tee) = &self.tee {
            tee.request_data(data);
        }
        if let Some(log) = &self.log {
            log.request_data(data);
        }
    }

    fn request_ended(&self) {
        if let Some(tee) = &self.tee {
            tee.request_ended();
        }
        if let Some(log) = &self.log {
            log.request_ended();
        }
    }

    /// The head of the answer, of a pod of this revision.
    pub fn answered<B>(&self, response: &Response<B>, revision: &str) {
        if let Some(tee) = &self.tee {
            tee.response(response);
        }
        if let Some(log) = &self.log {
            log.answered(response, revision);
        }
    }

    fn answer_data(&self, data: &Bytes) {
        if let Some(tee) = &self.tee {
            tee.response_data(data);
        }
        if let Some(log) = &self.log {
            log.answer_data(data);
        }
    }

    fn answer_trailers(&self, trailers: &HeaderMap) {
        if let Some(tee) = &self.tee {
            tee.response_trailers(trailers);
        }
    }

    fn answer_ended(&self) {
        if let Some(tee) = &self.tee {
            tee.response_ended();
        }
        if let Some(log) = &self.log {
            log.answer_ended();
        }
    }
}

/// What goes to a pod.
#[derive(Debug)]
pub struct RequestBody {
    inner: Source,
    bounds: Option<Bounds>,
    copies: Copies,
}

/// Where a request's body comes from.
#[derive(Debug)]
pub enum Source {
    Client(Incoming),
    /// A copy for a shadow.
    Copy(std::vec::IntoIter<Bytes>),
    /// A step of a graph.
    Held(Option<Bytes>),
}

impl Source {
    pub fn held(bytes: Bytes) -> Self {
        Self::Held(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    pub fn is_end(&self) -> bool {
        match self {
            Self::Client(body) => body.is_end_stream(),
            Self::Copy(chunks) => chunks.len() == 0,
            Self::Held(bytes) => bytes.is_none(),
        }
    }

    pub fn size(&self) -> SizeHint {
        match self {
            Self::Client(body) => body.size_hint(),
            Self::Copy(chunks) => SizeHint::with_exact(chunks.as_slice().iter().map(|c| c.len() as u64).sum()),
            Self::Held(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

/// What a caller's body must keep to; tells the one who waits for the answer when it does not.
#[derive(Debug)]
struct Bounds {
    left: u64,
    silence: Duration,
    timer: Timer,
    fault: Arc<Fault>,
}

impl RequestBody {
    pub fn new(body: Source, copies: Copies) -> Self {
        if body.is_end() {
            copies.request_ended();
        }
        Self { inner: body, bounds: None, copies }
    }

    pub fn copy(chunks: Vec<Bytes>) -> Self {
        Self { inner: Source::Copy(chunks.into_iter()), bounds: None, copies: Copies::default() }
    }

    /// It may have `bytes` and be silent for so long. What is returned says whether it kept to that.
    pub fn bound(&mut self, bytes: Option<u64>, silence: Duration) -> Option<Arc<Fault>> {
        if self.is_end_stream() {
            return None;
        }
        let fault = Arc::<Fault>::default();
        let (left, timer) = (bytes.unwrap_or(u64::MAX), Timer::default());
        self.bounds = Some(Bounds { left, silence, timer, fault: fault.clone() });
        Some(fault)
    }
}

impl Bounds {
    fn has_room(&mut self, data: &Bytes) -> bool {
        let left = self.left.checked_sub(data.len() as u64);
        self.left = left.unwrap_or(0);
        if left.is_none() {
            self.fault.is_too_long();
        }
        left.is_some()
    }

    fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        let silent = self.timer.poll(Wait::Body, self.silence, cx).is_ready();
        if silent {
            self.fault.is_silent();
        }
        silent
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let body = match &mut this.inner {
            Source::Client(body) => body,
            Source::Copy(chunks) => return Poll::Ready(chunks.next().map(|chunk| Ok(Frame::data(chunk)))),
            Source::Held(bytes) => {
                let Some(bytes) = bytes.take() else { return Poll::Ready(None) };
                this.copies.request_data(&bytes);
                this.copies.request_ended();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            let silent = this.bounds.as_mut().is_some_and(|bounds| bounds.is_silent(cx));
            return if silent { Poll::Ready(Some(Err(BodyError::Silent))) } else { Poll::Pending };
        };
        if let Some(bounds) = &mut this.bounds {
            bounds.timer.clear();
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if this.bounds.as_mut().is_some_and(|bounds| !bounds.has_room(data)) {
                return Poll::Ready(Some(Err(BodyError::TooLong)));
            }
            this.copies.request_data(data);
        }
        if frame.is_none() || body.is_end_stream() {
            this.copies.request_ended();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Read)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size()
    }
}

/// What goes to the client.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Answer,
    hold: Option<Box<Hold>>,
    /// Its connection has the request in hand for as long as this lives.
    in_hand: Option<InHand>,
    /// What is held for it counts for as long, too.
    _room: Option<Arc<Room>>,
}

#[derive(Debug)]
enum Answer {
    Pod(Incoming),
    Own(Option<Bytes>),
}

/// What is held until the last byte of an answer.
#[derive(Debug)]
pub struct Hold {
    pub flight: Flight,
    pub lease: Lease,
    pub taken: Taken,
    pub copies: Copies,
    pub is_grpc: bool,
}

impl ResponseBody {
    pub fn own(text: impl Into<Bytes>) -> Self {
        Self {
            inner: Answer::Own(Some(text.into()).filter(|text: &Bytes| !text.is_empty())),
            hold: None,
            in_hand: None,
            _room: None,
        }
    }

    /// An answer of a graph.
    pub fn held(bytes: Bytes, room: Arc<Room>) -> Self {
        Self { _room: Some(room), ..Self::own(bytes) }
    }

    pub fn with(mut self, in_hand: InHand) -> Self {
        self.in_hand = Some(in_hand);
        self
    }

    pub fn pod(body: Incoming, hold: Hold) -> Self {
        let mut this = Self { hold: Some(Box::new(hold)), inner: Answer::Pod(body), in_hand: None, _room: None };
        if this.is_end_stream() {
            this.complete();
        }
        this
    }

    fn complete(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        let Hold { flight, lease, taken, copies, is_grpc: _ } = *hold;
        taken.give_back(&lease.pod);
        copies.answer_ended();
        flight.complete();
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(hold) = &self.hold {
            hold.copies.answer_trailers(trailers);
        }
        if let Some(hold) = self.hold.as_mut().filter(|hold| hold.is_grpc)
            && let Some(outcome) = grpc_outcome(trailers)
        {
            hold.flight.ends_as(outcome);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = match &mut self.inner {
            Answer::Pod(body) => body,
            Answer::Own(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.trailers(trailers);
                } else if let Some(data) = frame.data_ref()
                    && let Some(hold) = &self.hold
                {
                    hold.copies.answer_data(data);
                }
                // Nobody asks again after the last byte of a known length.
                if self.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(mut hold) = self.hold.take() {
                    hold.flight.ends_as(Outcome::Broken);
                }
                Poll::Ready(Some(Err(BodyError::Read(error))))
            }
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Answer::Pod(body) => body.is_end_stream(),
            Answer::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Answer::Pod(body) => body.size_hint(),
            Answer::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
