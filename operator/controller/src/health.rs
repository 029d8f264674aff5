//! `/livez`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::store::{Feeds, Stores};
use crate::wake::Queues;

/// Connections at once. The kubelet and one scraper need a handful.
const CONNECTIONS: usize = 64;
/// A caller that sends no request in this time is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the answers are made of.
pub struct Health {
    pub feeds: Arc<Feeds>,
    pub stores: Arc<Stores>,
    pub queues: Arc<Queues>,
    pub metrics: Metrics,
}

impl Health {
    /// Answers until the process ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: spinning would not help.
                    tracing::warn!(%error, "failed to accept a connection on the health port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let health = Arc::clone(&self);
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let response = health.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                // A caller that breaks off is no event of ours.
                let _ended = builder.serve_connection(TokioIo::new(stream), answer).await;
                drop(slot);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".into());
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "text/plain", "ok\n".into()),
            "/readyz" if self.feeds.ready() => text(StatusCode::OK, "text/plain", "ok\n".into()),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the watches are not listed yet\n".into()),
            "/metrics" => match self.metrics.text(&self.stores, &self.queues) {
                Ok(body) => text(StatusCode::OK, METRICS_TYPE, body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
            },
            _ => text(StatusCode::NOT_FOUND, "text/plain", "served are /livez, /readyz and /metrics\n".into()),
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
