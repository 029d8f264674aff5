//! The command line.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};

use crate::Limits;

/// The Millrace router: it serves the models of one namespace.
#[derive(Parser)]
#[command(name = "millrace-router", version)]
#[command(group(ArgGroup::new("from").required(true).args(["routes", "routes_configmap"])))]
pub struct Settings {
    /// Folder or file with the routes (routes.json), such as a mounted ConfigMap. It is read again when it changes.
    #[arg(long, env = "MILLRACE_ROUTES")]
    pub routes: Option<PathBuf>,
    /// ConfigMap with the routes (key routes.json) in the namespace. It is watched.
    #[arg(long, env = "MILLRACE_ROUTES_CONFIGMAP")]
    pub routes_configmap: Option<String>,
    /// Namespace of the ConfigMap, the EndpointSlices and the Deployments.
    #[arg(long, env = "MILLRACE_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// File with endpoints, instead of the cluster's EndpointSlices: {"service": [{"address": "127.0.0.1", "ready": true}]}.
    #[arg(long)]
    pub endpoints: Option<PathBuf>,
    /// Address of the models' ports.
    #[arg(long, default_value_t = IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
    pub address: IpAddr,
    /// Address of /livez, /readyz, /metrics and /stats.
    #[arg(long, env = "MILLRACE_ADMIN", default_value = "[::]:9090")]
    pub admin: SocketAddr,
    /// The pod that it runs in, as /stats says it.
    #[arg(long, env = "MILLRACE_POD_NAME", default_value = "")]
    pub pod: String,
    /// The pod's address. Routers share the places at pods that take a bounded number of requests; without it this one counts for itself.
    #[arg(long, env = "MILLRACE_POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// Where routers ask each other for such places, on the address of the models' ports. The same for all of them.
    #[arg(long, env = "MILLRACE_PLACES_PORT", default_value_t = 9091)]
    pub places_port: u16,
    /// Threads that serve. Default: as many as the CPU limit allows.
    #[arg(long, env = "MILLRACE_WORKERS")]
    pub workers: Option<usize>,
    /// Connections of callers at once. The default fits into 256 MiB of memory.
    #[arg(long, env = "MILLRACE_MAX_CONNECTIONS", default_value_t = Limits::default().connections)]
    pub max_connections: usize,
    /// Folder in which the Secrets and ConfigMaps that the routes name are mounted, as secrets/NAME/tls, secrets/NAME/keys,
    /// secrets/NAME/jwks/KEY and configmaps/NAME/jwks/KEY, or issuer/KEY, prometheus/KEY, log/KEY,
    /// broker/KEY or sasl instead of jwks/KEY.
    #[arg(long, env = "MILLRACE_MOUNTED", default_value = millrace_routes::MOUNTED)]
    pub mounted: PathBuf,
    /// Seconds to go on serving after SIGTERM, until nobody is sent here any more.
    #[arg(long, env = "MILLRACE_LEAVE_SECONDS", default_value = "10")]
    pub leave_seconds: u64,
    /// Seconds that requests in hand may take after that.
    #[arg(long, env = "MILLRACE_DRAIN_SECONDS", default_value = "300")]
    pub drain_seconds: u64,
    /// What is logged, such as `info` or `info,kube_client=debug`.
    #[arg(long, env = "MILLRACE_LOG", default_value = "info")]
    pub log: String,
}

impl Settings {
    /// Threads that serve. The standard library knows the CPU limit of the container.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    #[must_use]
    pub fn leave(&self) -> Duration {
        Duration::from_secs(self.leave_seconds)
    }

    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
