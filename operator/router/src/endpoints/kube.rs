//! Endpoints from the namespace's EndpointSlices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};

use super::Endpoint;
use crate::control::forbidden;
use crate::state::State;

const SERVICE: &str = "kubernetes.io/service-name";

/// The slices of the namespace: by Service, then by their own name.
#[derive(Default)]
struct Slices(BTreeMap<String, BTreeMap<String, Vec<Endpoint>>>);

/// Follows the namespace for as long as the process lives. A watch that breaks is begun again; what was known stays meanwhile.
pub async fn follow(client: Client, namespace: String, state: Arc<State>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut slices = Slices::default();
    let mut listing = Slices::default();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => listing = Slices::default(),
            Ok(Some(Event::InitApply(slice))) => drop(listing.put(&slice)),
            Ok(Some(Event::InitDone)) => {
                let before: BTreeSet<String> = slices.0.keys().cloned().collect();
                slices = std::mem::take(&mut listing);
                for service in before.iter().chain(slices.0.keys()) {
                    state.set_endpoints(service, slices.of(service));
                }
                state.listed();
            }
            Ok(Some(Event::Apply(slice))) => {
                if let Some(service) = slices.put(&slice) {
                    state.set_endpoints(&service, slices.of(&service));
                }
            }
            Ok(Some(Event::Delete(slice))) => {
                if let Some(service) = slices.remove(&slice) {
                    state.set_endpoints(&service, slices.of(&service));
                }
            }
            Ok(None) => return,
            Err(error) => match forbidden::remedy(&error) {
                Some(remedy) => tracing::error!(%error, remedy, "the watch of EndpointSlices is refused"),
                None => tracing::warn!(%error, "the watch of EndpointSlices broke; it will be begun again"),
            },
        }
    }
}

impl Slices {
    /// The Service that it belongs to.
    fn put(&mut self, slice: &EndpointSlice) -> Option<String> {
        let service = slice.labels().get(SERVICE)?.clone();
        self.0.entry(service.clone()).or_default().insert(slice.name_any(), endpoints(slice));
        Some(service)
    }

    fn remove(&mut self, slice: &EndpointSlice) -> Option<String> {
        let service = slice.labels().get(SERVICE)?.clone();
        let slices = self.0.get_mut(&service)?;
        slices.remove(&slice.name_any());
        if slices.is_empty() {
            self.0.remove(&service);
        }
        Some(service)
    }

    /// Each address once. A pod may be in two slices for a moment, and is ready if one says so.
    fn of(&self, service: &str) -> Vec<Endpoint> {
        let mut ready = BTreeMap::new();
        for endpoint in self.0.get(service).into_iter().flat_map(BTreeMap::values).flatten() {
            *ready.entry(endpoint.address).or_insert(false) |= endpoint.ready;
        }
        ready.into_iter().map(|(address, ready)| Endpoint { address, ready }).collect()
    }
}

fn endpoints(slice: &EndpointSlice) -> Vec<Endpoint> {
    let all = slice.endpoints.iter().filter_map(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // One that is ending may close a connection at any moment.
        if conditions.and_then(|c| c.terminating).unwrap_or(false) {
            return None;
        }
        // All addresses of an endpoint are the same pod's.
        let address = endpoint.addresses.first()?.parse().ok()?;
        // Unknown is to be taken for ready (EndpointSlice v1).
        Some(Endpoint { address, ready: conditions.and_then(|c| c.ready).unwrap_or(true) })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, endpoints: &str) -> EndpointSlice {
        let json = format!(
            r#"{{"addressType": "IPv4", "metadata": {{"name": "{name}", "labels": {{"{SERVICE}": "m"}}}}, "endpoints": {endpoints}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn slices_of_one_service_are_joined_and_ending_pods_are_left_out() {
        let mut slices = Slices::default();
        let first = slice(
            "a",
            r#"[{"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true, "terminating": true}}, {"addresses": ["10.0.0.3"]}]"#,
        );
        slices.put(&first);
        slices.put(&slice("b", r#"[{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]"#));
        let ready = |ip: &str, ready| Endpoint { address: ip.parse().unwrap(), ready };
        assert_eq!(slices.of("m"), [ready("10.0.0.1", true), ready("10.0.0.3", true)]);
        assert_eq!(slices.remove(&first).as_deref(), Some("m"));
        assert_eq!(slices.of("m"), [ready("10.0.0.1", true)]);
        assert_eq!(slices.of("other"), []);
    }
}
