//! One revision: its pods, and the requests that wait for one.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use millrace_routes::{Protocol, Queue, Revision as Document};
use tokio::sync::oneshot::Receiver;

use super::starting::{Spans, Start};
use super::waiting::Waiting;
use super::{Pod, State, lock, read, write};
use crate::control::start;
use crate::count::Counters;
use crate::endpoints::Endpoint;
use crate::places::Grant;

#[derive(Debug)]
pub struct Revision {
    pub name: String,
    pub service: String,
    pub port: u16,
    pub counters: Counters,
    pods: RwLock<Arc<Pods>>,
    settings: RwLock<Arc<Settings>>,
    waiting: Mutex<Waiting>,
    /// How many wait: read without the lock.
    queued: AtomicUsize,
    closed: AtomicBool,
    /// Its start from zero is being followed.
    pub starting: AtomicBool,
    start: Mutex<Option<Start>>,
    slots: usize,
}

/// What a new document may change.
#[derive(Debug)]
pub struct Settings {
    pub concurrency: Option<u32>,
    pub deployment: Option<String>,
    pub ready_path: Option<String>,
    pub protocol: Protocol,
    pub queue: Queue,
}

#[derive(Debug, Default)]
pub struct Pods {
    /// Those that requests are sent to.
    pub ready: Vec<Arc<Pod>>,
    pub pending: Vec<Arc<Pod>>,
}

/// Why there is no pod for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Overflow,
    Timeout,
    /// The revision has left the routes: choose again.
    Gone,
}

/// How a request waited.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub waited: Duration,
    /// If it waited for a start from zero.
    pub start: Option<Spans>,
}

/// A place at a pod, given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    pub pod: Arc<Pod>,
    revision: Arc<Revision>,
    /// Where another router keeps the places.
    _grant: Option<Grant>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pod.leave();
        self.revision.dispatch();
    }
}

impl Revision {
    pub fn new(document: &Document, queue: &Queue, slots: usize) -> Self {
        Self {
            name: document.name.clone(),
            service: document.service.clone(),
            port: document.port,
            counters: Counters::default(),
            pods: RwLock::default(),
            settings: RwLock::new(Arc::new(settings(document, queue))),
            waiting: Mutex::default(),
            queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            start: Mutex::new(None),
            slots,
        }
    }

    pub fn set(self: &Arc<Self>, document: &Document, queue: &Queue) {
        *write(&self.settings) = Arc::new(settings(document, queue));
        // A higher cap frees places.
        self.dispatch();
    }

    pub fn settings(&self) -> Arc<Settings> {
        read(&self.settings).clone()
    }

    pub fn pods(&self) -> Arc<Pods> {
        read(&self.pods).clone()
    }

    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }

    /// True if a request can be sent somewhere, now or when a place is free.
    pub fn is_usable(&self) -> bool {
        read(&self.pods).ready.iter().any(|pod| !pod.is_suspect())
    }

    /// A pod that was known stays the same, with its connections.
    pub fn set_endpoints(self: &Arc<Self>, endpoints: &[Endpoint]) {
        {
            let mut pods = write(&self.pods);
            let mut next = Pods::default();
            for endpoint in endpoints {
                let address = SocketAddr::new(endpoint.address, self.port);
                let known = pods.ready.iter().chain(&pods.pending).find(|pod| pod.address == address).cloned();
                let pod = known.unwrap_or_else(|| Arc::new(Pod::new(address, self.slots)));
                if endpoint.ready {
                    pod.seen_ready.store(true, Ordering::Relaxed);
                }
                let early = pod.probed.load(Ordering::Relaxed) && !pod.seen_ready.load(Ordering::Relaxed);
                if endpoint.ready || early { next.ready.push(pod) } else { next.pending.push(pod) }
            }
            if let Some(start) = self.start().as_mut().filter(|_| !endpoints.is_empty()) {
                start.addressed();
            }
            *pods = Arc::new(next);
        }
        self.dispatch();
    }

    /// A pod answered our probe: it is used before the cluster says so.
    pub fn promote(self: &Arc<Self>, pod: &Arc<Pod>) {
        pod.probed.store(true, Ordering::Relaxed);
        pod.trust();
        {
            let mut pods = write(&self.pods);
            let is_this = |other: &Arc<Pod>| Arc::ptr_eq(other, pod);
            if pods.pending.iter().any(is_this) {
                let pending = pods.pending.iter().filter(|p| !is_this(p)).cloned().collect();
                let ready = pods.ready.iter().chain([pod]).cloned().collect();
                *pods = Arc::new(Pods { ready, pending });
            }
        }
        self.dispatch();
    }

    /// The start from zero that goes on, or went on last.
    pub fn start(&self) -> MutexGuard<'_, Option<Start>> {
        lock(&self.start)
    }

    /// The revision has left the routes: who waits chooses again.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let mut waiting = lock(&self.waiting);
        waiting.clear();
        self.queued.store(0, Ordering::SeqCst);
    }

    /// A place at a pod without waiting.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Lease> {
        if self.queued() > 0 { None } else { self.grab() }
    }

    /// A place at a pod; waits for one until `deadline`.
    pub async fn acquire(
        self: &Arc<Self>,
        state: &Arc<State>,
        deadline: Instant,
    ) -> Result<(Lease, Option<Held>), Refusal> {
        if let Some(lease) = self.try_acquire() {
            return Ok((lease, None));
        }
        let began = Instant::now();
        let (_ticket, receiver) = self.line_up()?;
        if !self.is_usable() {
            start::follow(state, self);
        }
        let given = tokio::time::timeout_at(deadline.into(), receiver).await;
        let waited = began.elapsed();
        self.counters.waited.observe(waited);
        match given {
            Ok(Ok(lease)) => {
                let start = self.start().and_then(|start| start.seen_by(began));
                Ok((lease, Some(Held { waited, start })))
            }
            Ok(Err(_)) => Err(Refusal::Gone),
            Err(_) => Err(Refusal::Timeout),
        }
    }

    fn line_up(self: &Arc<Self>) -> Result<(Ticket, Receiver<Lease>), Refusal> {
        let max = read(&self.settings).queue.max as usize;
        let pushed = {
            let mut waiting = lock(&self.waiting);
            if self.closed.load(Ordering::SeqCst) {
                return Err(Refusal::Gone);
            }
            if waiting.len() >= max {
                return Err(Refusal::Overflow);
            }
            let pushed = waiting.push();
            self.queued.store(waiting.len(), Ordering::SeqCst);
            pushed
        };
        // A place may have become free after we looked: whoever freed it may not have seen us.
        self.dispatch();
        Ok((Ticket { revision: self.clone(), number: pushed.0 }, pushed.1))
    }

    /// Gives free places to who waits.
    pub fn dispatch(self: &Arc<Self>) {
        while self.queued() > 0 {
            let Some(lease) = self.grab() else { return };
            let left_over = {
                let mut waiting = lock(&self.waiting);
                let back = waiting.give(lease);
                self.queued.store(waiting.len(), Ordering::SeqCst);
                back
            };
            if left_over.is_some() {
                // Dropped outside the lock, which dropping takes again. Nobody waits any more.
                return;
            }
        }
    }

    /// Least in flight of two; with a cap, the first that has room.
    fn grab(self: &Arc<Self>) -> Option<Lease> {
        let cap = read(&self.settings).concurrency;
        let pods = read(&self.pods);
        let ready = &pods.ready;
        let free = |pod: &Arc<Pod>| !pod.is_suspect() && pod.enter(cap);
        let pod = match (ready.len(), cap) {
            (0, _) => None,
            (1, _) | (_, Some(_)) => ready.iter().find(|pod| free(pod)),
            (n, None) => {
                let first = fastrand::usize(0..n);
                let second = (first + fastrand::usize(1..n)) % n;
                let (a, b) = (&ready[first], &ready[second]);
                let better = if b.in_flight() < a.in_flight() { b } else { a };
                if free(better) { Some(better) } else { ready.iter().find(|pod| free(pod)) }
            }
        };
        pod.map(|pod| Lease { pod: pod.clone(), revision: self.clone(), _grant: None })
    }

    /// Whether its pods take a bounded number of requests at a time.
    pub fn is_bounded(&self) -> bool {
        read(&self.settings).concurrency.is_some()
    }

    /// A place that another router gave. It counts here too: this one may keep the places next.
    pub fn granted(self: &Arc<Self>, address: IpAddr, grant: Grant) -> Lease {
        let address = SocketAddr::new(address, self.port);
        let known = self.pod(address);
        let pod = known.unwrap_or_else(|| Arc::new(Pod::new(address, self.slots)));
        pod.enter(None);
        Lease { pod, revision: self.clone(), _grant: Some(grant) }
    }

    /// A pod that did not take another router's connection.
    pub fn suspect(&self, address: IpAddr) {
        if let Some(pod) = self.pod(SocketAddr::new(address, self.port)) {
            pod.suspect();
        }
    }

    fn pod(&self, address: SocketAddr) -> Option<Arc<Pod>> {
        let pods = read(&self.pods);
        pods.ready.iter().chain(&pods.pending).find(|pod| pod.address == address).cloned()
    }
}

/// A place in the queue, given up when it is dropped.
struct Ticket {
    revision: Arc<Revision>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = lock(&self.revision.waiting);
        waiting.remove(self.number);
        self.revision.queued.store(waiting.len(), Ordering::SeqCst);
    }
}

fn settings(document: &Document, queue: &Queue) -> Settings {
    Settings {
        concurrency: document.concurrency,
        deployment: document.deployment.clone(),
        ready_path: document.ready_path.clone(),
        protocol: document.protocol,
        queue: queue.clone(),
    }
}
