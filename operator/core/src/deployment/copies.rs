//! Copies of the promoted revision's requests, which the revision that comes answers too: what an analysis of their agreement is of.

use super::look::WHOLE;
use super::steps::{Step, steps};
use crate::api::{AnalysisMetric, ModelDeployment, Rollout, RolloutStrategy};
use crate::problem::Problem;

/// Where the spec says nothing: with all of them a canary would need as many pods as the promoted revision.
const OF_CANARY: f64 = 0.1;
const ALL: f64 = 1.0;

/// The share of the promoted revision's requests that is copied, in steps in which it has some.
pub(super) fn sample(rollout: &Rollout) -> Option<f64> {
    let unsaid = match rollout.strategy {
        RolloutStrategy::Shadow => return Some(rollout.sample.unwrap_or(ALL)),
        RolloutStrategy::Recreate => return None,
        RolloutStrategy::Canary => OF_CANARY,
        RolloutStrategy::BlueGreen => ALL,
    };
    rollout.sample.or_else(|| compares_answers(rollout).then_some(unsaid))
}

/// Percent of the promoted revision's pods that a revision needs for these requests and copies.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn share(weight: i32, sample: Option<f64>) -> i32 {
    let copied = sample.unwrap_or_default() * f64::from(WHOLE - weight);
    (f64::from(weight) + copied - 1e-9).ceil() as i32
}

fn compares_answers(rollout: &Rollout) -> bool {
    rollout.analysis.values().any(|analysis| analysis.metric == Some(AnalysisMetric::Agreement))
}

/// Copies that are asked for and that no step would make.
pub(super) fn check(deployment: &ModelDeployment) -> Vec<Problem> {
    let Some(rollout) = &deployment.spec.rollout else { return Vec::new() };
    let steps = steps(Some(rollout));
    let nothing = |path: String, what: &str| {
        let message = format!(
            "{what} copies of the promoted revision's requests, and with weight 100 it has none: write a step with less, such as {{weight: 0, hold: 10m}}"
        );
        Problem::new(path, "NothingCopied", message)
    };
    let mut problems = Vec::new();
    if rollout.sample.is_some() && !steps.iter().any(|step| step.sample.is_some()) {
        problems.push(nothing("spec.rollout.sample".to_owned(), "it asks for"));
    }
    let looks = |step: &Step| step.sample.is_some() && (step.pause || !step.hold.is_zero());
    if !steps.iter().any(looks) {
        let blind = rollout.analysis.iter().filter(|(_, one)| one.metric == Some(AnalysisMetric::Agreement));
        problems
            .extend(blind.map(|(name, _)| {
                nothing(format!("spec.rollout.analysis.{name}.metric"), "Agreement is of answers to")
            }));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(value: Value) -> Rollout {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_copied_follows_from_the_strategy_unless_it_is_said() {
        let same = json!({ "same": { "metric": "Agreement", "min": 0.9 } });
        for (value, found) in [
            (json!({ "strategy": "Shadow" }), Some(1.0)),
            (json!({ "strategy": "Canary" }), None),
            (json!({ "strategy": "Canary", "analysis": { "e": { "metric": "ErrorRate", "max": 0.1 } } }), None),
            (json!({ "strategy": "Canary", "analysis": same }), Some(0.1)),
            (json!({ "strategy": "Canary", "sample": 0.5 }), Some(0.5)),
            (json!({ "strategy": "Canary", "sample": 0.02, "analysis": same }), Some(0.02)),
            (json!({ "strategy": "BlueGreen", "analysis": same }), Some(1.0)),
            (json!({ "strategy": "BlueGreen" }), None),
            (json!({ "strategy": "Recreate" }), None),
        ] {
            assert_eq!(sample(&rollout(value.clone())), found, "{value}");
        }
    }

    #[test]
    fn there_are_pods_for_requests_and_copies() {
        for (weight, sample, percent) in [
            (5, None, 5),
            (7, None, 7),
            (5, Some(0.1), 15),
            (50, Some(0.1), 55),
            (50, Some(1.0), 100),
            (0, Some(0.025), 3),
            (0, Some(1.0), 100),
        ] {
            assert_eq!(share(weight, sample), percent, "{weight} {sample:?}");
        }
    }

    #[test]
    fn copies_that_no_step_would_make_are_refused() {
        let problems = |value: Value| {
            let mut deployment = ModelDeployment::default();
            deployment.spec.rollout = Some(rollout(value));
            check(&deployment).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let same = json!({ "same": { "metric": "Agreement", "min": 0.9 } });
        let inherits = json!([{ "weight": 100 }, { "hold": "5m" }]);
        let sampled = problems(json!({ "strategy": "Canary", "sample": 0.5, "steps": inherits }));
        assert!(sampled.len() == 1 && sampled[0].starts_with("spec.rollout.sample: it asks for copies"), "{sampled:?}");
        let compared = problems(json!({ "strategy": "Canary", "analysis": same, "steps": inherits }));
        let says = "spec.rollout.analysis.same.metric: Agreement is of answers to copies";
        assert!(compared.len() == 1 && compared[0].starts_with(says), "{compared:?}");
        let never = json!([{ "weight": 5 }, { "weight": 100, "hold": "5m" }]);
        assert_eq!(problems(json!({ "strategy": "BlueGreen", "analysis": same, "steps": never })).len(), 1);
        let steps = json!([{ "weight": 5, "pause": true }, { "weight": 100 }]);
        assert_eq!(
            problems(json!({ "strategy": "Canary", "sample": 1, "analysis": same, "steps": steps })),
            Vec::<String>::new()
        );
    }
}
