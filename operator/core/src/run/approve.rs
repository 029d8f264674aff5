//! A stage that waits for a person.
//!
//! ```text
//! asked ─► Pending, WaitingForApproval ─► approved ─────────────────────► Succeeded
//!                                    └──► rejected, time over, a newer run ─► Skipped, and what depends on it too
//! ```
//! A run in which nothing runs but that is parked: it holds no slot of `concurrency`, and its `timeout` stands still. It is seen from its
//! stages alone. What was decided is not carried out before the run has a slot again, so that a parked run stays one until then.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::graph::{APPROVAL_REJECTED, APPROVAL_TIMEOUT, SUPERSEDED};
use super::pass::{Effects, Pass, Stages, after, clip};
use super::{attempt, deadline, scope, turns};
use crate::api::{Approval, ApprovalStatus, Approve, Decision, MLPipelineRun, StageState, StageStatus};
use crate::pipeline::{Frozen, FrozenKind};
use crate::problem::{Problem, head};
use crate::{duration, expr};

/// Reason of a stage, and of a run in which nothing else runs.
pub(super) const WAITING: &str = "WaitingForApproval";
/// How long a person has unless something is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_hours(7 * 24);
/// What is asked, in bytes: there is to be room for the rest of the message.
const LONGEST_QUESTION: usize = 1000;

/// What is known of the answer.
enum Answer {
    None,
    Approved(Approval),
    Rejected { reason: &'static str, message: String, said: Option<Approval> },
}

/// One step: asks, and looks for an answer.
pub(super) fn step(
    pass: &Pass<'_>,
    name: &str,
    approve: &Approve,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let mut status = old.clone();
    let limit = approve.timeout.as_deref().and_then(duration::parse).unwrap_or(DEFAULT_TIMEOUT);
    let started = status.start_time.get_or_insert(pass.time()).clone();
    let until = Time(after(started.0, limit));
    status.approval = Some(ApprovalStatus { until: Some(until), ..ApprovalStatus::default() });
    let answer = answer(pass, name, old, &started, limit);
    let waits = pass.waits.filter(|_| !matches!(answer, Answer::None));
    if let Some((reason, why)) = waits {
        status.state = StageState::Pending;
        status.reason = Some(reason.to_owned());
        status.message = Some(clip(&format!("{}; {why}", told(&answer))));
        return status;
    }
    match answer {
        Answer::None => ask(pass, name, approve, status, stages, (&started, limit), effects),
        Answer::Approved(said) => {
            let message = told_of(&said);
            effects.tell("StageApproved", format!("stage {name}: {message}"));
            decided(&mut status, Some(&said));
            StageStatus {
                state: StageState::Succeeded,
                reason: None,
                message: Some(clip(&message)),
                completion_time: Some(pass.time()),
                ..status
            }
        }
        Answer::Rejected { reason, message, said } => {
            effects.warn(reason, format!("stage {name}: {message}"));
            decided(&mut status, said.as_ref());
            StageStatus {
                state: StageState::Skipped,
                reason: Some(reason.to_owned()),
                message: Some(clip(&message)),
                completion_time: Some(pass.time()),
                ..status
            }
        }
    }
}

/// A person's word counts first: it may have been there before the time was over, and nobody looked.
fn answer(pass: &Pass<'_>, name: &str, status: &StageStatus, started: &Time, limit: Duration) -> Answer {
    if let Some(said) = said(pass.run, name, status) {
        return match said.decision {
            Decision::Approve => Answer::Approved(said.clone()),
            Decision::Reject => {
                Answer::Rejected { reason: APPROVAL_REJECTED, message: told_of(said), said: Some(said.clone()) }
            }
        };
    }
    if let Some(newer) = pass.observed.superseded.get(name).filter(|_| is_asked(status)) {
        let message = format!("run {newer}, which is newer, asks the same");
        return Answer::Rejected { reason: SUPERSEDED, message, said: None };
    }
    if pass.left(Some(started), limit).is_none() {
        let message = format!("nobody decided within {}", duration::format(limit));
        return Answer::Rejected { reason: APPROVAL_TIMEOUT, message, said: None };
    }
    Answer::None
}

/// What was said of a stage as often as it was begun.
fn said<'a>(run: &'a MLPipelineRun, name: &str, status: &StageStatus) -> Option<&'a Approval> {
    run.spec.approvals.get(name).filter(|said| said.retries == status.retries)
}

fn decided(status: &mut StageStatus, said: Option<&Approval>) {
    if let (Some(approval), Some(said)) = (&mut status.approval, said) {
        approval.decision = Some(said.decision);
        approval.by = Some(said.by.clone());
        approval.comment = said.comment.clone().filter(|comment| !comment.is_empty());
    }
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::None => String::new(),
        Answer::Approved(said) => told_of(said),
        Answer::Rejected { message, .. } => message.clone(),
    }
}

fn told_of(said: &Approval) -> String {
    let word = match said.decision {
        Decision::Approve => "approved",
        Decision::Reject => "rejected",
    };
    let comment = said.comment.as_deref().filter(|comment| !comment.is_empty());
    let comment = comment.map(|comment| format!(": {comment}")).unwrap_or_default();
    format!("{word} by {}{comment}", said.by)
}

/// Says what is asked, until when, and how to answer. Everything that the message names has ended: it is the same in each pass.
fn ask(
    pass: &Pass<'_>,
    name: &str,
    approve: &Approve,
    mut status: StageStatus,
    stages: &Stages,
    (started, limit): (&Time, Duration),
    effects: &mut Effects,
) -> StageStatus {
    let question = match expr::render(&approve.message, &scope::of_run(pass, stages)) {
        Ok(text) => crate::clip::clip(&text, LONGEST_QUESTION),
        Err(error) => {
            let message = format!("approve.message: {error}");
            return attempt::fail(pass, name, status, "InvalidExpression", &message, effects);
        }
    };
    let (run, namespace) = (pass.run_name(), pass.namespace());
    let mut message = deadline::with(&question, Some(started), limit);
    message = format!("{message}\nkubectl millrace approve {run} {name} -n {namespace}, or reject");
    // One that was said before `retryFrom` asked again.
    if let Some(before) = pass.run.spec.approvals.get(name) {
        let (then, now) = (before.retries, status.retries);
        message = format!("{message}\nspec.approvals.{name} has retries {then}, and this is {now}: it does not count");
    }
    if !is_asked(&status) {
        effects.tell(WAITING, format!("stage {name}: {message}"));
    }
    if let Some(left) = pass.left(Some(started), limit) {
        effects.again(left);
    }
    status.state = StageState::Pending;
    status.reason = Some(WAITING.to_owned());
    status.message = Some(clip(&message));
    status
}

/// It waits for a person, or for what a person's answer waits for.
fn is_asked(status: &StageStatus) -> bool {
    status.state == StageState::Pending && status.approval.is_some()
}

/// Nothing of the run runs, and people are asked.
pub(super) fn is_parked(stages: &Stages) -> bool {
    let open = || stages.values().filter(|status| !status.state.ended());
    open().any(is_asked) && open().all(|status| status.state == StageState::Waiting || is_asked(status))
}

/// A parked run has an answer, and would go on.
pub(super) fn is_answered(run: &MLPipelineRun, stages: &Stages) -> bool {
    stages.iter().any(|(name, status)| is_asked(status) && said(run, name, status).is_some())
}

/// The run asks people, or has asked them.
#[must_use]
pub fn has_asked(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.stages.values().any(|stage| stage.approval.is_some()))
}

/// The run asks people now.
#[must_use]
pub fn asks(run: &MLPipelineRun) -> bool {
    let status = run.status.as_ref().filter(|status| status.completion_time.is_none());
    status.is_some_and(|status| status.stages.values().any(is_asked))
}

/// The stages that wait for a person in `run`, and of which `other`, a newer run of the same pipeline, has asked or asks the same. Runs of a
/// backfill are each of a time of their own: they take nobody's place and nobody takes theirs.
pub fn superseded<'a>(run: &'a MLPipelineRun, other: &'a MLPipelineRun) -> impl Iterator<Item = &'a str> {
    let of_backfill = |run: &MLPipelineRun| run.spec.trigger.as_ref().is_some_and(|trigger| trigger.kind == "Backfill");
    let age = |run: &MLPipelineRun| (turns::since(run), run.metadata.name.clone());
    let applies = !of_backfill(run) && !of_backfill(other) && age(other) > age(run);
    let theirs = other.status.as_ref().filter(|_| applies).map(|status| &status.stages);
    let asked = move |name: &str| theirs.and_then(|stages| stages.get(name)).is_some_and(|s| s.approval.is_some());
    let mine = run.status.iter().flat_map(|status| &status.stages).filter(|(_, status)| is_asked(status));
    mine.map(|(name, _)| name.as_str()).filter(move |name| asked(name))
}

/// Decisions that no stage of the run waits for: slips that would never be noticed.
#[must_use]
pub fn misplaced(frozen: &Frozen, approvals: &BTreeMap<String, Approval>) -> Vec<Problem> {
    let asked = frozen.stages.iter().filter(|(_, stage)| matches!(stage.kind, FrozenKind::Approve(_)));
    let asked: Vec<&str> = asked.map(|(name, _)| name.as_str()).collect();
    let strange = approvals.keys().filter(|name| !asked.contains(&name.as_str()));
    strange
        .map(|name| {
            let what = if frozen.stages.contains_key(name) {
                format!("stage `{}` has no approve", head(name, 63))
            } else {
                format!("there is no stage `{}`", head(name, 63))
            };
            let hint = expr::did_you_mean(name, asked.iter().copied());
            let path = format!("spec.approvals.{}", head(name, 63));
            Problem::new(
                path,
                "UnknownApproval",
                format!("{what}: {hint}. Nothing waits for this decision: take it out"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(name: &str, second: u32, trigger: &str, stages: &Value) -> MLPipelineRun {
        serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun",
            "metadata": { "name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z") },
            "spec": { "pipelineRef": { "name": "p" }, "trigger": { "kind": trigger, "key": "k" } },
            "status": { "startTime": "2026-01-01T00:00:00Z", "stages": stages },
        }))
        .unwrap()
    }

    fn asked() -> Value {
        json!({ "state": "Pending", "reason": WAITING, "approval": {} })
    }

    #[test]
    fn only_a_newer_run_that_asked_the_same_supersedes() {
        let mine = run("a", 1, "Change", &json!({ "sign-off": asked(), "second": { "state": "Waiting" } }));
        let found = |other: &MLPipelineRun| superseded(&mine, other).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found(&run("b", 2, "Change", &json!({ "sign-off": asked() }))), ["sign-off"]);
        let over = json!({ "sign-off": { "state": "Succeeded", "approval": { "decision": "Approve", "by": "a" } } });
        assert_eq!(found(&run("b", 2, "Change", &over)), ["sign-off"], "it went through before anybody looked");
        assert!(found(&run("b", 0, "Change", &json!({ "sign-off": asked() }))).is_empty(), "older");
        assert!(found(&run("b", 2, "Change", &json!({ "sign-off": { "state": "Waiting" } }))).is_empty());
        assert!(found(&run("b", 2, "Change", &json!({ "other": asked() }))).is_empty());
        assert!(found(&run("b", 2, "Backfill", &json!({ "sign-off": asked() }))).is_empty());
    }

    #[test]
    fn a_run_is_parked_while_nothing_runs_and_somebody_is_asked() {
        let parked = |stages: Value| is_parked(&serde_json::from_value::<Stages>(stages).unwrap());
        assert!(parked(json!({ "a": asked(), "b": { "state": "Waiting" }, "c": { "state": "Succeeded" } })));
        assert!(parked(json!({ "a": asked(), "b": asked() })));
        for other in ["Pending", "Running", "BackingOff"] {
            assert!(!parked(json!({ "a": asked(), "b": { "state": other } })), "{other}");
        }
        assert!(!parked(json!({ "b": { "state": "Waiting" } })));
        assert!(!parked(json!({})));
    }

    #[test]
    fn a_decision_that_nothing_waits_for_is_told() {
        let frozen: Frozen = serde_json::from_value(json!({ "params": {}, "stages": {
            "sign-off": { "needs": [], "kind": { "approve": { "message": "?" } } },
            "train": { "needs": [], "kind": { "register": { "model": "m", "from": "a.b" } } },
        } }))
        .unwrap();
        let said = |name: &str| {
            let approvals = [(name.to_owned(), Approval::default())].into();
            misplaced(&frozen, &approvals).into_iter().next().map(|problem| problem.to_string())
        };
        assert_eq!(said("sign-off"), None);
        let slip = "spec.approvals.sing-off: there is no stage `sing-off`: did you mean `sign-off`?";
        assert!(said("sing-off").unwrap().starts_with(slip), "{:?}", said("sing-off"));
        assert!(said("train").unwrap().starts_with("spec.approvals.train: stage `train` has no approve"));
    }
}
