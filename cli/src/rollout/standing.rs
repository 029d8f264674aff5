//! Where a rollout stands, in one word.

use millrace_core::api::ModelDeployment;
use millrace_core::deployment::SCALED_TO_ZERO;
use serde::Serialize;

use crate::show::condition;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Standing {
    /// What the spec asks for is served.
    Promoted,
    /// On its way.
    Progressing,
    /// It waits for a person.
    Paused,
    /// It was given up: an analysis failed, its pods did, or a person aborted it.
    RolledBack,
    /// It does not go on without a change.
    Stalled,
}

impl Standing {
    /// Nothing more happens by itself.
    pub fn is_over(self) -> bool {
        match self {
            Self::Promoted | Self::RolledBack | Self::Stalled => true,
            Self::Progressing | Self::Paused => false,
        }
    }

    /// The answer to "is it well?".
    pub fn is_well(self) -> bool {
        match self {
            Self::Promoted | Self::Progressing | Self::Paused => true,
            Self::RolledBack | Self::Stalled => false,
        }
    }
}

/// Where it stands, as the operator says of the spec that it has now.
pub fn standing(deployment: &ModelDeployment) -> Standing {
    let Some(status) = &deployment.status else { return Standing::Progressing };
    // What it said of an earlier spec says nothing of this one.
    let said = |kind: &str| {
        condition(&status.conditions, kind).filter(|c| c.observed_generation == deployment.metadata.generation)
    };
    let is = |kind: &str| said(kind).is_some_and(|condition| condition.status == "True");
    let rollout = status.rollout.as_ref();
    if said("Ready").is_none() {
        Standing::Progressing
    } else if is("Ready") || said("Ready").is_some_and(|ready| ready.reason == SCALED_TO_ZERO) && !is("Reconciling") {
        // Nobody wants a pod of it: there is nothing more to wait for.
        Standing::Promoted
    } else if is("Stalled") {
        if rollout.is_some_and(|rollout| rollout.rejected.is_some()) { Standing::RolledBack } else { Standing::Stalled }
    } else if rollout.is_some_and(|rollout| rollout.paused.is_some()) {
        Standing::Paused
    } else {
        Standing::Progressing
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(conditions: &Value, rollout: &Value) -> Standing {
        let mut conditions = conditions.clone();
        for one in conditions.as_array_mut().unwrap() {
            one["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
            one["message"] = json!("");
            if one["reason"].is_null() {
                one["reason"] = json!("R");
            }
        }
        let object = json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": "m", "generation": 2 },
            "spec": { "model": { "name": "m" } }, "status": { "conditions": conditions, "rollout": rollout },
        });
        standing(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn it_is_what_the_operator_says_of_the_spec_that_is_there_now() {
        let ready = |status: &str, of: i64| json!({ "type": "Ready", "status": status, "observedGeneration": of });
        let stalled = json!({ "type": "Stalled", "status": "True", "observedGeneration": 2 });
        let mark = json!({ "reason": "Approval", "message": "m" });
        let on = |key: &str| json!({ "revision": "r", key: mark });
        assert_eq!(with(&json!([ready("True", 2)]), &json!(null)), Standing::Promoted);
        assert_eq!(with(&json!([ready("True", 1)]), &json!(null)), Standing::Progressing);
        assert_eq!(with(&json!([ready("False", 2)]), &json!({ "revision": "r" })), Standing::Progressing);
        assert_eq!(with(&json!([ready("False", 2)]), &on("paused")), Standing::Paused);
        assert_eq!(with(&json!([ready("False", 2), stalled]), &on("rejected")), Standing::RolledBack);
        assert_eq!(with(&json!([ready("False", 2), stalled]), &json!(null)), Standing::Stalled);
        let mut zero = ready("False", 2);
        zero["reason"] = json!("ScaledToZero");
        assert_eq!(with(&json!([zero]), &json!(null)), Standing::Promoted);
        let lack = json!({ "type": "Reconciling", "status": "True", "observedGeneration": 2 });
        assert_eq!(with(&json!([zero, lack]), &json!(null)), Standing::Progressing);
    }
}
