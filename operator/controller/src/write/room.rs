//! How many normal events are written. Each is a write like any other: when a thousand runs begin at once their events would keep the runs
//! waiting, and a person reads none of them. Warnings are not counted.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// So many at once, and so many in a second for as long as more come.
const BURST: f64 = 300.0;
const A_SECOND: f64 = 10.0;

/// A bucket of tokens.
pub struct Room(Mutex<(f64, Instant)>);

impl Room {
    pub fn new() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }

    /// Whether there is room for one more, which is taken then.
    pub fn take(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *bucket;
        let left = (left + now.saturating_duration_since(since).as_secs_f64() * A_SECOND).min(BURST);
        let fits = left >= 1.0;
        *bucket = (if fits { left - 1.0 } else { left }, now);
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_has_room_and_then_so_many_a_second() {
        let room = Room::new();
        let begin = Instant::now();
        let fit = |after: u64| (0..1000).filter(|_| room.take(begin + Duration::from_secs(after))).count();
        assert_eq!((fit(0), fit(2), fit(3600)), (300, 20, 300));
    }
}
