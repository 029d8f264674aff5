//! A caller of gRPC on a bare HTTP/2 connection, so that a test sees every frame's meaning.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use hyper::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// What `build.rs` made from the protocol's file.
#[allow(clippy::all, clippy::pedantic, dead_code)]
pub mod messages {
    tonic::include_proto!("inference");
}

/// How a call ended: gRPC's code and words, and the answer if there is one.
#[derive(Debug)]
pub struct Called<M> {
    pub code: u32,
    pub words: String,
    pub message: Option<M>,
}

/// One connection of HTTP/2.
pub struct GrpcCaller {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_mins(1);

impl GrpcCaller {
    pub fn new(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            // With a small window h2 takes many small answers at once for an attack.
            let mut builder = h2::client::Builder::new();
            // Until the server has said how many streams it takes, bare h2 would open any number, and the server refuses some.
            builder.initial_connection_window_size(1 << 20).initial_max_send_streams(100);
            let (send, connection) = builder.handshake(stream).await.unwrap();
            tokio::spawn(connection);
            send
        });
        Self { runtime, send }
    }

    /// Calls a method of the protocol's service.
    pub fn call<M: Message + Default>(&mut self, method: &str, message: &impl Message) -> Called<M> {
        self.try_call(method, message).unwrap()
    }

    pub fn try_call<M: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<Called<M>, h2::Error> {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        self.send(&path, &headers, framed(message)).map(|(head, body, trailers)| called(&head, &body, trailers))
    }

    /// Sends many calls at once and waits for all.
    pub fn call_all<M: Message + Default>(&mut self, method: &str, messages: &[impl Message]) -> Vec<Called<M>> {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let send = self.send.clone();
        self.runtime.block_on(async {
            let mut calls = Vec::new();
            for message in messages {
                calls.push(tokio::spawn(exchange(send.clone(), post(&path, &headers), framed(message))));
            }
            let mut all = Vec::new();
            for call in calls {
                let (head, body, trailers) = call.await.unwrap().unwrap();
                all.push(called(&head, &body, trailers));
            }
            all
        })
    }

    /// Posts any body; the head, body and trailers of the answer.
    pub fn send(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes, Option<HeaderMap>), h2::Error> {
        let answer = exchange(self.send.clone(), post(path, headers), body);
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.unwrap() })
    }

    /// Sends a call, waits until `sent` comes back, and takes the call back.
    pub fn call_and_leave(&mut self, method: &str, message: &impl Message, sent: impl FnOnce()) {
        let path = format!("/inference.GRPCInferenceService/{method}");
        let request = post(&path, &[("content-type", "application/grpc"), ("te", "trailers")]);
        let send = self.send.clone();
        let body = framed(message);
        self.runtime.block_on(async {
            let call = tokio::spawn(exchange(send, request, body));
            // The frames go out while this waits.
            tokio::time::sleep(Duration::from_millis(100)).await;
            sent();
            call.abort();
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
    }

    /// Lets the connection read what the server sent meanwhile; whether it still takes a call.
    pub fn is_open(&mut self) -> bool {
        let send = self.send.clone();
        self.runtime.block_on(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            send.ready().await.is_ok()
        })
    }
}

fn post(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let request = Request::post(format!("http://x{path}"));
    let with = |request: hyper::http::request::Builder, (name, value): &(&str, &str)| request.header(*name, *value);
    headers.iter().fold(request, with).body(()).unwrap()
}

async fn exchange(
    send: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<(HeaderMap, Bytes, Option<HeaderMap>), h2::Error> {
    let (answer, mut stream) = send.ready().await?.send_request(request, body.is_empty())?;
    // A server that refuses early resets what it does not want to read; its answer counts.
    if !body.is_empty() {
        drop(stream.send_data(body, true));
    }
    let (mut head, mut body) = answer.await?.into_parts();
    head.headers.insert("status", head.status.as_u16().into());
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.put(piece);
    }
    let trailers = body.trailers().await?;
    Ok((head.headers, bytes.freeze(), trailers))
}

/// A message with its prefix: not compressed, and its length.
pub fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

pub fn called<M: Message + Default>(head: &HeaderMap, body: &Bytes, trailers: Option<HeaderMap>) -> Called<M> {
    let trailers = trailers.unwrap_or_else(|| head.clone());
    let status = tonic::Status::from_header_map(&trailers).unwrap_or_else(|| panic!("no grpc-status in {trailers:?}"));
    let message = body.get(5..).map(|body| M::decode(body).unwrap());
    Called { code: i32::from(status.code()).unsigned_abs(), words: status.message().to_owned(), message }
}
