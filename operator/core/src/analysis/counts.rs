//! What was counted of one revision.

use millrace_routes::{Histogram, Outcome, RevisionStats, ShadowStats};

use crate::api::AnalysisMetric;

/// Buckets that are kept, whatever a router says: it has four for each doubling.
const BUCKETS: usize = 256;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Requests that ended, but for those that the caller broke off or the router refused.
    pub ended: u64,
    /// Those of them for which the service is to blame.
    pub failed: u64,
    pub duration: Histogram,
    pub shadow: ShadowStats,
}

impl Counts {
    #[must_use]
    pub fn of(stats: &RevisionStats) -> Self {
        let sum = |counts: fn(Outcome) -> bool| {
            let outcomes = stats.outcomes.iter().filter(|(outcome, _)| counts(**outcome));
            outcomes.fold(0_u64, |sum, (_, n)| sum.saturating_add(*n))
        };
        let mut duration = stats.duration.clone();
        while duration.buckets.len() > BUCKETS {
            duration.buckets.pop_last();
        }
        Self {
            ended: sum(|outcome| !matches!(outcome, Outcome::ClientLeft | Outcome::Refused)),
            failed: sum(Outcome::is_failure),
            duration,
            shadow: stats.shadow,
        }
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            ended: self.ended.saturating_sub(earlier.ended),
            failed: self.failed.saturating_sub(earlier.failed),
            duration: self.duration.since(&earlier.duration),
            shadow: self.shadow.since(&earlier.shadow),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.ended = self.ended.saturating_add(other.ended);
        self.failed = self.failed.saturating_add(other.failed);
        self.duration = std::mem::take(&mut self.duration).plus(&other.duration);
        self.shadow = self.shadow.plus(&other.shadow);
    }

    /// Requests that a figure is of.
    #[must_use]
    pub fn samples(&self, metric: AnalysisMetric) -> u64 {
        match metric {
            AnalysisMetric::ErrorRate => self.ended,
            AnalysisMetric::Agreement => self.compared(),
            // Servers count that.
            AnalysisMetric::Drift => 0,
            _latency => self.duration.count(),
        }
    }

    /// The figure. `None` where there is no request that it could be of.
    #[must_use]
    pub fn figure(&self, metric: AnalysisMetric) -> Option<f64> {
        let samples = self.samples(metric);
        if samples == 0 {
            return None;
        }
        match metric {
            AnalysisMetric::ErrorRate => Some(self.failed as f64 / samples as f64),
            AnalysisMetric::Agreement => Some(self.shadow.agreed as f64 / samples as f64),
            latency => milliseconds(&self.duration, latency.quantile()?),
        }
    }

    /// Copies that the shadow should have answered.
    fn compared(&self) -> u64 {
        let ShadowStats { agreed, differed, failed, dropped: _ } = self.shadow;
        agreed.saturating_add(differed).saturating_add(failed)
    }
}

/// As long as this share took, as if all in a bucket were spread evenly over it: two that differ by a little do not differ by a bucket.
pub(crate) fn milliseconds(histogram: &Histogram, share: f64) -> Option<f64> {
    let rank = share * histogram.count() as f64;
    let mut seen = 0.0;
    for (upper, n) in &histogram.buckets {
        let (upper, n) = (*upper as f64, *n as f64);
        if seen + n >= rank && n > 0.0 {
            let lower = upper / f64::powf(2.0, 0.25);
            return Some((lower + (upper - lower) * ((rank - seen) / n).clamp(0.0, 1.0)) / 1e3);
        }
        seen += n;
    }
    None
}
