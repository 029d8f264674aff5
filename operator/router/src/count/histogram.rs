//! Times in buckets, four to each doubling from 64 µs to 134 s. One addition to count, no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_routes::Histogram;

const FIRST_BITS: u32 = 6;
const OCTAVES: usize = 21;
const BUCKETS: usize = 2 + OCTAVES * 4;

/// A histogram that many threads count into.
#[derive(Debug)]
pub struct Times {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_us: AtomicU64::new(0) }
    }
}

impl Times {
    pub fn observe(&self, took: Duration) {
        let us = micros(took);
        self.buckets[place(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }

    /// The upper end of every bucket in microseconds, and what is in it. The last has no end.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().enumerate().map(|(i, n)| (upper(i), n.load(Ordering::Relaxed)))
    }

    pub fn snapshot(&self) -> Histogram {
        Histogram { buckets: self.counts().filter(|(_, n)| *n > 0).collect(), sum_us: self.sum_us() }
    }
}

pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn place(us: u64) -> usize {
    let Some(octave) = us.checked_ilog2().and_then(|log| log.checked_sub(FIRST_BITS)) else { return 0 };
    let quarter = us >> (octave + FIRST_BITS - 2) & 3;
    usize::try_from(1 + u64::from(octave) * 4 + quarter).map_or(BUCKETS - 1, |i| i.min(BUCKETS - 1))
}

fn upper(place: usize) -> u64 {
    match place {
        0 => 1 << FIRST_BITS,
        _ if place == BUCKETS - 1 => u64::MAX,
        _ => {
            let (octave, quarter) = ((place - 1) / 4, (place - 1) % 4);
            (5 + quarter as u64) << (octave + FIRST_BITS as usize - 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_below_the_end_of_its_bucket_and_not_below_the_one_before() {
        for us in (0..2000).chain([1 << 20, (1 << 27) - 1]) {
            let i = place(us);
            assert!(us < upper(i), "{us} in {i}");
            assert!(i == 0 || us >= upper(i - 1), "{us} in {i}");
            assert!(us < 64 || upper(i) <= us + us / 4 + 1, "{us}: {}", upper(i));
        }
        assert_eq!(place(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_was_observed_is_in_the_snapshot() {
        let times = Times::default();
        for ms in [1, 1, 3, 1000] {
            times.observe(Duration::from_millis(ms));
        }
        let seen = times.snapshot();
        assert_eq!((seen.count(), seen.sum_us), (4, 1_005_000));
        assert_eq!(seen.quantile(0.5), Some(1024));
    }
}
