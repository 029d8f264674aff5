//! The open connections of one thread to one pod.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};

use super::connect::{self, Pings};
use crate::body::RequestBody;
use crate::state::{Pod, lock};

/// A connection that was idle for longer is not used again: common servers close theirs after 5 s, and a request that meets the
/// close is lost.
const IDLE: Duration = Duration::from_secs(4);
/// Requests at once on one HTTP/2 connection. Servers allow at least 100 (RFC 9113 recommends it).
const STREAMS: u32 = 100;

#[derive(Debug, Default)]
pub struct Pool {
    idle: Vec<(http1::SendRequest<RequestBody>, Instant)>,
    shared: Vec<Shared>,
    /// One HTTP/2 connection is opened at a time: the requests that wait for it fit on it.
    opening: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Clone)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicU32>,
}

/// A connection for one request.
#[derive(Debug)]
pub enum Taken {
    Http1 { sender: http1::SendRequest<RequestBody>, slot: usize },
    Http2 { sender: http2::SendRequest<RequestBody>, stream: Stream },
}

/// A request on a shared connection.
#[derive(Debug)]
pub struct Stream(Arc<AtomicU32>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection from this thread's pool, or a new one.
pub async fn take(pod: &Pod, slot: usize, http2: bool) -> io::Result<Taken> {
    if http2 {
        return take_http2(pod, slot, Pings::OF_PODS).await;
    }
    let idle = lock(pod.pool(slot)).take_idle();
    let sender = match idle {
        Some(sender) => sender,
        None => connect::http1(pod.address).await?,
    };
    Ok(Taken::Http1 { sender, slot })
}

/// A connection to another router, shared.
pub async fn take_router(router: &Pod, slot: usize) -> io::Result<Taken> {
    take_http2(router, slot, Pings::OF_ROUTERS).await
}

async fn take_http2(pod: &Pod, slot: usize, pings: Pings) -> io::Result<Taken> {
    if let Some(taken) = lock(pod.pool(slot)).take_shared() {
        return Ok(taken);
    }
    let opening = lock(pod.pool(slot)).opening.clone();
    let _alone = opening.lock().await;
    if let Some(taken) = lock(pod.pool(slot)).take_shared() {
        return Ok(taken);
    }
    let sender = connect::http2(pod.address, pings).await?;
    let shared = Shared { sender, streams: Arc::default() };
    let taken = shared.take();
    lock(pod.pool(slot)).shared.push(shared);
    Ok(taken)
}

impl Pool {
    /// The one used last: the others grow old and go.
    fn take_idle(&mut self) -> Option<http1::SendRequest<RequestBody>> {
        // They are in the order of their age.
        let old = self.idle.iter().take_while(|(_, since)| since.elapsed() > IDLE).count();
        self.idle.drain(..old);
        let ready = self.idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(self.idle.remove(ready).0)
    }

    fn take_shared(&mut self) -> Option<Taken> {
        self.shared.retain(|shared| !shared.sender.is_closed());
        let shared = self.shared.iter().find(|shared| shared.streams.load(Ordering::Relaxed) < STREAMS)?;
        Some(shared.take())
    }
}

impl Shared {
    fn take(&self) -> Taken {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Taken::Http2 { sender: self.sender.clone(), stream: Stream(self.streams.clone()) }
    }
}

impl Taken {
    /// The error has the request if no byte of it was sent.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Http1 { sender, .. } => sender.try_send_request(request).await,
            Self::Http2 { sender, .. } => sender.try_send_request(request).await,
        }
    }

    /// After the whole answer was read.
    pub fn give_back(self, pod: &Pod) {
        match self {
            Self::Http1 { sender, slot } => {
                if !sender.is_closed() {
                    lock(pod.pool(slot)).idle.push((sender, Instant::now()));
                }
            }
            Self::Http2 { stream, .. } => drop(stream),
        }
    }
}
