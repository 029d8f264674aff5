//! Whether what `spec.security` asks for is in force at every router that callers come to, as the condition `Secured` and in `Ready`.

use k8s_openapi::jiff::Timestamp;

use super::Observed;
use crate::api::{ConditionStatus, ModelDeployment, ModelDeploymentStatus, set_condition};
use crate::plan::Event;
use crate::routing::{SecurityReport, security_id};

const SECURED: &str = "Secured";
/// Reason: a router does not have the settings yet.
pub(super) const NOT_IN_FORCE: &str = "SecurityNotInForce";
/// Reason: a Secret or ConfigMap is missing or broken, and nobody is let in.
pub(super) const CLOSED: &str = "SecretNotUsable";
/// Reason: the same, and callers are let in by what was there before or is there beside.
const STALE: &str = "SecretNotTaken";

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub reason: &'static str,
    pub message: String,
}

impl Lack {
    /// The address does not answer as it should. What is only stale leaves it as it was.
    pub fn is_grave(&self) -> bool {
        self.reason != STALE
    }
}

/// The gravest thing that a router says; nothing while there is no router that could say something.
pub(super) fn lack(deployment: &ModelDeployment, observed: &Observed) -> Option<Lack> {
    let asked = deployment.spec.security.as_ref()?;
    let id = security_id(asked);
    let said = said(deployment, observed);
    let mut lacks: Vec<Lack> = said.into_iter().filter_map(|(router, said)| of_router(router, said, &id)).collect();
    lacks.sort_by_key(|lack| [CLOSED, NOT_IN_FORCE].iter().position(|grave| *grave == lack.reason).unwrap_or(2));
    lacks.into_iter().next()
}

/// What the routers that callers come to say of this model, by their names.
fn said<'a>(deployment: &ModelDeployment, observed: &'a Observed) -> Vec<(&'a str, Option<&'a SecurityReport>)> {
    let model = deployment.metadata.name.as_deref().unwrap_or_default();
    let said = observed.routers.ready().filter_map(|router| {
        let said = router.report.as_ref()?.models.get(model)?;
        Some((router.pod.pod.name.as_str(), said.security.as_ref()))
    });
    let mut said: Vec<_> = said.collect();
    said.sort_by_key(|(router, _)| *router);
    said
}

fn of_router(router: &str, said: Option<&SecurityReport>, id: &str) -> Option<Lack> {
    let Some(SecurityReport { closed, problems, .. }) = said.filter(|said| said.id == id) else {
        let why = said.filter(|said| said.id.is_empty()).map(|said| format!(": {}", said.problems.join("; ")));
        let why = why.unwrap_or_default();
        let message = format!("router {router} does not have spec.security in force yet{why}");
        return Some(Lack { reason: NOT_IN_FORCE, message });
    };
    let words = problems.join("; ");
    match (closed, problems.is_empty()) {
        (false, true) => None,
        (true, _) => Some(Lack { reason: CLOSED, message: format!("nobody is let in: {words}") }),
        (false, false) => {
            Some(Lack { reason: STALE, message: format!("{words}; what is good, or was, stays in force") })
        }
    }
}

/// Sets the condition. An event tells when something gets wrong.
pub(super) fn report(
    status: &mut ModelDeploymentStatus,
    deployment: &ModelDeployment,
    observed: &Observed,
    now: Timestamp,
) -> Option<Event> {
    if deployment.spec.security.is_none() {
        status.conditions.retain(|condition| condition.type_ != SECURED);
        return None;
    }
    let was = status.conditions.iter().find(|condition| condition.type_ == SECURED);
    let generation = deployment.metadata.generation;
    let heard = !said(deployment, observed).is_empty();
    let lack = lack(deployment, observed);
    let (truth, reason, message) = match &lack {
        Some(lack) => (ConditionStatus::False, lack.reason, lack.message.as_str()),
        None if heard => (ConditionStatus::True, "InForce", ""),
        // Nobody can tell now: what was told stays.
        None if was.is_some_and(|was| was.observed_generation == generation) => return None,
        None => (ConditionStatus::Unknown, "NoRouter", "no router has said yet what it has in force"),
    };
    let news = was.is_none_or(|was| was.reason != reason || was.message != message);
    let tells = news && lack.as_ref().is_some_and(|lack| lack.reason != NOT_IN_FORCE);
    let event = tells.then(|| Event::warning(reason, message));
    set_condition(&mut status.conditions, SECURED, truth, reason, message, generation, now);
    event
}
