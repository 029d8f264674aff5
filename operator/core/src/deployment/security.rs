//! Whether what `spec.security` asks for is in force at every router that callers come to, as the condition `Secured` and in `Ready`.

use k8s_openapi::jiff::Timestamp;

use super::Observed;
use crate::api::{
    Condition, ConditionStatus, InferenceGraph, ModelDeployment, ModelDeploymentStatus, Security, set_condition,
};
use crate::plan::Event;
use crate::routing::{Router, Routers, SecurityReport, security_id};

pub(super) const SECURED: &str = "Secured";
/// Reason: a router does not have the settings yet.
pub(crate) const NOT_IN_FORCE: &str = "SecurityNotInForce";
/// Reason: a Secret or ConfigMap is missing or broken, and nobody is let in.
pub(super) const CLOSED: &str = "SecretNotUsable";
/// Reason: the same, and callers are let in by what was there before or is there beside.
const STALE: &str = "SecretNotTaken";

/// Whose door is meant, and what is asked of it.
pub(crate) struct Asked<'a> {
    /// In the routes.
    name: &'a str,
    security: Option<&'a Security>,
    generation: Option<i64>,
}

impl<'a> Asked<'a> {
    fn of(deployment: &'a ModelDeployment) -> Self {
        let meta = &deployment.metadata;
        let security = deployment.spec.security.as_deref();
        Self { name: meta.name.as_deref().unwrap_or_default(), security, generation: meta.generation }
    }

    pub fn of_graph(graph: &'a InferenceGraph) -> Self {
        let meta = &graph.metadata;
        let security = graph.spec.security.as_deref();
        Self { name: meta.name.as_deref().unwrap_or_default(), security, generation: meta.generation }
    }
}

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub reason: &'static str,
    pub message: String,
    /// A router has not been heard at all.
    is_silence: bool,
}

impl Lack {
    /// The address does not answer as it should. What is only stale leaves it as it was, and so does a router that was not heard: it may
    /// have come just now, and whether the address leads astray is decided by those that were.
    pub fn is_grave(&self) -> bool {
        self.reason != STALE && !self.is_silence
    }

    fn silence(router: &str) -> Self {
        let message = format!("router {router} has not said yet whether it has spec.security in force");
        Self { reason: NOT_IN_FORCE, message, is_silence: true }
    }

    fn truth(&self) -> ConditionStatus {
        if self.is_silence { ConditionStatus::Unknown } else { ConditionStatus::False }
    }
}

/// The gravest thing that a router says; nothing while there is no router that could say something.
pub(super) fn lack(deployment: &ModelDeployment, observed: &Observed) -> Option<Lack> {
    lack_of(&Asked::of(deployment), &observed.routers)
}

/// The same of whatever has a door.
pub(crate) fn lack_of(asked: &Asked<'_>, routers: &Routers) -> Option<Lack> {
    let id = security_id(asked.security?);
    if !is_heard(routers) {
        return None;
    }
    let mut routers: Vec<&Router> = routers.ready().collect();
    routers.sort_by_key(|router| &router.pod.pod.name);
    let lacks = routers.into_iter().filter_map(|router| {
        let name = &router.pod.pod.name;
        let Some(report) = &router.report else { return Some(Lack::silence(name)) };
        of_router(name, report.models.get(asked.name).and_then(|said| said.security.as_ref()), &id)
    });
    // The first of those that are as grave.
    lacks.min_by_key(|lack| match lack.reason {
        CLOSED => 0,
        NOT_IN_FORCE if !lack.is_silence => 1,
        NOT_IN_FORCE => 2,
        _ => 3,
    })
}

/// Some router that callers come to has said something.
fn is_heard(routers: &Routers) -> bool {
    routers.ready().any(|router| router.report.is_some())
}

fn of_router(router: &str, said: Option<&SecurityReport>, id: &str) -> Option<Lack> {
    let lack = |reason, message| Some(Lack { reason, message, is_silence: false });
    let Some(SecurityReport { closed, problems, .. }) = said.filter(|said| said.id == id) else {
        let why = said.filter(|said| said.id.is_empty()).map(|said| format!(": {}", said.problems.join("; ")));
        let why = why.unwrap_or_default();
        let message = format!("router {router} does not have spec.security in force yet{why}");
        return lack(NOT_IN_FORCE, message);
    };
    let words = problems.join("; ");
    match (closed, problems.is_empty()) {
        (false, true) => None,
        (true, _) => lack(CLOSED, format!("nobody is let in: {words}")),
        (false, false) => lack(STALE, format!("{words}; what is good, or was, stays in force")),
    }
}

/// Sets the condition. An event tells when something gets wrong.
pub(super) fn report(
    status: &mut ModelDeploymentStatus,
    deployment: &ModelDeployment,
    observed: &Observed,
    now: Timestamp,
) -> Option<Event> {
    condition(&mut status.conditions, &Asked::of(deployment), &observed.routers, now)
}

/// The same of whatever has a door.
pub(crate) fn condition(
    conditions: &mut Vec<Condition>,
    asked: &Asked<'_>,
    routers: &Routers,
    now: Timestamp,
) -> Option<Event> {
    if asked.security.is_none() {
        conditions.retain(|condition| condition.type_ != SECURED);
        return None;
    }
    let was = conditions.iter().find(|condition| condition.type_ == SECURED);
    let generation = asked.generation;
    let heard = is_heard(routers);
    let lack = lack_of(asked, routers);
    let (truth, reason, message) = match &lack {
        Some(lack) => (lack.truth(), lack.reason, lack.message.as_str()),
        None if heard => (ConditionStatus::True, "InForce", ""),
        // Nobody can tell now: what was told stays.
        None if was.is_some_and(|was| was.observed_generation == generation) => return None,
        None => (ConditionStatus::Unknown, "NoRouter", "no router has said yet what it has in force"),
    };
    let news = was.is_none_or(|was| was.reason != reason || was.message != message);
    let tells = news && lack.as_ref().is_some_and(|lack| lack.reason != NOT_IN_FORCE);
    let event = tells.then(|| Event::warning(reason, message));
    set_condition(conditions, SECURED, truth, reason, message, generation, now);
    event
}
