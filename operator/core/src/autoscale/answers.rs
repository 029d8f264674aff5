//! What Prometheus answers to the query that pods follow, or brokers to the question for the lag, as far back as decisions look.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use millrace_routes::QueryStats;

use super::Window;
use super::history::DOWN;
use crate::analysis;
use crate::duration::since;

/// The answer to a question that was asked longer ago says nothing of now. Routers ask every ten seconds or sooner.
const FRESH: Duration = Duration::from_secs(45);
/// Answers that are kept, whatever routers say.
const MOST: usize = 64;

/// Nobody knows what pods are to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    pub why: String,
    /// There was hardly time to ask.
    pub early: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// The query's id.
    of: String,
    since: Timestamp,
    said: analysis::Answers,
    values: VecDeque<(Timestamp, f64)>,
    /// When the question of the last number was asked.
    last: Option<Timestamp>,
    /// When the answer was above 0 last, or nobody knew.
    busy: Timestamp,
}

impl Answers {
    pub fn new(now: Timestamp) -> Self {
        let (of, said, values) = (String::new(), analysis::Answers::default(), VecDeque::new());
        Self { of, since: now, said, values, last: None, busy: now }
    }

    /// A router's report. Another query begins from nothing.
    pub fn heard(&mut self, router: &str, id: &str, said: Option<&QueryStats>, now: Timestamp) {
        if self.of != id {
            *self = Self { of: id.to_owned(), ..Self::new(now) };
        }
        // An operator that has just begun takes what routers have.
        self.said.heard(router, id, said, Timestamp::MIN, now);
        let newest = self.said.of(id);
        let Some((asked, value)) = newest.asked.zip(newest.value) else { return };
        // Between two routers' words the same question seems to be asked some milliseconds apart.
        let apart = Duration::from_secs(1);
        // After a time without any, what came before says nothing, and a minute of answers begins anew.
        if self.last.replace(asked).is_some_and(|last| since(last, asked) > FRESH) {
            self.values.clear();
            self.since = now;
            self.busy = self.busy.max(asked);
        }
        if self.values.back().is_none_or(|(at, _)| since(*at, asked) >= apart) {
            self.values.push_back((asked, value));
            if value > 0.0 {
                self.busy = self.busy.max(asked);
            }
        }
        while self.values.len() > MOST || self.values.front().is_some_and(|(at, _)| since(*at, now) > DOWN + FRESH) {
            self.values.pop_front();
        }
    }

    /// The load as the answers have it. `window` knows of requests and routers, `not_yet` is said while there is no answer.
    pub fn seen(&self, id: &str, not_yet: &str, window: Window, now: Timestamp) -> Window {
        let newest = self.said.of(id);
        let fresh = newest.asked.is_some_and(|asked| since(asked, now) <= FRESH);
        let Some(value) = newest.value.filter(|_| fresh && self.of == id) else {
            let early =
                self.of != id || newest.errors == 0 && newest.asked.is_none() && since(self.since, now) <= FRESH;
            let words = newest.problem.filter(|_| self.of == id);
            let why = words.unwrap_or_else(|| not_yet.to_owned());
            let lowered = window.lowered;
            return Window { blind: Some(Blind { why, early }), lowered, ..Window::default() };
        };
        let past = self.values.iter().filter(|(at, _)| since(*at, now) <= DOWN).map(|(_, value)| *value);
        Window {
            short: value,
            middle: value,
            // As with the HPA, what is a tenth above the target is noise, however long.
            long: None,
            peak: (since(self.since, now) >= DOWN).then(|| past.fold(value, f64::max)),
            // However old it is: nobody said that there is nothing to do.
            idle: if value > 0.0 { Duration::ZERO } else { window.idle.min(since(self.busy, now)) },
            ..window
        }
    }

    pub fn keep(&mut self, routers: &BTreeSet<&str>) {
        self.said.keep(routers);
    }
}
