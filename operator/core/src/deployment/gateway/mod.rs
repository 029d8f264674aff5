//! The way in through Gateways: one `HTTPRoute` of the ModelDeployment's name, what the Gateways say of it, and what follows.
//!
//! With `provider: Router` it leads to the routers and never changes with a rollout. With `provider: GatewayAPI` it has the weights, header
//! matches and mirror of the status, and leads to the Services of the revisions. Weights are in the status before they are in the route; a
//! step is in force, and a revision may go, when every Gateway has accepted the route in that generation.

mod address;
mod covers;
mod lack;
mod mirror;
mod observed;
mod route;
mod said;

#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::drift::{self, Then};
use super::look::Look;
use super::{Observed, objects};
use crate::api::{GatewayRoute, GatewayStatus, ModelDeployment, ModelDeploymentStatus, Provider};
use crate::duration::since;
use crate::gateway_api::{HTTPRoute, HTTPRouteSpec};
use crate::plan::{Apply, Delete, DeleteKind, Plan, sooner};

pub(super) use address::url;
pub(super) use lack::{address_lack, lack, report};
pub use mirror::asks_for_features;
pub(super) use mirror::lacks_mirror;
pub use observed::{GatewayApi, GatewayView, Gateways, RouteView, gateway_key, gateway_view, route_view};

/// What a Gateway has accepted is with its proxies so much later at most, and they have ended what they had in hand or hand it over.
const LAG: Duration = Duration::from_secs(30);

/// What is asked for.
fn asked(owner: &ModelDeployment) -> Option<&GatewayRoute> {
    owner.spec.routing.as_ref()?.gateway.as_ref()
}

fn provider(owner: &ModelDeployment) -> Provider {
    owner.spec.routing.as_ref().and_then(|routing| routing.provider).unwrap_or_default()
}

/// Requests of Gateways do not come to the routers.
pub(crate) fn splits(owner: &ModelDeployment) -> bool {
    asked(owner).is_some() && provider(owner) == Provider::GatewayAPI
}

/// The Gateways that a ModelDeployment names, as namespace and name.
pub fn named(owner: &ModelDeployment) -> impl Iterator<Item = (&str, &str)> {
    let own = owner.metadata.namespace.as_deref().unwrap_or_default();
    let refs = asked(owner).into_iter().flat_map(|asked| &asked.parent_refs);
    refs.map(move |parent| (parent.namespace.as_deref().unwrap_or(own), parent.name.as_str()))
}

/// Digest of what is asked for.
#[must_use]
pub fn route_asked(wanted: &HTTPRoute) -> u64 {
    drift::digest(&wanted.spec)
}

/// Its own route, where nobody asks for one any more.
pub(super) fn unwanted(owner: &ModelDeployment, observed: &Observed) -> Option<Delete> {
    let there = own(owner, observed).filter(|_| asked(owner).is_none())?;
    Some(Delete { kind: DeleteKind::HttpRoute, name: there.name.clone(), uid: there.uid.clone() })
}

fn own<'a>(owner: &ModelDeployment, observed: &'a Observed) -> Option<&'a RouteView> {
    let there = observed.gateways.route.as_deref();
    there.filter(|view| view.owner.is_some() && view.owner == owner.metadata.uid)
}

/// Adds to the plan that the route is to be as the status says, which is written first.
pub(super) fn turn(
    plan: &mut Plan<ModelDeploymentStatus>,
    owner: &ModelDeployment,
    observed: &Observed,
    now: Timestamp,
) {
    if asked(owner).is_none() || observed.gateways.api != GatewayApi::Present {
        return;
    }
    let after = plan.status.clone().map(|status| ModelDeployment { status: Some(status), ..owner.clone() });
    let after = after.as_ref().unwrap_or(owner);
    let Some(spec) = route::spec(after) else { return };
    let mut wanted = HTTPRoute::new("", HTTPRouteSpec(spec));
    wanted.metadata = objects::own_metadata(owner);
    let there = observed.gateways.route.as_deref();
    let applied = observed.gateways.applied.as_ref();
    match there.map_or(Then::Apply, |there| drift::then(applied, Some(route_asked(&wanted)), there.shape, now)) {
        Then::Leave => {}
        Then::Later(left) => plan.requeue = sooner(plan.requeue, Some(left)),
        Then::Apply => plan.apply.push(Apply::HttpRoute(Box::new(wanted))),
    }
}

/// Why Gateways do not split requests as the status says; `None` where none of them splits.
pub(super) fn not_in_force(owner: &ModelDeployment, observed: &Observed) -> Option<String> {
    lack(owner, observed).filter(|_| splits(owner)).map(|lack| lack.message)
}

/// What the status says of Gateways.
pub(super) fn status(owner: &ModelDeployment, observed: &Observed, now: Timestamp) -> Option<GatewayStatus> {
    asked(owner)?;
    let old = owner.status.as_ref().and_then(|status| status.gateway.clone());
    if lack(owner, observed).is_some() {
        return old;
    }
    let (provider, traffic_generation) = (provider(owner), generation(owner));
    let same = |old: &GatewayStatus| old.provider == provider && old.traffic_generation == traffic_generation;
    old.filter(same).or(Some(GatewayStatus { provider, traffic_generation, since: Some(Time(now)) }))
}

/// The generation of weights that a route has.
fn generation(owner: &ModelDeployment) -> i64 {
    owner.status.as_ref().filter(|_| splits(owner)).map_or(0, |status| status.traffic_generation)
}

/// Whether Gateways still send requests to a revision that has lost its share.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Now,
    In(Duration),
    /// One has not answered, and leads nowhere: it is not waited for longer than for a router.
    Unsaid,
    /// One may have the old weights in force, for as long as it does not look.
    Stale,
}

pub(super) fn left(look: &Look<'_>) -> Left {
    if asked(look.owner).is_some() && look.observed.gateways.api == GatewayApi::Unknown {
        // An operator that has just begun does not see yet what leads there.
        return Left::Stale;
    }
    let Some(view) = own(look.owner, look.observed).filter(|_| asked(look.owner).is_some()) else { return Left::Now };
    if !view.parents.iter().any(said::accepts) {
        return Left::Now;
    }
    let wanted = route::spec(look.owner);
    let differs = wanted.is_some_and(|wanted| covers::missing(&wanted, &view.spec).is_some());
    if differs || view.parents.iter().any(|parent| said::accepts(parent) && !said::is_of(parent, view.generation)) {
        return Left::Stale;
    }
    let said = look.owner.status.as_ref().and_then(|status| status.gateway.as_ref());
    let said =
        said.filter(|said| said.provider == provider(look.owner) && said.traffic_generation == generation(look.owner));
    let Some(began) = said.and_then(|said| said.since.as_ref()) else {
        // Accepted just now: the status says since when after this pass.
        return if lack(look.owner, look.observed).is_none() { Left::In(LAG) } else { Left::Unsaid };
    };
    match LAG.checked_sub(since(began.0, look.now)).filter(|left| !left.is_zero()) {
        Some(left) => Left::In(left),
        None => Left::Now,
    }
}
