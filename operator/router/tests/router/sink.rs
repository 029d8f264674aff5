//! A sink of CloudEvents.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request to it.
#[derive(Clone, Debug)]
pub struct Post {
    pub path: String,
    pub kind: String,
    pub authorization: Option<String>,
    pub body: Value,
    /// The connection that it came over, counted from 0.
    pub connection: usize,
}

#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Post>>>);

pub struct Sink {
    pub address: SocketAddr,
    pub seen: Seen,
}

/// What it does with each request: the last one again and again.
#[derive(Clone, Copy)]
pub enum Does {
    Answer(u16),
    Hang,
}

impl Sink {
    pub async fn start(does: &[Does], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, does) = (Seen::default(), Arc::new(Mutex::new(does.iter().copied().collect::<VecDeque<_>>())));
        let all = seen.clone();
        tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, does, tls, connection) = (all.clone(), does.clone(), tls.clone(), connections);
                connections += 1;
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, connection, seen, does).await,
                        Some(tls) => {
                            // A caller that does not trust it breaks off.
                            let Ok(stream) = tls.accept(stream).await else { return };
                            serve(stream, connection, seen, does).await;
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    pub fn posts(&self) -> Vec<Post> {
        self.seen.0.lock().unwrap().clone()
    }

    /// The events of all requests.
    pub fn events(&self) -> Vec<Value> {
        let events = self.posts().into_iter().flat_map(|post| match post.body {
            Value::Array(events) => events,
            event => vec![event],
        });
        events.collect()
    }
}

async fn serve<S>(stream: S, connection: usize, seen: Seen, does: Arc<Mutex<VecDeque<Does>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, does) = (seen.clone(), does.clone());
        async move { Ok::<_, Infallible>(take(request, connection, &seen, &does).await) }
    });
    // The router leaves when it wants to.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn take(
    request: Request<Incoming>,
    connection: usize,
    seen: &Seen,
    does: &Mutex<VecDeque<Does>>,
) -> Response<Empty<Bytes>> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    let next = {
        let mut does = does.lock().unwrap();
        if does.len() > 1 { does.pop_front().unwrap() } else { does[0] }
    };
    let (kind, authorization) = (header(CONTENT_TYPE).unwrap_or_default(), header(AUTHORIZATION));
    let path = head.uri.path().to_owned();
    let post = Post { path, kind, authorization, body: serde_json::from_slice(&body).unwrap(), connection };
    seen.0.lock().unwrap().push(post);
    let status = match next {
        Does::Answer(status) => status,
        Does::Hang => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            200
        }
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
