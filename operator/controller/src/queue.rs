//! A work queue: each key at most once in it, never two passes of one key at a time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::key::Id;

/// The first wait after a failed pass; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing to do until something happens.
    Idle,
    /// Look again after this time.
    After(Duration),
    /// It failed: again after a wait that grows, but no later than this.
    Failed(Option<Duration>),
}

#[derive(Default)]
struct Inner {
    ready: VecDeque<Id>,
    /// The same as a set.
    queued: HashSet<Id>,
    /// Under way; true if something happened to it since.
    running: HashMap<Id, bool>,
    due: BTreeSet<(Instant, Id)>,
    /// The same by id.
    due_at: HashMap<Id, Instant>,
    failures: HashMap<Id, u32>,
}

#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to this object.
    pub fn push(&self, id: Id) {
        if self.lock().push(id) {
            self.wake.notify_one();
        }
    }

    /// A pass would do something about this object. One that failed waits its time.
    pub fn push_unless_failing(&self, id: Id) {
        let mut inner = self.lock();
        let waits = inner.failures.contains_key(&id) && inner.due_at.contains_key(&id);
        if !waits && inner.push(id) {
            self.wake.notify_one();
        }
    }

    /// Keys that wait for a worker.
    pub fn depth(&self) -> usize {
        self.lock().ready.len()
    }

    /// The next key to work on. Every key that is handed out must come back by [`Self::done`].
    pub async fn pop(&self) -> Id {
        loop {
            let sleep = {
                let mut inner = self.lock();
                inner.ripen(Instant::now());
                if let Some(id) = inner.pop() {
                    if !inner.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return id;
                }
                inner.due.first().map(|(at, _)| *at)
            };
            match sleep {
                None => self.wake.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// A pass has ended.
    pub fn done(&self, id: &Id, next: Next) {
        self.lock().done(id, next, Instant::now());
        self.wake.notify_one();
    }
}

impl Inner {
    fn push(&mut self, id: Id) -> bool {
        if let Some(again) = self.running.get_mut(&id) {
            *again = true;
            return false;
        }
        if !self.queued.insert(id.clone()) {
            return false;
        }
        self.ready.push_back(id);
        true
    }

    /// Moves what is due to what is ready.
    fn ripen(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.due.pop_first() else { return };
            self.due_at.remove(&id);
            self.push(id);
        }
    }

    fn pop(&mut self) -> Option<Id> {
        let id = self.ready.pop_front()?;
        self.queued.remove(&id);
        if let Some(at) = self.due_at.remove(&id) {
            self.due.remove(&(at, id.clone()));
        }
        self.running.insert(id.clone(), false);
        Some(id)
    }

    fn done(&mut self, id: &Id, next: Next, now: Instant) {
        let again = self.running.remove(id).unwrap_or(false);
        let wait = match next {
            Next::Idle => {
                self.failures.remove(id);
                None
            }
            Next::After(wait) => {
                self.failures.remove(id);
                Some(wait)
            }
            Next::Failed(latest) => {
                let count = self.failures.entry(id.clone()).or_default();
                *count = count.saturating_add(1);
                let wait = backoff(*count);
                Some(latest.map_or(wait, |latest| latest.max(FIRST_BACKOFF).min(wait)))
            }
        };
        if again {
            self.push(id.clone());
        } else if let Some(wait) = wait {
            let at = now + wait;
            self.due.insert((at, id.clone()));
            self.due_at.insert(id.clone(), at);
        }
    }
}

/// The wait before the next try after so many failures.
fn backoff(failures: u32) -> Duration {
    let factor = 1_u32 << failures.saturating_sub(1).min(16);
    FIRST_BACKOFF.saturating_mul(factor).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id::new("ns", name)
    }

    #[test]
    fn a_key_is_queued_once_and_again_if_something_happens_in_its_pass() {
        let mut q = Inner::default();
        assert!(q.push(id("a")));
        assert!(!q.push(id("a")));
        assert_eq!(q.pop(), Some(id("a")));
        assert!(!q.push(id("a")), "its pass is under way");
        assert_eq!(q.pop(), None);
        q.done(&id("a"), Next::Idle, Instant::now());
        assert_eq!(q.pop(), Some(id("a")));
        q.done(&id("a"), Next::Idle, Instant::now());
        assert_eq!(q.pop(), None);
    }

    #[test]
    fn a_key_comes_back_when_it_is_due_and_an_event_replaces_the_wait() {
        let (mut q, now) = (Inner::default(), Instant::now());
        q.push(id("a"));
        q.pop();
        q.done(&id("a"), Next::After(Duration::from_secs(5)), now);
        q.ripen(now + Duration::from_secs(4));
        assert_eq!(q.pop(), None);
        q.ripen(now + Duration::from_secs(5));
        assert_eq!(q.pop(), Some(id("a")));
        q.done(&id("a"), Next::After(Duration::from_secs(5)), now);
        q.push(id("a"));
        assert_eq!(q.pop(), Some(id("a")));
        assert!(q.due.is_empty() && q.due_at.is_empty());
    }

    #[test]
    fn the_wait_after_failures_doubles_to_a_minute_and_success_ends_it() {
        let waits: Vec<u64> = [1, 2, 3, 20].map(|n| u64::try_from(backoff(n).as_millis()).unwrap()).to_vec();
        assert_eq!(waits, [250, 500, 1000, 60_000]);
        let (mut q, now) = (Inner::default(), Instant::now());
        for _ in 0..3 {
            q.push(id("a"));
            q.pop();
            q.done(&id("a"), Next::Failed(None), now);
        }
        assert_eq!(q.due_at.get(&id("a")), Some(&(now + Duration::from_secs(1))));
        q.push(id("a"));
        q.pop();
        q.done(&id("a"), Next::Idle, now);
        assert!(q.failures.is_empty());
    }
}
