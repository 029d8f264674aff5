//! Gives places to other routers, for as long as they keep the answer open.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{FAILED, POD, START, written};
use crate::state::{Lease, Refusal, State};

/// Connections at once: each thread of the other routers has one for a hundred requests.
const CONNECTIONS: usize = 1024;
/// Places that are asked for, or taken, over one connection.
const STREAMS: u32 = 200;
const HEADER_BYTES: u32 = 8 << 10;
/// A router that vanished without a word gives its places back after both.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WITHIN: Duration = Duration::from_secs(5);

/// Never ends by itself: dropped, because the other router dropped its side or is gone, it gives the place back.
struct Open(Option<Lease>);

impl Body for Open {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_some() { Poll::Pending } else { Poll::Ready(None) }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, state: Arc<State>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection of another router");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = state.clone();
        tokio::spawn(async move {
            drop(stream.set_nodelay(true));
            let answer = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(give(&state, &request).await) }
            });
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEADER_BYTES)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_WITHIN);
            // A router that breaks off is no event of ours.
            drop(builder.serve_connection(TokioIo::new(stream), answer).await);
            drop(place);
        });
    }
}

async fn give(state: &Arc<State>, request: &Request<Incoming>) -> Response<Open> {
    let none = |status| {
        let mut response = Response::new(Open(None));
        *response.status_mut() = status;
        response
    };
    let mut path = request.uri().path().strip_prefix("/places/").unwrap_or_default().split('/');
    let (Some(model), Some(name)) = (path.next(), path.next()) else { return none(StatusCode::NOT_FOUND) };
    let policy = state.model(model).map(|model| model.policy());
    let revision = policy.and_then(|policy| policy.targets.iter().find(|revision| revision.name == name).cloned());
    let Some(revision) = revision else { return none(StatusCode::NOT_FOUND) };
    if let Some(failed) = request.headers().get(FAILED).and_then(|text| text.to_str().ok()?.parse::<IpAddr>().ok()) {
        revision.suspect(failed);
    }
    let within = request.uri().query().and_then(|query| query.strip_prefix("within=")?.parse().ok()).unwrap_or(0);
    let place = if within == 0 {
        // Who does not wait starts nothing either.
        revision.try_acquire().map(|lease| (lease, None)).ok_or(Refusal::Overflow)
    } else {
        revision.acquire(state, Instant::now() + Duration::from_millis(within)).await
    };
    let (lease, held) = match place {
        Ok(place) => place,
        Err(Refusal::Overflow) => return none(StatusCode::SERVICE_UNAVAILABLE),
        Err(Refusal::Timeout) => return none(StatusCode::GATEWAY_TIMEOUT),
        Err(Refusal::Gone) => return none(StatusCode::NOT_FOUND),
    };
    let pod = HeaderValue::from_str(&lease.pod.address.ip().to_string());
    let start = held.and_then(|held| held.start).and_then(|spans| HeaderValue::from_str(&written(&spans)).ok());
    let mut response = Response::new(Open(Some(lease)));
    response.headers_mut().extend(pod.ok().map(|pod| (POD, pod)));
    response.headers_mut().extend(start.map(|start| (START, start)));
    response
}
