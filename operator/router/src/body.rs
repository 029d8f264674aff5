//! Bodies as they pass through: counted, bounded, copied for a shadow, never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use millrace_routes::Outcome;

use crate::flight::{Flight, grpc_outcome};
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
}

/// What goes to a pod.
#[derive(Debug)]
pub struct RequestBody {
    inner: Source,
    limit: Option<Limit>,
    tee: Option<Arc<Tee>>,
}

#[derive(Debug)]
enum Source {
    Client(Incoming),
    /// A copy for a shadow.
    Copy(std::vec::IntoIter<Bytes>),
}

/// Counts down; tells the one who waits for the answer when it is exceeded.
#[derive(Debug)]
struct Limit {
    left: u64,
    exceeded: Arc<AtomicBool>,
}

impl RequestBody {
    pub fn new(body: Incoming, tee: Option<Arc<Tee>>) -> Self {
        if let Some(tee) = tee.as_ref().filter(|_| body.is_end_stream()) {
            tee.request_ended();
        }
        Self { inner: Source::Client(body), limit: None, tee }
    }

    pub fn copy(chunks: Vec<Bytes>) -> Self {
        Self { inner: Source::Copy(chunks.into_iter()), limit: None, tee: None }
    }

    /// The flag is true once the body was longer than `bytes`.
    pub fn limit(&mut self, bytes: u64) -> Arc<AtomicBool> {
        let exceeded = Arc::<AtomicBool>::default();
        self.limit = Some(Limit { left: bytes, exceeded: exceeded.clone() });
        exceeded
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
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if let Some(limit) = &mut this.limit {
                let Some(left) = limit.left.checked_sub(data.len() as u64) else {
                    limit.exceeded.store(true, Ordering::Release);
                    return Poll::Ready(Some(Err(BodyError::TooLong)));
                };
                limit.left = left;
            }
            if let Some(tee) = &this.tee {
                tee.request_data(data);
            }
        }
        if let Some(tee) = &this.tee
            && (frame.is_none() || body.is_end_stream())
        {
            tee.request_ended();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Read)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Source::Client(body) => body.is_end_stream(),
            Source::Copy(chunks) => chunks.len() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Client(body) => body.size_hint(),
            Source::Copy(chunks) => SizeHint::with_exact(chunks.as_slice().iter().map(|c| c.len() as u64).sum()),
        }
    }
}

/// What goes to the client.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Answer,
    hold: Option<Box<Hold>>,
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
    pub tee: Option<Arc<Tee>>,
    pub is_grpc: bool,
}

impl ResponseBody {
    pub fn own(text: impl Into<Bytes>) -> Self {
        Self { inner: Answer::Own(Some(text.into()).filter(|text: &Bytes| !text.is_empty())), hold: None }
    }

    pub fn pod(body: Incoming, hold: Hold) -> Self {
        let mut this = Self { hold: Some(Box::new(hold)), inner: Answer::Pod(body) };
        if this.is_end_stream() {
            this.complete();
        }
        this
    }

    fn complete(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        let Hold { flight, lease, taken, tee, is_grpc: _ } = *hold;
        taken.give_back(&lease.pod);
        if let Some(tee) = tee {
            tee.response_ended();
        }
        flight.complete();
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
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
                    && let Some(tee) = self.hold.as_ref().and_then(|hold| hold.tee.as_ref())
                {
                    tee.response_data(data);
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
