//! What is not as it should be with the way through Gateways, as the condition `Routed` and in `Ready`.

use k8s_openapi::jiff::Timestamp;
use kube_core::ResourceExt;

use super::observed::GatewayApi;
use super::{asked, covers, own, route, said};
use crate::api::{ConditionStatus, ModelDeployment, ModelDeploymentStatus, set_condition};
use crate::deployment::Observed;
use crate::plan::Event;

pub(super) const ROUTED: &str = "Routed";
/// Reason: nobody has said anything against it yet.
const PENDING: &str = "RoutePending";

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::deployment) struct Lack {
    pub reason: &'static str,
    pub message: String,
}

impl Lack {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub fn pending(message: impl Into<String>) -> Self {
        Self::new(PENDING, message)
    }

    pub fn is_pending(&self) -> bool {
        self.reason == PENDING
    }
}

/// Why not every Gateway leads where the status says; nothing where none is asked for.
pub(in crate::deployment) fn lack(owner: &ModelDeployment, observed: &Observed) -> Option<Lack> {
    let asked = asked(owner)?;
    match observed.gateways.api {
        GatewayApi::Present => {}
        GatewayApi::Unknown => {
            return Some(Lack::pending("the operator has not seen yet whether there is a Gateway API"));
        }
        GatewayApi::Disabled => {
            return Some(Lack::new(
                "GatewayAPIDisabled",
                "the operator may not write HTTPRoutes: set gatewayAPI.enabled in the chart's values, or leave out routing.gateway",
            ));
        }
        GatewayApi::Absent => {
            return Some(Lack::new(
                "GatewayAPIMissing",
                "the cluster has no HTTPRoutes: install the Gateway API (gateway.networking.k8s.io/v1), or leave out routing.gateway",
            ));
        }
    }
    let object = format!("HTTPRoute {}", owner.name_any());
    if let Some(refusal) = observed.refusals.iter().find(|refusal| refusal.object == object) {
        return Some(Lack::new("RouteRefused", format!("{object} was refused: {}", refusal.message)));
    }
    let Some(wanted) = route::spec(owner) else { return Some(Lack::pending("no revision has requests yet")) };
    let Some(view) = own(owner, observed) else { return Some(Lack::pending(format!("the {object} is being made"))) };
    let applied = observed.gateways.applied.as_ref();
    if applied.is_some_and(|applied| applied.shape != view.shape) {
        let message = format!("somebody changed the {object}: it is put right; change the ModelDeployment instead");
        return Some(Lack::new("RouteChanged", message));
    }
    if let Some(path) = covers::missing(&wanted, &view.spec) {
        if applied.is_some_and(|applied| applied.asked == crate::deployment::digest(&wanted)) {
            let message = format!(
                "the {object} was written without spec.{path}, which the installed Gateway API does not know: install a newer one, 1.3 at least"
            );
            return Some(Lack::new("GatewayAPITooOld", message));
        }
        return Some(Lack::pending(format!("the {object} is being written")));
    }
    let own = owner.namespace().unwrap_or_default();
    let mut lacks: Vec<_> =
        asked.parent_refs.iter().filter_map(|parent| said::of(parent, &own, view, &observed.gateways)).collect();
    // What somebody has to do goes before what passes.
    lacks.sort_by_key(Lack::is_pending);
    lacks.into_iter().next()
}

/// The same of an address that answered: that an operator which has just begun has not looked takes nothing away.
pub(in crate::deployment) fn address_lack(owner: &ModelDeployment, observed: &Observed) -> Option<Lack> {
    let answers = || {
        let mut conditions = owner.status.iter().flat_map(|status| &status.conditions);
        conditions.any(|condition| condition.type_ == ROUTED && condition.status == "True")
    };
    lack(owner, observed).filter(|_| observed.gateways.api != GatewayApi::Unknown || !answers())
}

/// Sets the condition. An event tells what somebody has to do something about.
pub(in crate::deployment) fn report(
    status: &mut ModelDeploymentStatus,
    owner: &ModelDeployment,
    observed: &Observed,
    now: Timestamp,
) -> Option<Event> {
    if asked(owner).is_none() {
        status.conditions.retain(|condition| condition.type_ != ROUTED);
        return None;
    }
    let was = status.conditions.iter().find(|condition| condition.type_ == ROUTED);
    // After a restart nobody has looked yet: what was told stays.
    if observed.gateways.api == GatewayApi::Unknown && was.is_some() {
        return None;
    }
    let lack = lack(owner, observed);
    let (truth, reason, message) = match &lack {
        None => (ConditionStatus::True, "RouteAccepted", ""),
        Some(lack) if lack.is_pending() => (ConditionStatus::Unknown, lack.reason, lack.message.as_str()),
        Some(lack) => (ConditionStatus::False, lack.reason, lack.message.as_str()),
    };
    let news = was.is_none_or(|was| was.reason != reason || was.message != message);
    let tells = news && lack.as_ref().is_some_and(|lack| !lack.is_pending());
    let event = tells.then(|| Event::warning(reason, message));
    set_condition(&mut status.conditions, ROUTED, truth, reason, message, owner.metadata.generation, now);
    event
}
