//! What is known of models, revisions and pods. Shared by all threads; a request takes no lock that another holds for long.

mod model;
mod pod;
mod revision;
mod starting;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::watch;

pub use model::{Model, Policy};
pub use pod::Pod;
pub use revision::{Held, Lease, Refusal, Revision};
pub use starting::{Spans, Start};

use crate::callers::Register;
use crate::control::scale::Scaler;
use crate::endpoints::Endpoint;
use crate::graph::Budget;
use crate::places::Peers;
use crate::query::Answers;
use crate::shadow::ShadowQueue;

/// The whole router.
pub struct State {
    /// The pod that it runs in; empty outside of a cluster.
    pub pod: String,
    /// Differs from start to start.
    pub boot: u64,
    pub began: Instant,
    /// Pods keep connections for each thread: workers, then the one of the shadows.
    pub slots: usize,
    pub shadows: ShadowQueue,
    /// The routers of the namespace.
    peers: Peers,
    /// Where starts from zero are followed, away from the threads that serve.
    pub control: Handle,
    pub scaler: Option<Arc<dyn Scaler>>,
    models: RwLock<BTreeMap<String, Arc<Model>>>,
    endpoints: RwLock<HashMap<String, Vec<Endpoint>>>,
    loaded: Mutex<Loaded>,
    listed: AtomicBool,
    /// Every port of one document could be had.
    listening: AtomicBool,
    phase: watch::Sender<Phase>,
    pub callers: Arc<Register>,
    /// What Prometheus said.
    pub answers: Answers,
    /// What graphs hold.
    pub graphs: Arc<Budget>,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Told to end: not ready any more, but whoever still comes is served, and asked to come back elsewhere.
    Leaving,
    /// Nobody new; what is in hand is finished.
    Draining,
}

/// What became of documents of routes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    pub taken: u64,
    pub refused: u64,
}

impl State {
    pub fn new(
        pod: String,
        peers: Peers,
        slots: usize,
        shadows: ShadowQueue,
        scaler: Option<Arc<dyn Scaler>>,
        control: Handle,
        connections: usize,
    ) -> Self {
        Self {
            pod,
            peers,
            boot: fastrand::u64(1..1 << 53),
            began: Instant::now(),
            slots,
            shadows,
            control,
            scaler,
            models: RwLock::default(),
            endpoints: RwLock::default(),
            loaded: Mutex::default(),
            listed: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Serving),
            callers: Arc::new(Register::new(connections)),
            answers: Answers::default(),
            graphs: Arc::default(),
        }
    }

    pub fn models(&self) -> Vec<Arc<Model>> {
        read(&self.models).values().cloned().collect()
    }

    pub fn model(&self, name: &str) -> Option<Arc<Model>> {
        read(&self.models).get(name).cloned()
    }

    pub fn set_models(&self, models: BTreeMap<String, Arc<Model>>) {
        *write(&self.models) = models;
    }

    /// The pods of a Service, as they are now.
    pub fn set_endpoints(&self, service: &str, endpoints: Vec<Endpoint>) {
        // Held until revisions know: two changes must not overtake each other.
        let mut all = write(&self.endpoints);
        for model in self.models() {
            for revision in model.policy().targets.iter().filter(|r| r.service == service) {
                revision.set_endpoints(&endpoints);
            }
        }
        if endpoints.is_empty() {
            all.remove(service);
        } else {
            all.insert(service.to_owned(), endpoints);
        }
    }

    /// Brings a revision up to date that has just come into the routes.
    pub fn refresh(&self, revision: &Arc<Revision>) {
        let all = read(&self.endpoints);
        revision.set_endpoints(all.get(&revision.service).map_or(&[], Vec::as_slice));
    }

    /// Who keeps the places of a revision; `None` if it is this router.
    pub fn keeper(&self, model: &str, revision: &str) -> Option<Arc<Pod>> {
        let all = read(&self.endpoints);
        self.peers.keeper(all.get(model)?, revision)
    }

    /// All endpoints are known.
    pub fn listed(&self) {
        self.listed.store(true, Ordering::Release);
    }

    pub fn routes_taken(&self) {
        lock(&self.loaded).taken += 1;
    }

    pub fn routes_refused(&self) {
        lock(&self.loaded).refused += 1;
    }

    pub fn loaded(&self) -> Loaded {
        *lock(&self.loaded)
    }

    /// Every model of the document has its port.
    pub fn listens(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// Why no client may be sent here; `None` if clients may.
    pub fn unready(&self) -> Option<&'static str> {
        if self.phase() != Phase::Serving {
            Some("it is ending")
        } else if self.loaded().taken == 0 {
            Some("it has no routes yet")
        } else if !self.listening.load(Ordering::Acquire) {
            Some("it could not have the port of every model yet")
        } else if !self.listed.load(Ordering::Acquire) {
            Some("it has no endpoints yet")
        } else {
            None
        }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("boot", &self.boot).finish_non_exhaustive()
    }
}

// A thread that panicked has left nothing half-done under these locks.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
