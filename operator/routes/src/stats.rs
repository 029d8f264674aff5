//! What a router has counted, as `/stats` says it. Every count only grows as long as `boot` stays: a reader takes differences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::log::LogStats;
use crate::query::QueryStats;
use crate::stream::StreamStats;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The router's pod: an address may have come to another one.
    #[serde(default)]
    pub pod: String,
    /// Another one: the router started anew, and counts from 0.
    pub boot: u64,
    /// Microseconds since the start.
    pub at_us: u64,
    pub models: BTreeMap<String, ModelStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStats {
    /// The generation of the routes in force.
    #[serde(default)]
    pub generation: u64,
    pub revisions: BTreeMap<String, RevisionStats>,
    /// Where the routes ask something of callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<SecurityStats>,
    /// What became of the queries of the routes, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queries: BTreeMap<String, QueryStats>,
    /// Where requests and answers are sent to a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogStats>,
    /// Where messages are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamStats>,
}

/// What a router has of the settings that say who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityStats {
    /// Of the settings in force; empty where something that they name is not mounted into this router, and another one is to come.
    pub id: String,
    /// Nobody is let in: a certificate or keys are missing.
    pub closed: bool,
    /// What is wrong with the mounted Secrets and ConfigMaps, without anything that is in them.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStats {
    /// Ended requests. An outcome that did not happen is left out.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Requests that are here now: at a pod or waiting.
    pub in_flight: u64,
    /// Those of them that wait for a pod.
    pub queued: u64,
    /// In flight integrated over time, in microseconds: a difference divided by the time between is the mean.
    pub demand_us: u64,
    /// Pods that requests are sent to.
    pub pods: u64,
    pub retries: u64,
    /// From arrival to the last byte, of what pods answered.
    pub duration: Histogram,
    /// From arrival to the head of the answer.
    pub first_byte: Histogram,
    pub shadow: ShadowStats,
}

/// How the copies that went to a shadow compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowStats {
    pub agreed: u64,
    pub differed: u64,
    /// The shadow did not answer.
    pub failed: u64,
    /// Not copied: no room, no pod, or a body that is too long.
    pub dropped: u64,
}

impl ShadowStats {
    /// What came after `earlier` was read.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn with(&self, other: &Self, op: fn(u64, u64) -> u64) -> Self {
        Self {
            agreed: op(self.agreed, other.agreed),
            differed: op(self.differed, other.differed),
            failed: op(self.failed, other.failed),
            dropped: op(self.dropped, other.dropped),
        }
    }
}

/// How a request ended. A gRPC status counts as the class of its HTTP equivalent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// A pod's answer: 1xx (upgraded), 2xx, 3xx, 4xx, 5xx.
    Upgraded,
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// The client left before the end.
    ClientLeft,
    /// The router would not take it: too long, no key, over its rate.
    Refused,
    /// 503: the queue was full.
    Overflow,
    /// 504: no pod was free, or none began to answer, in time.
    Timeout,
    /// 502: no pod took the connection.
    Unreachable,
    /// The pod broke off; 502 if it had not begun to answer.
    Broken,
}

impl Outcome {
    pub const ALL: [Self; 11] = [
        Self::Upgraded,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::ClientLeft,
        Self::Refused,
        Self::Overflow,
        Self::Timeout,
        Self::Unreachable,
        Self::Broken,
    ];

    /// True if the service is to blame, which is what an error rate counts.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::ServerError | Self::Overflow | Self::Timeout | Self::Unreachable | Self::Broken => true,
            Self::Upgraded
            | Self::Success
            | Self::Redirection
            | Self::ClientError
            | Self::ClientLeft
            | Self::Refused => false,
        }
    }

    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upgraded => "Upgraded",
            Self::Success => "Success",
            Self::Redirection => "Redirection",
            Self::ClientError => "ClientError",
            Self::ServerError => "ServerError",
            Self::ClientLeft => "ClientLeft",
            Self::Refused => "Refused",
            Self::Overflow => "Overflow",
            Self::Timeout => "Timeout",
            Self::Unreachable => "Unreachable",
            Self::Broken => "Broken",
        }
    }
}

/// Times in buckets, four to each doubling, so that a percentile is right within a fifth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// The upper end of a bucket in microseconds, and what fell into it. Empty buckets are left out.
    pub buckets: BTreeMap<u64, u64>,
    pub sum_us: u64,
}

impl Histogram {
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// What came after `earlier` was read. Counts that fell, after a start anew, count as they are.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |upper: &u64| earlier.buckets.get(upper).copied().unwrap_or_default();
        if self.buckets.iter().any(|(upper, n)| *n < before(upper)) || self.count() < earlier.count() {
            return self.clone();
        }
        let buckets = self.buckets.iter().map(|(upper, n)| (*upper, n - before(upper))).filter(|(_, n)| *n > 0);
        Self { buckets: buckets.collect(), sum_us: self.sum_us.saturating_sub(earlier.sum_us) }
    }

    /// The upper end, in microseconds, of the bucket that holds this share (0 to 1) of all. `None` if nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = (share * self.count() as f64).max(1.0);
        let mut seen = 0;
        self.buckets.iter().find_map(|(upper, n)| {
            seen += n;
            (seen as f64 >= rank).then_some(*upper)
        })
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (upper, n) in &other.buckets {
            *self.buckets.entry(*upper).or_default() += n;
        }
        self.sum_us += other.sum_us;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(u64, u64)]) -> Histogram {
        Histogram { buckets: buckets.iter().copied().collect(), sum_us: 7 }
    }

    #[test]
    fn a_quantile_is_the_upper_end_of_its_bucket() {
        let h = histogram(&[(100, 90), (200, 9), (400, 1)]);
        assert_eq!(h.quantile(0.5), Some(100));
        assert_eq!(h.quantile(0.9), Some(100));
        assert_eq!(h.quantile(0.99), Some(200));
        assert_eq!(h.quantile(1.0), Some(400));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn a_difference_leaves_what_came_since_and_a_start_anew_counts_whole() {
        let (early, late) = (histogram(&[(100, 5)]), histogram(&[(100, 5), (200, 3)]));
        assert_eq!(late.since(&early).buckets, BTreeMap::from([(200, 3)]));
        assert_eq!(early.since(&late), early);
        assert_eq!(late.clone().plus(&early).buckets, BTreeMap::from([(100, 10), (200, 3)]));
    }

    #[test]
    fn outcomes_are_keys_of_json() {
        let stats = RevisionStats { outcomes: BTreeMap::from([(Outcome::Overflow, 2)]), ..Default::default() };
        let text = serde_json::to_string(&stats).unwrap();
        assert!(text.contains(r#""outcomes":{"Overflow":2}"#), "{text}");
        assert_eq!(serde_json::from_str::<RevisionStats>(&text).unwrap(), stats);
        assert!(Outcome::ALL.iter().all(|o| format!("{o:?}") == o.as_str()));
    }
}
