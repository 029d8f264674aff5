//! The router from its start to its end.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc;

use crate::admin::Admin;
use crate::callers::Limits;
use crate::control::apply::Table;
use crate::control::configmap;
use crate::control::scale::{KubeScaler, Scaler};
use crate::control::watch_file::WatchedFile;
use crate::count::Metrics;
use crate::dial::Reach;
use crate::door::{self, Issuers, Pace};
use crate::endpoints;
use crate::listen;
use crate::log::Logs;
use crate::places::{self, Peers};
use crate::query;
use crate::shadow::{self, ShadowQueue};
use crate::state::{Phase, State};
use crate::stream::Streams;
use crate::worker::Workers;

/// For so long the end waits for sinks.
const SINKS: Duration = Duration::from_secs(5);
/// And so long for what streams have in hand, beside the time that it goes on serving.
const STREAMS: Duration = Duration::from_secs(8);
/// How often the end looks whether everything is done.
const DONE_EVERY: Duration = Duration::from_millis(20);

pub struct Options {
    pub routes: RoutesFrom,
    pub endpoints: EndpointsFrom,
    /// For tests and for endpoints from a file; with a cluster's, it is the cluster.
    pub scaler: Option<Arc<dyn Scaler>>,
    /// Models' ports are on this address.
    pub address: IpAddr,
    pub admin: SocketAddr,
    pub workers: usize,
    /// Of callers.
    pub limits: Limits,
    /// The pod that it runs in, for `/stats`.
    pub pod: String,
    /// Its address, by which it finds itself among the routers of a model. Without one it is alone.
    pub pod_ip: Option<IpAddr>,
    /// Where routers ask each other for places.
    pub places_port: u16,
    /// Where Secrets and ConfigMaps are mounted.
    pub mounted: PathBuf,
    /// Prometheus may be on this very host: there is no cluster.
    pub loopback: bool,
    /// When the keys of issuers of tokens are fetched.
    pub pace: Pace,
}

pub enum RoutesFrom {
    File(PathBuf),
    ConfigMap { client: Client, namespace: String, name: String },
}

pub enum EndpointsFrom {
    File(PathBuf),
    Cluster { client: Client, namespace: String },
}

#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error("failed to listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("failed to start a thread")]
    Thread(#[source] std::io::Error),
}

/// A router that runs.
pub struct Router {
    state: Arc<State>,
    logs: Logs,
    streams: Streams,
    /// Where `/readyz` and the others are.
    pub admin: SocketAddr,
}

impl Router {
    /// Begins, within a runtime.
    pub fn start(options: Options) -> Result<Self, RouterError> {
        let Options {
            routes,
            endpoints,
            mut scaler,
            address,
            admin,
            workers: count,
            limits,
            pod,
            pod_ip,
            places_port,
            mounted,
            loopback,
            pace,
        } = options;
        let failed = |source| RouterError::Listen { address: admin, source };
        let listener = listen::bind(admin).map_err(failed)?;
        let admin = listener.local_addr().map_err(failed)?;
        if let (None, EndpointsFrom::Cluster { client, namespace }) = (&scaler, &endpoints) {
            scaler = Some(Arc::new(KubeScaler::new(client.clone(), namespace)));
        }
        let (shadows, copies) = ShadowQueue::new();
        let state = Arc::new(State::new(
            pod,
            Peers::new(pod_ip, places_port, count + 1),
            count + 1,
            shadows,
            scaler,
            tokio::runtime::Handle::current(),
            limits.connections,
        ));
        let workers = Workers::start(&state, count, limits).map_err(RouterError::Thread)?;
        shadow_thread(copies, state.clone(), count).map_err(RouterError::Thread)?;

        if pod_ip.is_some() {
            let address = SocketAddr::new(address, places_port);
            let listener = listen::bind(address).map_err(|source| RouterError::Listen { address, source })?;
            tokio::spawn(places::serve(listener, state.clone()));
        }
        let metrics = Metrics::new(state.clone());
        tokio::spawn(Arc::new(Admin { state: state.clone(), metrics }).serve(listener));
        match endpoints {
            EndpointsFrom::File(path) => tokio::spawn(endpoints::file::follow(path, state.clone())),
            EndpointsFrom::Cluster { client, namespace } => {
                tokio::spawn(endpoints::kube::follow(client, namespace, state.clone()))
            }
        };
        let (sender, documents) = mpsc::channel(1);
        match routes {
            RoutesFrom::File(path) => tokio::spawn(async move {
                let mut file = WatchedFile::new(path);
                while sender.send(file.changed().await).await.is_ok() {}
            }),
            RoutesFrom::ConfigMap { client, namespace, name } => {
                tokio::spawn(configmap::follow(client, namespace, name, sender))
            }
        };
        tokio::spawn(door::follow(state.clone()));
        let reach = Arc::new(Reach { mounted: mounted.clone(), loopback });
        let logs = Logs::start(reach.clone()).map_err(RouterError::Thread)?;
        let streams = Streams::start(reach.clone(), state.clone(), workers.clone()).map_err(RouterError::Thread)?;
        tokio::spawn(query::follow(state.clone(), reach.clone()));
        let issuers = Arc::new(Issuers::new(reach, pace));
        tokio::spawn(door::follow_issuers(issuers.clone()));
        let table = Table::new(state.clone(), workers, address, mounted, issuers, logs.clone(), streams.clone());
        tokio::spawn(table.follow(documents));
        Ok(Self { state, logs, streams, admin })
    }

    /// Stops being ready, serves for `leave` whoever still comes, then takes nobody new and waits up to `drain` for what is in hand.
    /// How many connections were cut off.
    pub async fn end(self, leave: Duration, drain: Duration) -> usize {
        self.state.enter(Phase::Leaving);
        tokio::time::sleep(leave).await;
        let streamed = async {
            while !self.streams.are_over() {
                tokio::time::sleep(DONE_EVERY).await;
            }
        };
        // What they have not written comes again, at another router.
        drop(tokio::time::timeout(STREAMS.saturating_sub(leave), streamed).await);
        self.state.enter(Phase::Draining);
        let done = async {
            while self.state.callers.connections() > 0 {
                tokio::time::sleep(DONE_EVERY).await;
            }
        };
        // What is over by then is none.
        drop(tokio::time::timeout(drain, done).await);
        let sent = async {
            while !self.logs.is_empty() {
                tokio::time::sleep(DONE_EVERY).await;
            }
        };
        // Nor is a sink worth a longer end.
        drop(tokio::time::timeout(SINKS, sent).await);
        self.state.callers.connections()
    }
}

/// Shadows have a thread of their own: callers do not share theirs with them.
fn shadow_thread(copies: mpsc::Receiver<shadow::Copied>, state: Arc<State>, slot: usize) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("shadow".into())
        .spawn(move || runtime.block_on(shadow::run(copies, state, slot)))?;
    Ok(())
}
