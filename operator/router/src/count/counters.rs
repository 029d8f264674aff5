//! The counts of one revision.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// Read and written as one: between two of its fields a request would be in flight since the start of the router.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    active: u64,
    /// The sums of the times at which requests came and went: their difference is the integral of what was in flight.
    came_us: u64,
    went_us: u64,
}

#[derive(Debug)]
pub struct Counters {
    began: Instant,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    flow: Mutex<Flow>,
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
            flow: Mutex::default(),
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
        let at_us = self.since_began(at);
        let mut flow = self.flow();
        flow.active += 1;
        flow.came_us += at_us;
    }

    pub fn went(&self, at: Instant, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.moved(at);
    }

    /// It goes without an end: to another revision.
    pub fn moved(&self, at: Instant) {
        let at_us = self.since_began(at);
        let mut flow = self.flow();
        flow.active -= 1;
        flow.went_us += at_us;
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_began(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.began))
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
        self.flow().active
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
        let flow = *self.flow();
        let in_flight = flow.active;
        // A request may have come a moment after the time that is taken here.
        let demand_us = (flow.went_us + in_flight * self.since_began(Instant::now())).saturating_sub(flow.came_us);
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
    fn demand_grows_by_no_more_than_was_in_flight_however_old_the_router_is() {
        let began = Instant::now().checked_sub(Duration::from_hours(24)).unwrap();
        let counters = Counters { began, ..Counters::default() };
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    counters.came(Instant::now());
                    counters.went(Instant::now(), Outcome::Success);
                }
            });
            let started = Instant::now();
            let before = counters.stats(0, 0).demand_us;
            for _ in 0..20_000 {
                let grown = counters.stats(0, 0).demand_us.saturating_sub(before);
                // One at a time, and a microsecond for each rounding.
                let bound = micros(started.elapsed()) + counters.outcome(Outcome::Success) + 1000;
                if grown > bound {
                    over.store(true, Ordering::Relaxed);
                    panic!("{grown} us in {bound}");
                }
            }
            over.store(true, Ordering::Relaxed);
        });
    }

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
