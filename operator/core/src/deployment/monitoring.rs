//! What the status says of drift, whose pods are asked for it, and when what they say is news.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use millrace_contract::DriftCounts;

use super::Version;
use super::look::stable_of;
use crate::analysis::Rows;
use crate::api::{
    AnalysisMetric, Condition, ConditionStatus, DriftStatus, ModelDeployment, ModelDeploymentStatus, RevisionStatus,
    set_condition,
};
use crate::drift::{Asked, Judged, judge};
use crate::duration::since;
use crate::plan::Event;

/// The condition.
const DRIFTED: &str = "Drifted";
/// Figures are written this often at most.
const PAUSE: Duration = Duration::from_mins(1);
/// A figure that moves by this share of the threshold has moved, and so have the rows that move by this share of them.
const MOVED: f64 = 0.1;
/// A share of rows, or a mean probability, that moves by this has moved.
const SHARE: f64 = 0.02;

/// The pods of a revision that are asked what they counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitored {
    pub revision: String,
    /// The model and the version of it that they serve.
    pub model: String,
    pub version: Version,
    pub window: Duration,
}

/// Whose pods are to be asked: those of the promoted revision, where drift is watched.
#[must_use]
pub fn monitored(deployment: &ModelDeployment) -> Option<Monitored> {
    let drift = deployment.spec.monitoring.as_ref()?.drift.as_ref()?;
    let RevisionStatus { name, version, artifact, .. } = promoted(deployment.status.as_ref()?)?;
    Some(Monitored {
        revision: name.clone(),
        model: deployment.model_name().to_owned(),
        version: Version::of(*version, artifact.as_ref())?,
        window: Asked::from(drift).window,
    })
}

/// Whose pods are to be asked besides: those of the revision that comes, where an analysis is of its drift.
#[must_use]
pub fn monitored_candidate(deployment: &ModelDeployment) -> Option<Monitored> {
    let analyses = &deployment.spec.rollout.as_ref()?.analysis;
    if analyses.values().all(|analysis| analysis.metric != Some(AnalysisMetric::Drift)) {
        return None;
    }
    // Before its first step too: what is asked for the first time counts from then on.
    let rollout = deployment.status.as_ref()?.rollout.as_ref().filter(|rollout| rollout.rejected.is_none())?;
    Some(Monitored {
        revision: rollout.revision.clone(),
        model: deployment.model_name().to_owned(),
        version: Version::of(rollout.version, rollout.artifact.as_ref())?,
        window: asked(deployment).window,
    })
}

/// What is asked of drift, with the defaults where nothing is.
fn asked(deployment: &ModelDeployment) -> Asked<'_> {
    let drift = deployment.spec.monitoring.as_ref().and_then(|monitoring| monitoring.drift.as_ref());
    drift.map(Asked::from).unwrap_or_default()
}

/// What the pods of the revision that comes counted, as its analyses look at it.
pub(super) fn rows<'a>(deployment: &'a ModelDeployment, counts: Option<&'a DriftCounts>) -> Rows<'a> {
    Rows { asked: asked(deployment), counts }
}

fn promoted(status: &ModelDeploymentStatus) -> Option<&RevisionStatus> {
    let stable = stable_of(status)?;
    status.revisions.iter().find(|revision| revision.name == stable)
}

/// Whether a pass would write what the pods counted.
#[must_use]
pub fn has_drift_news(deployment: &ModelDeployment, counts: &DriftCounts, now: Timestamp) -> bool {
    news(deployment, counts, now).is_some()
}

/// What is to be written of these counts: another verdict, or figures that have moved, once a minute at most; what the spec or another
/// revision makes of them at once.
fn news(deployment: &ModelDeployment, counts: &DriftCounts, now: Timestamp) -> Option<Judged> {
    let Monitored { revision, version, .. } = monitored(deployment)?;
    let asked = Asked::from(deployment.spec.monitoring.as_ref()?.drift.as_ref()?);
    let mut judged = judge(&asked, counts);
    judged.figures.revision = revision;
    judged.figures.version = version.number();
    judged.figures.observed_time = Some(Time(now));
    let status = deployment.status.as_ref();
    let old = status.and_then(|status| status.drift.as_ref()).filter(|old| old.revision == judged.figures.revision);
    let condition = status.and_then(|status| condition(&status.conditions));
    let (Some(old), Some(condition)) = (old, condition) else { return Some(judged) };
    if condition.observed_generation != deployment.metadata.generation {
        return Some(judged);
    }
    let rests = old.observed_time.as_ref().is_some_and(|written| since(written.0, now) < PAUSE);
    let verdict = condition.status != judged.status.as_str() || condition.reason != judged.reason;
    let moved = moves(old, &judged.figures, asked.threshold * MOVED);
    (!rests && (verdict || moved)).then_some(judged)
}

/// Whether another feature has drifted, or a figure is another one by more than `step`.
fn moves(old: &DriftStatus, new: &DriftStatus, step: f64) -> bool {
    let feature = |name: &str| old.features.iter().find(|feature| feature.name == name);
    // Of more than are listed some come and go all the time.
    let grows = old.features.len() < new.features.len();
    let features = new.features.iter().any(|new| match feature(&new.name) {
        None => new.drifted || grows,
        Some(old) => {
            old.drifted != new.drifted
                || (old.value - new.value).abs() >= step
                || shifts(Some(old.missing), Some(new.missing))
                || shifts(old.out_of_range, new.out_of_range)
                || shifts(old.new_categories, new.new_categories)
        }
    });
    let predictions = match (&old.predictions, &new.predictions) {
        (Some(old), Some(new)) => {
            old.drifted != new.drifted
                || (old.value - new.value).abs() >= step
                || shifts(old.out_of_range, new.out_of_range)
                || shifts(old.probability_shift, new.probability_shift)
        }
        (old, new) => old.is_some() != new.is_some(),
    };
    let rows = (old.samples - new.samples).abs() as f64 > old.samples as f64 * MOVED;
    let counts = old.drifted != new.drifted || old.compared != new.compared || rows;
    features || predictions || counts || shifts(old.outliers, new.outliers)
}

fn shifts(old: Option<f64>, new: Option<f64>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => (old - new).abs() >= SHARE,
        (old, new) => old.is_some() != new.is_some(),
    }
}

fn condition(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == DRIFTED)
}

/// Sets `status.drift` and the condition. `counts`: what the pods of the promoted revision counted, `None` while nobody knows.
pub(super) fn report(
    status: &mut ModelDeploymentStatus,
    deployment: &ModelDeployment,
    counts: Option<&DriftCounts>,
    now: Timestamp,
) -> Option<Event> {
    let wanted = deployment.spec.monitoring.as_ref().and_then(|monitoring| monitoring.drift.as_ref());
    if wanted.is_none() {
        status.drift = None;
        status.conditions.retain(|condition| condition.type_ != DRIFTED);
        return None;
    }
    let generation = deployment.metadata.generation;
    let revision = promoted(status).map(|revision| revision.name.clone());
    // One that is promoted in this pass was not asked yet.
    let of = |judged: &Judged| Some(&judged.figures.revision) == revision.as_ref();
    if let Some(judged) = counts.and_then(|counts| news(deployment, counts, now)).filter(of) {
        let event = event(condition(&status.conditions), &judged);
        let Judged { status: truth, reason, message, figures } = judged;
        set_condition(&mut status.conditions, DRIFTED, truth, reason, &message, generation, now);
        status.drift = Some(figures);
        return event;
    }
    let known = status.drift.as_ref().is_some_and(|drift| Some(&drift.revision) == revision.as_ref());
    if !known {
        // What was said of another revision says nothing of this one.
        status.drift = None;
        let message = match revision {
            Some(revision) => format!("no pod of revision {revision} has said yet what it counted"),
            None => "there is no promoted revision yet".to_owned(),
        };
        let unknown = ConditionStatus::Unknown;
        set_condition(&mut status.conditions, DRIFTED, unknown, "NoAnswer", &message, generation, now);
    }
    None
}

/// An event when it turns: into drift from anything, and out of it.
fn event(old: Option<&Condition>, judged: &Judged) -> Option<Event> {
    let was = old.is_some_and(|old| old.status == ConditionStatus::True.as_str());
    match judged.status {
        ConditionStatus::True if !was => Some(Event::warning(DRIFTED, &judged.message)),
        ConditionStatus::False if was => Some(Event::normal("DriftEnded", &judged.message)),
        ConditionStatus::True | ConditionStatus::False | ConditionStatus::Unknown => None,
    }
}
