//! The graph of a run: the order of its stages, and what a stage that has not begun may do now.

use std::collections::{BTreeMap, BTreeSet};

use super::pass::Stages;
use crate::api::StageState;
use crate::pipeline::FrozenStage;

/// Reason of a stage that succeeded, but whose gate said no.
pub(super) const GATE_REJECTED: &str = "GateRejected";
/// Reason of a stage that needs one that failed.
pub(super) const UPSTREAM_FAILED: &str = "UpstreamFailed";
/// Reason of a stage that was not begun because another one had failed.
pub(super) const NOT_STARTED: &str = "NotStarted";

/// The stages, every one after those it needs; by name among equals, so that each pass takes the same order.
pub(super) fn order(stages: &BTreeMap<String, FrozenStage>) -> Vec<&str> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut order = Vec::with_capacity(stages.len());
    loop {
        let before = order.len();
        for (name, stage) in stages {
            let free = stage.needs.iter().all(|need| done.contains(need.as_str()) || !stages.contains_key(need));
            if free && done.insert(name) {
                order.push(name.as_str());
            }
        }
        // A cycle cannot be here, the check refuses it; if one were, its stages would not be run.
        if order.len() == before {
            return order;
        }
    }
}

/// All stages that `stage` depends on, directly or not.
pub(super) fn ancestors<'a>(stages: &'a BTreeMap<String, FrozenStage>, stage: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = vec![stage];
    while let Some(name) = open.pop() {
        for need in stages.get(name).iter().flat_map(|stage| &stage.needs) {
            if found.insert(need.as_str()) {
                open.push(need);
            }
        }
    }
    found
}

/// What a stage that has not begun does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Begin,
    Wait,
    Skip { reason: &'static str, message: String },
}

/// Looks at the stages that `stage` needs, then at the whole run: once a stage has failed, nothing new begins.
pub(super) fn turn(stage: &FrozenStage, stages: &Stages) -> Turn {
    let mut waits = false;
    for need in &stage.needs {
        let Some(status) = stages.get(need) else { continue };
        let rejected = status.reason.as_deref() == Some(GATE_REJECTED);
        match status.state {
            StageState::Failed => return skip(UPSTREAM_FAILED, format!("stage `{need}` failed")),
            StageState::Succeeded if rejected => {
                return skip(GATE_REJECTED, format!("the gate of stage `{need}` said no"));
            }
            StageState::Skipped if rejected => return skip(GATE_REJECTED, format!("stage `{need}` was skipped")),
            StageState::Skipped => return skip(UPSTREAM_FAILED, format!("stage `{need}` was skipped")),
            StageState::Succeeded => {}
            StageState::Waiting | StageState::Pending | StageState::Running | StageState::BackingOff => waits = true,
        }
    }
    if let Some((failed, _)) = stages.iter().find(|(_, status)| status.state == StageState::Failed) {
        return skip(NOT_STARTED, format!("not begun because stage `{failed}` failed"));
    }
    if waits { Turn::Wait } else { Turn::Begin }
}

fn skip(reason: &'static str, message: String) -> Turn {
    Turn::Skip { reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Register, StageStatus};
    use crate::pipeline::FrozenKind;

    fn needs(needs: &[&str]) -> FrozenStage {
        let register = Register { model: "m".into(), from: "a.b".into(), metrics: None };
        FrozenStage { needs: needs.iter().map(ToString::to_string).collect(), kind: FrozenKind::Register(register) }
    }

    fn status(state: StageState, reason: Option<&str>) -> StageStatus {
        StageStatus { state, reason: reason.map(str::to_owned), ..StageStatus::default() }
    }

    #[test]
    fn every_stage_comes_after_those_it_needs() {
        let stages = BTreeMap::from([
            ("a".to_owned(), needs(&["z"])),
            ("b".to_owned(), needs(&["a", "c"])),
            ("c".to_owned(), needs(&["z"])),
            ("z".to_owned(), needs(&[])),
        ]);
        assert_eq!(order(&stages), ["z", "a", "c", "b"]);
        assert_eq!(ancestors(&stages, "b"), BTreeSet::from(["a", "c", "z"]));
        assert_eq!(ancestors(&stages, "z"), BTreeSet::new());
    }

    #[test]
    fn a_stage_begins_waits_or_is_skipped_as_those_it_needs_say() {
        for (state, reason, expected) in [
            (StageState::Succeeded, None, Some("begin")),
            (StageState::Running, None, None),
            (StageState::BackingOff, Some("Error"), None),
            (StageState::Failed, Some("Error"), Some(UPSTREAM_FAILED)),
            (StageState::Succeeded, Some(GATE_REJECTED), Some(GATE_REJECTED)),
            (StageState::Skipped, Some(GATE_REJECTED), Some(GATE_REJECTED)),
            (StageState::Skipped, Some(UPSTREAM_FAILED), Some(UPSTREAM_FAILED)),
        ] {
            let stages = Stages::from([("a".to_owned(), status(state, reason))]);
            let found = match turn(&needs(&["a"]), &stages) {
                Turn::Begin => Some("begin"),
                Turn::Wait => None,
                Turn::Skip { reason, .. } => Some(reason),
            };
            assert_eq!(found, expected, "{state:?} {reason:?}");
        }
    }

    #[test]
    fn nothing_new_begins_once_a_stage_has_failed() {
        let stages = Stages::from([
            ("a".to_owned(), status(StageState::Succeeded, None)),
            ("x".to_owned(), status(StageState::Failed, Some("Error"))),
        ]);
        let Turn::Skip { reason, message } = turn(&needs(&["a"]), &stages) else { panic!("it began") };
        assert_eq!(reason, NOT_STARTED);
        assert!(message.contains("`x`"), "{message}");
    }
}
