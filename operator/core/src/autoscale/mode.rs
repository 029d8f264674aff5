//! Who sets the number of pods, and within which bounds.

use std::time::Duration;

use millrace_routes::{ModelStats, QueryStats};

use crate::api::{Percentile, Scale, ScaleMetric};
use crate::duration;

/// Shorter than this it would go to zero between two looks at the routers.
pub const SHORTEST_TO_ZERO: Duration = Duration::from_secs(5);
const TO_ZERO: Duration = Duration::from_mins(5);

/// Who sets the number of pods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Nobody here: it stays as it is.
    Left,
    /// `spec.scale.replicas`.
    Pinned(i32),
    /// Millrace.
    Chosen(Config),
    /// A HorizontalPodAutoscaler of Millrace's, but for zero.
    Handed(Config),
}

/// Within which bounds Millrace chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub min: i32,
    pub max: i32,
    pub metric: ScaleMetric,
    /// How much of the metric one pod takes. `None` where one pod takes all.
    pub target: Option<f64>,
    pub to_zero_after: Duration,
    /// Of `Latency`.
    pub percentile: Percentile,
}

/// What is to be kept of what routers say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Follow {
    pub metric: ScaleMetric,
    /// Of `Latency`.
    pub percentile: Percentile,
    /// The id of the query of `Prometheus`, or of the stream of `QueueLag`.
    pub query: Option<String>,
}

impl Follow {
    /// What a router says of the figure that is asked for.
    #[must_use]
    pub fn said<'a>(&self, stats: &'a ModelStats) -> Option<&'a QueryStats> {
        let id = self.query.as_deref()?;
        if self.metric == ScaleMetric::QueueLag {
            return stats.stream.as_ref().filter(|stream| stream.id == id).map(|stream| &stream.lag);
        }
        stats.queries.get(id)
    }
}

#[must_use]
pub fn mode(scale: Option<&Scale>) -> Mode {
    let Some(scale) = scale else { return Mode::Left };
    let Scale { min, max, metric, target, percentile, prometheus: _, to_zero_after, replicas } = scale;
    let metric = metric.unwrap_or_default();
    // A shorter one is refused, and what is served goes on.
    let to_zero_after = to_zero_after.as_deref().and_then(duration::parse).filter(|after| *after >= SHORTEST_TO_ZERO);
    let to_zero_after = to_zero_after.unwrap_or(TO_ZERO);
    let config =
        Config { min: 0, max: 1, metric, target: *target, to_zero_after, percentile: percentile.unwrap_or_default() };
    match (metric, replicas) {
        // Whoever set 0 has no pod of the model in use; a request starts one, which stays as long as requests come.
        (ScaleMetric::External, Some(0)) => Mode::Chosen(Config { metric: ScaleMetric::Concurrency, ..config }),
        (_, Some(replicas)) => Mode::Pinned(*replicas),
        (ScaleMetric::External, None) => Mode::Left,
        (ScaleMetric::CPU, None) => {
            let min = min.unwrap_or(1);
            Mode::Handed(Config { min, max: max.unwrap_or(min).max(min).max(1), ..config })
        }
        (
            ScaleMetric::Concurrency
            | ScaleMetric::RequestRate
            | ScaleMetric::Latency
            | ScaleMetric::Prometheus
            | ScaleMetric::QueueLag,
            None,
        ) if min.is_none() && max.is_none() => Mode::Left,
        (
            ScaleMetric::Concurrency
            | ScaleMetric::RequestRate
            | ScaleMetric::Latency
            | ScaleMetric::Prometheus
            | ScaleMetric::QueueLag,
            None,
        ) => {
            let min = min.unwrap_or(1);
            Mode::Chosen(Config { min, max: max.unwrap_or(min).max(min).max(1), ..config })
        }
    }
}

/// Whether the first request to a revision without pods starts one.
#[must_use]
pub fn starts_from_zero(scale: Option<&Scale>) -> bool {
    let external = scale.is_some_and(|scale| scale.metric == Some(ScaleMetric::External));
    external || matches!(mode(scale), Mode::Chosen(config) | Mode::Handed(config) if config.min == 0)
}
