//! One pod of a revision: what is in flight to it, and the open connections to it.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::upstream::Pool;

/// A pod that took no connection is left alone for so long, while there are others.
const SUSPICION: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Pod {
    pub address: SocketAddr,
    /// Of the thread with this number alone, so nobody waits for it.
    pools: Box<[Mutex<Pool>]>,
    in_flight: AtomicU32,
    began: Instant,
    /// Milliseconds after `began`; 0 for never.
    suspect_until: AtomicU64,
    /// The cluster has called it ready at least once: from then on it decides, not our probe.
    pub seen_ready: AtomicBool,
    /// It answered our probe.
    pub probed: AtomicBool,
}

impl Pod {
    pub fn new(address: SocketAddr, slots: usize) -> Self {
        Self {
            address,
            pools: (0..slots).map(|_| Mutex::default()).collect(),
            in_flight: AtomicU32::new(0),
            began: Instant::now(),
            suspect_until: AtomicU64::new(0),
            seen_ready: AtomicBool::new(false),
            probed: AtomicBool::new(false),
        }
    }

    pub fn pool(&self, slot: usize) -> &Mutex<Pool> {
        &self.pools[slot]
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a place, if there is one below `cap`.
    pub fn enter(&self, cap: Option<u32>) -> bool {
        let Some(cap) = cap else {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < cap).then_some(n + 1)).is_ok()
    }

    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn suspect(&self) {
        let until = self.began.elapsed() + SUSPICION;
        self.suspect_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn trust(&self) {
        self.suspect_until.store(0, Ordering::Relaxed);
    }

    pub fn is_suspect(&self) -> bool {
        let until = self.suspect_until.load(Ordering::Relaxed);
        until != 0 && self.began.elapsed() < Duration::from_millis(until)
    }
}
