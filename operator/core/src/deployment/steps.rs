//! The steps of a rollout, as they are carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::copies;
use super::look::WHOLE;
use crate::api::{Analysis, AnalysisMetric, Rollout, RolloutStrategy};
use crate::duration;

/// Where the spec says nothing.
const MAX_HOLD: Duration = Duration::from_mins(30);
/// The same for what is reported once labels have come.
const MAX_HOLD_OF_LIVE: Duration = Duration::from_hours(7 * 24);

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Percent of the requests.
    pub weight: i32,
    /// Percent of the promoted revision's pods.
    pub share: i32,
    /// The share of the promoted revision's requests that is copied.
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
        // Where it has all requests, none is left to be copied.
        let sample = copies::sample(rollout).filter(|_| weight < WHOLE);
        // All at once is what a BlueGreen gets in the end.
        let share = if rollout.strategy == RolloutStrategy::BlueGreen { WHOLE } else { copies::share(weight, sample) };
        let hold = step.hold.as_deref().and_then(duration::parse).unwrap_or_default();
        Step { weight, share, sample, hold, pause: step.pause.unwrap_or_default() }
    };
    rollout.steps.iter().map(step).collect()
}

/// The analyses that the step of this number, from 1, has figures for: where nothing is copied, nothing can agree.
pub(super) fn analyses(rollout: Option<&Rollout>, at: i32) -> BTreeMap<String, Analysis> {
    let steps = steps(rollout);
    let step = usize::try_from(at).ok().and_then(|at| steps.get(at.checked_sub(1)?));
    let copied = step.is_none_or(|step| step.sample.is_some());
    let looked_at = |analysis: &Analysis| copied || analysis.metric != Some(AnalysisMetric::Agreement);
    let all = rollout.iter().flat_map(|rollout| &rollout.analysis);
    all.filter(|(_, one)| looked_at(one)).map(|(name, one)| (name.clone(), one.clone())).collect()
}

/// So long a step waits for the requests that an analysis needs, or for the report.
pub(super) fn max_hold(analysis: &Analysis, hold: Duration) -> Duration {
    let unsaid = if analysis.live.is_some() { MAX_HOLD_OF_LIVE } else { MAX_HOLD };
    analysis.max_hold.as_deref().and_then(duration::parse).unwrap_or(unsaid).max(hold)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn labels_take_days_and_requests_minutes_unless_it_is_said() {
        let hour = Duration::from_hours(1);
        let week = hour * 24 * 7;
        let longest = |analysis: Value, hold: Duration| {
            let analysis: Analysis = serde_json::from_value(analysis).unwrap();
            max_hold(&analysis, hold)
        };
        assert_eq!(longest(json!({ "metric": "ErrorRate", "max": 0.1 }), Duration::ZERO), hour / 2);
        assert_eq!(longest(json!({ "metric": "ErrorRate", "max": 0.1 }), hour), hour);
        assert_eq!(longest(json!({ "live": "accuracy", "min": 0.8 }), hour), week);
        assert_eq!(longest(json!({ "live": "accuracy", "min": 0.8 }), week * 2), week * 2);
        assert_eq!(longest(json!({ "live": "accuracy", "min": 0.8, "maxHold": "2h" }), Duration::ZERO), hour * 2);
    }
}
