//! Which counts of the routers a rollout looks at, and when they say something new.

use k8s_openapi::jiff::Timestamp;
use millrace_contract::DriftCounts;

use super::live::Live;
use super::look::stable;
use super::rollout::is_news;
use super::{monitoring, queries, steps};
use crate::analysis::{self, Measured, Step};
use crate::api::{ModelDeployment, RolloutAction, RolloutControl};

/// The step whose requests are to be counted: one that every router has in force, and that something is asked of.
#[must_use]
pub fn watched(deployment: &ModelDeployment) -> Option<Step> {
    let status = deployment.status.as_ref()?;
    let rollout = super::exposed(status.rollout.as_ref()).filter(|rollout| rollout.step_start_time.is_some())?;
    let analyses = steps::analyses(deployment.spec.rollout.as_ref(), rollout.step);
    if analyses.is_empty() {
        return None;
    }
    // A person has said what is to be, whatever the figures are.
    let promotes =
        |control: &RolloutControl| control.revision == rollout.revision && control.action == RolloutAction::Promote;
    (!deployment.spec.control.as_ref().is_some_and(promotes)).then(|| Step {
        generation: u64::try_from(status.traffic_generation).unwrap_or_default(),
        step: rollout.step,
        candidate: rollout.revision.clone(),
        stable: stable(deployment).unwrap_or_default().to_owned(),
        asked: analysis::asked(&analyses),
        asks: queries::asks(deployment),
    })
}

/// Whether a pass would write another verdict, or newer figures. `rows` is what the pods of the revision that comes counted, where that is asked
/// for.
#[must_use]
pub fn has_news(
    deployment: &ModelDeployment,
    measured: Option<&Measured>,
    rows: Option<&DriftCounts>,
    now: Timestamp,
) -> bool {
    let (Some(asked), Some(status)) = (&deployment.spec.rollout, &deployment.status) else { return false };
    let Some(rollout) = &status.rollout else { return false };
    let analyses = steps::analyses(Some(asked), rollout.step);
    let rows = monitoring::rows(deployment, rows);
    let judged = analysis::verdicts(&analyses, &rollout.analysis, measured, Live::of(deployment), &rows);
    is_news(rollout, &judged, now)
}
