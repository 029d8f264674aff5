//! New connections to a pod.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::body::RequestBody;

/// Within a cluster; a packet that was lost is sent again after 1 s.
const CONNECT_WITHIN: Duration = Duration::from_millis(2500);
/// A silent HTTP/2 connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(10);
/// What a pod may send ahead of callers that read slowly, and what is held for a pod that reads slowly: small, because there are as many
/// of these as requests.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const BUFFER_BYTES: usize = 32 << 10;
const HEADER_BYTES: u32 = 32 << 10;

pub async fn http1(address: SocketAddr) -> io::Result<http1::SendRequest<RequestBody>> {
    let stream = tcp(address).await?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // How it ends is seen by whoever sends over it.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

/// How soon a connection to somebody who has vanished without a word is given up.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    every: Duration,
    within: Duration,
}

impl Pings {
    pub const OF_PODS: Self = Self { every: PING_EVERY, within: PING_WITHIN };
    /// Their answers may take long, and requests to many pods wait for them.
    pub const OF_ROUTERS: Self = Self { every: Duration::from_secs(1), within: Duration::from_secs(2) };
}

pub async fn http2(address: SocketAddr, pings: Pings) -> io::Result<http2::SendRequest<RequestBody>> {
    let stream = tcp(address).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(pings.every)
        .keep_alive_timeout(pings.within)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES)
        .max_send_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
