//! `/livez`, `/readyz`, `/metrics` and `/stats`, on a port of their own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::count::{Metrics, snapshot};
use crate::state::State;

/// Connections at once: the kubelet, a scraper, the controllers.
const CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// From the first byte to the last one of the answer.
const WHOLE: Duration = Duration::from_secs(30);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain";

pub struct Admin {
    pub state: Arc<State>,
    pub metrics: Metrics,
}

/// A connection, and whether its request has come.
struct Open {
    task: AbortHandle,
    asked: Arc<AtomicBool>,
}

impl Admin {
    /// Answers until the process ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut open: VecDeque<Open> = VecDeque::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection on the admin port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            make_room(&mut open);
            let asked = Arc::<AtomicBool>::default();
            let task = tokio::spawn(self.clone().connection(stream, asked.clone())).abort_handle();
            open.push_back(Open { task, asked });
        }
    }

    /// One request: who keeps nothing open cannot meet a connection that is just being closed.
    async fn connection(self: Arc<Self>, stream: TcpStream, asked: Arc<AtomicBool>) {
        let answer = service_fn(|request| {
            asked.store(true, Ordering::Relaxed);
            let response = self.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
        // A caller that breaks off is no event of ours.
        drop(tokio::time::timeout(WHOLE, builder.serve_connection(TokioIo::new(stream), answer)).await);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n".into());
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => match self.state.unready() {
                None => text(StatusCode::OK, TEXT, "ok\n".into()),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
            },
            "/stats" => match serde_json::to_string(&snapshot(&self.state)) {
                Ok(body) => text(StatusCode::OK, "application/json", body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
            },
            "/metrics" => match self.metrics.text() {
                Ok(body) => text(StatusCode::OK, METRICS_TYPE, body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
            },
            _ => text(StatusCode::NOT_FOUND, TEXT, "served are /livez, /readyz, /metrics and /stats\n".into()),
        }
    }
}

/// The kubelet's question must not wait for somebody who says nothing: that one goes first, the oldest of them.
fn make_room(open: &mut VecDeque<Open>) {
    open.retain(|one| !one.task.is_finished());
    while open.len() >= CONNECTIONS {
        let silent = open.iter().position(|one| !one.asked.load(Ordering::Relaxed));
        let Some(one) = open.remove(silent.unwrap_or(0)) else { return };
        one.task.abort();
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
