//! A router with its routes and endpoints in files, as a test wants them.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use millrace_router::{EndpointsFrom, Limits, Options, Pace, Router, RoutesFrom, Scaler};
use millrace_routes::{Outcome, RevisionStats, Stats};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, get};
use crate::pod::Pod;

pub struct Site {
    pub router: Router,
    /// Of the model `m`.
    pub port: u16,
    pub folder: Arc<TempDir>,
}

/// A router among others.
#[derive(Clone, Copy)]
pub struct Peer {
    pub address: IpAddr,
    /// Where all of them ask each other for places.
    pub places: u16,
}

/// A revision of the document.
pub fn revision(name: &str, port: u16, weight: u32) -> Value {
    json!({"name": name, "service": name, "port": port, "weight": weight})
}

/// A document with one model `m`; `with` adds fields to it.
pub fn document(port: u16, revisions: &[Value], with: &Value) -> Value {
    let mut model = json!({"name": "m", "port": port, "revisions": revisions});
    model.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    json!({"models": [model]})
}

pub fn endpoint(address: SocketAddr, ready: bool) -> Value {
    json!({"address": address.ip(), "ready": ready})
}

/// A whole file at once, as the kubelet swaps one.
pub fn write(folder: &Path, name: &str, value: &Value) {
    let next = folder.join(format!("{name}.next"));
    std::fs::write(&next, value.to_string()).unwrap();
    std::fs::rename(next, folder.join(name)).unwrap();
}

/// A port that no other test gets, and no client: those have ports from 32768 on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run of these tests begins elsewhere.
    let first = 12_000 + u16::try_from(std::process::id() % 150).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::SeqCst);
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Those that are shipped, except that a caller that left is found out sooner.
pub fn limits() -> Limits {
    Limits { half_closed: Duration::from_millis(200), ..Limits::default() }
}

/// As shipped, except that nobody waits for half a minute.
fn pace() -> Pace {
    Pace { again: Duration::from_secs(1), closed: Duration::from_millis(200), ..Pace::default() }
}

/// Waits for what must come in the end.
pub async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < Duration::from_mins(1), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Site {
    pub async fn start(revisions: &[Value], endpoints: &Value, with: &Value, scaler: Option<Arc<dyn Scaler>>) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), revisions, endpoints, with, scaler).await
    }

    pub async fn start_in(
        folder: Arc<TempDir>,
        revisions: &[Value],
        endpoints: &Value,
        with: &Value,
        scaler: Option<Arc<dyn Scaler>>,
    ) -> Self {
        let site = Self::begin(folder, revisions, endpoints, with, scaler, limits());
        site.ready().await;
        site
    }

    pub async fn ready(&self) {
        until("ready", || async { get(self.admin(), "/readyz").await.status == 200 }).await;
    }

    /// It may not be ready yet.
    pub fn begin(
        folder: Arc<TempDir>,
        revisions: &[Value],
        endpoints: &Value,
        with: &Value,
        scaler: Option<Arc<dyn Scaler>>,
        limits: Limits,
    ) -> Self {
        Self::begin_at(None, folder, revisions, endpoints, with, scaler, limits)
    }

    /// One of several routers, if it is a peer.
    pub fn begin_at(
        peer: Option<Peer>,
        folder: Arc<TempDir>,
        revisions: &[Value],
        endpoints: &Value,
        with: &Value,
        scaler: Option<Arc<dyn Scaler>>,
        limits: Limits,
    ) -> Self {
        let port = with.get("port").map_or_else(free_port, |port| port.as_u64().unwrap().try_into().unwrap());
        write(folder.path(), "routes.json", &document(port, revisions, with));
        write(folder.path(), "endpoints.json", endpoints);
        let options = Options {
            routes: RoutesFrom::File(folder.path().join("routes.json")),
            endpoints: EndpointsFrom::File(folder.path().join("endpoints.json")),
            scaler,
            address: peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.address),
            admin: "127.0.0.1:0".parse().unwrap(),
            workers: 2,
            limits,
            pod: "router-1".to_owned(),
            pod_ip: peer.map(|peer| peer.address),
            places_port: peer.map_or(0, |peer| peer.places),
            mounted: folder.path().join("mounted"),
            loopback: true,
            pace: pace(),
        };
        Self { router: Router::start(options).unwrap(), port, folder }
    }

    /// One revision `a` with these pods, all on one port.
    pub async fn of(pods: &[&Pod], with: &Value) -> Self {
        let all: Vec<Value> = pods.iter().map(|pod| endpoint(pod.address, true)).collect();
        Self::start(&[revision("a", pods[0].address.port(), 1)], &json!({"a": all}), with, None).await
    }

    /// The same with other limits of callers.
    pub async fn limited(pod: &Pod, limits: Limits) -> Self {
        let endpoints = json!({"a": [endpoint(pod.address, true)]});
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let site = Self::begin(folder, &[revision("a", pod.address.port(), 1)], &endpoints, &json!({}), None, limits);
        until("ready", || async { get(site.admin(), "/readyz").await.status == 200 }).await;
        site
    }

    pub fn admin(&self) -> u16 {
        self.router.admin.port()
    }

    pub async fn get(&self, path: &str) -> Answer {
        get(self.port, path).await
    }

    pub fn endpoints(&self, endpoints: &Value) {
        write(self.folder.path(), "endpoints.json", endpoints);
    }

    /// Writes a document, and waits until it was taken or refused.
    pub async fn routes(&self, document: &Value) {
        let before = self.documents().await;
        write(self.folder.path(), "routes.json", document);
        until("the document was read", || async { self.documents().await > before }).await;
    }

    async fn documents(&self) -> u64 {
        let text = self.metrics().await;
        let value = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        value("millrace_router_routes_loaded_total") + value("millrace_router_routes_refused_total")
    }

    pub async fn metrics(&self) -> String {
        get(self.admin(), "/metrics").await.text
    }

    pub async fn all_stats(&self) -> Stats {
        let text = get(self.admin(), "/stats").await.text;
        serde_json::from_str(&text).unwrap()
    }

    pub async fn stats(&self, revision: &str) -> RevisionStats {
        self.all_stats().await.models["m"].revisions[revision].clone()
    }

    pub async fn outcome(&self, revision: &str, outcome: Outcome) -> u64 {
        self.stats(revision).await.outcomes.get(&outcome).copied().unwrap_or_default()
    }
}
