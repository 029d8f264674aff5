//! Whether a Deployment or a Service is still what the apiserver made of it when it was applied last. The reply is compared, not what
//! was asked for: what an admission webhook adds is no change by somebody else.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use serde::Serialize;

use super::{DeploymentView, Observed};

/// Whoever changes it again within this time after it was put right is at it again.
const CALM: SignedDuration = SignedDuration::from_mins(10);
/// Between two corrections, at most.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// What the apiserver replied to the last apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Digest of what was asked for.
    pub asked: u64,
    /// Digest of what was made of it.
    pub shape: u64,
    pub generation: i64,
    /// How often and when last it was put right, one soon after the other.
    corrections: u32,
    corrected: Option<Timestamp>,
}

impl Applied {
    /// The first that this operator knows of.
    #[must_use]
    pub fn new(asked: u64, shape: u64, generation: i64) -> Self {
        Self { asked, shape, generation, corrections: 0, corrected: None }
    }

    /// This one, which came after `before`. `found` is the shape that was there: if it is another one, somebody's change was put right.
    #[must_use]
    pub fn after(self, before: &Self, found: Option<u64>, now: Timestamp) -> Self {
        if found.is_none_or(|found| found == before.shape) {
            return Self { corrections: before.corrections, corrected: before.corrected, ..self };
        }
        let again = before.corrected.is_some_and(|last| now.duration_since(last) < CALM);
        let corrections = if again { before.corrections.saturating_add(1) } else { 1 };
        Self { corrections, corrected: Some(now), ..self }
    }

    /// When it may be put right again: the first time at once, then after growing pauses, so that two that fight do not write as fast as
    /// they can.
    fn not_before(&self) -> Option<Timestamp> {
        let seconds = 1_i64.checked_shl(self.corrections).filter(|_| self.corrections < 16).unwrap_or(i64::MAX);
        let pause = SignedDuration::from_secs(seconds).min(LONGEST_PAUSE);
        self.corrected.and_then(|corrected| corrected.checked_add(pause).ok())
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Leave,
    Apply,
    Later(Duration),
}

/// For an object that is there in this shape. `asked` is what is wanted now, `None` for what never changes.
pub(crate) fn then(applied: Option<&Applied>, asked: Option<u64>, shape: u64, now: Timestamp) -> Then {
    let Some(applied) = applied else { return Then::Apply };
    if asked.is_some_and(|asked| asked != applied.asked) {
        return Then::Apply;
    }
    if applied.shape == shape {
        return Then::Leave;
    }
    let left = applied.not_before().map_or(SignedDuration::ZERO, |at| at.duration_since(now).min(LONGEST_PAUSE));
    match Duration::try_from(left) {
        Ok(left) if !left.is_zero() => Then::Later(left),
        _ => Then::Apply,
    }
}

/// Digest of what is asked for.
#[must_use]
pub fn asked(service: &Service) -> u64 {
    digest(&service.spec)
}

/// Digest of what is asked for or of what became of it. It is compared within one process only.
#[must_use]
pub fn digest(what: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(what).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// What was applied last under this name, if somebody has changed it since.
fn changed_since<'a>(applied: &'a BTreeMap<String, Applied>, name: &str, shape: u64) -> Option<&'a Applied> {
    applied.get(name).filter(|applied| applied.shape != shape)
}

impl Observed {
    /// Somebody changed this Deployment after it was applied.
    pub(super) fn drifted(&self, view: &DeploymentView) -> bool {
        changed_since(&self.applied, &view.name, view.shape).is_some()
    }

    /// The cluster has looked at what was applied: the counts are of that.
    pub(super) fn seen(&self, view: &DeploymentView) -> bool {
        self.applied.get(&view.name).is_none_or(|applied| applied.generation <= view.observed_generation)
    }

    /// What is said of a Deployment that somebody changed.
    pub(super) fn deployment_changed(&self, view: &DeploymentView) -> Option<String> {
        let applied = changed_since(&self.applied, &view.name, view.shape)?;
        Some(changed("Deployment", &view.name, applied))
    }

    /// What is said of the first of these Services that somebody changed.
    pub(super) fn service_changed(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| {
            let view = self.services.get(*name)?;
            let applied = changed_since(&self.applied_services, name, view.shape)?;
            Some(changed("Service", name, applied))
        })
    }
}

fn changed(kind: &str, name: &str, applied: &Applied) -> String {
    match applied.not_before() {
        Some(at) if applied.corrections > 1 => format!(
            "somebody changes the {kind} {name} again and again ({} times now): it is put right at {}; find out who, and change the ModelDeployment instead",
            applied.corrections,
            at.strftime("%FT%TZ")
        ),
        _ => format!("somebody changed the {kind} {name}: it is put right; change the ModelDeployment instead"),
    }
}
