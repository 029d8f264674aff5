//! The stage's time. It counts from the start of the command until its manifest is there: hashing what the command made may
//! take longer than making it.

use std::time::{Duration, Instant};

/// As good as for ever.
const FAR: Duration = Duration::from_hours(24 * 365);

#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// From now on; never without a limit.
    pub fn after(limit: Option<Duration>) -> Self {
        Self(limit.map(after))
    }

    pub fn at(self) -> Option<Instant> {
        self.0
    }

    pub fn passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }
}

/// A moment that may be further away than the clock can count.
pub fn after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + FAR)
}
