//! Messages of a topic as requests to a model, and its answers as messages of another topic, at least once. The routers of a namespace are
//! the members of one consumer group, so that each reads its share of the partitions, and the others take over from one that ends.
//!
//! ```text
//! consumer ─► a lane for each partition: ask (so many at a time) ─► write, in order ─► acknowledged ─► commit
//!                   │ by a connection of this process: weights, rules, retries, the payload log are those of callers
//! ```
//! An offset is committed when all in-sync replicas have the answers to everything before it.

mod answer;
mod ask;
mod broker;
mod counts;
mod group;
mod hand;
mod lag;
mod lane;
mod message;
mod room;
mod session;
mod task;
mod tunnel;
mod way;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millrace_routes::{Obstacle, Stream, StreamStats};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::dial::Reach;
use crate::state::{Phase, State};
use crate::worker::Workers;
use counts::{Counts, Place};
use session::Session;

/// Between two tries to speak to brokers: twice as long each time.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// One that has lasted so long was well: the next pause is short again.
const WELL: Duration = Duration::from_mins(1);
/// How often a router that begins looks whether it may.
const READY_EVERY: Duration = Duration::from_millis(100);

/// What every stream needs.
#[derive(Clone)]
pub struct Streams {
    thread: Handle,
    reach: Arc<Reach>,
    state: Arc<State>,
    workers: Workers,
    running: Arc<AtomicUsize>,
}

impl Streams {
    /// Begins the thread of all streams: those that serve callers do not share theirs with it.
    pub fn start(reach: Arc<Reach>, state: Arc<State>, workers: Workers) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = runtime.handle().clone();
        let named = std::thread::Builder::new().name("stream".into());
        named.spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Self { thread, reach, state, workers, running: Arc::default() })
    }

    /// No stream is at work any more.
    pub fn are_over(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }
}

/// The stream of one model, for as long as the routes say the same of it.
#[derive(Debug)]
pub struct Pump {
    asked: Stream,
    counts: Arc<Counts>,
    stopped: watch::Sender<bool>,
}

impl Pump {
    /// The one before, if the routes say the same of it; else that one is stopped.
    pub fn next(
        before: Option<&Arc<Self>>,
        asked: Option<&Stream>,
        model: &str,
        streams: &Streams,
    ) -> Option<Arc<Self>> {
        if let Some(same) = before.filter(|before| asked == Some(&before.asked)) {
            return Some(same.clone());
        }
        if let Some(before) = before {
            before.stop();
        }
        let asked = asked?;
        let (stopped, stop) = watch::channel(false);
        let counts = Arc::new(Counts::new());
        let work =
            Work { model: model.to_owned(), asked: asked.clone(), counts: counts.clone(), streams: streams.clone() };
        // Before it runs: an end that comes at once waits for it.
        streams.running.fetch_add(1, Ordering::Relaxed);
        streams.thread.spawn(run(Arc::new(work), stop));
        Some(Arc::new(Self { asked: asked.clone(), counts, stopped }))
    }

    /// It takes no more messages, finishes in a few seconds what it has in hand, and leaves the group.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub fn stats(&self) -> StreamStats {
        self.counts.stats(&self.asked.id)
    }
}

/// What is to be done for one model.
struct Work {
    model: String,
    asked: Stream,
    counts: Arc<Counts>,
    streams: Streams,
}

/// Dropped, however it ends, it is over.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(work: Arc<Work>, stop: watch::Receiver<bool>) {
    let _running = Running(work.streams.running.clone());
    let state = &work.streams.state;
    let over = || *stop.borrow() || state.phase() != Phase::Serving;
    // Before all pods are known, a request would start one that is there.
    while state.unready().is_some() && !over() {
        tokio::time::sleep(READY_EVERY).await;
    }
    let mut pause = PAUSES[0];
    while !over() {
        let began = tokio::time::Instant::now();
        // What goes wrong inside a client of brokers must not end the stream without a word.
        let session = tokio::spawn(session(work.clone(), stop.clone()));
        let why = match session.await {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(_) => "the client of the brokers broke off; this is a bug".to_owned(),
        };
        tracing::warn!(model = work.model, %why, "a stream broke off; it begins again");
        work.counts.trouble(Place::Brokers, Obstacle::Broker, &why);
        work.counts.reads(0);
        if began.elapsed() >= WELL {
            pause = PAUSES[0];
        }
        let again = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < again && !over() {
            tokio::time::sleep(READY_EVERY).await;
        }
        pause = (pause * 2).min(PAUSES[1]);
    }
    work.counts.reads(0);
}

/// From the first word to the brokers until it is stopped, or cannot go on.
async fn session(work: Arc<Work>, stop: watch::Receiver<bool>) -> Result<(), String> {
    Session::open(work).await?.run(stop).await
}
