//! The controller from its start to its end: watches, lease, workers.

use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config as KubeConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::health::Health;
use crate::key::Kind;
use crate::lease::LeaseLock;
use crate::metrics::Metrics;
use crate::pass::Passes;
use crate::settings::RunSettings;
use crate::store::{self, Stores};
use crate::wake::Queues;
use crate::write::chain;

/// A request of a pass that has no answer in this time has failed. Watches wait as long as they like.
const ANSWER: Duration = Duration::from_secs(20);
/// The same for the lease, which lives for seconds.
const LEASE_ANSWER: Duration = Duration::from_secs(4);
/// How long passes in hand may take when the process is told to end.
const LAST_PASSES: Duration = Duration::from_secs(20);

/// Why the controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("failed to find the cluster: neither KUBECONFIG nor a service account of a pod is there")]
    Cluster(#[source] kube::config::InferConfigError),
    #[error("failed to make a client for the cluster")]
    Client(#[source] kube::Error),
    #[error("failed to listen on {address}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("failed to wait for signals")]
    Signal(#[source] std::io::Error),
    #[error("the lease {0} is lost to another replica or could not be renewed")]
    LeaseLost(String),
}

pub async fn serve(settings: RunSettings) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signal)?;
    let kube = KubeConfig::infer().await.map_err(ServeError::Cluster)?;
    let watches = Client::try_from(kube.clone()).map_err(ServeError::Client)?;
    let client = client(&kube, ANSWER)?;

    let metrics = Metrics::new();
    let (stores, queues) = (Arc::new(Stores::default()), Arc::new(Queues::default()));
    let feeds = store::start(&watches, &settings.namespaces(), &settings.catalog_namespace, &stores, &queues);
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|source| ServeError::Listen { address: settings.listen, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listens");
    }
    let health =
        Health { feeds: feeds.clone(), stores: stores.clone(), queues: queues.clone(), metrics: metrics.clone() };
    tokio::spawn(Arc::new(health).serve(listener));

    let identity = settings.identity.clone().unwrap_or_else(|| format!("millrace-{}", std::process::id()));
    let (stop, stopped) = watch::channel(false);
    let lead = async {
        let lock = LeaseLock::new(
            self::client(&kube, LEASE_ANSWER)?,
            &settings.lease_namespace,
            &settings.lease_name,
            identity.clone(),
            metrics.clone(),
        );
        let lease = if settings.no_lease { None } else { Some(lock.acquire().await) };
        // A plan must not take what was not listed yet for what is not there.
        feeds.listed().await;
        metrics.leads();
        tracing::info!(%identity, "leads");
        let passes =
            Arc::new(Passes::new(client, settings.config(), stores, queues, metrics.clone(), identity.clone()));
        let mut workers = JoinSet::new();
        for kind in Kind::ALL {
            for _ in 0..kind.workers() {
                workers.spawn(Arc::clone(&passes).work(kind, stopped.clone()));
            }
        }
        Ok::<_, ServeError>((lock, lease, workers))
    };

    let (lock, lease, mut workers) = tokio::select! {
        led = lead => led?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let held = lease.is_some();
    let hold = async {
        match lease {
            Some(lease) => lock.hold(lease).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(hold);
    tokio::select! {
        () = &mut hold => return Err(ServeError::LeaseLost(settings.lease_name)),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The lease is renewed until the last pass has ended.
    stop.send_replace(true);
    let ended = tokio::time::timeout(LAST_PASSES, async { while workers.join_next().await.is_some() {} });
    tokio::select! {
        () = &mut hold => return Err(ServeError::LeaseLost(settings.lease_name)),
        _ = ended => {}
    }
    if held && let Err(error) = lock.release().await {
        tracing::warn!(error = %chain(&error), "failed to release the lease; it runs out by itself");
    }
    tracing::info!("ended");
    Ok(())
}

/// A client whose requests have an end.
fn client(config: &KubeConfig, answer: Duration) -> Result<Client, ServeError> {
    let mut config = config.clone();
    config.connect_timeout = Some(answer);
    config.read_timeout = Some(answer);
    config.write_timeout = Some(answer);
    Client::try_from(config).map_err(ServeError::Client)
}
