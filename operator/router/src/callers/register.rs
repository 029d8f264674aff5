//! All open connections, and the bound on them: the router's memory stays within it whatever callers do.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Activity;
use crate::state::lock;

/// A connection without a request for so long may be closed for a new one. A caller that has just had its answer may send again.
const IDLE_LONG_ENOUGH: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Register {
    max: usize,
    taken: AtomicUsize,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    /// Connections that came when there was room for none.
    pub refused: AtomicU64,
    /// Idle connections that were closed for new ones.
    pub evicted: AtomicU64,
}

impl Register {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            taken: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// Those that are open, with those that were upgraded.
    pub fn connections(&self) -> usize {
        lock(&self.open).len()
    }

    /// Room for a new connection. When there is none, the one that has been idle for longest goes; `None` if all are busy.
    pub fn admit(self: &Arc<Self>) -> Option<Connection> {
        if !self.take(1) {
            if !self.evict() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            // The place of the one that goes.
            self.taken.fetch_add(1, Ordering::SeqCst);
        }
        let (id, activity) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(Activity::new()));
        lock(&self.open).insert(id, activity.clone());
        Some(Connection { register: self.clone(), id, places: AtomicUsize::new(1), activity })
    }

    fn take(&self, places: usize) -> bool {
        let fits = |taken: usize| Some(taken + places).filter(|sum| *sum <= self.max);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    fn evict(&self) -> bool {
        let open = lock(&self.open);
        let idle = open.values().filter_map(|one| Some((one.idle()?, one)));
        let Some((_, oldest)) = idle.filter(|(idle, _)| *idle >= IDLE_LONG_ENOUGH).max_by_key(|(idle, _)| *idle) else {
            return false;
        };
        oldest.evict();
        self.evicted.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// An open connection. Dropped, its places are free.
#[derive(Debug)]
pub struct Connection {
    register: Arc<Register>,
    id: u64,
    places: AtomicUsize,
    activity: Arc<Activity>,
}

impl Deref for Connection {
    type Target = Activity;

    fn deref(&self) -> &Activity {
        &self.activity
    }
}

impl Connection {
    /// Takes more places; false if there are not as many.
    pub fn grow(&self, places: usize) -> bool {
        let took = self.register.take(places);
        if took {
            self.places.fetch_add(places, Ordering::Relaxed);
        }
        took
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.register.open).remove(&self.id);
        self.register.taken.fetch_sub(*self.places.get_mut(), Ordering::SeqCst);
    }
}

/// A request, until the last byte of its answer has been taken.
#[derive(Debug)]
pub struct InHand {
    connection: Arc<Connection>,
    place: bool,
}

impl InHand {
    /// `None` if there is no room for one more beside others on the same connection.
    pub fn begin(connection: &Arc<Connection>) -> Option<Self> {
        let mut this = Self { connection: connection.clone(), place: false };
        if connection.begin() > 1 {
            this.place = connection.register.take(1);
            if !this.place {
                return None;
            }
        }
        Some(this)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.connection.end();
        if self.place {
            self.connection.register.taken.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_requests_beside_others_count() {
        let register = Arc::new(Register::new(4));
        let first = Arc::new(register.admit().unwrap());
        let one = InHand::begin(&first).unwrap();
        let second = InHand::begin(&first).unwrap();
        assert!(!first.grow(3) && first.grow(2));
        assert!(InHand::begin(&first).is_none());
        // Nothing is idle for long enough.
        assert!(register.admit().is_none());
        assert_eq!(register.refused.load(Ordering::Relaxed), 1);
        drop(second);
        let next = register.admit().unwrap();
        assert_eq!(register.connections(), 2);
        drop((first, one, next));
        assert_eq!((register.connections(), register.taken.load(Ordering::SeqCst)), (0, 0));
    }
}
