//! A start from zero as it goes on, and its parts.

use std::time::{Duration, Instant};

/// When what was seen.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    began: Instant,
    scaled: Option<Instant>,
    addressed: Option<Instant>,
    ended: Option<Instant>,
}

/// How long each part took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spans {
    pub scale: Duration,
    pub schedule: Duration,
    pub load: Duration,
}

impl Start {
    pub fn new() -> Self {
        Self { began: Instant::now(), scaled: None, addressed: None, ended: None }
    }

    pub fn scaled(&mut self) {
        self.scaled.get_or_insert_with(Instant::now);
    }

    /// A pod has an address.
    pub fn addressed(&mut self) {
        if self.ended.is_none() {
            self.addressed.get_or_insert_with(Instant::now);
        }
    }

    /// The parts, once more for everybody who waited since `since`; `None` if it was over before that.
    pub fn seen_by(&self, since: Instant) -> Option<Spans> {
        (self.ended.is_none_or(|ended| ended >= since)).then(|| self.spans())
    }

    pub fn end(&mut self) -> Spans {
        self.ended = Some(Instant::now());
        self.spans()
    }

    fn spans(&self) -> Spans {
        let ended = self.ended.unwrap_or_else(Instant::now);
        let scaled = self.scaled.unwrap_or(self.began);
        let addressed = self.addressed.unwrap_or(ended).max(scaled);
        Spans {
            scale: scaled - self.began,
            schedule: addressed - scaled,
            load: ended.saturating_duration_since(addressed),
        }
    }
}
