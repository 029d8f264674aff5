//! Where the Gateway answers.

use super::observed::{GatewayView, gateway_key};
use super::{asked, lack};
use crate::api::{GatewayRef, GatewayRoute, ModelDeployment};
use crate::deployment::Observed;
use crate::gateway_api::Listener;

/// The URL of the first Gateway that the operator can see, once the route is accepted.
pub(in crate::deployment) fn url(owner: &ModelDeployment, observed: &Observed) -> Option<String> {
    let asked = asked(owner)?;
    let before = || owner.status.as_ref()?.address.as_ref()?.gateway_url.clone();
    if lack(owner, observed).is_some() {
        // While weights change the address stays.
        return before();
    }
    let own = owner.metadata.namespace.as_deref().unwrap_or_default();
    asked.parent_refs.iter().find_map(|parent| {
        let key = gateway_key(parent.namespace.as_deref().unwrap_or(own), &parent.name);
        of(asked, parent, observed.gateways.named.get(&key)?.as_deref()?)
    })
}

fn of(asked: &GatewayRoute, parent: &GatewayRef, gateway: &GatewayView) -> Option<String> {
    let listeners = gateway.listeners.iter().filter(|listener| {
        let web = ["HTTP", "HTTPS"].contains(&listener.protocol.as_str());
        web && parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
    });
    // One with TLS goes before one without.
    let listener = listeners.min_by_key(|listener| listener.protocol != "HTTPS")?;
    let hosts = asked.hostnames.iter().chain(&listener.hostname).filter(|host| !host.contains('*'));
    let host = hosts.chain(&gateway.addresses).next()?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let Listener { port, protocol, .. } = listener;
    let scheme = protocol.to_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = if *port == usual { String::new() } else { format!(":{port}") };
    let path = asked.path.as_deref().filter(|path| *path != "/").unwrap_or_default();
    Some(format!("{scheme}://{host}{port}{path}"))
}
