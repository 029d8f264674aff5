//! The payload log: a share of the requests goes, with the answers, to a sink as CloudEvents. Callers never wait for it: what has no room in
//! the ring of its model, or in the bytes of the router, is dropped and counted.

mod deliver;
mod event;
mod record;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use millrace_routes::{Log, LogStats};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

pub use record::Recording;

use crate::dial::Reach;
use crate::state::lock;
use record::Record;

/// Requests of one model that wait for its sink, and bytes of them: a sink that is slow leaves room for others.
const QUEUED: usize = 256;
const MODEL_BYTES: usize = 4 << 20;
/// Bytes in all requests of this router that are collected or wait.
const BYTES: usize = 16 << 20;
/// What a request takes beside its bodies.
const OVERHEAD: usize = 1 << 10;

/// What every model's ring needs: where it is emptied, and how much of the router's memory is taken.
#[derive(Clone, Debug)]
pub struct Logs {
    thread: Handle,
    reach: Arc<Reach>,
    bytes: Arc<AtomicUsize>,
}

impl Logs {
    /// Begins the thread that sends: those that serve do not share theirs with it.
    pub fn start(reach: Arc<Reach>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = runtime.handle().clone();
        std::thread::Builder::new().name("log".into()).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Self { thread, reach, bytes: Arc::default() })
    }

    /// Nothing waits for a sink any more.
    pub fn is_empty(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }
}

/// What became of a model's events, for as long as its name is in the routes.
#[derive(Debug, Default)]
pub struct Counts {
    delivered: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn drops(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }
}

/// One sink of one model, for as long as the routes name it. Another one has its own, so that nothing that is said of the one is taken for
/// words of the other.
#[derive(Debug)]
pub struct Outlet {
    counts: Arc<Counts>,
    problem: Mutex<Option<String>>,
    stopped: Notify,
}

impl Outlet {
    fn delivers(&self, events: u64) {
        *lock(&self.problem) = None;
        self.counts.delivered.fetch_add(events, Ordering::Relaxed);
    }

    fn fails(&self, events: u64, why: &str) {
        self.counts.failed.fetch_add(events, Ordering::Relaxed);
        *lock(&self.problem) = Some(why.to_owned());
    }
}

/// The ring of one model, and what is to be in it. Where the routes say something else of the same sink, another one takes its place and has
/// the same way there; where they name another sink or none, what waits is dropped.
#[derive(Clone, Debug)]
pub struct Ring {
    asked: Log,
    /// The ModelDeployment.
    model: String,
    outlet: Arc<Outlet>,
    sender: mpsc::Sender<Record>,
    bytes: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Ring {
    /// The one before, if the routes say the same of it. One whose sink is not in the routes any more is stopped.
    pub fn next(
        before: Option<&Arc<Self>>,
        asked: Option<&Log>,
        model: &str,
        counts: &Arc<Counts>,
        logs: &Logs,
    ) -> Option<Arc<Self>> {
        let same = before.filter(|before| asked.is_some_and(|asked| asked.sink == before.asked.sink));
        if let (Some(before), None) = (before, same) {
            before.stop();
        }
        let asked = asked?;
        if let Some(before) = same {
            if before.asked == *asked {
                return Some(before.clone());
            }
            return Some(Arc::new(Self { asked: asked.clone(), ..Self::clone(before) }));
        }
        let (sender, records) = mpsc::channel(QUEUED);
        let outlet = Outlet { counts: counts.clone(), problem: Mutex::default(), stopped: Notify::new() };
        let outlet = Arc::new(outlet);
        logs.thread.spawn(deliver::run(asked.sink.clone(), records, outlet.clone(), logs.reach.clone()));
        let (model, bytes, all) = (model.to_owned(), Arc::default(), logs.bytes.clone());
        Some(Arc::new(Self { asked: asked.clone(), model, outlet, sender, bytes, all }))
    }

    /// Nothing is sent to its sink any more: what waits, or is still collected, is dropped and counted.
    pub fn stop(&self) {
        self.outlet.stopped.notify_one();
    }

    pub fn stats(&self) -> LogStats {
        let Outlet { counts, problem, .. } = self.outlet.as_ref();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogStats {
            delivered: read(&counts.delivered),
            dropped: read(&counts.dropped),
            failed: read(&counts.failed),
            problem: lock(problem).clone(),
        }
    }
}
