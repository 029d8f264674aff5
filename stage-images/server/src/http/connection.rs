//! One connection, from its first byte to its last: HTTP/1.1 or, by its first bytes, HTTP/2 without TLS.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{h1, h2};
use crate::grpc;
use crate::serving::Serving;

/// How the preface of HTTP/2 begins; no method of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI ";
/// How long a connection without a byte is listened to once the server stops: a request may be in the kernel already.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Serves the connection until either side ends it. When `stop` turns true, the requests in flight are the last ones.
pub async fn serve(stream: TcpStream, serving: Arc<Serving>, grpc: grpc::Service, mut stop: watch::Receiver<bool>) {
    let _counted = serving.metrics.connection();
    let config = &serving.config;
    let is_http2 = tokio::select! {
        begun = begins_as_http2(&stream, config.head_timeout) => Some(begun),
        () = stopped(&mut stop) => tokio::time::timeout(LAST_LOOK, begins_as_http2(&stream, LAST_LOOK)).await.ok(),
        () = tokio::time::sleep(config.idle_timeout) => None,
    };
    match is_http2 {
        Some(true) => h2::serve(stream, serving, grpc, stop).await,
        Some(false) => h1::serve(stream, serving, stop).await,
        None => {}
    }
}

/// Waits for the first bytes, and leaves them where they are. Bytes that end too soon or come too late are left to
/// HTTP/1.1, which has an answer to them.
async fn begins_as_http2(stream: &TcpStream, limit: Duration) -> bool {
    let mut head = [0; PREFACE.len()];
    let mut begun = None;
    loop {
        let Ok(length @ 1..) = stream.peek(&mut head).await else { return false };
        if head[..length] != PREFACE[..length] {
            return false;
        }
        if length == PREFACE.len() {
            return true;
        }
        // Bytes that were only looked at keep the socket readable, so there is nothing else to wait for.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if begun.get_or_insert_with(std::time::Instant::now).elapsed() > limit {
            return false;
        }
    }
}

/// Waits until `signal` is true.
pub async fn stopped(signal: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: the server ends then too.
    drop(signal.wait_for(|signal| *signal).await);
}
