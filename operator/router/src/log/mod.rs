//! The payload log: a share of the requests goes, with the answers, to a sink as CloudEvents. Callers never wait for it: what has no room in
//! the ring of its model, or in the bytes of the router, is dropped and counted.

mod deliver;
mod event;
mod record;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use millrace_routes::{Log, LogStats};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

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
    pub delivered: AtomicU64,
    pub dropped: AtomicU64,
    pub failed: AtomicU64,
    problem: Mutex<Option<String>>,
}

impl Counts {
    pub fn stats(&self) -> LogStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogStats {
            delivered: read(&self.delivered),
            dropped: read(&self.dropped),
            failed: read(&self.failed),
            problem: lock(&self.problem).clone(),
        }
    }

    fn delivers(&self, events: u64) {
        *lock(&self.problem) = None;
        self.delivered.fetch_add(events, Ordering::Relaxed);
    }

    fn fails(&self, events: u64, why: &str) {
        self.failed.fetch_add(events, Ordering::Relaxed);
        *lock(&self.problem) = Some(why.to_owned());
    }
}

/// The ring of one model, and what is to be in it. Where the routes say something else, another one takes its place, and this one is
/// emptied.
#[derive(Debug)]
pub struct Ring {
    asked: Log,
    /// The ModelDeployment.
    model: String,
    counts: Arc<Counts>,
    sender: mpsc::Sender<Record>,
    bytes: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Ring {
    /// The one before, if the routes say the same of it.
    pub fn next(
        before: Option<&Arc<Self>>,
        asked: Option<&Log>,
        model: &str,
        counts: &Arc<Counts>,
        logs: &Logs,
    ) -> Option<Arc<Self>> {
        let asked = asked?;
        if let Some(before) = before.filter(|before| before.asked == *asked) {
            return Some(before.clone());
        }
        let (sender, records) = mpsc::channel(QUEUED);
        let bytes = before.map_or_else(Arc::default, |before| before.bytes.clone());
        logs.thread.spawn(deliver::run(asked.sink.clone(), records, counts.clone(), logs.reach.clone()));
        let (model, counts, all) = (model.to_owned(), counts.clone(), logs.bytes.clone());
        Some(Arc::new(Self { asked: asked.clone(), model, counts, sender, bytes, all }))
    }
}
