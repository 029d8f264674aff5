//! What a stage used: its attempts added up, as their agents report it, and the devices that they held. A run's is that of its stages.

use std::collections::BTreeMap;

use millrace_contract::Usage;

use super::pass::{Pass, Stages};
use super::{fan_out, nested};
use crate::api::{StageStatus, StageUsage};
use crate::names;
use crate::pipeline::{FrozenContainer, FrozenKind};
use crate::pod;

/// More kinds of devices than this are not told of.
const DEVICES: usize = 8;

/// What is used after another attempt.
pub(super) fn with(before: Option<StageUsage>, stage: &FrozenContainer, more: &Usage) -> StageUsage {
    let Usage { cpu_seconds, peak_memory_bytes, wall_seconds } = *more;
    let device_seconds = devices(stage).map(|(name, count)| (name.to_owned(), count * wall_seconds)).collect();
    sum(&before.unwrap_or_default(), &StageUsage { cpu_seconds, peak_memory_bytes, wall_seconds, device_seconds })
}

/// What all stages used; nothing as long as none has.
pub(super) fn of_run(stages: &Stages) -> Option<StageUsage> {
    stages.values().filter_map(|stage| stage.usage.clone()).reduce(|all, one| sum(&all, &one))
}

/// What the runs of a stage with `pipeline` used, those of earlier attempts too; nothing as long as none has.
pub(super) fn of_runs(pass: &Pass<'_>, stage: &str) -> Option<StageUsage> {
    let runs = pass.observed.nested.values().filter(|run| nested::label(run, names::STAGE_LABEL) == Some(stage));
    runs.filter_map(|run| run.status.as_ref()?.usage.clone()).reduce(|all, one| sum(&all, &one))
}

/// Stages with `pipeline` have used what their runs have, until these end, which may be after the stage. Of items it is taken as often as they are
/// counted: each of a thousand runs would be a write of its own.
pub(super) fn take_over(pass: &Pass<'_>, old: &Stages, stages: &mut Stages) {
    for (name, frozen) in &pass.frozen.stages {
        let Some(status) = stages.get_mut(name).filter(|_| matches!(frozen.kind, FrozenKind::Pipeline(_))) else {
            continue;
        };
        let counted = |status: &StageStatus| status.items.as_ref().and_then(|items| items.time.clone());
        let recent =
            status.items.is_some() && !status.state.ended() && old.get(name).map(counted) == Some(counted(status));
        // Then it has an attempt of its own, which adds to it.
        if fan_out::collects(status) || recent {
            continue;
        }
        if let Some(used) = of_runs(pass, name) {
            status.usage = Some(used);
        }
    }
}

/// The devices that a pod of the stage has. One has them whole, however much of them its program uses.
fn devices(stage: &FrozenContainer) -> impl Iterator<Item = (&str, f64)> {
    let limits = stage.container.settings.resources.iter().flat_map(|resources| &resources.limits);
    limits
        .filter(|(name, _)| pod::is_extended(name))
        .filter_map(|(name, value)| Some((name.as_str(), pod::amount(value).filter(|count| *count > 0.0)?)))
}

fn sum(a: &StageUsage, b: &StageUsage) -> StageUsage {
    let mut device_seconds: BTreeMap<String, f64> = a.device_seconds.clone();
    for (name, seconds) in &b.device_seconds {
        if device_seconds.len() < DEVICES || device_seconds.contains_key(name) {
            *device_seconds.entry(name.clone()).or_default() += seconds;
        }
    }
    for seconds in device_seconds.values_mut() {
        *seconds = millis(*seconds);
    }
    StageUsage {
        cpu_seconds: millis(a.cpu_seconds + b.cpu_seconds),
        peak_memory_bytes: a.peak_memory_bytes.max(b.peak_memory_bytes),
        wall_seconds: millis(a.wall_seconds + b.wall_seconds),
        device_seconds,
    }
}

/// To a thousandth: what is read back is what was written.
fn millis(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::StageStatus;

    fn stage(limits: &Value) -> FrozenContainer {
        serde_json::from_value(json!({
            "container": { "image": "i", "command": ["c"], "resources": { "limits": limits } },
            "inputs": {}, "outputs": {}, "retry": {}, "pendingTimeoutSeconds": 1,
        }))
        .unwrap()
    }

    fn used(cpu_seconds: f64, peak_memory_bytes: u64, wall_seconds: f64) -> Usage {
        Usage { cpu_seconds, peak_memory_bytes, wall_seconds }
    }

    #[test]
    fn attempts_add_up_and_the_largest_peak_stays() {
        let stage = stage(&json!({ "memory": "1Gi", "nvidia.com/gpu": "2", "kubernetes.io/x": 3 }));
        let first = with(None, &stage, &used(0.1, 500, 10.0));
        let both = with(Some(first), &stage, &used(0.2, 400, 5.5));
        let expected = json!({
            "cpuSeconds": 0.3, "peakMemoryBytes": 500, "wallSeconds": 15.5, "deviceSeconds": { "nvidia.com/gpu": 31.0 },
        });
        assert_eq!(json!(both), expected);
    }

    #[test]
    fn a_run_has_used_what_its_stages_have() {
        let of = |usage: Option<StageUsage>| StageStatus { usage, ..StageStatus::default() };
        let gpu = with(None, &stage(&json!({ "nvidia.com/gpu": 1 })), &used(1.0, 7, 60.0));
        let plain = with(None, &stage(&json!({})), &used(2.0, 9, 1.0));
        let stages = Stages::from([("a".into(), of(Some(gpu))), ("b".into(), of(Some(plain))), ("c".into(), of(None))]);
        let all = of_run(&stages).unwrap();
        assert_eq!((all.cpu_seconds, all.peak_memory_bytes, all.wall_seconds), (3.0, 9, 61.0));
        assert_eq!(all.device_seconds, BTreeMap::from([("nvidia.com/gpu".to_owned(), 60.0)]));
        assert_eq!(of_run(&Stages::from([("c".into(), of(None))])), None);
    }
}
