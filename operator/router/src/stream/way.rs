//! The way of a message to the model: connections of this process to itself, which go where those of callers go, past the door alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::room::Space;
use crate::refuse::BROKEN;
use crate::state::{State, lock};
use crate::worker::{Accepted, Workers};

/// An answer that has not come in this time does not come.
const WITHIN: Duration = Duration::from_mins(5);
/// A longer answer is none: no broker takes it by its defaults.
const ANSWER_BYTES: usize = 16 << 20;
const HOST_VALUE: HeaderValue = HeaderValue::from_static("localhost");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// To one model.
pub struct Way {
    state: Arc<State>,
    workers: Workers,
    model: String,
    path: String,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// Dropped, the connections end.
    open: watch::Sender<()>,
}

/// The model's answer, or the router's own.
pub struct Said {
    pub status: StatusCode,
    pub content_type: Option<HeaderValue>,
    /// `None` if it is too long.
    pub body: Option<Bytes>,
}

/// Why there is no answer.
pub enum Unsaid {
    /// Nobody had the question, as far as anybody knows.
    Nobody(String),
    /// A pod had it, and broke off.
    Broke,
    /// It has so many bytes or more, and there is no room for them.
    NoRoom(usize),
}

impl Way {
    pub fn new(state: Arc<State>, workers: Workers, model: &str, path: &str) -> Self {
        let (model, path, open) = (model.to_owned(), path.to_owned(), watch::Sender::new(()));
        Self { state, workers, model, path, idle: Mutex::default(), open }
    }

    /// Whether a question goes to a pod at once, as far as anybody knows.
    pub fn is_ready(&self) -> bool {
        self.state.model(&self.model).is_none_or(|model| {
            let policy = model.policy();
            policy.graph.is_some() || policy.targets.iter().any(|revision| revision.is_usable())
        })
    }

    /// Whether there are pods, ready or not.
    pub fn has_pods(&self) -> bool {
        let model = self.state.model(&self.model);
        model.is_some_and(|model| {
            model
                .policy()
                .targets
                .iter()
                .map(|revision| revision.pods())
                .any(|pods| !pods.ready.is_empty() || !pods.pending.is_empty())
        })
    }

    /// Asks once, for an answer that there is room for.
    pub async fn post(&self, headers: HeaderMap, body: Bytes, space: &mut Space) -> Result<Said, Unsaid> {
        let asked = tokio::time::timeout(WITHIN, self.exchange(headers, body, space)).await;
        asked.unwrap_or_else(|_| Err(Unsaid::Nobody(format!("no answer in {} s", WITHIN.as_secs()))))
    }

    async fn exchange(&self, headers: HeaderMap, body: Bytes, space: &mut Space) -> Result<Said, Unsaid> {
        let request = Request::post(&self.path).body(Full::new(body));
        let mut request = request.map_err(|error| Unsaid::Nobody(error.to_string()))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, HOST_VALUE);
        request.headers_mut().entry(CONTENT_TYPE).or_insert(JSON);
        let broken = |error: hyper::Error| Unsaid::Nobody(format!("the connection broke: {error}"));
        let mut sender = self.sender().await.map_err(Unsaid::Nobody)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let (status, content_type) = (response.status(), response.headers().get(CONTENT_TYPE).cloned());
        if status == StatusCode::BAD_GATEWAY && response.headers().contains_key(BROKEN) {
            return Err(Unsaid::Broke);
        }
        let body = whole(response.into_body(), space).await?;
        if body.is_some() {
            lock(&self.idle).push(sender);
        }
        Ok(Said { status, content_type, body })
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        loop {
            let kept = lock(&self.idle).pop();
            let Some(mut kept) = kept else { return self.connect().await };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let model = self.state.model(&self.model).ok_or("the model is not in the routes any more")?;
        let connection = self.state.callers.admit().ok_or("the router has no room for connections")?;
        let failed = |error: std::io::Error| format!("the router cannot open a connection to itself: {error}");
        let (ours, theirs) = pair().await.map_err(failed)?;
        let peer = ours.local_addr().map_err(failed)?;
        let stream = theirs.into_std().map_err(failed)?;
        let stopped = self.open.subscribe();
        self.workers.serve(Accepted { stream, peer, model, stopped, connection, inside: true });
        let handshake = Builder::new().handshake(TokioIo::new(ours)).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of a stream broke");
            }
        });
        Ok(sender)
    }
}

/// All of an answer; none of one that is too long.
async fn whole(mut body: Incoming, space: &mut Space) -> Result<Option<Bytes>, Unsaid> {
    let told = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    match told {
        Some(told) if told > ANSWER_BYTES => return Ok(None),
        Some(told) if !space.holds(told) => return Err(Unsaid::NoRoom(told)),
        _ => {}
    }
    let mut bytes = Vec::with_capacity(told.unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unsaid::Broke)?.into_data() else { continue };
        let now = bytes.len() + data.len();
        if now > ANSWER_BYTES {
            return Ok(None);
        }
        if !space.holds(now) {
            return Err(Unsaid::NoRoom((2 * now).min(ANSWER_BYTES)));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.into()))
}

/// Two ends of one connection. Nobody else gets at it: what comes to the port from another end is not taken.
async fn pair() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let from = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept().await?;
        if peer == from {
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
}

/// What a message may not say of its request: what belongs to the connection, and what callers show at the door.
const KEPT_BACK: [&str; 17] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-proto",
];
/// Headers of a message that go along, and bytes of them: what a router takes of a caller, and some room.
const HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;

/// The headers of a message as those of its request, so that header rules, sticky keys and traces hold. What is none is left out.
pub fn headers<'a>(of: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> HeaderMap {
    let (mut headers, mut bytes) = (HeaderMap::new(), 0);
    for (name, value) in of {
        let Some(value) = value else { continue };
        let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        bytes += known.as_str().len() + value.len();
        if headers.len() >= HEADERS || bytes > HEADER_BYTES {
            break;
        }
        if !KEPT_BACK.contains(&known.as_str()) {
            headers.append(known, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_message_go_along_but_for_those_of_connections_and_doors() {
        let message: [(&str, Option<&[u8]>); 7] = [
            ("X-User", Some(b"a")),
            ("x-user", Some(b"b")),
            ("Host", Some(b"evil")),
            ("Authorization", Some(b"Bearer x")),
            ("two words", Some(b"1")),
            ("broken", Some(b"a\nb")),
            ("null", None),
        ];
        let found = headers(message.into_iter());
        let pairs: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(pairs, [("x-user", b"a".as_slice()), ("x-user", b"b")]);
        let long = "x".repeat(HEADER_BYTES);
        assert!(headers([("a", Some(long.as_bytes())), ("b", Some(b"1"))].into_iter()).is_empty());
        assert!(KEPT_BACK.is_sorted());
    }

    #[tokio::test]
    async fn a_pair_is_one_connection() {
        let (ours, theirs) = pair().await.unwrap();
        assert_eq!(ours.local_addr().unwrap(), theirs.peer_addr().unwrap());
    }
}
