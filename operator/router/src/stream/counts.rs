//! What became of messages, and what is in the way of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millrace_routes::{Obstacle, QueryStats, StreamProblem, StreamRefusals, StreamStats};

use super::answer::By;
use crate::state::lock;

/// The rate is that of so long.
const SPAN: Duration = Duration::from_secs(30);
/// Characters of what is said.
const LONGEST: usize = 300;

/// Where something is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The whole stream.
    Brokers,
    /// The question how far it came.
    Lag,
    /// Writing down how far it came.
    Commit,
    /// An address that a broker names.
    Address,
    /// One message.
    Message { partition: i32, offset: i64 },
}

#[derive(Debug)]
pub struct Counts {
    answered: AtomicU64,
    rejected: AtomicU64,
    pub retried: AtomicU64,
    /// By the model, servers that ended, brokers.
    refused: [AtomicU64; 3],
    partitions: AtomicU32,
    lag: Mutex<Lag>,
    /// How many were answered when.
    past: Mutex<VecDeque<(Instant, u64)>>,
    troubles: Mutex<BTreeMap<Place, StreamProblem>>,
}

#[derive(Debug, Default)]
struct Lag {
    value: Option<u64>,
    asked: Option<Instant>,
    errors: u64,
    problem: Option<String>,
}

impl Counts {
    pub fn new() -> Self {
        Self {
            answered: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            refused: <[AtomicU64; 3]>::default(),
            partitions: AtomicU32::new(0),
            lag: Mutex::default(),
            past: Mutex::new(VecDeque::from([(Instant::now(), 0)])),
            troubles: Mutex::default(),
        }
    }

    /// The answer of one is written, or it is with the dead letters.
    pub fn done(&self, rejected: bool) {
        let count = if rejected { &self.rejected } else { &self.answered };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// One gets no answer, as of now.
    pub fn refused(&self, by: By) {
        self.refused[by as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// So many partitions are read here.
    pub fn reads(&self, partitions: usize) {
        self.partitions.store(u32::try_from(partitions).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub fn trouble(&self, place: Place, of: Obstacle, says: &str) {
        lock(&self.troubles).insert(place, StreamProblem { of, says: plain(says) });
    }

    pub fn over(&self, place: Place) {
        lock(&self.troubles).remove(&place);
    }

    /// A partition is not read here any more: what is in its way is another router's.
    pub fn left(&self, partition: i32) {
        let of = |place: &Place| matches!(place, Place::Message { partition: p, .. } if *p == partition);
        lock(&self.troubles).retain(|place, _| !of(place));
    }

    /// What the brokers say of the lag.
    pub fn looked(&self, asked: Instant, said: Result<u64, String>) {
        let now = self.answered.load(Ordering::Relaxed);
        let mut past = lock(&self.past);
        past.push_back((asked, now));
        while past.get(1).is_some_and(|(at, _)| asked.duration_since(*at) >= SPAN) {
            past.pop_front();
        }
        drop(past);
        match said {
            Ok(value) => {
                *lock(&self.lag) = Lag { value: Some(value), asked: Some(asked), errors: 0, problem: None };
                self.over(Place::Lag);
            }
            Err(why) => {
                self.trouble(Place::Lag, Obstacle::Broker, &why);
                let mut lag = lock(&self.lag);
                (lag.errors, lag.problem) = (lag.errors.saturating_add(1), Some(plain(&why)));
            }
        }
    }

    pub fn stats(&self, id: &str) -> StreamStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let lag = lock(&self.lag);
        let lag = QueryStats {
            value: lag.value.map(|value| value as f64),
            age_ms: lag.asked.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            errors: lag.errors,
            problem: lag.problem.clone(),
        };
        let [model, server, brokers] = self.refused.each_ref().map(read);
        StreamStats {
            id: id.to_owned(),
            lag,
            partitions: self.partitions.load(Ordering::Relaxed),
            rate: self.rate(),
            answered: read(&self.answered),
            rejected: read(&self.rejected),
            retried: read(&self.retried),
            refused: StreamRefusals { model, server, brokers },
            problem: lock(&self.troubles).values().max_by_key(|problem| problem.of).cloned(),
        }
    }

    fn rate(&self) -> f64 {
        let past = lock(&self.past);
        let (Some((first, before)), Some((last, now))) = (past.front(), past.back()) else { return 0.0 };
        let seconds = last.duration_since(*first).as_secs_f64();
        if seconds > 0.0 { now.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}

/// Bounded, and in one line: it becomes part of a condition.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_trouble_is_told_until_it_is_over() {
        let counts = Counts::new();
        let message = |offset| Place::Message { partition: 3, offset };
        counts.trouble(message(7), Obstacle::Model, "503");
        counts.trouble(message(8), Obstacle::Message, "400\nnot this one");
        let told = || counts.stats("1").problem.map(|problem| problem.says);
        assert_eq!(told().as_deref(), Some("400 not this one"));
        counts.trouble(Place::Brokers, Obstacle::Broker, "refused");
        assert_eq!(told().as_deref(), Some("refused"));
        counts.over(Place::Brokers);
        counts.over(message(8));
        assert_eq!(told().as_deref(), Some("503"));
        counts.left(2);
        assert_eq!(told().as_deref(), Some("503"), "it is of another partition");
        counts.left(3);
        assert_eq!(told(), None);
    }

    #[test]
    fn a_lag_stays_while_others_are_missing_and_those_are_counted() {
        let (counts, now) = (Counts::new(), Instant::now());
        assert_eq!(counts.stats("1").lag, QueryStats::default());
        counts.looked(now, Ok(12));
        counts.looked(now, Err("no broker".to_owned()));
        let QueryStats { value, age_ms, errors, problem } = counts.stats("1").lag;
        assert_eq!((value, age_ms.is_some(), errors, problem.as_deref()), (Some(12.0), true, 1, Some("no broker")));
        assert_eq!(counts.stats("1").problem.map(|problem| problem.of), Some(Obstacle::Broker));
        counts.looked(now, Ok(0));
        assert_eq!((counts.stats("1").lag.errors, counts.stats("1").problem), (0, None));
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let (counts, began) = (Counts::new(), Instant::now());
        for second in (2..=60).step_by(2) {
            // Ten in a second at first, none in the last half minute.
            for _ in 0..if second <= 30 { 20 } else { 0 } {
                counts.done(false);
            }
            counts.looked(began + Duration::from_secs(second), Ok(0));
            if second == 30 {
                assert!((counts.stats("1").rate - 10.0).abs() < 0.5, "{}", counts.stats("1").rate);
            }
        }
        assert!(counts.stats("1").rate.abs() < 1e-9, "{}", counts.stats("1").rate);
    }
}
