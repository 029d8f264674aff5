//! Live metrics: what is kept of them in the status, and which of them say something of a rollout.

use k8s_openapi::jiff::Timestamp;

use super::look::stable_of;
use crate::api::{LiveMetrics, ModelDeployment, ModelDeploymentStatus};

/// Versions whose metrics are kept.
const KEPT: usize = 5;

/// What was reported of the two revisions of a rollout since its step is in force. What came before says nothing of the step, and what
/// is of another version nothing of the revision.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live<'a> {
    pub candidate: Option<&'a LiveMetrics>,
    pub stable: Option<&'a LiveMetrics>,
    /// The version of both, where only settings change: then there is no figure of either.
    pub shared: Option<i64>,
}

impl<'a> Live<'a> {
    pub(super) fn of(deployment: &'a ModelDeployment) -> Self {
        let Some(status) = &deployment.status else { return Self::default() };
        let Some(rollout) = &status.rollout else { return Self::default() };
        let Some(began) = &rollout.step_start_time else { return Self::default() };
        let promoted = promoted_version(status);
        if rollout.version.is_some() && rollout.version == promoted {
            return Self { shared: promoted, ..Self::default() };
        }
        // The apiserver keeps whole seconds.
        let after = |live: &&LiveMetrics| live.time.as_ref().is_some_and(|at| at.0.as_second() >= began.0.as_second());
        let of = |version: Option<i64>| self::of(deployment, status, version?).filter(after);
        Self { candidate: of(rollout.version), stable: of(promoted), shared: None }
    }

    /// Why there is no figure of a revision.
    #[must_use]
    pub fn lacks(&self) -> String {
        match self.shared {
            Some(version) => format!("both revisions are of version {version}: a report cannot tell them apart"),
            None => "nothing was reported since the step began".to_owned(),
        }
    }
}

/// What was reported last of the promoted version.
#[must_use]
pub fn live(deployment: &ModelDeployment) -> Option<&LiveMetrics> {
    let status = deployment.status.as_ref()?;
    of(deployment, status, promoted_version(status)?)
}

/// The version that is promoted.
#[must_use]
pub fn promoted_version(status: &ModelDeploymentStatus) -> Option<i64> {
    // Without a cluster there are no revisions.
    let Some(stable) = stable_of(status) else {
        return status.served_version.filter(|_| status.revisions.is_empty());
    };
    status.revisions.iter().find(|revision| revision.name == stable)?.version
}

fn of<'a>(deployment: &ModelDeployment, status: &'a ModelDeploymentStatus, version: i64) -> Option<&'a LiveMetrics> {
    status.live.iter().find(|live| live.version == version && live.model == deployment.model_name())
}

/// The status with this report. False where there is nothing to write.
pub fn take_report(status: &mut ModelDeploymentStatus, report: &LiveMetrics) -> bool {
    if is_told(&status.live, report) {
        return false;
    }
    status.live.retain(|there| there.model == report.model && there.version != report.version);
    status.live.insert(0, report.clone());
    status.live.sort_by_key(|live| std::cmp::Reverse(second(live)));
    status.live.truncate(KEPT);
    true
}

/// There is nothing to write: it is there, or a later one of the same version, or so many of other versions are later that it would not be
/// kept.
#[must_use]
pub fn is_told(live: &[LiveMetrics], report: &LiveMetrics) -> bool {
    let of_model = |there: &&LiveMetrics| there.model == report.model;
    let is_later = |there: &&LiveMetrics| second(there) > second(report);
    let told = |there: &LiveMetrics| {
        let same = there.run == report.run && there.stage == report.stage && second(there) == second(report);
        there.version == report.version && (same || is_later(&there))
    };
    live.iter().filter(of_model).any(told) || live.iter().filter(of_model).filter(is_later).count() >= KEPT
}

fn second(live: &LiveMetrics) -> i64 {
    live.time.as_ref().map_or(Timestamp::MIN, |time| time.0).as_second()
}
