//! The controller from its start to its end: watches, lease, workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Client, Config as KubeConfig};
use millrace_core::deployment::GatewayApi;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ask::Asker;
use crate::drift::DriftAsker;
use crate::health::Health;
use crate::key::Kind;
use crate::lease::LeaseLock;
use crate::metrics::Metrics;
use crate::pass::Passes;
use crate::settings::RunSettings;
use crate::store::{self, Stores};
use crate::wake::Queues;
use crate::webhook::{Reviewer, Webhook};
use crate::write::chain;

/// A request of a pass that has no answer in this time has failed. Watches wait as long as they like.
const ANSWER: Duration = Duration::from_secs(20);
/// The same for the lease, which lives for seconds.
const LEASE_ANSWER: Duration = Duration::from_secs(4);
/// How long passes in hand may take when the process is told to end.
const LAST_PASSES: Duration = Duration::from_secs(20);

/// How long routers may take to answer for the first time.
const FIRST_ASKED: Duration = Duration::from_secs(3);

/// Why the controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("failed to find the cluster: neither KUBECONFIG nor a service account of a pod is there")]
    Cluster(#[source] kube::config::InferConfigError),
    #[error("failed to make a client for the cluster")]
    Client(#[source] kube::Error),
    #[error("failed to listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
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
    if settings.gateway_api {
        let mut scopes = settings.namespaces();
        if scopes.is_empty() {
            scopes.push(String::new());
        }
        tokio::spawn(store::follow_gateways(watches.clone(), scopes, stores.clone(), queues.clone()));
    } else {
        stores.gateway_api.set(GatewayApi::Disabled, &stores, &queues);
    }
    let listener = listen(settings.listen).await?;
    if let (Some(address), Some(folder)) = (settings.webhook_listen, &settings.webhook_certificate) {
        // Every replica answers: what it says does not depend on the lease.
        let reviewer = Reviewer::new(stores.clone(), feeds.clone(), settings.config());
        tokio::spawn(Webhook::new(folder.clone(), reviewer).serve(listen(address).await?));
    }
    let health =
        Health { feeds: feeds.clone(), stores: stores.clone(), queues: queues.clone(), metrics: metrics.clone() };
    tokio::spawn(Arc::new(health).serve(listener));

    let identity = settings.identity.clone().unwrap_or_else(|| format!("millrace-{}", std::process::id()));
    let lock = LeaseLock::new(
        self::client(&kube, LEASE_ANSWER)?,
        &settings.lease_namespace,
        &settings.lease_name,
        identity.clone(),
        metrics.clone(),
    );
    let lead = async {
        // First, because a replica that cannot list must not keep the lease from one that can; and because a plan must
        // not take what was not listed yet for what is not there.
        feeds.listed().await;
        if settings.no_lease { None } else { Some(lock.acquire().await) }
    };
    let told_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(told_to_end);
    tokio::select! {
        lease = lead => {
            metrics.leads();
            tracing::info!(%identity, "leads");
            let mut asker = Asker::new(stores.clone(), queues.clone());
            // Before the first pass, or every ModelDeployment would seem to be without routers.
            asker.first(FIRST_ASKED).await;
            tokio::spawn(asker.run());
            tokio::spawn(DriftAsker::new(stores.clone(), queues.clone()).run());
            let passes = Passes::new(client, settings.config(), stores, queues, metrics, identity);
            if !work(Arc::new(passes), &lock, lease, told_to_end).await {
                return Err(ServeError::LeaseLost(settings.lease_name));
            }
        }
        () = &mut told_to_end => {}
    }
    // One that only waited may have got the lease at this very moment.
    if !settings.no_lease
        && let Err(error) = lock.release().await
    {
        tracing::warn!(error = %chain(&error), "failed to release the lease; it runs out by itself");
    }
    tracing::info!("ended");
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|source| ServeError::Listen { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listens");
    }
    Ok(listener)
}

/// Works until `end`, and finishes the passes in hand. False if the lease was lost.
async fn work(passes: Arc<Passes>, lock: &LeaseLock, lease: Option<Lease>, end: impl Future<Output = ()>) -> bool {
    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for kind in Kind::ALL {
        for _ in 0..kind.workers() {
            workers.spawn(Arc::clone(&passes).work(kind, stopped.clone()));
        }
    }
    let last_passes = async {
        end.await;
        stop.send_replace(true);
        tokio::time::timeout(LAST_PASSES, async { while workers.join_next().await.is_some() {} }).await
    };
    let Some(lease) = lease else {
        let _ended_or_late = last_passes.await;
        return true;
    };
    // The lease is renewed until the last pass has ended.
    tokio::select! {
        () = lock.hold(lease) => false,
        _ = last_passes => true,
    }
}

/// A client whose requests have an end.
fn client(config: &KubeConfig, answer: Duration) -> Result<Client, ServeError> {
    let mut config = config.clone();
    config.connect_timeout = Some(answer);
    config.read_timeout = Some(answer);
    config.write_timeout = Some(answer);
    Client::try_from(config).map_err(ServeError::Client)
}
