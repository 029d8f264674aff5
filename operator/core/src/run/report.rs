//! A stage that sets the live metrics of a version that a ModelDeployment serves, or served.

use std::time::Duration;

use super::attempt::fail;
use super::pass::{Effects, Pass, Stages, clip};
use super::{awaited, deadline};
use crate::api::{LiveMetrics, ModelDeployment, Report, StageState, StageStatus};
use crate::deployment::{is_told, promoted_version};
use crate::plan::Apply;

/// For so long it waits for the ModelDeployment, or for an apiserver that refuses.
const LIMIT: Duration = Duration::from_hours(1);
const PAUSE: Duration = Duration::from_secs(15);
/// What a double holds exactly.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// One step: the first says what is to be told, a later one sees that it is there.
pub(super) fn step(
    pass: &Pass<'_>,
    name: &str,
    report: &Report,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let mut status = old.clone();
    let started = status.start_time.get_or_insert(pass.time()).clone();
    let target = &report.model_deployment;
    let waits = |mut status: StageStatus, reason: &str, message: &str, effects: &mut Effects| {
        if pass.left(Some(&started), LIMIT).is_none() {
            return fail(pass, name, status, reason, message, effects);
        }
        status.reason = Some(reason.to_owned());
        status.message = Some(clip(&deadline::with(message, Some(&started), LIMIT)));
        effects.again(PAUSE);
        status
    };
    let Some(found) = pass.observed.model_deployments.get(target) else {
        status.state = StageState::Pending;
        return waits(status, "ModelDeploymentNotFound", &awaited::absent(pass, target), effects);
    };
    let live = match told(report, found, stages) {
        Ok(live) => LiveMetrics {
            time: Some(started.clone()),
            run: pass.run_name().to_owned(),
            stage: name.to_owned(),
            model: found.spec.model.name.clone(),
            ..live
        },
        Err((reason, message)) => return fail(pass, name, status, reason, &message, effects),
    };
    status.state = StageState::Running;
    let there = found.status.iter().flat_map(|status| &status.live);
    if there.into_iter().any(|there| is_told(there, &live)) {
        status.state = StageState::Succeeded;
        status.completion_time = Some(pass.time());
        (status.reason, status.message) = (None, None);
        return status;
    }
    if let Some(refusal) = pass.refusal("ModelDeployment", target) {
        return waits(status, &refusal.reason, &refusal.message, effects);
    }
    effects.apply.push(Apply::LiveMetrics { model_deployment: target.clone(), live: Box::new(live) });
    status
}

/// Version, samples and metrics; or why there is nothing to tell.
fn told(report: &Report, found: &ModelDeployment, stages: &Stages) -> Result<LiveMetrics, (&'static str, String)> {
    let Report { model_deployment, metrics: stage, version, samples } = report;
    let mut metrics = stages.get(stage).map(|status| status.metrics.clone()).unwrap_or_default();
    let mut take = |name: &str, field: &str| {
        let absent = || ("MetricAbsent", format!("stage `{stage}` has no metric `{name}`, which report.{field} names"));
        metrics.remove(name).ok_or_else(absent)
    };
    let whole = |number: f64, least: f64, name: &str, field: &str| {
        let right = number.fract() == 0.0 && (least..=LARGEST).contains(&number);
        // Whole, and not too large.
        #[allow(clippy::cast_possible_truncation)]
        let value = right.then_some(number as i64);
        let why = format!("metric `{name}` of stage `{stage}` is {number}, and report.{field} needs a whole number");
        value.ok_or(("BadMetric", why))
    };
    let version = match version {
        Some(name) => whole(take(name, "version")?, 1.0, name, "version")?,
        None => found.status.as_ref().and_then(promoted_version).ok_or_else(|| {
            let message = format!(
                "ModelDeployment {model_deployment} has no promoted version yet: let report.version name the metric that has it"
            );
            ("VersionNotFound", message)
        })?,
    };
    let samples = match samples {
        Some(name) => Some(whole(take(name, "samples")?, 0.0, name, "samples")?),
        None => None,
    };
    if metrics.is_empty() {
        return Err(("MetricAbsent", format!("stage `{stage}` has no metric that could be reported")));
    }
    Ok(LiveMetrics { version, samples, metrics, ..LiveMetrics::default() })
}
