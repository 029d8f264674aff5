//! The port, and the connections to it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::answer::Door;
use crate::say;

/// At once. A router has one for each model.
const CONNECTIONS: usize = 256;
/// Between two requests, and for the head of one.
const HEAD_TIME: Duration = Duration::from_secs(30);
const HEAD_BYTES: usize = 16 << 10;
/// For requests in hand when the program ends.
const LAST_TIME: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// Listens there; on a node without IPv6, at every address of IPv4 instead of every one of IPv6.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() => {
            let other = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            TcpListener::bind(other).await.map_err(|_| error)
        }
        bound => bound,
    }
}

/// A connection, and whether a request of it is in hand.
struct Open {
    task: JoinHandle<()>,
    busy: Arc<AtomicBool>,
    close: Arc<Notify>,
}

/// Answers until it is told to end. Then requests in hand have a moment.
pub async fn serve(listener: TcpListener, door: Arc<Door>, mut end: oneshot::Receiver<()>) {
    let mut open: VecDeque<Open> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &mut open) => accepted,
            _ = &mut end => break,
        };
        match accepted {
            Ok(stream) => {
                let (busy, close) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
                let task = tokio::spawn(connection(stream, door.clone(), busy.clone(), close.clone()));
                open.push_back(Open { task, busy, close });
            }
            Err(error) => {
                say::line(format!("failed to accept a connection: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    for one in &open {
        one.close.notify_one();
    }
    let all = async {
        for one in &mut open {
            let _ = (&mut one.task).await;
        }
    };
    let _ = timeout(LAST_TIME, all).await;
    for one in open {
        one.task.abort();
    }
}

/// The next connection. The kubelet's question must not wait for those who say nothing: the oldest of them goes first.
async fn accept(listener: &TcpListener, open: &mut VecDeque<Open>) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    loop {
        open.retain(|one| !one.task.is_finished());
        if open.len() < CONNECTIONS {
            return Ok(stream);
        }
        if let Some(idle) = open.iter().find(|one| !one.busy.load(Ordering::Relaxed)) {
            idle.close.notify_one();
        }
        sleep(PAUSE / 10).await;
    }
}

async fn connection(stream: TcpStream, door: Arc<Door>, busy: Arc<AtomicBool>, close: Arc<Notify>) {
    let answer = service_fn(|request| {
        busy.store(true, Ordering::Relaxed);
        let (door, busy) = (&door, &busy);
        async move {
            let answer = door.answer(request).await;
            busy.store(false, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    loop {
        tokio::select! {
            // A sender that breaks off is no event of ours.
            _ = connection.as_mut() => return,
            () = close.notified() => {
                // It is this task that takes requests: none comes in between.
                if !busy.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
