//! A stage that sets the live metrics of a version that a ModelDeployment serves, or served.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::attempt::fail;
use super::pass::{Effects, Pass, Stages, clip};
use super::{awaited, deadline, register};
use crate::api::{LiveMetrics, ModelDeployment, Report, StageState, StageStatus};
use crate::deployment::{is_told, promoted_version};
use crate::plan::Apply;
use crate::{duration, names};

/// For so long it waits for the ModelDeployment, for an apiserver that refuses, and until the report is there.
const LIMIT: Duration = Duration::from_hours(1);
const PAUSE: Duration = Duration::from_secs(15);
/// What is refused of a ModelDeployment's status: of its spec, a `deploy` stage of the run may be refused.
const REFUSED: &str = "ModelDeployment/live";
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
    let live = match told(report, found, old.model_version.as_deref(), stages) {
        Ok(live) => LiveMetrics {
            time: Some(measured_since(pass, stages.get(&report.metrics)).unwrap_or_else(|| started.clone())),
            run: pass.run_name().to_owned(),
            stage: name.to_owned(),
            ..live
        },
        Err((reason, message)) => return fail(pass, name, status, reason, &message, effects),
    };
    status.state = StageState::Running;
    // Written before the report is: what is promoted meanwhile makes it no other version's.
    status.model_version = Some(names::model_version(&live.model, live.version));
    if found.status.as_ref().is_some_and(|status| is_told(&status.live, &live)) {
        status.state = StageState::Succeeded;
        status.completion_time = Some(pass.time());
        (status.reason, status.message) = (None, None);
        return status;
    }
    if let Some(refusal) = pass.refusal(REFUSED, target) {
        return waits(status, &refusal.reason, &refusal.message, effects);
    }
    if pass.left(Some(&started), LIMIT).is_none() {
        let limit = duration::format(LIMIT);
        let message = format!("waited for {limit}: the report is not in status.live of ModelDeployment {target}");
        return fail(pass, name, status, "ReportTimeout", &message, effects);
    }
    // Whatever becomes of the write: nothing else may tell of it.
    effects.again(PAUSE);
    effects.apply.push(Apply::LiveMetrics { model_deployment: target.clone(), live: Box::new(live) });
    status
}

/// Since when they were measured, however late they are told. What is from the cache was measured when it was made.
fn measured_since(pass: &Pass<'_>, stage: Option<&StageStatus>) -> Option<Time> {
    let from = stage.and_then(|stage| stage.cache.as_ref()?.from.as_ref()).map(|from| &from.time);
    let began = || stage.and_then(|stage| stage.start_time.as_ref());
    let of_run = || pass.run.status.as_ref().and_then(|status| status.start_time.as_ref());
    from.or_else(began).or_else(of_run).cloned()
}

/// Model, version, samples and metrics; or why there is nothing to tell. `kept`: the version that an earlier step found.
fn told(
    report: &Report,
    found: &ModelDeployment,
    kept: Option<&str>,
    stages: &Stages,
) -> Result<LiveMetrics, (&'static str, String)> {
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
    let Some(model) = &found.spec.model.name else {
        let message = format!(
            "ModelDeployment {model_deployment} serves what its spec.model.uri names, and a report is of a registered version: register the model, and write spec.model.name there"
        );
        return Err(("WrongModel", message));
    };
    let is_of_another = |kept: &str| {
        let message = format!(
            "ModelDeployment {model_deployment} serves the model `{model}` by now, and the report is of {kept}: start a new run"
        );
        ("WrongModel", message)
    };
    let kept = kept.map(|kept| register::number(model, kept).ok_or_else(|| is_of_another(kept))).transpose()?;
    let version = match (version, kept) {
        (Some(name), _) => whole(take(name, "version")?, 1.0, name, "version")?,
        (None, Some(kept)) => kept,
        (None, None) => found.status.as_ref().and_then(promoted_version).ok_or_else(|| {
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
    Ok(LiveMetrics { version, samples, metrics, model: model.clone(), ..LiveMetrics::default() })
}
