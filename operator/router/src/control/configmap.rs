//! Routes from a ConfigMap through the API: a change is here in milliseconds, where the kubelet takes up to a minute for a mounted one.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use millrace_routes::ROUTES_KEY;
use tokio::sync::mpsc;

use super::forbidden;

/// Follows the one ConfigMap and sends each document that it holds. One that is deleted changes nothing: the routes stay.
pub async fn follow(client: Client, namespace: String, name: String, documents: mpsc::Sender<Vec<u8>>) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api, config).default_backoff().boxed();
    loop {
        match events.try_next().await {
            Ok(Some(Event::InitApply(map) | Event::Apply(map))) => {
                let document = map.data.unwrap_or_default().remove(ROUTES_KEY).unwrap_or_default();
                if documents.send(document.into_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(Some(Event::Init | Event::InitDone | Event::Delete(_))) => {}
            Ok(None) => return,
            Err(error) => match forbidden::remedy(&error) {
                Some(remedy) => tracing::error!(%error, configmap = name, remedy, "the watch of the routes is refused"),
                None => {
                    tracing::warn!(%error, configmap = name, "the watch of the routes broke; it will be begun again");
                }
            },
        }
    }
}
