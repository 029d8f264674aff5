//! `retry.memoryGrowth`: how much memory an attempt gets after one that ran out of it. It is in the stage's status before the attempt is made, and
//! grows from what is there.

use serde_json::Value;

use crate::api::{PodSettings, StageStatus};
use crate::pipeline::FrozenContainer;
use crate::pod::{amount, quantity};

/// Reason of an attempt that ran out of memory, as the agent and the kubelet say it.
pub(super) const OUT_OF_MEMORY: &str = "OOMKilled";

const FACTOR: f64 = 1.5;
const MEBIBYTE: f64 = 1_048_576.0;
const MEMORY: &str = "memory";

/// The limit of the attempt after one that ran out of memory; nothing if it is to be the same.
pub(super) fn grown(stage: &FrozenContainer, status: &StageStatus) -> Option<String> {
    let growth = stage.retry.memory_growth.as_ref()?;
    let own = stage.container.settings.resources.as_ref()?.limits.get(MEMORY)?;
    let now = status.memory.clone().map_or_else(|| own.clone(), Value::String);
    let (bytes, max) = (amount(&now)?, amount(&growth.max)?);
    let next = bytes * growth.factor.unwrap_or(FACTOR);
    let next = if next >= max { quantity(&growth.max).0 } else { mebibytes(next) };
    (bytes < max).then_some(next)
}

/// Gives the container the memory that its attempt is to have. Its request keeps its part of the limit.
pub(super) fn give(settings: &mut PodSettings, status: &StageStatus) {
    let (Some(memory), Some(resources)) = (&status.memory, &mut settings.resources) else { return };
    let given = Value::String(memory.clone());
    let limit = resources.limits.insert(MEMORY.to_owned(), given.clone());
    let asked = resources.requests.get(MEMORY).and_then(amount);
    if let (Some(asked), Some(limit), Some(bytes)) = (asked, limit.as_ref().and_then(amount), amount(&given)) {
        let share = if asked < limit { Value::String(mebibytes((asked / limit * bytes).floor())) } else { given };
        resources.requests.insert(MEMORY.to_owned(), share);
    }
}

/// Rounded up to whole mebibytes.
fn mebibytes(bytes: f64) -> String {
    format!("{}Mi", (bytes / MEBIBYTE).ceil())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
    fn stage(resources: Value, growth: Value) -> FrozenContainer {
        serde_json::from_value(json!({
            "container": { "image": "i", "command": ["c"], "resources": resources }, "inputs": {}, "outputs": {},
            "retry": { "limit": 5, "memoryGrowth": growth }, "pendingTimeoutSeconds": 1,
        }))
        .unwrap()
    }

    #[test]
    fn memory_grows_by_its_factor_up_to_its_maximum_and_no_further() {
        let stage = stage(json!({ "limits": { "memory": "1G" } }), json!({ "factor": 2, "max": "4Gi" }));
        let after = |memory: Option<&str>| {
            grown(&stage, &StageStatus { memory: memory.map(str::to_owned), ..StageStatus::default() })
        };
        assert_eq!(after(None).as_deref(), Some("1908Mi"));
        assert_eq!(after(Some("1908Mi")).as_deref(), Some("3816Mi"));
        assert_eq!(after(Some("3816Mi")).as_deref(), Some("4Gi"));
        assert_eq!(after(Some("4Gi")), None);
    }

    #[test]
    fn the_request_keeps_its_part_of_the_limit() {
        let given = |requests: Value| {
            let resources = json!({ "limits": { "memory": "1Gi", "cpu": 1 }, "requests": requests });
            let mut settings = stage(resources, json!({ "max": "8Gi" })).container.settings;
            give(&mut settings, &StageStatus { memory: Some("2Gi".into()), ..StageStatus::default() });
            serde_json::to_value(settings.resources).unwrap()
        };
        let limits = json!({ "memory": "2Gi", "cpu": 1 });
        assert_eq!(given(json!({ "memory": "256Mi" })), json!({ "limits": limits, "requests": { "memory": "512Mi" } }));
        assert_eq!(given(json!({ "memory": "1Gi" })), json!({ "limits": limits, "requests": { "memory": "2Gi" } }));
        assert_eq!(given(json!({ "cpu": 1 })), json!({ "limits": limits, "requests": { "cpu": 1 } }));
    }
}
