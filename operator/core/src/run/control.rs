//! What a person asks of a run that runs: `suspend` and `cancel`.

use k8s_openapi::jiff::Timestamp;

use super::finish::{self, CANCELED, REPLACED};
use super::hold::replaced_by;
use super::pass::{Effects, Pass, Stages, since};
use super::turns::{self, Place};
use super::{classify, container};
use crate::api::{Cancel, MLPipelineRun, MLPipelineRunStatus};
use crate::plan::{Delete, DeleteKind};

/// Reason of a run that begins nothing new.
pub(super) const SUSPENDED: &str = "Suspended";
pub(super) const SUSPENDED_MESSAGE: &str = "nothing new begins until spec.suspend is false";

/// Nothing new begins. Who cancels does not want it suspended any more.
pub(super) fn is_suspended(run: &MLPipelineRun) -> bool {
    run.spec.suspend && run.spec.cancel.is_none()
}

/// Keeps account of how long a run that has begun stands still, because it is suspended or waits for people: that time does not count for
/// its timeout.
pub(super) fn clock(pass: &Pass<'_>, stands: bool, status: &mut MLPipelineRunStatus) {
    if stands {
        status.suspended_time.get_or_insert(pass.time());
    } else if let Some(since) = status.suspended_time.take() {
        status.suspended_seconds += super::pass::since(since.0, pass.now).as_secs();
    }
}

/// How much of its time a run has used.
pub(super) fn used(pass: &Pass<'_>, status: &MLPipelineRunStatus, start: Timestamp) -> std::time::Duration {
    let suspended = status.suspended_time.as_ref().map(|time| since(time.0, pass.now)).unwrap_or_default();
    let before = std::time::Duration::from_secs(status.suspended_seconds);
    since(start, pass.now).saturating_sub(suspended).saturating_sub(before)
}

/// Ends what `cancel` ends, or a newer run that takes this one's place.
pub(super) fn cancel(pass: &Pass<'_>, stages: &mut Stages, effects: &mut Effects) {
    let Some(cancel) = pass.run.spec.cancel else {
        if let Place::Replaced(by) = turns::place(pass.run, pass.observed) {
            let main = |name: &String| !pass.is_finally(name);
            finish::give_up(pass, REPLACED, &replaced_by(&by), main, stages, effects);
        }
        return;
    };
    let message = format!("spec.cancel is {cancel:?}");
    let now = cancel == Cancel::Now;
    finish::give_up(pass, CANCELED, &message, |name| now || !pass.is_finally(name), stages, effects);
    if now {
        effects.delete.extend(pods(pass, stages));
    }
}

/// The pods of the run's own Jobs in which a program may run.
fn pods(pass: &Pass<'_>, stages: &Stages) -> Vec<Delete> {
    let ours = |owner: &str| {
        let jobs = pass.observed.jobs.iter().filter(|job| job.owner.as_deref() == Some(pass.run_uid()));
        let noted = stages.values().filter_map(|status| status.job.as_ref()?.uid.as_deref());
        jobs.map(|job| job.uid.as_str()).chain(noted).any(|uid| uid == owner)
    };
    let pods = pass.observed.pods.iter();
    pods.filter(|pod| classify::runs(pod) && container::is_given_up(stages, &pod.stage))
        .filter(|pod| pod.owner.as_deref().is_some_and(ours))
        .map(|pod| Delete { kind: DeleteKind::Pod, name: pod.name.clone(), uid: pod.uid.clone() })
        .collect()
}
