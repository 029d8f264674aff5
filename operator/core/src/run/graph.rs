//! The graph of a run: the order of its stages, and what a stage that has not begun may do now.

use std::collections::{BTreeMap, BTreeSet};

use super::inputs;
use super::pass::Stages;
use crate::api::{OnFailure, StageState, StageStatus};
use crate::pipeline::{Bond, FrozenKind, FrozenStage};

/// Reason of a stage that succeeded, but whose gate said no.
pub(super) const GATE_REJECTED: &str = "GateRejected";
/// Reason of a stage that was not approved by a person, and of those that depend on it.
pub(super) const APPROVAL_REJECTED: &str = "ApprovalRejected";
/// Reason of a stage that nobody approved in its time.
pub(super) const APPROVAL_TIMEOUT: &str = "ApprovalTimeout";
/// Reason of a stage that was not approved before a newer run asked the same.
pub(super) const SUPERSEDED: &str = "Superseded";
/// Reason of a stage that needs one that failed.
pub(super) const UPSTREAM_FAILED: &str = "UpstreamFailed";
/// Reason of a stage that was not begun because another one had failed.
pub(super) const NOT_STARTED: &str = "NotStarted";
/// Reason of a stage whose `when` is false.
pub(super) const WHEN_FALSE: &str = "WhenFalse";
/// Reason of a stage that uses what a skipped one would have made.
pub(super) const UPSTREAM_SKIPPED: &str = "UpstreamSkipped";

/// It was skipped because something failed.
pub(super) fn fell(reason: &str) -> bool {
    matches!(reason, UPSTREAM_FAILED | NOT_STARTED)
}

/// Why a stage that asked for approval did not get it.
pub(super) fn disapproved(status: &StageStatus) -> Option<&'static str> {
    let reason = status.reason.as_deref().filter(|_| status.state == StageState::Skipped)?;
    status.approval.as_ref()?;
    [APPROVAL_REJECTED, APPROVAL_TIMEOUT, SUPERSEDED].into_iter().find(|no| *no == reason)
}

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
pub(crate) fn ancestors<'a>(stages: &'a BTreeMap<String, FrozenStage>, stage: &str) -> BTreeSet<&'a str> {
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

/// Looks at the stages that `stage` needs, then at the whole run: once a stage has failed, nothing new begins but what asked for that.
/// In `finally` nobody stops anybody.
pub(super) fn turn(all: &BTreeMap<String, FrozenStage>, stage: &FrozenStage, stages: &Stages) -> Turn {
    let mut waits = false;
    // What became of one that it asks for is not known yet; or it failed, or did not run because of a failure.
    let (mut will_ask, mut asked) = (false, false);
    for need in &stage.needs {
        let Some(status) = stages.get(need) else { continue };
        let bond = stage.bond(need);
        if !status.state.ended() {
            waits = true;
            will_ask |= bond == Bond::Asks;
        } else if matches!(bond, Bond::Asks | Bond::Takes) {
            let fallen = status.state == StageState::Failed || status.reason.as_deref().is_some_and(fell);
            asked |= bond == Bond::Asks && fallen;
        } else if let Some(turn) = barred(need, status, bond, may_fail(all, need), stage.finally) {
            return turn;
        }
    }
    let failed = stages.iter().find(|(name, status)| {
        status.state == StageState::Failed && stops(all, name) && all.get(*name).is_none_or(|other| !other.finally)
    });
    if let Some((failed, _)) = failed.filter(|_| !stage.finally && !asked && !will_ask) {
        return skip(NOT_STARTED, format!("not begun because stage `{failed}` failed"));
    }
    if waits {
        return Turn::Wait;
    }
    if let Some((input, source)) = inputs::unmade(stage.inputs(), stages) {
        let from = source.from.as_deref().unwrap_or_default();
        let default = source.default.as_ref().map(|default| default.from.as_str()).unwrap_or_default();
        return skip(UPSTREAM_SKIPPED, format!("input `{input}`: neither {from} nor {default} was made"));
    }
    Turn::Begin
}

/// Its failure does not fail the run. Nobody goes on without an answer.
pub(super) fn may_fail(all: &BTreeMap<String, FrozenStage>, stage: &str) -> bool {
    on_failure(all, stage) == OnFailure::Continue
}

/// Once it has failed, nothing new begins.
fn stops(all: &BTreeMap<String, FrozenStage>, stage: &str) -> bool {
    on_failure(all, stage) == OnFailure::Stop
}

fn on_failure(all: &BTreeMap<String, FrozenStage>, stage: &str) -> OnFailure {
    let found = all.get(stage).filter(|stage| !matches!(stage.kind, FrozenKind::Approve(_)));
    found.map_or(OnFailure::Stop, |stage| stage.on_failure)
}

/// Why a stage is skipped that hangs by `bond` on `need`, which has ended.
fn barred(need: &str, status: &StageStatus, bond: Bond, may_fail: bool, finally: bool) -> Option<Turn> {
    let reason = status.reason.as_deref().unwrap_or_default();
    let follows = bond == Bond::Follows;
    match (status.state, reason) {
        (StageState::Failed, _) if follows && may_fail => None,
        (StageState::Failed, _) => Some(skip(UPSTREAM_FAILED, format!("stage `{need}` failed"))),
        // What comes at the very end asks no gate.
        (StageState::Succeeded, GATE_REJECTED) if !finally => {
            Some(skip(GATE_REJECTED, format!("the gate of stage `{need}` said no")))
        }
        (StageState::Skipped, WHEN_FALSE) if follows => None,
        (StageState::Skipped, _) if disapproved(status).is_some() => {
            Some(skip(APPROVAL_REJECTED, format!("stage `{need}` was not approved")))
        }
        (StageState::Skipped, APPROVAL_REJECTED) => {
            Some(skip(APPROVAL_REJECTED, format!("stage `{need}` was skipped")))
        }
        (StageState::Skipped, GATE_REJECTED) => Some(skip(GATE_REJECTED, format!("stage `{need}` was skipped"))),
        (StageState::Skipped, WHEN_FALSE | UPSTREAM_SKIPPED) => {
            Some(skip(UPSTREAM_SKIPPED, format!("stage `{need}` was skipped")))
        }
        (StageState::Skipped, _) => Some(skip(UPSTREAM_FAILED, format!("stage `{need}` was skipped"))),
        (
            StageState::Succeeded
            | StageState::Waiting
            | StageState::Pending
            | StageState::Running
            | StageState::BackingOff,
            _,
        ) => None,
    }
}

fn skip(reason: &'static str, message: String) -> Turn {
    Turn::Skip { reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Register;

    fn needs(needs: &[&str]) -> FrozenStage {
        bound(needs, Bond::Uses)
    }

    fn bound(needs: &[&str], bond: Bond) -> FrozenStage {
        let register = Register { model: "m".into(), from: "a.b".into(), metrics: None, keep: None };
        FrozenStage {
            needs: needs.iter().map(ToString::to_string).collect(),
            bonds: needs.iter().map(|need| ((*need).to_owned(), bond)).collect(),
            when: None,
            on_failure: OnFailure::Stop,
            finally: false,
            locks: BTreeMap::new(),
            kind: FrozenKind::Register(register),
        }
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
        use StageState::{BackingOff, Failed, Running, Skipped, Succeeded};
        const BEGIN: Option<&str> = Some("begin");
        // What became of the one: for who uses what it makes, who only follows it, and who asks what became of it.
        for (state, reason, uses, follows, asks) in [
            (Succeeded, None, BEGIN, BEGIN, BEGIN),
            (Running, None, None, None, None),
            (BackingOff, Some("Error"), None, None, None),
            (Failed, Some("Error"), Some(UPSTREAM_FAILED), Some(UPSTREAM_FAILED), BEGIN),
            (Succeeded, Some(GATE_REJECTED), Some(GATE_REJECTED), Some(GATE_REJECTED), BEGIN),
            (Skipped, Some(GATE_REJECTED), Some(GATE_REJECTED), Some(GATE_REJECTED), BEGIN),
            (Skipped, Some(UPSTREAM_FAILED), Some(UPSTREAM_FAILED), Some(UPSTREAM_FAILED), BEGIN),
            (Skipped, Some(WHEN_FALSE), Some(UPSTREAM_SKIPPED), BEGIN, BEGIN),
            (Skipped, Some(UPSTREAM_SKIPPED), Some(UPSTREAM_SKIPPED), Some(UPSTREAM_SKIPPED), BEGIN),
        ] {
            let stages = Stages::from([("a".to_owned(), status(state, reason))]);
            let takes = if state == Failed { Some(NOT_STARTED) } else { asks };
            for (bond, expected) in
                [(Bond::Uses, uses), (Bond::Follows, follows), (Bond::Takes, takes), (Bond::Asks, asks)]
            {
                assert_eq!(
                    found(&BTreeMap::new(), &bound(&["a"], bond), &stages),
                    expected,
                    "{state:?} {reason:?} {bond:?}"
                );
            }
        }
    }

    fn found(all: &BTreeMap<String, FrozenStage>, stage: &FrozenStage, stages: &Stages) -> Option<&'static str> {
        match turn(all, stage, stages) {
            Turn::Begin => Some("begin"),
            Turn::Wait => None,
            Turn::Skip { reason, .. } => Some(reason),
        }
    }

    #[test]
    fn a_stage_that_may_fail_stops_only_who_uses_what_it_makes() {
        let may_fail = FrozenStage { on_failure: OnFailure::Continue, ..needs(&[]) };
        let all = BTreeMap::from([("a".to_owned(), may_fail)]);
        let stages = Stages::from([("a".to_owned(), status(StageState::Failed, Some("Error")))]);
        assert_eq!(found(&all, &needs(&["a"]), &stages), Some(UPSTREAM_FAILED));
        assert_eq!(found(&all, &bound(&["a"], Bond::Follows), &stages), Some("begin"));
        assert_eq!(found(&all, &needs(&[]), &stages), Some("begin"));
    }

    #[test]
    fn a_stage_that_fails_the_run_at_its_end_stops_who_needs_it_and_nobody_else() {
        let at_end = FrozenStage { on_failure: OnFailure::FailAtEnd, ..needs(&[]) };
        let all = BTreeMap::from([("a".to_owned(), at_end)]);
        let stages = Stages::from([("a".to_owned(), status(StageState::Failed, Some("Error")))]);
        for bond in [Bond::Uses, Bond::Follows] {
            assert_eq!(found(&all, &bound(&["a"], bond), &stages), Some(UPSTREAM_FAILED), "{bond:?}");
        }
        assert_eq!(found(&all, &needs(&[]), &stages), Some("begin"));
        assert!(!may_fail(&all, "a"), "the run fails");
    }

    #[test]
    fn one_that_asks_for_a_status_runs_however_the_stage_ended_and_whatever_failed_besides() {
        let failed = || ("x".to_owned(), status(StageState::Failed, Some("Error")));
        for (state, reason, expected) in [
            (StageState::Running, None, None),
            (StageState::Failed, Some("Error"), Some("begin")),
            (StageState::Skipped, Some(NOT_STARTED), Some("begin")),
            (StageState::Skipped, Some(UPSTREAM_FAILED), Some("begin")),
            (StageState::Succeeded, None, Some(NOT_STARTED)),
        ] {
            let stages = Stages::from([("a".to_owned(), status(state, reason)), failed()]);
            assert_eq!(found(&BTreeMap::new(), &bound(&["a"], Bond::Asks), &stages), expected, "{state:?} {reason:?}");
        }
    }

    #[test]
    fn nothing_new_begins_once_a_stage_has_failed() {
        let stages = Stages::from([
            ("a".to_owned(), status(StageState::Succeeded, None)),
            ("x".to_owned(), status(StageState::Failed, Some("Error"))),
        ]);
        let Turn::Skip { reason, message } = turn(&BTreeMap::new(), &needs(&["a"]), &stages) else {
            panic!("it began")
        };
        assert_eq!(reason, NOT_STARTED);
        assert!(message.contains("`x`"), "{message}");
    }
}
