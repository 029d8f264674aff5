//! Requests a second, by the generic cell rate algorithm (ITU-T I.371): a bucket is the time at which it will be full again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use millrace_routes::{Per, Rate};

use crate::state::lock;

/// Callers with a bucket of their own at a time. Those beyond share one.
const CALLERS: usize = 65_536;
/// The bucket of all callers, or of those beyond.
const SHARED: u64 = 0;
const SECOND: f64 = 1e9;

#[derive(Debug)]
pub struct Limiter {
    began: Instant,
    per: Per,
    /// Nanoseconds: from one request to the next, and how far ahead a burst may be.
    step: u64,
    ahead: u64,
    names: RandomState,
    /// By the hash of a caller's name, nanoseconds after `began`.
    buckets: Mutex<HashMap<u64, u64>>,
}

impl Limiter {
    pub fn new(rate: &Rate) -> Self {
        // Far below 2^53 for every rate that the schema lets through.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let step = (SECOND / rate.per_second).max(1.0) as u64;
        Self {
            began: Instant::now(),
            per: rate.per,
            step,
            ahead: step.saturating_mul(u64::from(rate.burst)),
            names: RandomState::new(),
            buckets: Mutex::default(),
        }
    }

    /// Lets a request of this caller through, or says after how many seconds one may come.
    pub fn take(&self, caller: &str, at: Instant) -> Result<(), u32> {
        let now = u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let caller = match self.per {
            Per::Model => SHARED,
            Per::Caller => self.names.hash_one(caller).max(SHARED + 1),
        };
        let mut buckets = lock(&self.buckets);
        let caller = if buckets.contains_key(&caller) || has_room(&mut buckets, now) { caller } else { SHARED };
        let full = buckets.entry(caller).or_default();
        let next = (*full).max(now).saturating_add(self.step);
        match next.saturating_sub(now).checked_sub(self.ahead) {
            None | Some(0) => {
                *full = next;
                Ok(())
            }
            Some(early) => {
                let seconds = Duration::from_nanos(early).as_secs_f64().ceil();
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                Err((seconds as u32).max(1))
            }
        }
    }
}

/// Room for one more caller; those whose buckets are full again are forgotten for it, which changes nothing for them.
fn has_room(buckets: &mut HashMap<u64, u64>, now: u64) -> bool {
    if buckets.len() >= CALLERS {
        buckets.retain(|_, full| *full > now);
    }
    buckets.len() < CALLERS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: f64, burst: u32, per: Per) -> Limiter {
        Limiter::new(&Rate { per_second, burst, per })
    }

    #[test]
    fn a_burst_passes_then_the_rate_and_a_refusal_costs_nothing() {
        let limiter = limiter(2.0, 3, Per::Model);
        let at = |ms: u64| limiter.began + Duration::from_millis(ms);
        assert_eq!([0; 4].map(|ms| limiter.take("a", at(ms))), [Ok(()), Ok(()), Ok(()), Err(1)]);
        assert_eq!([499, 500, 500].map(|ms| limiter.take("b", at(ms))), [Err(1), Ok(()), Err(1)]);
        // After a long pause no more than the burst.
        assert_eq!([60_000; 4].map(|ms| limiter.take("a", at(ms))), [Ok(()), Ok(()), Ok(()), Err(1)]);
    }

    #[test]
    fn it_says_when_to_come_again() {
        let limiter = limiter(0.1, 1, Per::Model);
        let at = |ms: u64| limiter.began + Duration::from_millis(ms);
        assert_eq!([0, 0, 8500, 10_000].map(|ms| limiter.take("", at(ms))), [Ok(()), Err(10), Err(2), Ok(())]);
    }

    #[test]
    fn callers_do_not_count_for_each_other() {
        let limiter = limiter(0.1, 1, Per::Caller);
        let now = limiter.began;
        assert_eq!(["a", "b", "a", "b"].map(|caller| limiter.take(caller, now).is_ok()), [true, true, false, false]);
    }

    #[test]
    fn callers_without_end_take_no_memory_without_end_and_are_limited() {
        let limiter = limiter(0.01, 1, Per::Caller);
        let passed =
            (0..CALLERS + 1000).filter(|i| limiter.take(&format!("caller {i}"), limiter.began).is_ok()).count();
        assert_eq!(lock(&limiter.buckets).len(), CALLERS + 1);
        // One of those that share a bucket.
        assert_eq!(passed, CALLERS + 1);
        // Their buckets are full again.
        let later = limiter.began + Duration::from_secs(200);
        assert_eq!(limiter.take("new", later), Ok(()));
        assert_eq!(lock(&limiter.buckets).len(), 1);
    }
}
