//! The steps of a rollout, as they are carried out.

use std::time::Duration;

use super::look::WHOLE;
use crate::api::{Analysis, Rollout, RolloutStrategy};
use crate::duration;

/// Where the spec says nothing.
const MAX_HOLD: Duration = Duration::from_mins(30);

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Percent of the requests.
    pub weight: i32,
    /// Percent of the promoted revision's pods.
    pub share: i32,
    /// The share of requests that is copied.
    pub sample: Option<f64>,
    pub hold: Duration,
    pub pause: bool,
}

/// The steps before it is promoted. None: it gets everything at once.
pub(super) fn steps(rollout: Option<&Rollout>) -> Vec<Step> {
    let Some(rollout) = rollout.filter(|rollout| rollout.strategy != RolloutStrategy::Recreate) else {
        return Vec::new();
    };
    let mut weight = 0;
    let step = |step: &crate::api::RolloutStep| {
        weight = step.weight.unwrap_or(weight);
        let sample = (rollout.strategy == RolloutStrategy::Shadow).then(|| rollout.sample.unwrap_or(1.0));
        let share = match (rollout.strategy, sample) {
            // It gets everything at once.
            (RolloutStrategy::BlueGreen, _) => WHOLE,
            (_, Some(sample)) => percent(sample),
            (_, None) => weight,
        };
        let hold = step.hold.as_deref().and_then(duration::parse).unwrap_or_default();
        Step { weight, share, sample, hold, pause: step.pause.unwrap_or_default() }
    };
    rollout.steps.iter().map(step).collect()
}

#[allow(clippy::cast_possible_truncation)]
fn percent(sample: f64) -> i32 {
    (sample * f64::from(WHOLE) - 1e-9).ceil() as i32
}

/// So long a step waits for the requests that an analysis needs.
pub(super) fn max_hold(analysis: &Analysis, hold: Duration) -> Duration {
    analysis.max_hold.as_deref().and_then(duration::parse).unwrap_or(MAX_HOLD).max(hold)
}
