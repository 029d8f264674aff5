//! One port for each model. A connection goes to the worker that has the fewest.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::state::{Model, Phase, State};
use crate::worker::{Accepted, Workers};

const BACKLOG: u32 = 1024;
/// A caller that vanished without a word is found out after two minutes.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15)).with_retries(4);
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 51\r\n\
retry-after: 1\r\nconnection: close\r\n\r\n{\"error\":\"the router has no room for connections\"}\n";

/// Dropped, it takes no more connections, and those that are open end after the request in hand.
pub struct Listener {
    pub port: u16,
    _open: watch::Sender<()>,
}

impl Listener {
    pub fn open(address: SocketAddr, model: Arc<Model>, state: Arc<State>, workers: Workers) -> io::Result<Self> {
        let listener = bind(address)?;
        let (sender, closed) = watch::channel(());
        tokio::spawn(accept(listener, model, state, workers, closed));
        Ok(Self { port: address.port(), _open: sender })
    }
}

/// Listens there; on a node without IPv6, at every address of IPv4 instead of every one of IPv6.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match bind_exactly(address) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() => {
            bind_exactly(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())).map_err(|_| error)
        }
        bound => bound,
    }
}

fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port can be taken again at once after a restart.
    socket.set_reuseaddr(true)?;
    // What is accepted inherits it.
    SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    model: Arc<Model>,
    state: Arc<State>,
    workers: Workers,
    mut closed: watch::Receiver<()>,
) {
    let mut phases = state.phases();
    // Connections end with the listener or with the router, whichever is first.
    let (stop, stopped) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.changed() => break,
            _ = phases.wait_for(|phase| *phase == Phase::Draining) => break,
        };
        let handed = accepted.and_then(|(stream, peer)| {
            let Some(connection) = state.callers.admit() else {
                // As far as it goes: one that has sent something already gets a reset instead.
                drop(stream.try_write(FULL));
                return Ok(None);
            };
            stream.set_nodelay(true)?;
            let stream = stream.into_std()?;
            Ok(Some(Accepted {
                stream,
                peer,
                model: model.clone(),
                stopped: stopped.clone(),
                connection,
                inside: false,
            }))
        });
        match handed {
            Ok(Some(accepted)) => workers.serve(accepted),
            Ok(None) => {}
            Err(error) => {
                // Out of file descriptors, most likely: spinning would not help.
                tracing::warn!(%error, model = model.name, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(stop);
}
