//! The rule by which requests and limits are proposed. It is that of Kubernetes' Vertical Pod Autoscaler, as far as it fits what a run keeps: 15 %
//! above what was used (its `recommendation-margin-fraction`), and after a lack of memory 20 % or 100 MiB more (its `oom-bump-up-ratio` and
//! `oom-min-bump-up-bytes`). Where the autoscaler has samples over time and takes a high percentile, a run has one peak of memory and one mean of
//! the processor: the largest of all runs is taken.

use std::collections::BTreeMap;

use millrace_core::api::{Resources, StageUsage};
use millrace_core::pod;
use serde::Serialize;

const MARGIN: f64 = 1.15;
const BUMP: f64 = 1.2;
const LEAST_BUMP: f64 = 100.0 * MI;
/// A proposal that is as near as this to what is asked is no reason to change anything.
const NEAR: f64 = 0.2;
/// A pod that had so much of its limit may have had more files in the cache than it needs: nobody can tell.
const AT_LIMIT: f64 = 0.97;
/// What ran for less than this, in seconds, tells nothing of the processor.
const SHORT: f64 = 1.0;
const LEAST_CPU: f64 = 0.01;
const MI: f64 = 1024.0 * 1024.0;

/// What a run says of a stage.
#[derive(Clone, Debug)]
pub struct Sample {
    pub usage: StageUsage,
    /// It failed for want of memory.
    pub out_of_memory: bool,
}

/// What a stage should ask for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// Runs that tell something.
    pub runs: usize,
    /// Bytes.
    pub memory: Figures,
    /// Cores.
    pub cpu: Figures,
    /// Devices that are asked for, with the seconds for which they were held.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_seconds: BTreeMap<String, f64>,
    /// As it is written in a stage's container. Of the processor there is no limit: it would only make the stage slower.
    pub resources: Resources,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposed: Option<f64>,
    pub change: Change,
}

/// What of the request should be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Change {
    /// Nothing is known.
    #[default]
    Unknown,
    Keep,
    /// Nothing is asked now.
    Set,
    Raise,
    Lower,
}

/// What a stage should ask for that used so much and asks for so much now.
pub fn of(samples: &[Sample], asked: &Resources) -> Advice {
    let amount = |of: &BTreeMap<String, serde_json::Value>, name: &str| of.get(name).and_then(pod::amount);
    let now = |name: &str| {
        let limit = amount(&asked.limits, name);
        // Without a request Kubernetes takes the limit.
        Figures { request: amount(&asked.requests, name).or(limit), limit, ..Figures::default() }
    };
    let mut notes = Vec::new();
    let memory = memory(samples, now("memory"), &mut notes);
    let cpu = cpu(samples, now("cpu"), &mut notes);
    let mut resources = asked.clone();
    if let Some(bytes) = memory.proposed {
        for of in [&mut resources.requests, &mut resources.limits] {
            of.insert("memory".to_owned(), mebibytes(bytes).into());
        }
    }
    if let Some(cores) = cpu.proposed {
        resources.requests.insert("cpu".to_owned(), millicores(cores).into());
        // A limit below the request would be refused.
        if cpu.limit.is_some_and(|limit| limit < cores) {
            resources.limits.insert("cpu".to_owned(), millicores(cores).into());
        }
    }
    let mut device_seconds: BTreeMap<String, f64> = BTreeMap::new();
    for (name, seconds) in samples.iter().flat_map(|sample| &sample.usage.device_seconds) {
        *device_seconds.entry(name.clone()).or_default() += seconds;
    }
    Advice { runs: samples.len(), memory, cpu, device_seconds, resources, notes }
}

fn memory(samples: &[Sample], now: Figures, notes: &mut Vec<String>) -> Figures {
    let used = largest(samples.iter().map(|sample| sample.usage.peak_memory_bytes as f64));
    let killed = samples.iter().any(|sample| sample.out_of_memory);
    let proposed = if killed {
        notes.push("it ran out of memory".to_owned());
        // Who is killed at its limit would have taken more than was seen.
        largest([used, now.limit].into_iter().flatten()).map(|base| (base * BUMP).max(base + LEAST_BUMP) * MARGIN)
    } else if let (Some(used), Some(limit)) = (used, now.limit)
        && used >= limit * AT_LIMIT
    {
        notes.push(
            "it reached its limit of memory without a failure: that may be files in the cache, so the limit stays"
                .to_owned(),
        );
        Some(limit)
    } else {
        used.map(|used| used * MARGIN)
    };
    let proposed = proposed.map(up_to_step);
    if let (Some(request), Some(limit), Some(proposed)) = (now.request, now.limit, proposed)
        && request < proposed
        && proposed < limit
    {
        let (proposed, limit) = (mebibytes(proposed), mebibytes(limit));
        notes.push(format!("{proposed} of memory is both its request and its limit, which was {limit}"));
    }
    judged(Figures { used, proposed, ..now })
}

fn cpu(samples: &[Sample], now: Figures, notes: &mut Vec<String>) -> Figures {
    let long = samples.iter().filter(|sample| sample.usage.wall_seconds >= SHORT);
    let used = largest(long.map(|sample| sample.usage.cpu_seconds / sample.usage.wall_seconds));
    if used.is_none() {
        notes.push("it never ran for a second: nothing is known of its use of the processor".to_owned());
    }
    let proposed = used.map(|used| ((used * MARGIN).max(LEAST_CPU) * 100.0).ceil() / 100.0);
    judged(Figures { used, proposed, ..now })
}

fn judged(figures: Figures) -> Figures {
    let change = match (figures.request, figures.proposed) {
        (_, None) => Change::Unknown,
        (None, Some(_)) => Change::Set,
        (Some(asked), Some(proposed)) if (asked - proposed).abs() <= proposed * NEAR => Change::Keep,
        (Some(asked), Some(proposed)) if asked < proposed => Change::Raise,
        (Some(_), Some(_)) => Change::Lower,
    };
    Figures { change, ..figures }
}

fn largest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.filter(|value| *value > 0.0).reduce(f64::max)
}

/// Up to what people write: in steps of 8 MiB, and of 64 MiB and 256 MiB where it is much.
fn up_to_step(bytes: f64) -> f64 {
    let step = if bytes <= 256.0 * MI {
        8.0 * MI
    } else if bytes <= 2048.0 * MI {
        64.0 * MI
    } else {
        256.0 * MI
    };
    (bytes / step).ceil() * step
}

/// `768Mi`.
pub fn mebibytes(bytes: f64) -> String {
    let mebi = (bytes / MI).ceil();
    if mebi > 0.0 && mebi % 1024.0 == 0.0 { format!("{:.0}Gi", mebi / 1024.0) } else { format!("{mebi:.0}Mi") }
}

/// `250m`, or `2`.
pub fn millicores(cores: f64) -> String {
    let milli = (cores * 1000.0).round();
    if milli % 1000.0 == 0.0 { format!("{:.0}", milli / 1000.0) } else { format!("{milli:.0}m") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample(mebi: u64, cpu_seconds: f64, wall_seconds: f64) -> Sample {
        let usage = StageUsage { peak_memory_bytes: mebi << 20, cpu_seconds, wall_seconds, ..StageUsage::default() };
        Sample { usage, out_of_memory: false }
    }

    fn proposed(samples: &[Sample], asked: &Value) -> (Value, Change, Change) {
        let advice = of(samples, &serde_json::from_value(asked.clone()).unwrap());
        (json!(advice.resources), advice.memory.change, advice.cpu.change)
    }

    #[test]
    fn the_largest_of_all_runs_counts_with_a_margin() {
        let samples = [sample(100, 10.0, 20.0), sample(200, 3.0, 3.0), sample(50, 0.1, 10.0)];
        let expected = json!({ "requests": { "cpu": "1150m", "memory": "232Mi" }, "limits": { "memory": "232Mi" } });
        assert_eq!(proposed(&samples, &json!({})), (expected.clone(), Change::Set, Change::Set));
        let asked = json!({ "requests": { "cpu": 1, "memory": "1Gi" }, "limits": { "memory": "2Gi" } });
        assert_eq!(proposed(&samples, &asked), (expected, Change::Lower, Change::Keep));
        // Devices stay as they are asked for.
        let gpu = json!({ "limits": { "nvidia.com/gpu": 2, "memory": "100Mi", "cpu": "500m" } });
        let (resources, memory, cpu) = proposed(&[sample(90, 20.0, 20.0)], &gpu);
        assert_eq!(resources["limits"], json!({ "nvidia.com/gpu": 2, "memory": "104Mi", "cpu": "1150m" }));
        assert_eq!((memory, cpu), (Change::Keep, Change::Raise));
    }

    #[test]
    fn a_lack_of_memory_raises_the_limit_above_what_was_there() {
        let killed = Sample { out_of_memory: true, ..sample(60, 1.0, 2.0) };
        let (resources, change, _) = proposed(&[killed], &json!({ "limits": { "memory": "64Mi" } }));
        assert_eq!((resources["limits"]["memory"].as_str(), change), (Some("192Mi"), Change::Raise));
        let large = Sample { out_of_memory: true, ..sample(0, 1.0, 2.0) };
        let (resources, _, _) = proposed(&[large], &json!({ "limits": { "memory": "10Gi" } }));
        assert_eq!(resources["requests"]["memory"], "14Gi");
        // Nothing is known at all.
        let unknown = Sample { out_of_memory: true, ..sample(0, 0.0, 0.0) };
        assert_eq!(proposed(&[unknown], &json!({})).1, Change::Unknown);
    }

    #[test]
    fn what_filled_its_limit_without_a_failure_is_left_alone() {
        let asked = json!({ "requests": { "memory": "1Gi" }, "limits": { "memory": "1Gi" } });
        let advice = of(&[sample(1020, 1.0, 2.0)], &serde_json::from_value(asked).unwrap());
        assert_eq!((advice.memory.change, advice.resources.limits["memory"].as_str()), (Change::Keep, Some("1Gi")));
        assert!(advice.notes[0].contains("cache"), "{:?}", advice.notes);
    }

    #[test]
    fn what_was_too_short_says_nothing_of_the_processor() {
        let advice = of(&[sample(10, 0.9, 0.9)], &Resources::default());
        assert_eq!((advice.cpu.change, advice.cpu.proposed), (Change::Unknown, None));
        assert!(!advice.resources.requests.contains_key("cpu"));
        assert_eq!(of(&[sample(10, 0.0001, 10.0)], &Resources::default()).cpu.proposed, Some(LEAST_CPU));
    }

    #[test]
    fn amounts_are_written_as_people_do() {
        assert_eq!([mebibytes(MI * 2048.0), mebibytes(MI * 100.5)], ["2Gi", "101Mi"]);
        assert_eq!([millicores(0.25), millicores(2.0)], ["250m", "2"]);
        assert_eq!(
            [up_to_step(1.0), up_to_step(300.0 * MI), up_to_step(3000.0 * MI)].map(mebibytes),
            ["8Mi", "320Mi", "3Gi"]
        );
    }
}
