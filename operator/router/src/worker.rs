//! The threads that serve. A connection stays on one of them with everything that it needs, so they do not wait for each other.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::callers::{
    CONNECTION_WINDOW, Connection, HEAD_BYTES, InHand, Limits, STREAM_WINDOW, STREAMS, Socket, TimedStream,
};
use crate::headers::Peer;
use crate::proxy::Caller;
use crate::refuse::Reason;
use crate::state::{Model, State};

/// A connection of a client.
pub struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    pub model: Arc<Model>,
    /// Ends when no new requests shall come over it.
    pub stopped: watch::Receiver<()>,
    pub connection: Connection,
    /// It is this process itself that asks: it needs no TLS and shows no key.
    pub inside: bool,
}

#[derive(Clone)]
pub struct Workers(Arc<[Worker]>);

struct Worker {
    connections: Arc<AtomicUsize>,
    sender: mpsc::UnboundedSender<Accepted>,
}

impl Workers {
    pub fn start(state: &Arc<State>, count: usize, limits: Limits) -> io::Result<Self> {
        let workers = (0..count).map(|slot| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let connections = Arc::<AtomicUsize>::default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (state, count) = (state.clone(), connections.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{slot}"));
            thread.spawn(move || runtime.block_on(work(state, slot, limits, receiver, count)))?;
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
    limits: Limits,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    count: Arc<AtomicUsize>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    // Deadlines of the socket are those of `TimedStream`.
    builder.http1().header_read_timeout(None).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(HEAD_BYTES)
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    while let Some(accepted) = accepted.recv().await {
        let (state, builder, count) = (state.clone(), builder.clone(), count.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(accepted, state, slot, limits, &builder).await {
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
    limits: Limits,
    builder: &Builder<TokioExecutor>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Accepted { stream, peer, model, mut stopped, connection: held, inside } = accepted;
    let stream = TcpStream::from_std(stream)?;
    let held = Arc::new(held);
    // One that has sent nothing needs no buffers.
    tokio::select! {
        readable = tokio::time::timeout(limits.idle, stream.readable()) => readable??,
        _ = stopped.changed() => return Ok(()),
        () = held.evicted() => return Ok(()),
    }
    let stream = tokio::select! {
        stream = begin(stream, &model, limits, inside) => stream,
        () = held.evicted() => return Ok(()),
    };
    let Some(stream) = stream else { return Ok(()) };
    let over_tls = stream.is_tls();
    let proto = HeaderValue::from_static(if over_tls { "https" } else { "http" });
    let peer = Peer { address: address(peer.ip()), proto };
    let connection = held.clone();
    let caller = Arc::new(Caller { state, model, peer, slot, connection, over_tls, inside, silence: limits.body });
    let service = service_fn(move |request| {
        let caller = caller.clone();
        // At once and not when it is polled first: until then the socket would take the end of what is sent for a caller that left.
        let in_hand = InHand::begin(&caller.connection);
        async move { Ok::<_, Infallible>(caller.serve(request, in_hand).await) }
    });
    let stream = TokioIo::new(TimedStream::new(stream, held.clone(), limits));
    let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = stopped.changed() => {}
        () = held.evicted() => return Ok(()),
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// The connection as the model's port speaks, or nothing if TLS could not begin.
async fn begin(stream: TcpStream, model: &Model, limits: Limits, inside: bool) -> Option<Socket> {
    let Some(door) = model.policy().door.clone().filter(|door| !inside && door.is_tls()) else {
        return Some(Socket::Plain(stream));
    };
    let Some(config) = door.tls() else {
        model.refused(Reason::Closed);
        return None;
    };
    let begun = tokio::time::timeout(limits.head, TlsAcceptor::from(config).accept(stream)).await;
    match begun {
        Ok(Ok(stream)) => Some(Socket::Tls(Box::new(stream))),
        Ok(Err(_)) | Err(_) => {
            model.refused(Reason::Handshake);
            None
        }
    }
}

/// An IPv4 client of a socket for both has its own address.
fn address(ip: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&ip.to_canonical().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
