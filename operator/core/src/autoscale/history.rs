//! What routers said of one model, as far back as decisions look: constant memory, whatever the load.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use millrace_routes::QueryStats;

use super::answers::{Answers, Blind};
use super::latencies::{Latencies, Latency, Timed};
use super::series::Series;
use super::{Counted, Follow};
use crate::api::ScaleMetric;
use crate::duration::since;

pub(super) const SHORT: Duration = Duration::from_secs(2);
pub(super) const MIDDLE: Duration = Duration::from_secs(6);
pub(super) const LONG: Duration = Duration::from_mins(1);
/// Pods go when so long less was asked for.
pub(super) const DOWN: Duration = Duration::from_mins(1);
/// The mean of a minute needs so much of it.
const ENOUGH: Duration = Duration::from_secs(45);
/// A router that was not heard for longer may have any load.
const FRESH: Duration = Duration::from_secs(3);
/// The most of each of these times is kept.
const SLOT: i64 = 5;
/// What is said while there was no answer yet.
const NOT_ASKED: &str = "the routers have not asked Prometheus yet";
const NOT_LOOKED: &str = "the routers have not asked the brokers how many messages wait yet";
/// Slots that lie within [`DOWN`], the one that it begins in and the one that goes on.
const SLOTS: usize = 13;

/// Reports on one model.
#[derive(Clone, Debug)]
pub struct History {
    since: Timestamp,
    /// When a request was at a router last.
    busy: Timestamp,
    /// `replicas` as it was seen last, and when it fell.
    wanted: Option<i32>,
    lowered: Option<Timestamp>,
    routers: BTreeMap<String, Series>,
    peaks: VecDeque<Peak>,
    latencies: Latencies,
    answers: Answers,
}

/// The most of one slot.
#[derive(Clone, Copy, Debug)]
struct Peak {
    slot: i64,
    concurrency: f64,
    rate: f64,
}

/// What decisions look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Means of the metric over 2 and 6 seconds.
    pub short: f64,
    pub middle: f64,
    /// The mean over a minute, once there is one.
    pub long: Option<f64>,
    /// The most of a minute, once it was looked at for so long.
    pub peak: Option<f64>,
    /// Since when there has been no request.
    pub idle: Duration,
    /// Every router that runs was heard a moment ago, and there is one.
    pub complete: bool,
    /// When pods were taken away last.
    pub lowered: Option<Timestamp>,
    /// How long requests take, where the number of pods follows that.
    pub latency: Option<Latency>,
    /// Nobody knows what the number of pods is to follow.
    pub blind: Option<Blind>,
}

impl History {
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            busy: now,
            wanted: None,
            lowered: None,
            routers: BTreeMap::new(),
            peaks: VecDeque::new(),
            latencies: Latencies::new(now),
            answers: Answers::new(now),
        }
    }

    /// The clock went back since: times that lie ahead say nothing.
    #[must_use]
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.since > now || self.busy > now
    }

    /// How many pods there are to be, as the cluster has it.
    pub fn saw(&mut self, wanted: i32, now: Timestamp) {
        match self.wanted.replace(wanted) {
            // A router has a request for it, and was not heard since: the time without any begins anew.
            Some(0) if wanted > 0 => self.busy = self.busy.max(now),
            Some(before) if wanted < before => self.lowered = Some(now),
            Some(_) | None => {}
        }
    }

    /// How many pods serve.
    pub fn serves(&mut self, pods: i32, now: Timestamp) {
        self.latencies.serves(pods, now);
    }

    /// How long a router's requests took.
    pub fn took(&mut self, router: &str, timed: Timed, now: Timestamp) {
        self.latencies.heard(router, timed, now);
    }

    /// What Prometheus answers to a router, or what it found of the lag.
    pub fn answered(&mut self, router: &str, id: &str, said: Option<&QueryStats>, now: Timestamp) {
        self.answers.heard(router, id, said, now);
    }

    /// A router's report.
    pub fn heard(&mut self, router: &str, counted: Counted, now: Timestamp) {
        let busy = match self.routers.get_mut(router) {
            Some(series) => series.take(counted, now),
            None => {
                self.routers.insert(router.to_owned(), Series::new(counted, now));
                counted.in_flight > 0
            }
        };
        if busy {
            self.busy = now;
        }
        self.note_peak(now);
    }

    fn note_peak(&mut self, now: Timestamp) {
        let most = |metric| self.mean(metric, SHORT).0.max(self.mean(metric, MIDDLE).0);
        let (concurrency, rate) = (most(ScaleMetric::Concurrency), most(ScaleMetric::RequestRate));
        let slot = slot(now);
        match self.peaks.back_mut().filter(|last| last.slot == slot) {
            Some(last) => (last.concurrency, last.rate) = (last.concurrency.max(concurrency), last.rate.max(rate)),
            None => self.peaks.push_back(Peak { slot, concurrency, rate }),
        }
        while self.peaks.len() > SLOTS {
            self.peaks.pop_front();
        }
    }

    /// Forgets all routers but these. What they had belongs to the past, and counts as such.
    pub fn keep(&mut self, routers: &BTreeSet<&str>) {
        self.routers.retain(|router, _| routers.contains(router.as_str()));
        self.latencies.keep(routers);
        self.answers.keep(routers);
    }

    /// The means of all routers together, and the shortest time that one of them has counts of.
    fn mean(&self, metric: ScaleMetric, span: Duration) -> (f64, Duration) {
        let means = self.routers.values().map(|series| series.mean(metric, span));
        means.fold((0.0, LONG), |(sum, least), (mean, time)| (sum + mean, least.min(time)))
    }

    /// All that a number of pods follows.
    #[must_use]
    pub fn look(&self, follow: &Follow, running: &BTreeSet<&str>, now: Timestamp) -> Window {
        let Follow { metric, percentile, query } = follow;
        let window = self.window(*metric, running, now);
        match metric {
            ScaleMetric::Concurrency | ScaleMetric::RequestRate | ScaleMetric::CPU | ScaleMetric::External => window,
            ScaleMetric::Prometheus => self.answers.seen(query.as_deref().unwrap_or_default(), NOT_ASKED, window, now),
            ScaleMetric::QueueLag => self.answers.seen(query.as_deref().unwrap_or_default(), NOT_LOOKED, window, now),
            ScaleMetric::Latency => {
                let mean = |span| self.mean(ScaleMetric::Concurrency, span).0;
                Window { latency: Some(self.latencies.seen(percentile.share(), mean, now)), ..window }
            }
        }
    }

    /// As it is seen now. `running` are the routers that may have requests in hand.
    #[must_use]
    pub fn window(&self, metric: ScaleMetric, running: &BTreeSet<&str>, now: Timestamp) -> Window {
        let (long, time) = self.mean(metric, LONG);
        let oldest = slot(now) - i64::try_from(DOWN.as_secs()).unwrap_or_default() / SLOT;
        let peaks = self.peaks.iter().filter(|peak| peak.slot >= oldest);
        let peaks = peaks.map(|peak| if metric == ScaleMetric::RequestRate { peak.rate } else { peak.concurrency });
        let heard = |router: &&str| self.routers.get(*router).is_some_and(|series| since(series.heard, now) <= FRESH);
        Window {
            short: self.mean(metric, SHORT).0,
            middle: self.mean(metric, MIDDLE).0,
            long: Some(long).filter(|_| time >= ENOUGH && !self.routers.is_empty()),
            peak: (since(self.since, now) >= DOWN).then(|| peaks.fold(0.0, f64::max)),
            idle: since(self.busy, now),
            complete: !running.is_empty() && running.iter().all(heard),
            lowered: self.lowered,
            latency: None,
            blind: None,
        }
    }
}

fn slot(now: Timestamp) -> i64 {
    now.as_second().div_euclid(SLOT)
}
