//! The optional validating webhook: the checks of `core::admission` while somebody applies an object.
//!
//! Nothing depends on it. What does not get an answer is admitted (`failurePolicy: Ignore`), and the same checks make `Accepted=False` later. So
//! whatever is strange, too large or too slow gets an error, and never a refusal.

mod certificate;
mod review;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
pub use review::Reviewer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at once: an apiserver keeps a handful.
const CONNECTIONS: usize = 64;
/// Reviews that are read and judged at once: they share the processor with the passes, and each may hold some ten megabytes.
const REVIEWS: usize = 4;
/// An apiserver stores about 1.5 MB an object, and a review of a change has two of them.
const LARGEST: usize = 4 * 1024 * 1024;
/// How long a handshake may take, and how long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a body may take: an apiserver waits no longer for the whole answer, by the chart.
const BODY: Duration = Duration::from_secs(3);
/// How often the certificate is looked at. The kubelet brings another one within a minute or two.
const CERTIFICATE_AGE: Duration = Duration::from_secs(10);
pub const PATH: &str = "/validate";

pub struct Webhook {
    certificate: PathBuf,
    reviewer: Arc<Reviewer>,
    turns: Arc<Semaphore>,
}

impl Webhook {
    pub fn new(certificate: PathBuf, reviewer: Reviewer) -> Self {
        Self { certificate, reviewer: Arc::new(reviewer), turns: Arc::new(Semaphore::new(REVIEWS)) }
    }

    /// Answers until the process ends.
    pub async fn serve(self, listener: TcpListener) {
        let (tell, acceptor) = watch::channel(None);
        tokio::spawn(follow(self.certificate.clone(), tell));
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let webhook = Arc::new(self);
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: spinning would not help.
                    tracing::warn!(%error, "failed to accept a connection on the webhook's port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Without a certificate the connection ends, and the apiserver goes on without an answer.
            let Some(acceptor) = acceptor.borrow().clone() else { continue };
            let webhook = Arc::clone(&webhook);
            tokio::spawn(async move {
                webhook.connection(acceptor, stream).await;
                drop(slot);
            });
        }
    }

    async fn connection(&self, acceptor: TlsAcceptor, stream: TcpStream) {
        // A caller that breaks off, or trusts another certificate, is no event of ours.
        let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
        let answer = service_fn(async |request| Ok::<_, Infallible>(self.answer(request).await));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let _ended = builder.serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.reviewed(request).await {
            Ok(json) => response(StatusCode::OK, "application/json", json.into()),
            Err((status, says)) => response(status, "text/plain", says.into()),
        }
    }

    async fn reviewed(&self, request: Request<Incoming>) -> Result<Vec<u8>, (StatusCode, &'static str)> {
        if request.uri().path() != PATH {
            return Err((StatusCode::NOT_FOUND, "served is /validate\n"));
        }
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "a review is sent by POST\n"));
        }
        let closed = (StatusCode::SERVICE_UNAVAILABLE, "it ends\n");
        // Before the body: those that wait hold none.
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed)?;
        let body = tokio::time::timeout(BODY, Limited::new(request.into_body(), LARGEST).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return Err((StatusCode::PAYLOAD_TOO_LARGE, "the review is cut off or too large\n")),
            Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the review does not end\n")),
        };
        let reviewer = Arc::clone(&self.reviewer);
        // The lease is renewed on the threads of the runtime.
        let judged = tokio::task::spawn_blocking(move || {
            let judged = reviewer.answer(&body);
            drop(turn);
            judged
        });
        let failed = (StatusCode::INTERNAL_SERVER_ERROR, "it could not be judged\n");
        judged.await.map_err(|_| failed)?.ok_or((StatusCode::BAD_REQUEST, "this is no AdmissionReview of v1\n"))
    }
}

/// Keeps the certificate that is there. One that cannot be read leaves the one before in force.
async fn follow(folder: PathBuf, tell: watch::Sender<Option<TlsAcceptor>>) {
    let mut before = None;
    loop {
        let files = certificate::read(&folder);
        if before.as_ref() != Some(&files) {
            match certificate::config(&files) {
                Ok(config) => {
                    tracing::info!("the webhook has a certificate");
                    tell.send_replace(Some(TlsAcceptor::from(Arc::new(config))));
                }
                Err(says) => tracing::warn!(says, "the webhook has no new certificate"),
            }
            before = Some(files);
        }
        tokio::time::sleep(CERTIFICATE_AGE).await;
    }
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
