//! The counts of one revision.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millrace_routes::{Outcome, RevisionStats, ShadowStats};

use super::histogram::{Times, micros};

/// A part of a start from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Until the Deployment was scaled.
    Scale,
    /// From there until a pod had an address.
    Schedule,
    /// From there until it could serve: its image, its containers, its model.
    Load,
    /// From being sent there to the first byte of a held request's answer.
    FirstByte,
}

impl Span {
    pub const ALL: [Self; 4] = [Self::Scale, Self::Schedule, Self::Load, Self::FirstByte];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Schedule => "schedule",
            Self::Load => "load",
            Self::FirstByte => "first-byte",
        }
    }
}

#[derive(Debug)]
pub struct Counters {
    began: Instant,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    active: AtomicU64,
    /// The sums of the times at which requests came and went: their difference is the integral of what was in flight.
    came_us: AtomicU64,
    went_us: AtomicU64,
    pub retries: AtomicU64,
    pub duration: Times,
    pub first_byte: Times,
    pub waited: Times,
    spans: [Times; Span::ALL.len()],
    pub agreed: AtomicU64,
    pub differed: AtomicU64,
    pub failed: AtomicU64,
    pub dropped: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            began: Instant::now(),
            outcomes: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            active: zero(),
            came_us: zero(),
            went_us: zero(),
            retries: zero(),
            duration: Times::default(),
            first_byte: Times::default(),
            waited: Times::default(),
            spans: Default::default(),
            agreed: zero(),
            differed: zero(),
            failed: zero(),
            dropped: zero(),
        }
    }
}

impl Counters {
    pub fn came(&self, at: Instant) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.came_us.fetch_add(micros(at.saturating_duration_since(self.began)), Ordering::Relaxed);
    }

    pub fn went(&self, at: Instant, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.went_us.fetch_add(micros(at.saturating_duration_since(self.began)), Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// It goes without an end: to another revision.
    pub fn moved(&self, at: Instant) {
        self.went_us.fetch_add(micros(at.saturating_duration_since(self.began)), Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn span(&self, span: Span, took: Duration) {
        self.spans[span as usize].observe(took);
    }

    pub fn spans(&self) -> impl Iterator<Item = (Span, &Times)> {
        Span::ALL.into_iter().zip(&self.spans)
    }

    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    pub fn shadow(&self) -> ShadowStats {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        ShadowStats {
            agreed: read(&self.agreed),
            differed: read(&self.differed),
            failed: read(&self.failed),
            dropped: read(&self.dropped),
        }
    }

    pub fn stats(&self, queued: u64, pods: u64) -> RevisionStats {
        let outcomes = Outcome::ALL.into_iter().map(|o| (o, self.outcome(o))).filter(|(_, n)| *n > 0).collect();
        let in_flight = self.in_flight();
        let (came, went) = (self.came_us.load(Ordering::Relaxed), self.went_us.load(Ordering::Relaxed));
        // The three are not read in one moment: a request that ends in between may not make the integral negative.
        let demand_us = (went + in_flight * micros(self.began.elapsed())).saturating_sub(came);
        RevisionStats {
            outcomes,
            in_flight,
            queued,
            demand_us,
            pods,
            retries: self.retries.load(Ordering::Relaxed),
            duration: self.duration.snapshot(),
            first_byte: self.first_byte.snapshot(),
            shadow: self.shadow(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_the_integral_of_what_is_in_flight() {
        let counters = Counters::default();
        let began = counters.began;
        counters.came(began + Duration::from_secs(1));
        counters.came(began + Duration::from_secs(2));
        counters.went(began + Duration::from_secs(4), Outcome::Success);
        counters.went(began + Duration::from_secs(5), Outcome::ServerError);
        let stats = counters.stats(0, 0);
        assert_eq!((stats.in_flight, stats.demand_us), (0, 6_000_000));
        assert_eq!(stats.outcomes.len(), 2);
        assert!(Outcome::ALL.iter().enumerate().all(|(i, o)| *o as usize == i));
        assert!(Span::ALL.iter().enumerate().all(|(i, s)| *s as usize == i));
    }
}
