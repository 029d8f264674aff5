//! `/livez`, `/readyz`, `/metrics` and `/stats`, on a port of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::count::{Metrics, snapshot};
use crate::state::State;

/// Connections at once: the kubelet, a scraper, the controllers.
const CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain";

pub struct Admin {
    pub state: Arc<State>,
    pub metrics: Metrics,
}

impl Admin {
    /// Answers until the process ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection on the admin port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let response = admin.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                // A caller that breaks off is no event of ours.
                drop(builder.serve_connection(TokioIo::new(stream), answer).await);
                drop(slot);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is served here\n".into());
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" if self.state.is_ready() => text(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "no routes, no endpoints, or ending\n".into()),
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

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
