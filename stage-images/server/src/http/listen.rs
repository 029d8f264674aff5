//! The listener: takes connections until it is told to stop, then waits for those that are open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{serve, stopped};
use super::h1::linger;
use crate::grpc;
use crate::protocol::error_body;
use crate::serving::Serving;

/// Connections that the kernel holds until the server takes them.
const BACKLOG: i32 = 4096;

/// A bound socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into()).map(Self)
    }

    /// The next connection.
    pub async fn next(&self) -> TcpStream {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => pause(&error).await,
            }
        }
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves until `stop` turns true; then takes what the kernel still holds, closes the listener, and waits for the open
/// connections, `grace` at most. Gives how many were cut.
pub async fn accept(listener: Listener, serving: Arc<Serving>, stop: watch::Receiver<bool>, grace: Duration) -> usize {
    let mut open = JoinSet::new();
    let mut until = stop.clone();
    let grpc = grpc::Service::new(Arc::clone(&serving));
    let start = |stream, open: &mut JoinSet<()>| start(stream, &serving, &grpc, &stop, open);
    loop {
        tokio::select! {
            taken = listener.0.accept() => match taken {
                Ok((stream, _)) => start(stream, &mut open),
                Err(error) => pause(&error).await,
            },
            Some(_) = open.join_next() => {}
            () = stopped(&mut until) => break,
        }
    }
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_millis(1), listener.0.accept()).await {
        start(stream, &mut open);
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    drop(tokio::time::timeout(grace, all).await);
    open.len()
}

fn start(
    stream: TcpStream,
    serving: &Arc<Serving>,
    grpc: &grpc::Service,
    stop: &watch::Receiver<bool>,
    open: &mut JoinSet<()>,
) {
    // Answers are small and whole: waiting for more to send only costs time.
    drop(stream.set_nodelay(true));
    if open.len() >= serving.config.max_connections {
        open.spawn(crowded(stream));
    } else {
        open.spawn(serve(stream, Arc::clone(serving), grpc.clone(), stop.clone()));
    }
}

async fn crowded(mut stream: TcpStream) {
    let body = error_body("this server has as many connections as it may: try again");
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_ok() {
        linger(stream).await;
    }
}

/// Out of file descriptors or memory: the next try would fail as well, so give others time to end.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "failed to accept a connection");
    tokio::time::sleep(Duration::from_millis(10)).await;
}
