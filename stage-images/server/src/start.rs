//! The server's life: listen, load, warm up, serve, drain, end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::http::{Listener, accept, answer_operator};
use crate::limits;
use crate::metrics::Metrics;
use crate::model::{self, LoadError, NotIntact, Runtime};
use crate::repository::{self, Entry, Loader, RepositoryError};
use crate::serving::Serving;

/// Why the server ended, or never began.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("failed to listen on {address}: {source}; choose another with --host, --port and --admin-port")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("failed to start a thread: {0}")]
    Thread(io::Error),
    #[error("failed to wait for signals: {0}")]
    Signal(io::Error),
    #[error("model {name:?} version {version:?} {source}")]
    NotIntact { name: String, version: String, source: Box<NotIntact> },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Model(#[from] RepositoryError),
    #[error("{0} connections were cut: their requests did not end within --grace")]
    Cut(usize),
}

/// Runs the server until it is told to end.
pub fn run(config: Config) -> Result<(), StartError> {
    let threads = config.threads.unwrap_or_else(limits::cpus);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let result = runtime.block_on(serve(config, threads));
    // A model that is still being loaded cannot be interrupted; the process ends all the same.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config, threads: usize) -> Result<(), StartError> {
    let mut signals = Signals::new().map_err(StartError::Signal)?;
    let metrics = Arc::new(Metrics::new());
    let buffer = config.max_buffered.unwrap_or_else(|| limits::buffered(config.max_body));
    let (listener, address) = bind(SocketAddr::new(config.host, config.port))?;
    let admin = config.admin_port.map(|port| bind(SocketAddr::new(config.host, port))).transpose()?;
    let serving = Arc::new(Serving::new(config, metrics, buffer));
    if let Some((listener, address)) = admin {
        tracing::info!(%address, "the operator may ask");
        tokio::spawn(answer_operator(listener, Arc::clone(&serving)));
    }
    let (stop, stopped) = watch::channel(false);
    tracing::info!(%address, threads, buffer, "listening");
    let grace = serving.config.grace;
    let connections = tokio::spawn(accept(listener, Arc::clone(&serving), stopped, grace));

    // The server is live while it loads, and says that it is not ready.
    let loading = {
        let serving = Arc::clone(&serving);
        tokio::task::spawn_blocking(move || load(&serving, threads))
    };
    tokio::select! {
        loaded = loading => loaded.map_err(|error| StartError::Thread(io::Error::other(error)))??,
        () = signals.next() => return Ok(()),
    }
    signals.next().await;

    // Others learn late that this pod goes: until then it answers as before.
    let drain = serving.config.drain;
    tracing::info!(?drain, "draining");
    serving.drain();
    tokio::time::sleep(drain).await;
    stop.send_replace(true);
    let cut = connections.await.unwrap_or(0);
    for model in serving.models() {
        model.queue.close();
    }
    tracing::info!(cut, "stopped");
    if cut == 0 { Ok(()) } else { Err(StartError::Cut(cut)) }
}

/// A listener, and where it is.
fn bind(address: SocketAddr) -> Result<(Listener, SocketAddr), StartError> {
    let listener = Listener::bind(address).map_err(|source| StartError::Listen { address, source })?;
    let address = listener.address().unwrap_or(address);
    Ok((listener, address))
}

/// Loads the models that the server begins with.
fn load(serving: &Serving, threads: usize) -> Result<(), StartError> {
    let config = &serving.config;
    let environment = model::runtime(&config.onnxruntime)?;
    let provider = model::choose(&environment, &config.onnxruntime, config.device)?;
    let loader = Arc::new(Loader::new(Runtime { environment, provider, threads }));
    if let Some(name) = config.model_name.clone() {
        let (version, dir) = (config.model_version.clone(), config.model_dir.clone());
        if let Some(digest) = &config.model_digest {
            model::verify(&dir, digest).map_err(|source| {
                let (name, version) = (name.clone(), version.clone());
                StartError::NotIntact { name, version, source: Box::new(source) }
            })?;
        }
        loader.load(serving, Entry { name, version, dir })?;
    }
    // Set once, by the only caller.
    drop(serving.loader.set(loader));
    for name in &config.load {
        repository::load(serving, name)?;
    }
    serving.begin();
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
