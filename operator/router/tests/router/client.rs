//! Clients of the router.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

pub type Body = BoxBody<Bytes, Infallible>;

pub fn body(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// An answer in whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

pub async fn whole(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() })
}

/// One connection of HTTP/1.1, kept open.
pub struct Client(pub http1::SendRequest<Body>);

impl Client {
    pub async fn open(port: u16) -> Self {
        Self::try_open(port).await.unwrap()
    }

    pub async fn try_open(port: u16) -> std::io::Result<Self> {
        Self::try_open_at(Ipv4Addr::LOCALHOST.into(), port).await
    }

    pub async fn open_at(address: IpAddr, port: u16) -> Self {
        Self::try_open_at(address, port).await.unwrap()
    }

    async fn try_open_at(address: IpAddr, port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((address, port)).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Self(sender))
    }

    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        self.0.ready().await?;
        self.0.send_request(request).await
    }

    pub async fn ask(&mut self, request: Request<Body>) -> Result<Answer, hyper::Error> {
        let response = self.send(request).await?;
        whole(response).await
    }

    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(request("GET", path, headers, "")).await.unwrap()
    }

    pub async fn post(&mut self, path: &str, text: &str) -> Answer {
        self.ask(request("POST", path, &[], text)).await.unwrap()
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], text: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "model.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body(text.to_owned())).unwrap()
}

/// A GET over a connection of its own.
pub async fn get(port: u16, path: &str) -> Answer {
    Client::open(port).await.get(path, &[]).await
}

/// The same of a router with an address of its own.
pub async fn get_at(address: IpAddr, port: u16, path: &str) -> Answer {
    Client::open_at(address, port).await.get(path, &[]).await
}

/// A connection of HTTP/2 without TLS, by prior knowledge.
pub async fn open_http2(port: u16) -> http2::SendRequest<Body> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}
