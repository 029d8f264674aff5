//! The threads that serve. A connection stays on one of them with everything that it needs, so they do not wait for each other.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::headers::Peer;
use crate::proxy::Caller;
use crate::state::{Model, State};

/// How long a client may be silent between requests, and take for the head of one. Longer than the 60 s after which common load
/// balancers close an idle connection, so that they close first and send nothing into one that we close.
const SILENCE: Duration = Duration::from_secs(75);
/// The head of a request. A longer one is answered 431.
const HEADER_BYTES: usize = 64 << 10;
/// Requests at once on one HTTP/2 connection of a client.
const STREAMS: u32 = 256;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A connection of a client.
pub struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    pub model: Arc<Model>,
    /// Ends when no new requests shall come over it.
    pub stopped: watch::Receiver<()>,
    pub open: Arc<()>,
}

#[derive(Clone)]
pub struct Workers(Arc<[Worker]>);

struct Worker {
    connections: Arc<AtomicUsize>,
    sender: mpsc::UnboundedSender<Accepted>,
}

impl Workers {
    pub fn start(state: &Arc<State>, count: usize) -> io::Result<Self> {
        let workers = (0..count).map(|slot| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let connections = Arc::<AtomicUsize>::default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (state, count) = (state.clone(), connections.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{slot}"));
            thread.spawn(move || runtime.block_on(work(state, slot, receiver, count)))?;
            Ok(Worker { connections, sender })
        });
        Ok(Self(workers.collect::<io::Result<Vec<_>>>()?.into()))
    }

    pub fn serve(&self, accepted: Accepted) {
        if let Some(worker) = self.0.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed)) {
            worker.connections.fetch_add(1, Ordering::Relaxed);
            // It ends with the process alone.
            drop(worker.sender.send(accepted));
        }
    }
}

async fn work(
    state: Arc<State>,
    slot: usize,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    count: Arc<AtomicUsize>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SILENCE).max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    while let Some(accepted) = accepted.recv().await {
        let (state, builder, count) = (state.clone(), builder.clone(), count.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(accepted, state, slot, &builder).await {
                tracing::debug!(%error, "a connection broke");
            }
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn connection(
    accepted: Accepted,
    state: Arc<State>,
    slot: usize,
    builder: &Builder<TokioExecutor>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Accepted { stream, peer, model, mut stopped, open } = accepted;
    let stream = TcpStream::from_std(stream)?;
    tokio::select! {
        readable = tokio::time::timeout(SILENCE, stream.readable()) => readable??,
        _ = stopped.changed() => return Ok(()),
    }
    let peer = Peer { address: address(peer.ip()), proto: HeaderValue::from_static("http") };
    let caller = Arc::new(Caller { state, model, peer, slot, open });
    let service = service_fn(move |request| {
        let caller = caller.clone();
        async move { Ok::<_, Infallible>(caller.serve(request).await) }
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// An IPv4 client of a socket for both has its own address.
fn address(ip: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&ip.to_canonical().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
