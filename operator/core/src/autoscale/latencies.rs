//! How long requests took since as many pods serve as now: what came before says nothing of these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_routes::{Histogram, Stats};

use crate::analysis::milliseconds;
use crate::deployment::digest;
use crate::duration::since;

/// Pods come by the requests that ended in this time, and go by those of the second.
pub(super) const SOON: Duration = Duration::from_secs(10);
pub(super) const CALM: Duration = Duration::from_mins(1);
/// Requests that end so soon after a pod came or went began before.
const SETTLE: SignedDuration = SignedDuration::from_secs(5);
/// With fewer a percentile says nothing.
const ENOUGH: u64 = 20;
/// Reports that are kept, whatever routers do.
const MOST: usize = 256;
/// Buckets of one that are kept.
const BUCKETS: usize = 256;
const ROUTERS: usize = 64;

/// How long the requests of one router took, since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timed {
    pub boot: u64,
    /// Microseconds since the start.
    pub at_us: u64,
    /// Digest of the revisions that it is of.
    pub of: u64,
    pub duration: Histogram,
}

impl Timed {
    /// Of all requests to these revisions. `None` if the router knows none of them.
    #[must_use]
    pub fn of<'a>(stats: &Stats, model: &str, revisions: impl Iterator<Item = &'a str>) -> Option<Self> {
        let known = &stats.models.get(model)?.revisions;
        let mut said = revisions.filter_map(|name| Some((name, known.get(name)?))).peekable();
        said.peek()?;
        let none = Self { boot: stats.boot, at_us: stats.at_us, ..Self::default() };
        Some(said.fold(none, |sum, (name, revision)| {
            let mut duration = revision.duration.clone();
            while duration.buckets.len() > BUCKETS {
                duration.buckets.pop_last();
            }
            Self { of: sum.of ^ digest(&name), duration: sum.duration.plus(&duration), ..sum }
        }))
    }
}

/// What is seen of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// Over the last ten seconds, and over a minute.
    pub soon: Seen,
    /// `None` until so many pods have served for so long.
    pub calm: Option<Seen>,
}

/// Over one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Milliseconds: the percentile that was asked for. `None` if too few requests have ended.
    pub took: Option<f64>,
    /// Milliseconds: the mean time that a request is here by Little's law, which is the requests at a time by those that end in that time.
    /// It is known also where hardly any request ends, because so many wait.
    pub mean: f64,
    /// Requests here at a time.
    pub concurrency: f64,
}

/// Bounded, whatever the load.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    pods: Option<i32>,
    /// Since when there are so many.
    since: Timestamp,
    routers: BTreeMap<String, Timed>,
    parts: VecDeque<(Timestamp, Histogram)>,
}

impl Latencies {
    pub fn new(now: Timestamp) -> Self {
        Self { pods: None, since: now, routers: BTreeMap::new(), parts: VecDeque::new() }
    }

    pub fn serves(&mut self, pods: i32, now: Timestamp) {
        if self.pods.replace(pods) != Some(pods) {
            self.since = now;
            self.parts.clear();
        }
    }

    pub fn heard(&mut self, router: &str, timed: Timed, now: Timestamp) {
        if self.routers.len() >= ROUTERS {
            self.routers.clear();
        }
        let goes_on =
            |before: &&Timed| before.boot == timed.boot && before.of == timed.of && before.at_us <= timed.at_us;
        let settled = now.duration_since(self.since) >= SETTLE;
        if let Some(before) = self.routers.get(router).filter(goes_on).filter(|_| settled) {
            self.parts.push_back((now, timed.duration.since(&before.duration)));
        }
        self.routers.insert(router.to_owned(), timed);
        while self.parts.len() > MOST || self.parts.front().is_some_and(|(at, _)| since(*at, now) > CALM) {
            self.parts.pop_front();
        }
    }

    pub fn keep(&mut self, routers: &BTreeSet<&str>) {
        self.routers.retain(|router, _| routers.contains(router.as_str()));
    }

    /// `share` of the requests took no longer; `mean` says how many there were at a time.
    pub fn seen(&self, share: f64, mean: impl Fn(Duration) -> f64, now: Timestamp) -> Latency {
        let settled = now.duration_since(self.since) - SETTLE;
        let settled = Duration::try_from(settled).unwrap_or_default();
        let over = |span: Duration| {
            let recent = self.parts.iter().filter(|(at, _)| since(*at, now) < span);
            let took = recent.fold(Histogram::default(), |sum, (_, part)| sum.plus(part));
            let (ended, concurrency) = (took.count(), mean(span));
            let seconds = span.min(settled).as_secs_f64();
            Seen {
                took: milliseconds(&took, share).filter(|_| ended >= ENOUGH),
                // Of none it is as long as was looked, at least.
                mean: concurrency * seconds / (ended.max(1) as f64) * 1e3,
                concurrency,
            }
        };
        Latency { soon: over(SOON), calm: (settled >= CALM).then(|| over(CALM)) }
    }
}
