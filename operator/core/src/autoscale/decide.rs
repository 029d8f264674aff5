//! How many pods, and why.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::history::{DOWN, LONG, MIDDLE, SHORT};
use super::{Blind, Config, Window, latency};
use crate::api::ScaleMetric;
use crate::duration;

/// A short mean may be so much above the target before it brings a pod: less is noise, and the mean of a minute sees it.
const NOISE: f64 = 1.1;
/// At a time there are at most so many times the pods that serve, but this many at once in any case.
const FASTEST_UP: i32 = 10;
/// Between two steps down, each of which takes half of the pods at most.
const DOWN_PAUSE: SignedDuration = SignedDuration::from_secs(15);

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Pods that there are to be.
    pub replicas: i32,
    /// Pods that serve. Those that are on their way have not shown yet what they take.
    pub available: i32,
}

/// What is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub replicas: i32,
    /// In a short sentence.
    pub why: String,
}

/// Decides. The load is that of `window`, which says how much of it is known.
#[must_use]
pub fn decide(config: &Config, window: &Window, state: State, now: Timestamp) -> Decision {
    let current = state.replicas;
    let Config { min, max, .. } = *config;
    // Before the means: that of a minute may still know of requests.
    let idle = min == 0 && window.idle >= config.to_zero_after;
    if idle && (current == 0 || window.complete && current <= max) {
        let after = duration::format(config.to_zero_after);
        return Decision { replicas: 0, why: format!("no request for {after}: 0 pods") };
    }
    if let (ScaleMetric::Latency, Some(target)) = (config.metric, config.target) {
        return latency::decide(config, window, target, state);
    }
    if let Some(Blind { why, early: _ }) = &window.blind {
        let stays = || Decision { replicas: current, why: format!("{why}: the number stays at {current}") };
        return within(config, current).unwrap_or_else(stays);
    }
    let most = largest(config, window, current);
    if most.pods > current && current < max {
        let fastest = state.available.saturating_mul(FASTEST_UP).max(FASTEST_UP).max(current);
        let replicas = most.pods.min(fastest).clamp(min.max(1), max);
        return Decision { replicas, why: most.says(config, replicas) };
    }
    if let Some(decision) = within(config, current) {
        return decision;
    }
    let floor = floor(config, current);
    let paused = window.lowered.is_some_and(|lowered| now.duration_since(lowered) < DOWN_PAUSE);
    if let Some(peak) = window.peak.filter(|_| window.complete && !paused) {
        let least = needed(config, peak).max(most.pods).max(floor);
        if least < current {
            let replicas = least.max(current - current / 2);
            let peak = Mean { pods: least, value: peak, span: DOWN, most: true };
            return Decision { replicas, why: peak.says(config, replicas) };
        }
    }
    Decision { replicas: current, why: most.says(config, current) }
}

/// What the bounds say of so many pods.
pub(super) fn within(config: &Config, current: i32) -> Option<Decision> {
    let Config { min, max, .. } = *config;
    if current > max {
        return Some(Decision { replicas: max, why: format!("max is {max}: {}", pods(max)) });
    }
    let floor = floor(config, current);
    (current < floor).then(|| Decision { replicas: floor, why: format!("min is {min}: {}", pods(floor)) })
}

/// The last pod goes by the time without requests alone.
pub(super) fn floor(config: &Config, current: i32) -> i32 {
    if current == 0 { config.min } else { config.min.max(1) }
}

/// A mean, or the most of all, and the pods that it asks for.
#[derive(Clone, Copy)]
struct Mean {
    pods: i32,
    value: f64,
    span: Duration,
    most: bool,
}

/// The mean that asks for the most pods.
fn largest(config: &Config, window: &Window, current: i32) -> Mean {
    let mean = |value, span, noise| {
        let room = config.target.map_or(0.0, |target| target * f64::from(current)) * noise;
        let needed = needed(config, value);
        // What is a little above the target asks for no pod more.
        let pods = if value <= room { needed.min(current) } else { needed };
        Mean { pods, value, span, most: false }
    };
    let long = window.long.map(|long| mean(long, LONG, 1.0));
    let short = [mean(window.middle, MIDDLE, NOISE), mean(window.short, SHORT, NOISE)];
    let first = long.unwrap_or(short[0]);
    short.into_iter().fold(first, |a, b| if b.pods > a.pods { b } else { a })
}

/// Pods for this much. What is too much for an integer is its greatest.
#[allow(clippy::cast_possible_truncation)]
fn needed(config: &Config, value: f64) -> i32 {
    config.target.map_or(i32::from(value > 0.0), |target| (value / target - 1e-9).ceil().max(0.0) as i32)
}

impl Mean {
    /// Such as `Concurrency 12.4 over 6 s, target 8: 2 pods`.
    fn says(&self, config: &Config, replicas: i32) -> String {
        let metric = config.metric.as_str();
        let how = if self.most { "at most in" } else { "over" };
        let target = config.target.map_or_else(String::new, |target| format!(", target {target}"));
        // The query says over how long.
        let when = match config.metric {
            ScaleMetric::Prometheus | ScaleMetric::QueueLag if self.most => {
                format!("at most in {} s", self.span.as_secs())
            }
            ScaleMetric::Prometheus | ScaleMetric::QueueLag => "now".to_owned(),
            _ => format!("{how} {} s", self.span.as_secs()),
        };
        let limit = match self.pods {
            more if more > replicas && replicas == config.max => format!(", and max is {}", config.max),
            more if more > replicas => format!(" of the {more} that it asks for, {FASTEST_UP} times as many at a time"),
            less if less < replicas && self.most => ", half of them at a time".to_owned(),
            less if less < config.min => format!(", and min is {}", config.min),
            _ => String::new(),
        };
        format!("{metric} {:.1} {when}{target}: {}{limit}", self.value, pods(replicas))
    }
}

pub(crate) fn pods(n: i32) -> String {
    format!("{n} pod{}", if n == 1 { "" } else { "s" })
}
