//! A server as a pod runs one: HTTP/1.1 and HTTP/2 on one port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::site::free_port;

type Body = BoxBody<Bytes, Infallible>;

/// What a pod has seen, and what it is let do.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicUsize,
    pub connections: AtomicUsize,
    pub now: AtomicUsize,
    pub most_at_once: AtomicUsize,
    /// Requests that the other side broke off.
    pub broken_off: AtomicUsize,
    /// Lets `/hang` answer and `/events` go on.
    pub go: Notify,
    /// How often it ended over a request and began anew.
    pub ends: AtomicUsize,
    end: Notify,
}

/// It takes so long until one that ended is there again.
const ANEW: Duration = Duration::from_millis(500);

pub struct Pod {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pod {
    /// It answers with `name`.
    pub async fn start(name: &'static str, address: SocketAddr) -> Self {
        let mut listener = TcpListener::bind(address).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let counts = seen.clone();
        let task = tokio::spawn(async move {
            // They end with the pod.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = tokio::select! {
                    stream = listener.accept() => stream.unwrap(),
                    () = counts.end.notified() => {
                        drop(listener);
                        connections.shutdown().await;
                        counts.ends.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(ANEW).await;
                        listener = TcpListener::bind(address).await.unwrap();
                        continue;
                    }
                };
                counts.connections.fetch_add(1, Ordering::SeqCst);
                let seen = counts.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| counted(name, seen.clone(), request));
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, seen, task }
    }

    pub async fn any(name: &'static str) -> Self {
        Self::start(name, SocketAddr::from(([127, 0, 0, 1], free_port()))).await
    }

    /// A second pod: the same port, another address.
    pub async fn beside(&self, name: &'static str, last: u8) -> Self {
        Self::start(name, SocketAddr::from(([127, 0, 0, last], self.address.port()))).await
    }

    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

/// Notes whether a request was answered before it was dropped.
struct Presence(Arc<Seen>, bool);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.broken_off.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn counted(
    name: &'static str,
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_at_once.fetch_max(now, Ordering::SeqCst);
    let mut presence = Presence(seen.clone(), false);
    let response = answer(name, &seen, request).await;
    presence.1 = true;
    Ok(response)
}

fn full(text: impl Into<Bytes>) -> Body {
    BodyExt::boxed(Full::new(text.into()))
}

async fn answer(name: &'static str, seen: &Arc<Seen>, mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Some(ms) = path.strip_prefix("/slow/") {
        tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await;
    }
    if let Some(status) = path.strip_prefix("/status/") {
        let mut response = Response::new(full(name));
        *response.status_mut() = status.parse().unwrap();
        return response;
    }
    match path.as_str() {
        "/hang" => {
            seen.go.notified().await;
            Response::new(full(name))
        }
        "/hang-if-b" => {
            if name == "b" {
                seen.go.notified().await;
            }
            Response::new(full(name))
        }
        "/echo" => {
            // It ends where the request breaks off.
            let frames = request
                .into_body()
                .into_data_stream()
                .take_while(|data| std::future::ready(data.is_ok()))
                .filter_map(|data| std::future::ready(data.ok().map(|d| Ok(Frame::data(d)))));
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        }
        "/headers" => {
            let pairs: BTreeMap<String, String> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .chain([
                    (":version".to_owned(), format!("{:?}", request.version())),
                    (":target".to_owned(), request.uri().to_string()),
                ])
                .collect();
            Response::new(full(serde_json::to_vec(&pairs).unwrap()))
        }
        "/json" => {
            // A body that breaks off is answered too, but nobody hears of it.
            let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
            let value = if body.is_empty() { "null".to_owned() } else { String::from_utf8_lossy(&body).into_owned() };
            let mut response = Response::new(full(format!(r#"{{"model_version":"{name}","outputs":{value}}}"#)));
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            response
        }
        // As with binary tensors.
        "/binary" => {
            let mut response = Response::new(full("{}\0\x01"));
            response.headers_mut().insert("content-type", "application/octet-stream".parse().unwrap());
            response.headers_mut().insert("inference-header-content-length", "2".parse().unwrap());
            response
        }
        "/mortal" => mortal(seen, request).await,
        "/large" => large(request).await,
        // What it says depends on what it is told.
        "/picky" => {
            let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
            let text = String::from_utf8_lossy(&body).into_owned();
            let (status, answer) = match () {
                () if text.contains("bad") => (400, "this one is bad".to_owned()),
                () if text.contains("worse") => (500, "this one is worse".to_owned()),
                () => (200, format!(r#"{{"model_version":"{name}","outputs":{text}}}"#)),
            };
            let mut response = Response::new(full(answer));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            response
        }
        "/json-of-name" => {
            let mut response = Response::new(full(format!(r#"{{"outputs":"{name}"}}"#)));
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            response
        }
        "/events" => events(seen.clone()),
        "/socket" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgraded.await.unwrap());
                let mut buffer = [0; 256];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..n]).await.unwrap();
                }
            });
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response
        }
        "/inference.GRPCInferenceService/ModelInfer" => grpc(name, request).await,
        "/v2/models/m/infer" => versioned(name, request).await,
        _ => Response::new(full(name)),
    }
}

async fn text(request: Request<Incoming>) -> String {
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    String::from_utf8_lossy(&body).into_owned()
}

/// One message ends the pod, with all that it has in hand.
async fn mortal(seen: &Arc<Seen>, request: Request<Incoming>) -> Response<Body> {
    let text = text(request).await;
    if text.contains("deadly") {
        seen.end.notify_one();
        std::future::pending::<()>().await;
    }
    // Others are in hand when it ends.
    tokio::time::sleep(Duration::from_millis(20)).await;
    Response::new(full(format!(r#"{{"outputs":{text}}}"#)))
}

/// A long answer; to some messages it comes late.
async fn large(request: Request<Incoming>) -> Response<Body> {
    if text(request).await.contains("late") {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    Response::new(full(vec![b'x'; 1 << 20]))
}

/// One event at once, one more each time that it is let go.
fn events(seen: Arc<Seen>) -> Response<Body> {
    let (mut sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    tokio::spawn(async move {
        for i in 0..3 {
            if sender.send(Ok(Frame::data(Bytes::from(format!("data: {i}\n\n"))))).await.is_err() {
                return;
            }
            seen.go.notified().await;
        }
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(receiver)));
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// The message comes back, behind the version if the header `x-versioned` is there; `grpc-status` in the trailers is what the header `x-status`
/// asks for.
async fn grpc(name: &'static str, request: Request<Incoming>) -> Response<Body> {
    let status = request.headers().get("x-status").cloned().unwrap_or_else(|| "0".parse().unwrap());
    let failing = request.headers().get("x-fails").is_some_and(|who| who == name);
    let versioned = request.headers().contains_key("x-versioned");
    let mut body = request.into_body().collect().await.unwrap().to_bytes();
    if versioned {
        // `model_version` is the field 2.
        let message = [&[0x12, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), &body[5..]].concat();
        body = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat().into();
    }
    let status = if failing { "13".parse().unwrap() } else { status };
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status)]);
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(frames))));
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// What it is sent, as a binary tensor.
async fn versioned(name: &'static str, request: Request<Incoming>) -> Response<Body> {
    let raw = request.into_body().collect().await.unwrap().to_bytes();
    let json = format!(
        r#"{{"model_name":"m","model_version":"{name}","outputs":[{{"name":"y","datatype":"FP32","shape":[1],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        raw.len()
    );
    let mut response = Response::new(full([json.as_bytes(), &raw].concat()));
    response.headers_mut().insert("content-type", "application/octet-stream".parse().unwrap());
    response.headers_mut().insert("inference-header-content-length", json.len().to_string().parse().unwrap());
    response
}

/// A server that takes a connection, reads a request's head and closes: how many did that.
pub async fn rude() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (address, count)
}
