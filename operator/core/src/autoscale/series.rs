//! The last minute of what one router counted of a model. Differences are taken on the router's own clock.

use std::collections::VecDeque;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::Counted;
use super::history::LONG;
use crate::api::ScaleMetric;

/// So much earlier than asked for may be the point from which a mean is taken: reports come about once a second.
const SLACK: Duration = Duration::from_millis(300);
/// Points at most, whatever a router says.
const MOST: usize = 128;

#[derive(Clone, Debug)]
pub(super) struct Series {
    /// When it was heard last.
    pub heard: Timestamp,
    last: Counted,
    points: VecDeque<Counted>,
}

impl Series {
    pub fn new(counted: Counted, now: Timestamp) -> Self {
        Self { heard: now, last: counted, points: VecDeque::from([counted]) }
    }

    /// True if a request was here since the report before, or is.
    pub fn take(&mut self, counted: Counted, now: Timestamp) -> bool {
        if counted.boot != self.last.boot {
            *self = Self::new(counted, now);
            return counted.arrived > 0;
        }
        if counted.at_us <= self.last.at_us {
            return counted.in_flight > 0;
        }
        // A revision has come or gone, and its counts with it.
        if counted.of != self.last.of {
            *self = Self::new(counted, now);
            return counted.in_flight > 0;
        }
        let came = counted.arrived > self.last.arrived || counted.demand_us > self.last.demand_us;
        (self.heard, self.last) = (now, counted);
        self.points.push_back(counted);
        let old = counted.at_us.saturating_sub(micros(LONG + SLACK));
        while self.points.len() > MOST || self.points.get(1).is_some_and(|second| second.at_us <= old) {
            self.points.pop_front();
        }
        came || counted.in_flight > 0
    }

    /// The mean over about this time, and over how much of it there are counts.
    pub fn mean(&self, metric: ScaleMetric, span: Duration) -> (f64, Duration) {
        let from = self.last.at_us.saturating_sub(micros(span));
        let slack = micros(SLACK);
        // The newest that is old enough, else the oldest.
        let first = self.points.iter().rev().find(|point| point.at_us <= from + slack).or(self.points.front());
        let first = first.copied().unwrap_or(self.last);
        let time = self.last.at_us - first.at_us;
        // Over a moment a single request is a storm.
        if time < micros(SLACK) {
            let now = if metric == ScaleMetric::RequestRate { 0 } else { self.last.in_flight };
            return (now as f64, Duration::ZERO);
        }
        let counts = match metric {
            ScaleMetric::RequestRate => self.last.arrived.saturating_sub(first.arrived) as f64 * 1e6,
            // How many requests there are at a time says how far more pods would help.
            ScaleMetric::Concurrency
            | ScaleMetric::Latency
            | ScaleMetric::Prometheus
            | ScaleMetric::QueueLag
            | ScaleMetric::CPU
            | ScaleMetric::External => self.last.demand_us.saturating_sub(first.demand_us) as f64,
        };
        (counts / time as f64, Duration::from_micros(time))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
