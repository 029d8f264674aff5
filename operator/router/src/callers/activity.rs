//! What a connection is doing, shared by its socket, its requests and whoever looks for one to close.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use tokio::sync::Notify;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// For a request of HTTP/1.1 to begin.
    Idle,
    /// For the rest of a head, or of the preface of HTTP/2.
    Head,
    /// For the pod, or for a body, whose reader has a deadline of its own.
    Busy,
    /// HTTP/2: pings tell whether the caller is there.
    Http2,
    /// It is no HTTP any more.
    Upgraded,
}

#[derive(Debug)]
pub struct Activity {
    stage: AtomicU8,
    in_hand: AtomicUsize,
    began: Instant,
    /// Milliseconds after `began` at which it had its last request in hand.
    idle_since: AtomicU64,
    evicted: Notify,
    /// The socket, which waits for something else once a request has ended.
    reader: AtomicWaker,
}

impl Activity {
    pub fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Idle as u8),
            in_hand: AtomicUsize::new(0),
            began: Instant::now(),
            idle_since: AtomicU64::new(0),
            evicted: Notify::new(),
            reader: AtomicWaker::new(),
        }
    }

    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Idle,
            1 => Stage::Head,
            2 => Stage::Busy,
            3 => Stage::Http2,
            _ => Stage::Upgraded,
        }
    }

    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// How many requests it has in hand now.
    pub fn begin(&self) -> usize {
        // One that was sent behind another one has been read with it.
        if matches!(self.stage(), Stage::Idle | Stage::Head) {
            self.enter(Stage::Busy);
        }
        self.in_hand.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn end(&self) {
        // Before the count: who sees no request in hand must not see an old time.
        self.idle_since.store(millis(self.began.elapsed()), Ordering::SeqCst);
        if self.stage() == Stage::Busy {
            self.enter(Stage::Idle);
        }
        self.in_hand.fetch_sub(1, Ordering::SeqCst);
        self.reader.wake();
    }

    /// Who is woken when a request ends.
    pub fn wakes(&self, reader: &Waker) {
        self.reader.register(reader);
    }

    /// How long it has had nothing to do; `None` while it has.
    pub fn idle(&self) -> Option<Duration> {
        if self.in_hand.load(Ordering::SeqCst) > 0 || self.stage() == Stage::Upgraded {
            return None;
        }
        let since = Duration::from_millis(self.idle_since.load(Ordering::SeqCst));
        Some(self.began.elapsed().saturating_sub(since))
    }

    /// It is to close, for another one to come.
    pub fn evict(&self) {
        // Taken for busy from now on: it is not chosen twice.
        self.in_hand.fetch_add(1, Ordering::SeqCst);
        self.evicted.notify_one();
    }

    /// Comes back when it is to close, unless a request has come meanwhile.
    pub async fn evicted(&self) {
        loop {
            self.evicted.notified().await;
            if self.in_hand.load(Ordering::SeqCst) == 1 {
                return;
            }
            self.in_hand.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
