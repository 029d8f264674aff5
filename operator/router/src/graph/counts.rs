//! What is counted of a graph and of its steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use millrace_routes::Outcome;

use crate::count::Times;

/// Of all requests to a graph.
#[derive(Debug, Default)]
pub struct Totals {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// From arrival to the head of the answer.
    pub duration: Times,
}

impl Totals {
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Succeeded,
    Failed,
    /// Its condition did not hold.
    Skipped,
    /// The caller left, or another step failed before it ended.
    Abandoned,
}

impl Ended {
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Skipped, Self::Abandoned];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
            Self::Abandoned => "Abandoned",
        }
    }
}

#[derive(Debug, Default)]
pub struct StepCounts {
    ended: [AtomicU64; Ended::ALL.len()],
    /// Of those that were asked: to the end of an answer that is held, or the head of one that passes.
    pub duration: Times,
}

impl StepCounts {
    pub fn ended(&self, how: Ended) -> u64 {
        self.ended[how as usize].load(Ordering::Relaxed)
    }

    pub fn count(&self, how: Ended) {
        self.ended[how as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A step that is asked. Dropped before it ended, it was abandoned.
pub struct Asked {
    counts: Option<Arc<StepCounts>>,
    began: Instant,
}

impl Asked {
    pub fn begin(counts: Option<&Arc<StepCounts>>) -> Self {
        Self { counts: counts.cloned(), began: Instant::now() }
    }

    pub fn ends(mut self, succeeded: bool) {
        if let Some(counts) = self.counts.take() {
            counts.count(if succeeded { Ended::Succeeded } else { Ended::Failed });
            counts.duration.observe(self.began.elapsed());
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(counts) = &self.counts {
            counts.count(Ended::Abandoned);
        }
    }
}

/// A request to a graph. Dropped before it ended, the caller left.
pub struct Request {
    totals: Arc<Totals>,
    arrived: Instant,
    outcome: Outcome,
}

impl Request {
    pub fn begin(totals: &Arc<Totals>, arrived: Instant) -> Self {
        Self { totals: totals.clone(), arrived, outcome: Outcome::ClientLeft }
    }

    pub fn ends(mut self, outcome: Outcome) {
        self.outcome = outcome;
        self.totals.duration.observe(self.arrived.elapsed());
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.totals.outcomes[self.outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_before_its_end_is_counted_as_that() {
        let (totals, step) = (Arc::new(Totals::default()), Arc::new(StepCounts::default()));
        drop(Request::begin(&totals, Instant::now()));
        Request::begin(&totals, Instant::now()).ends(Outcome::Success);
        assert_eq!((totals.outcome(Outcome::ClientLeft), totals.outcome(Outcome::Success)), (1, 1));
        drop(Asked::begin(Some(&step)));
        Asked::begin(Some(&step)).ends(true);
        Asked::begin(Some(&step)).ends(false);
        let counts = Ended::ALL.map(|how| step.ended(how));
        assert_eq!(counts, [1, 1, 0, 1]);
        assert!(Ended::ALL.iter().enumerate().all(|(i, how)| *how as usize == i && format!("{how:?}") == how.as_str()));
    }
}
