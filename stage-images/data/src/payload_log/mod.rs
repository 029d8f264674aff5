//! `payload-log`: takes the events of a model's requests from its routers, and appends them to a Delta table.
//!
//! The operator starts one for a `ModelDeployment`. An event that was answered with 202 is in the spool, and comes from there into the table once,
//! whatever ends the container: the table keeps the number of the last segment in the commit that has its rows. Who got no answer sends again.

mod answer;
mod append;
mod columns;
mod event;
mod health;
mod listen;
mod params;
mod spool;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Notify, oneshot, watch};

use answer::Door;
use append::{Appender, Left};
use health::Health;
pub use params::Params;
use spool::Spool;

use crate::ingest::append::AppendError;
use crate::say;

/// Nodes learn that late that it leaves: until then requests still come here.
const LEAVE: Duration = Duration::from_secs(3);
/// From there to the end, within the grace that the kubelet gives.
const END: Duration = Duration::from_secs(25);

#[derive(Debug, thiserror::Error)]
pub enum PayloadLogError {
    #[error("parameter {parameter}: found {found}, expected {}", range(*least, *most))]
    Bounds { parameter: &'static str, found: u64, least: u64, most: u64 },
    #[error(transparent)]
    Cloud(#[from] AppendError),
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    #[error("failed to use {}", path.display())]
    Work {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("parameter listen: nothing can listen at {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to wait for signals")]
    Signal(#[source] std::io::Error),
    #[error("{bytes} bytes of events wait in {} and were not appended to {table} in time: {why}", spool.display())]
    Left { bytes: u64, spool: PathBuf, table: String, why: String },
    #[error("the task that appends broke")]
    Broken(#[source] tokio::task::JoinError),
}

fn range(least: u64, most: u64) -> String {
    if most > u64::from(u32::MAX) { format!("{least} or more") } else { format!("{least} to {most}") }
}

/// Takes events until it is told to end.
pub async fn run(params: &Params) -> Result<(), PayloadLogError> {
    let handler = |kind| signal(kind).map_err(PayloadLogError::Signal);
    let (mut term, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    params.check()?;
    let spool = Spool::open(params.spool(), params.spool_bytes(), params.every())?;
    let work = emptied(params.spool().join("work"))?;
    // What reads the table's log has files of its own: there is no other folder that can be written.
    let _ = tempfile::env::override_temp_dir(&work);
    let listener = listen::bind(params.listen())
        .await
        .and_then(|listener| Ok((listener.local_addr()?, listener)))
        .map_err(|source| PayloadLogError::Listen { address: params.listen(), source });
    let (address, listener) = listener?;
    say::line(format!("listening on {address}"));
    let (spool, changed) = (Arc::new(Mutex::new(spool)), Arc::<Notify>::default());
    let health = Arc::new(Health::new(&params.table.uri));
    let (set_end, end) = watch::channel(None);
    let appender = Appender {
        params: params.table.clone(),
        spool: spool.clone(),
        health: health.clone(),
        changed: changed.clone(),
        end,
        work,
    };
    // A thread of its own: files are made between its questions, and requests do not wait for that.
    let mut appending = tokio::task::spawn_blocking(move || Handle::current().block_on(appender.run()));
    let (close, closed) = oneshot::channel();
    let serving = tokio::spawn(listen::serve(listener, Arc::new(Door::new(spool, health, changed)), closed));
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
        // Without an end it only ends where it breaks.
        broken = &mut appending => return result(broken, params),
    }
    tokio::time::sleep(LEAVE).await;
    let until = Instant::now() + END;
    say::line("ending: what waits is appended");
    let _ = close.send(());
    let _ = serving.await;
    set_end.send_replace(Some(until));
    result(appending.await, params)
}

fn result(ended: Result<Result<(), Left>, tokio::task::JoinError>, params: &Params) -> Result<(), PayloadLogError> {
    ended.map_err(PayloadLogError::Broken)?.map_err(|Left { bytes, why }| PayloadLogError::Left {
        bytes,
        spool: params.spool().into(),
        table: params.table.uri.clone(),
        why,
    })
}

/// A folder without what a killed program has left there.
fn emptied(path: PathBuf) -> Result<PathBuf, PayloadLogError> {
    let made = match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(&path),
    };
    made.map(|()| path.clone()).map_err(|source| PayloadLogError::Work { path, source })
}
