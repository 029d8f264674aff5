//! What keeps a run from beginning, or from beginning again: it is canceled or suspended, or its pipeline lets no more runs run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::finish::{CANCELED, REPLACED};
use super::pass::{clip, whole_seconds};
use super::turns::{self, Place};
use super::{Observed, control, locks, status};
use crate::api::{LocksStatus, MLPipelineRun, MLPipelineRunStatus, StageState};
use crate::plan::{Event, Plan};

/// Reason of a run that waits for others of its pipeline.
pub(super) const QUEUED: &str = "Queued";
/// Reason of a run that ended because others of its pipeline run.
pub(super) const FORBIDDEN: &str = "ConcurrencyForbidden";

/// Why a run does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It waits; and for which locks, if it is for those.
    Waits { reason: &'static str, message: String, locks: Option<LocksStatus> },
    /// It never begins.
    Ends { reason: &'static str, message: String },
}

impl Held {
    pub fn ends(&self) -> bool {
        matches!(self, Self::Ends { .. })
    }
}

pub(super) fn held(run: &MLPipelineRun, observed: &Observed, now: Timestamp) -> Option<Held> {
    if let Some(cancel) = run.spec.cancel {
        return Some(Held::Ends {
            reason: CANCELED,
            message: format!("spec.cancel is {cancel:?}, and nothing had begun"),
        });
    }
    if control::is_suspended(run) {
        return Some(waits(control::SUSPENDED, control::SUSPENDED_MESSAGE.to_owned()));
    }
    match turns::place(run, observed) {
        // Only one that has a slot waits for locks: it would keep them from others for nothing.
        Place::Free => locks::of_run(run, observed, now).map(|(locks, message)| Held::Waits {
            reason: locks::WAITING,
            message,
            locks: Some(locks),
        }),
        Place::Waits(message) => Some(waits(QUEUED, message)),
        Place::Forbidden(message) => Some(Held::Ends { reason: FORBIDDEN, message }),
        Place::Replaced(by) => Some(Held::Ends { reason: REPLACED, message: replaced_by(&by) }),
    }
}

fn waits(reason: &'static str, message: String) -> Held {
    Held::Waits { reason, message, locks: None }
}

/// What a run says that made place for a newer one.
pub(super) fn replaced_by(run: &str) -> String {
    format!("run {run} takes its place")
}

/// It waits for a slot, as its status says.
pub(super) fn is_queued(status: &MLPipelineRunStatus) -> bool {
    let mut said = status.conditions.iter().filter(|c| c.type_ == "Succeeded");
    said.any(|c| c.status == "Unknown" && c.reason == QUEUED)
}

/// Its status says that it is held.
pub(super) fn is_held(status: &MLPipelineRunStatus) -> bool {
    let reason = status.conditions.iter().find(|c| c.type_ == "Succeeded").map(|c| c.reason.as_str());
    reason.is_some_and(|reason| matches!(reason, control::SUSPENDED | QUEUED | locks::WAITING))
}

/// What follows from it.
pub(super) fn plan(mut status: MLPipelineRunStatus, held: &Held, now: Timestamp) -> Plan<MLPipelineRunStatus> {
    let now = whole_seconds(now);
    match held {
        Held::Waits { reason, message, locks } => {
            let wait = locks.as_ref().and_then(|locks| locks.wait_time.as_ref());
            let requeue = wait.map(|since| locks::pause(since.0, now));
            status.locks.clone_from(locks);
            status::held(&mut status, reason, &clip(message), now);
            Plan { status: Some(status), requeue, ..Plan::default() }
        }
        Held::Ends { reason, message } => {
            let message = clip(message);
            for stage in status.stages.values_mut().filter(|stage| stage.state == StageState::Waiting) {
                stage.state = StageState::Skipped;
                stage.reason = Some((*reason).to_owned());
                stage.message = Some(message.clone());
            }
            status::unbegun(&mut status, reason, &message, now);
            status.completion_time = Some(Time(now));
            let kind = if *reason == FORBIDDEN { "RunRefused" } else { "RunCanceled" };
            let events = vec![Event::normal(kind, format!("{reason}: {message}"))];
            Plan { status: Some(status), events, ..Plan::default() }
        }
    }
}
