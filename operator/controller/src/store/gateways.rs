//! The watches of the Gateway API, which may be installed later, or never: nothing else waits for them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kube::Client;
use millrace_core::deployment::{
    GatewayApi, GatewayView, RouteView, gateway_key, gateway_view, named_gateways, route_view,
};
use millrace_core::gateway_api::{API_VERSION, Gateway, HTTPRoute, PLURALS};
use millrace_core::names::DEPLOYMENT_LABEL;
use tokio::task::JoinHandle;

use super::Stores;
use super::feed::{Feed, Feeds, Select, Starter, served_group};
use crate::key::Id;
use crate::wake::{self, Queues};

/// Between two looks whether it is there.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether the cluster has the Gateway API, as far as this process knows.
#[derive(Default)]
pub struct Presence(RwLock<GatewayApi>);

impl Presence {
    pub fn get(&self) -> GatewayApi {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it, and wakes those for whom it is news.
    pub fn set(&self, api: GatewayApi, stores: &Stores, queues: &Queues) {
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), api);
        if before == api {
            return;
        }
        tracing::info!(gateway_api = ?api, "looked for the Gateway API");
        stores.deployments.each(None, |id, deployment| {
            if named_gateways(deployment).next().is_some() {
                queues.of(crate::key::Kind::Deployment).push(id.clone());
            }
        });
    }
}

/// Watches for as long as it is installed, and looks whether it is for as long as the process lives. `scopes` are namespaces, "" for all.
pub async fn follow_gateways(client: Client, scopes: Vec<String>, stores: Arc<Stores>, queues: Arc<Queues>) {
    let mut watches = None;
    loop {
        match is_installed(&client).await {
            Some(true) => {
                let watches = watches.get_or_insert_with(|| Watches::start(&client, &scopes, &stores, &queues));
                // Without the right to it the lists never end.
                let listed = tokio::time::timeout(PAUSE, watches.feeds.listed()).await;
                if listed.is_ok() {
                    stores.gateway_api.set(GatewayApi::Present, &stores, &queues);
                }
            }
            Some(false) => {
                if let Some(watches) = watches.take() {
                    watches.stop();
                    forget(&scopes, &stores, &queues);
                }
                stores.gateway_api.set(GatewayApi::Absent, &stores, &queues);
            }
            None => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Nothing if the apiserver does not say.
async fn is_installed(client: &Client) -> Option<bool> {
    match client.list_api_group_resources(API_VERSION).await {
        Ok(found) => Some(PLURALS.iter().all(|plural| found.resources.iter().any(|one| one.name == *plural))),
        Err(kube::Error::Api(status)) if status.code == 404 => Some(false),
        Err(error) => {
            tracing::warn!(%error, "failed to look for the Gateway API; it will be tried again");
            None
        }
    }
}

struct Watches {
    feeds: Arc<Feeds>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watches {
    fn start(client: &Client, scopes: &[String], stores: &Arc<Stores>, queues: &Arc<Queues>) -> Self {
        let feeds = Arc::new(Feeds::default());
        let starter = Starter { client, stores, queues, feeds: &feeds };
        let mut tasks = Vec::new();
        for scope in scopes {
            let labels = |labels| Select { scope, labels, name: "" };
            let feed = Feed { kind: "HTTPRoute", shelf: |s| &s.http_routes, view: http_route, wake: wake::http_route };
            tasks.push(starter.start(labels(DEPLOYMENT_LABEL), feed));
            let feed = Feed { kind: "Gateway", shelf: |s| &s.gateways, view: gateway, wake: wake::gateway };
            tasks.push(starter.start(labels(""), feed));
        }
        Self { feeds, tasks }
    }

    fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// They went with their CustomResourceDefinitions.
fn forget(scopes: &[String], stores: &Stores, queues: &Queues) {
    for scope in scopes {
        stores.http_routes.begin(scope);
        for (id, group, view) in stores.http_routes.end(scope) {
            wake::http_route(stores, queues, &id, &group, &view, true);
        }
        stores.gateways.begin(scope);
        for (id, group, view) in stores.gateways.end(scope) {
            wake::gateway(stores, queues, &id, &group, &view, true);
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn http_route(route: HTTPRoute) -> Option<(String, RouteView)> {
    Some((served_group(&route)?, route_view(&route)))
}

/// Grouped by its own name: nobody owns it.
#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
fn gateway(gateway: Gateway) -> Option<(String, GatewayView)> {
    let key = gateway_key(gateway.metadata.namespace.as_deref()?, gateway.metadata.name.as_deref()?);
    Some((key, gateway_view(&gateway)))
}

/// Whether a Gateway is among those that a ModelDeployment names.
pub fn names_gateway(deployment: &millrace_core::api::ModelDeployment, id: &Id) -> bool {
    named_gateways(deployment).any(|(namespace, name)| namespace == id.namespace && name == id.name)
}
