//! A connection of HTTP/2: gRPC and REST, many requests at a time.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tonic::body::Body;

use super::connection::stopped;
use super::io::{Limits, Phase, PhaseCell, TimedStream};
use super::{grpc_call, h1, service};
use crate::grpc;
use crate::serving::Serving;

/// Requests of one connection at a time; the caller keeps more to itself.
const MAX_STREAMS: u32 = 256;
/// A caller that does not answer a ping in this time is gone.
const PING: Duration = Duration::from_secs(20);
/// A connection that was asked to end, has no request in flight and moves no byte is closed after this.
const LINGER: Duration = Duration::from_secs(2);

/// What the requests of a connection tell the task that ends it.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicUsize,
    in_flight: AtomicUsize,
    /// A request came while the server drains.
    late: Notify,
}

/// Serves the connection until either side ends it. It is asked to end (GOAWAY, and what is in flight is answered) when the
/// server drains, as soon as it has carried a request; when the server stops; and when it was idle for long.
pub async fn serve(stream: TcpStream, serving: Arc<Serving>, grpc: grpc::Service, mut stop: watch::Receiver<bool>) {
    let config = &serving.config;
    // What is slow is a body, which has a time of its own, or a caller that does not read.
    let phase = Arc::new(PhaseCell::new());
    phase.set(Phase::Busy);
    let limits = Limits { idle: config.idle_timeout, head: config.head_timeout, write: config.body_timeout };
    let io = TokioIo::new(TimedStream::new(stream, Arc::clone(&phase), limits));
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request| {
        let one = OneRequest::new(&activity, serving.draining());
        let (serving, grpc) = (Arc::clone(&serving), grpc.clone());
        async move { Ok::<_, Infallible>(answer(&serving, grpc, request).await.map(|body| Counted { body, _one: one })) }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(h1::MAX_HEAD).unwrap_or(u32::MAX))
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(io, service)
    );
    tokio::select! {
        _ = &mut connection => return,
        () = end(&serving, &activity, &mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = quiet(&activity, &phase) => {}
    }
}

/// One request over either protocol.
async fn answer(serving: &Arc<Serving>, grpc: grpc::Service, request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return grpc_call::answer(serving, grpc, request).await;
    }
    let mut answer = service::answer(serving, request).await.0;
    // A word of HTTP/1.1 only.
    answer.headers_mut().remove(CONNECTION);
    answer.map(Body::new)
}

/// Comes back when the connection should end.
async fn end(serving: &Serving, activity: &Activity, stop: &mut watch::Receiver<bool>) {
    let mut drain = serving.drain_signal();
    let drained = async {
        stopped(&mut drain).await;
        if activity.begun.load(Ordering::Relaxed) == 0 {
            activity.late.notified().await;
        }
    };
    let idle = async {
        loop {
            let before = activity.begun.load(Ordering::Relaxed);
            tokio::time::sleep(serving.config.idle_timeout).await;
            if activity.begun.load(Ordering::Relaxed) == before && activity.in_flight.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = stopped(stop) => {}
        () = drained => {}
        () = idle => {}
    }
}

/// Comes back when no request is in flight and the caller takes and sends nothing any more.
async fn quiet(activity: &Activity, phase: &PhaseCell) {
    loop {
        phase.rest();
        tokio::time::sleep(LINGER).await;
        if activity.in_flight.load(Ordering::Relaxed) == 0 && !phase.moved() {
            return;
        }
    }
}

/// Counts a request in flight until its answer has been taken by the connection.
#[derive(Debug)]
struct OneRequest(Arc<Activity>);

impl OneRequest {
    fn new(activity: &Arc<Activity>, draining: bool) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        if draining {
            activity.late.notify_one();
        }
        Self(Arc::clone(activity))
    }
}

impl Drop for OneRequest {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, counted until it has been taken.
#[derive(Debug)]
struct Counted {
    body: Body,
    _one: OneRequest,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
