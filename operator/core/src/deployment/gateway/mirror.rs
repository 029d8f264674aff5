//! Whether Gateways can copy requests. One that cannot may say that it accepts the route, and answer every request of the rule with a 500; so it
//! has to say before that it can.

use super::{Gateways, asked, splits};
use crate::api::{ModelDeployment, RolloutStrategy};
use crate::deployment::Observed;
use crate::deployment::gateway::observed::{GatewayApi, gateway_key};
use crate::problem::Problem;

/// Names of features, as the Gateway API has them.
const MIRROR: &str = "HTTPRouteRequestMirror";
const SHARE: &str = "HTTPRouteRequestPercentageMirror";

/// What a rollout would ask of Gateways; `None` where nothing is copied by them.
fn needed(owner: &ModelDeployment) -> Option<&'static str> {
    let rollout = owner.spec.rollout.as_ref().filter(|_| splits(owner))?;
    let shadow = rollout.strategy == RolloutStrategy::Shadow;
    shadow.then(|| if rollout.sample.is_some_and(|sample| sample < 1.0) { SHARE } else { MIRROR })
}

/// Whether the classes of the Gateways are looked at.
#[must_use]
pub fn asks_for_features(owner: &ModelDeployment) -> bool {
    needed(owner).is_some()
}

/// The first Gateway that does not say that it can do what a shadow needs. While nobody knows whether there are Gateways nothing is said.
pub(in crate::deployment) fn lacks_mirror(owner: &ModelDeployment, observed: &Observed) -> Option<Problem> {
    let feature = needed(owner).filter(|_| observed.gateways.api == GatewayApi::Present)?;
    let own = owner.metadata.namespace.as_deref().unwrap_or_default();
    let words = asked(owner)?.parent_refs.iter().find_map(|parent| {
        let key = gateway_key(parent.namespace.as_deref().unwrap_or(own), &parent.name);
        lack(&key, feature, &observed.gateways)
    })?;
    Some(Problem::new(
        "spec.rollout.strategy",
        "MirrorUnsupported",
        format!(
            "Shadow needs Gateways that copy requests, and {words}: write Canary, or routing.provider: Router, to which routing.gateway leads as well"
        ),
    ))
}

fn lack(key: &str, feature: &str, gateways: &Gateways) -> Option<String> {
    let Some(Some(gateway)) = gateways.named.get(key) else {
        return Some(format!("what Gateway {key} can do is not known"));
    };
    match gateways.features.get(&gateway.class) {
        Some(features) if features.contains(feature) => None,
        Some(_) => Some(format!(
            "Gateway {key} does not say in status.supportedFeatures of its class {} that it has {feature}",
            gateway.class
        )),
        None => Some(format!("the class {} of Gateway {key} is not there, or may not be read", gateway.class)),
    }
}
