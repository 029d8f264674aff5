//! Room for the answers of a stream, in bytes of all of its partitions: from before a question is asked until its answer is acknowledged.
//! Who finds none waits, so that its partition is full and reads no more.
//!
//! An answer waits for those before it in its partition, and these may wait for room. So the first of a partition may go beyond, one of all
//! partitions at a time: nothing holds up its answer, and every partition gets on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Of all answers that wait or are being written, beside one that goes beyond.
pub const ALL: usize = 32 << 20;
/// What is set aside for an answer at first.
const FIRST: usize = 16 << 10;

/// Whose turn it is in a partition: the first message whose answer has not been taken to be written.
pub struct Turn {
    number: u64,
    taken: watch::Receiver<u64>,
}

impl Turn {
    /// `taken` says how many answers of the partition were taken; `number` were asked for before this one.
    pub fn new(number: u64, taken: watch::Receiver<u64>) -> Self {
        Self { number, taken }
    }

    /// Of one that nothing is before.
    pub fn first() -> Self {
        Self::new(0, watch::channel(0).1)
    }

    fn is_now(&self) -> bool {
        *self.taken.borrow() >= self.number
    }

    async fn comes(&mut self) {
        if self.taken.wait_for(|taken| *taken >= self.number).await.is_err() {
            // Its partition is not read here any more.
            std::future::pending::<()>().await;
        }
    }
}

pub struct Room {
    free: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
    /// What answers of late needed: so much is set aside for the next one.
    usual: AtomicUsize,
}

impl Room {
    pub fn new(bytes: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(bytes));
        Arc::new(Self { free, beyond: Arc::new(Semaphore::new(1)), usual: AtomicUsize::new(FIRST) })
    }

    /// Waits for room for an answer, of so many bytes at least.
    pub async fn reserve(self: &Arc<Self>, least: usize, turn: &mut Turn) -> Space {
        let wanted = u32::try_from(self.usual.load(Ordering::Relaxed).max(least)).unwrap_or(u32::MAX);
        let (own, beyond) = tokio::select! {
            biased;
            own = self.free.clone().acquire_many_owned(wanted) => (own.ok(), None),
            () = turn.comes() => tokio::select! {
                biased;
                own = self.free.clone().acquire_many_owned(wanted) => (own.ok(), None),
                beyond = self.beyond.clone().acquire_owned() => (None, beyond.ok()),
            },
        };
        Space { room: self.clone(), own, beyond, first: turn.is_now() }
    }
}

/// The room of one answer. Dropped, it is free.
pub struct Space {
    room: Arc<Room>,
    own: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedSemaphorePermit>,
    first: bool,
}

impl Space {
    /// Whether so many bytes may come. Nobody waits here: a pod is kept busy meanwhile.
    pub fn holds(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.own.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if missing == 0 || self.beyond.is_some() {
            return true;
        }
        let more = u32::try_from(missing).ok().and_then(|n| self.room.free.clone().try_acquire_many_owned(n).ok());
        match (more, &mut self.own) {
            (Some(more), Some(own)) => own.merge(more),
            (Some(more), none) => *none = Some(more),
            (None, _) if self.first => self.beyond = self.room.beyond.clone().try_acquire_owned().ok(),
            (None, _) => return false,
        }
        self.own.as_ref().is_some_and(|own| own.num_permits() >= bytes) || self.beyond.is_some()
    }

    /// The answer has so many bytes: what was set aside beside them is free for others.
    pub fn fit(&mut self, bytes: usize) {
        let usual = self.room.usual.load(Ordering::Relaxed);
        self.room.usual.store(bytes.max(usual - usual / 8).max(FIRST), Ordering::Relaxed);
        if let Some(own) = &mut self.own {
            drop(own.split(own.num_permits().saturating_sub(bytes)));
            if own.num_permits() >= bytes {
                self.beyond = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn waits<T>(what: impl Future<Output = T>) -> bool {
        tokio::time::timeout(Duration::from_millis(50), what).await.is_err()
    }

    #[tokio::test]
    async fn who_is_behind_others_waits_for_room_and_the_first_goes_beyond_alone() {
        let room = Room::new(4 * FIRST);
        let (taken, turns) = watch::channel(0);
        let turn = |number| Turn::new(number, turns.clone());
        let mut large = room.reserve(0, &mut turn(1)).await;
        assert!(large.holds(4 * FIRST) && !large.holds(4 * FIRST + 1), "one behind another never goes beyond");
        assert!(waits(room.reserve(0, &mut turn(2))).await);
        let mut first = room.reserve(0, &mut turn(0)).await;
        assert!(first.holds(100 * FIRST));
        assert!(waits(room.reserve(0, &mut Turn::first())).await, "one at a time");
        drop(first);
        taken.send_replace(2);
        let mut next = room.reserve(0, &mut turn(2)).await;
        assert!(next.holds(100 * FIRST), "its turn has come");
        drop((large, next));
        assert_eq!((room.free.available_permits(), room.beyond.available_permits()), (4 * FIRST, 1));
    }

    #[tokio::test]
    async fn room_that_an_answer_does_not_need_is_free_and_the_next_gets_what_this_one_needed() {
        let room = Room::new(8 * FIRST);
        let mut space = room.reserve(2 * FIRST, &mut Turn::first()).await;
        space.fit(10);
        assert_eq!(room.free.available_permits(), 8 * FIRST - 10);
        assert!(space.holds(5 * FIRST));
        space.fit(5 * FIRST);
        drop(space);
        let space = room.reserve(0, &mut Turn::first()).await;
        assert_eq!(room.free.available_permits(), 3 * FIRST);
        drop(space);
        // A large one is forgotten after some that were small.
        for _ in 0..30 {
            room.reserve(0, &mut Turn::first()).await.fit(1);
        }
        assert_eq!(room.usual.load(Ordering::Relaxed), FIRST);
    }
}
