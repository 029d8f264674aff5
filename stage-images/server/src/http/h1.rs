//! A connection of HTTP/1.1: one request after the other.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answer::{Answer, last};
use super::connection::stopped;
use super::io::{Limits, Phase, PhaseCell, TimedStream};
use super::service;
use crate::protocol::error_body;
use crate::serving::Serving;

/// How long the server listens for a caller's last bytes after it has closed its own side.
const LINGER: Duration = Duration::from_secs(2);
/// A head larger than this is answered 431.
pub const MAX_HEAD: usize = 64 << 10;

/// Serves the connection until either side ends it. When `stop` turns true, the request in flight is the last one.
pub async fn serve(stream: TcpStream, serving: Arc<Serving>, mut stop: watch::Receiver<bool>) {
    let phase = Arc::new(PhaseCell::new());
    let config = &serving.config;
    let limits = Limits { idle: config.idle_timeout, head: config.head_timeout, write: config.body_timeout };
    let io = TokioIo::new(TimedStream::new(stream, Arc::clone(&phase), limits));
    let service = service_fn(|request| Box::pin(answer(Arc::clone(&serving), Arc::clone(&phase), request)));
    let mut connection =
        http1::Builder::new().header_read_timeout(None).max_buf_size(MAX_HEAD).serve_connection(io, service);
    let ended = {
        let mut stopped = pin!(stopped(&mut stop));
        tokio::select! {
            // What the caller has sent already is read first.
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(ended),
            () = &mut stopped => None,
        }
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        Pin::new(&mut connection).graceful_shutdown();
        poll_fn(|cx| connection.poll_without_shutdown(cx)).await
    };
    let mut stream = connection.into_parts().io.into_inner().into_stream();
    if phase.get() == Phase::Head && ended.is_err_and(|error| timed_out(&error)) {
        // The bytes of a late head never became a request, so hyper had nothing to answer. Every other error of a head it
        // has answered itself.
        too_slow(&mut stream, config.head_timeout).await;
    }
    linger(stream).await;
}

async fn answer(
    serving: Arc<Serving>,
    phase: Arc<PhaseCell>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    phase.set(Phase::Busy);
    let (answer, read) = service::answer(&serving, request).await;
    phase.set(Phase::Idle);
    // A body that nobody read would be taken for the next request.
    Ok(if serving.draining() || !read { last(answer) } else { answer })
}

/// The socket's own timeouts are I/O errors to hyper.
fn timed_out(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}

async fn too_slow(stream: &mut TcpStream, limit: Duration) {
    let body = error_body(format_args!("the request's head did not arrive within {} s", limit.as_secs_f64()));
    let head = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    drop(stream.write_all(&[head.as_bytes(), &body].concat()).await);
}

/// Closes so that the caller can read the last answer: a socket closed with unread bytes (the rest of a body that was
/// refused) would send a reset, and the caller would lose the answer.
pub async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut scrap = vec![0; 16 << 10];
    let discard = async { while matches!(stream.read(&mut scrap).await, Ok(1..)) {} };
    drop(tokio::time::timeout(LINGER, discard).await);
}
