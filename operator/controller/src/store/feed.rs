//! The watches that fill the shelves, and whom each change wakes.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use millrace_core::api::MLPipelineRun;
use millrace_core::names::{
    DEPLOYMENT_LABEL, GRAPH_LABEL, ITEM_LABEL, PIPELINE_UID_LABEL, ROUTER, ROUTER_LABEL, ROUTES, RUN_UID_LABEL,
};
use millrace_core::routing::{PartView, is_ours};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Stores;
use super::lenient::Lenient;
use super::project::{
    Kept, Part, autoscaler_view, budget_view, deployment_view, job_view, label, look_job_view, look_pod_view,
    part_view, router_view, routes_view, server_pod_view, service_view, stage_pod_view,
};
use super::shelf::{Item, Shelf};
use crate::key::Id;
use crate::wake::{self, Queues};

/// Objects in one page of a listing: more memory at once against more requests.
const PAGE: u32 = 100;

/// How far the watches are.
#[derive(Default)]
pub struct Feeds {
    started: AtomicUsize,
    listed: AtomicUsize,
    news: Notify,
}

impl Feeds {
    /// Every kind was listed once.
    pub fn ready(&self) -> bool {
        let started = self.started.load(Ordering::Acquire);
        started > 0 && self.listed.load(Ordering::Acquire) >= started
    }

    /// Waits until every kind was listed once.
    pub async fn listed(&self) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // Registered before the look, so that nothing is missed between the two.
            news.as_mut().enable();
            if self.ready() {
                return;
            }
            news.await;
        }
    }
}

/// What one watch does with what it sees.
pub(super) struct Feed<K, V> {
    pub kind: &'static str,
    pub shelf: fn(&Stores) -> &Shelf<V>,
    /// Group and view of an object; nothing if it is none of ours.
    pub view: fn(K) -> Option<(String, V)>,
    /// Whom a change wakes, and what else is to be known of it. The last argument is true if the object is gone.
    pub wake: fn(&Stores, &Queues, &Id, &str, &V, bool),
}

/// Sees an object before it becomes a view.
type Note<K> = fn(&Stores, &Queues, &K);

/// Starts all watches. `namespaces` is empty for all of them.
pub fn start(
    client: &Client,
    namespaces: &[String],
    catalog: &str,
    stores: &Arc<Stores>,
    queues: &Arc<Queues>,
) -> Arc<Feeds> {
    let feeds = Arc::new(Feeds::default());
    let mut scopes: Vec<String> = namespaces.to_vec();
    if scopes.is_empty() {
        scopes.push(String::new());
    }
    // The pods of items are asked for when something is the matter (`pass/items.rs`).
    let but_items = format!("{RUN_UID_LABEL},!{ITEM_LABEL}");
    let starter = Starter { client, stores, queues, feeds: &feeds };
    for scope in &scopes {
        let all = |labels| Select { scope, labels, name: "" };
        starter.start(all(""), Feed { kind: "MLPipeline", shelf: |s| &s.pipelines, view: whole, wake: wake::pipeline });
        starter.start_noting(
            all(""),
            Feed { kind: "MLPipelineRun", shelf: |s| &s.runs, view: whole, wake: wake::run },
            |stores, queues, run: &MLPipelineRun| run.note(stores, queues),
        );
        starter
            .start(all(""), Feed { kind: "StageTemplate", shelf: |s| &s.templates, view: whole, wake: wake::template });
        starter.start(all(""), Feed { kind: "ModelVersion", shelf: |s| &s.versions, view: whole, wake: wake::version });
        starter.start(
            all(""),
            Feed { kind: "ModelDeployment", shelf: |s| &s.deployments, view: whole, wake: wake::deployment },
        );
        graphs(&starter, all(""), all(GRAPH_LABEL));
        let of_runs = all(RUN_UID_LABEL);
        starter.start(of_runs, Feed { kind: "Job", shelf: |s| &s.jobs, view: job, wake: wake::of_run });
        let of_stages = all(&but_items);
        starter.start(of_stages, Feed { kind: "Pod", shelf: |s| &s.stage_pods, view: stage_pod, wake: wake::of_run });
        let of_looks = all(PIPELINE_UID_LABEL);
        starter.start(of_looks, Feed { kind: "Job", shelf: |s| &s.look_jobs, view: look_job, wake: wake::look });
        starter.start(of_looks, Feed { kind: "Pod", shelf: |s| &s.look_pods, view: look_pod, wake: wake::look });
        starter.models(scope);
        starter.routers(scope);
    }
    if !namespaces.is_empty() && !namespaces.iter().any(|n| n == catalog) {
        let feed = Feed { kind: "StageTemplate", shelf: |s: &Stores| &s.templates, view: whole, wake: wake::template };
        starter.start(Select { scope: catalog, labels: "", name: "" }, feed);
    }
    feeds
}

/// InferenceGraphs and their Services.
fn graphs(starter: &Starter<'_>, all: Select<'_>, labelled: Select<'_>) {
    starter.start(all, Feed { kind: "InferenceGraph", shelf: |s| &s.graphs, view: whole, wake: wake::graph });
    starter.start(
        labelled,
        Feed { kind: "Service", shelf: |s| &s.graph_services, view: graph_service, wake: wake::graph_service },
    );
}

/// What a watch is of.
#[derive(Clone, Copy)]
pub(super) struct Select<'a> {
    /// A namespace, or "" for all of them.
    pub scope: &'a str,
    /// A label selector, or "".
    pub labels: &'a str,
    /// The one name, or "" for all: the right to watch may be for one name too.
    pub name: &'a str,
}

pub(super) struct Starter<'a> {
    pub client: &'a Client,
    pub stores: &'a Arc<Stores>,
    pub queues: &'a Arc<Queues>,
    pub feeds: &'a Arc<Feeds>,
}

impl Starter<'_> {
    /// What is of ModelDeployments.
    fn models(&self, scope: &str) {
        let of_models = Select { scope, labels: DEPLOYMENT_LABEL, name: "" };
        self.start(
            of_models,
            Feed { kind: "Pod", shelf: |s| &s.server_pods, view: server_pod, wake: wake::of_deployment },
        );
        self.start(
            of_models,
            Feed {
                kind: "Deployment",
                shelf: |s| &s.server_deployments,
                view: server_deployment,
                wake: wake::server_deployment,
            },
        );
        self.start(of_models, Feed { kind: "Service", shelf: |s| &s.services, view: service, wake: wake::service });
        self.start(
            of_models,
            Feed {
                kind: "HorizontalPodAutoscaler",
                shelf: |s| &s.autoscalers,
                view: autoscaler,
                wake: wake::autoscaler,
            },
        );
        self.start(
            of_models,
            Feed { kind: "PodDisruptionBudget", shelf: |s| &s.budgets, view: budget, wake: wake::budget },
        );
    }

    /// What is of the routers.
    fn routers(&self, scope: &str) {
        let named = |name| Select { scope, labels: "", name };
        self.start(named(ROUTES), Feed { kind: "ConfigMap", shelf: |s| &s.routes, view: routes, wake: wake::routing });
        self.start(
            named(ROUTER),
            Feed { kind: "Deployment", shelf: |s| &s.router_deployments, view: router_deployment, wake: wake::routing },
        );
        self.start(
            named(ROUTER),
            Feed {
                kind: "ServiceAccount",
                shelf: |s| &s.router_accounts,
                view: part::<ServiceAccount>,
                wake: wake::part,
            },
        );
        self.start(
            named(ROUTER),
            Feed { kind: "RoleBinding", shelf: |s| &s.router_bindings, view: part::<RoleBinding>, wake: wake::part },
        );
        self.start(
            named(ROUTER),
            Feed {
                kind: "PodDisruptionBudget",
                shelf: |s| &s.router_budgets,
                view: part::<PodDisruptionBudget>,
                wake: wake::part,
            },
        );
        // Two names: the label finds both.
        self.start(
            Select { scope, labels: ROUTER_LABEL, name: "" },
            Feed {
                kind: "NetworkPolicy",
                shelf: |s| &s.router_policies,
                view: part::<NetworkPolicy>,
                wake: wake::part,
            },
        );
        self.start(
            Select { scope, labels: ROUTER_LABEL, name: "" },
            Feed { kind: "Pod", shelf: |s| &s.routers, view: router_pod, wake: wake::router },
        );
    }

    pub fn start<K, V>(&self, select: Select<'_>, feed: Feed<K, V>) -> JoinHandle<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
        V: Send + Sync + 'static,
    {
        self.start_noting(select, feed, |_, _, _| {})
    }

    /// The same, with somebody who sees each object whole.
    fn start_noting<K, V>(&self, select: Select<'_>, feed: Feed<K, V>, note: Note<K>) -> JoinHandle<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
        V: Send + Sync + 'static,
    {
        self.feeds.started.fetch_add(1, Ordering::AcqRel);
        let Select { scope, labels, name } = select;
        let api = match scope {
            "" => Api::all(self.client.clone()),
            namespace => Api::namespaced(self.client.clone(), namespace),
        };
        let mut config = watcher::Config::default().labels(labels).page_size(PAGE);
        if !name.is_empty() {
            config = config.fields(&format!("metadata.name={name}"));
        }
        let (stores, queues, feeds) = (self.stores.clone(), self.queues.clone(), self.feeds.clone());
        tokio::spawn(follow(api, config, scope.to_owned(), (feed, note), stores, queues, feeds))
    }
}

/// Follows one watch for as long as the process lives. A watch that breaks is begun again where it was; one that is too
/// old is listed anew.
async fn follow<K, V>(
    api: Api<Lenient<K>>,
    config: watcher::Config,
    scope: String,
    (feed, note): (Feed<K, V>, Note<K>),
    stores: Arc<Stores>,
    queues: Arc<Queues>,
    feeds: Arc<Feeds>,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
    V: Send + Sync + 'static,
{
    let mut events = watcher(api, config).default_backoff().boxed();
    let shelf = (feed.shelf)(&stores);
    let mut listed = false;
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => shelf.begin(&scope),
            Ok(Some(Event::InitApply(object) | Event::Apply(object))) => {
                let Some(object) = readable(feed.kind, object) else { continue };
                note(&stores, &queues, &object);
                if let Some(News { id, groups, value, gone }) = keep(shelf, object, feed.view) {
                    for group in groups {
                        (feed.wake)(&stores, &queues, &id, &group, &value, gone);
                    }
                }
            }
            Ok(Some(Event::Delete(object))) => {
                let Some(item) = object.object.ok().and_then(|object| item(object, feed.view)) else { continue };
                if let Some(value) = shelf.remove(&item.id, item.resource_version) {
                    (feed.wake)(&stores, &queues, &item.id, &item.group, &value, true);
                }
            }
            Ok(Some(Event::InitDone)) => {
                for (id, group, value) in shelf.end(&scope) {
                    (feed.wake)(&stores, &queues, &id, &group, &value, true);
                }
                if !listed {
                    listed = true;
                    feeds.listed.fetch_add(1, Ordering::AcqRel);
                    feeds.news.notify_waiters();
                }
            }
            Ok(None) => return,
            Err(error) => tracing::warn!(kind = feed.kind, %error, "watch broke; it will be begun again"),
        }
    }
}

/// The object, unless it cannot be read: that is said, and nothing is done with it until it changes.
fn readable<K: Resource<DynamicType = ()>>(kind: &str, object: Lenient<K>) -> Option<K> {
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    object
        .object
        .inspect_err(|error| {
            tracing::error!(kind, namespace, name, error, "an object cannot be read and is left alone");
        })
        .ok()
}

fn item<K: Resource<DynamicType = ()>, V>(mut object: K, view: fn(K) -> Option<(String, V)>) -> Option<Item<V>> {
    object.managed_fields_mut().clear();
    let (id, resource_version) = state_of(&object)?;
    let (group, value) = view(object)?;
    Some(Item { id, group, resource_version, value })
}

fn state_of<K: Resource<DynamicType = ()>>(object: &K) -> Option<(Id, u64)> {
    let id = Id::new(object.namespace()?, object.name_any());
    Some((id, version_of(object.meta().resource_version.as_deref())))
}

/// A resourceVersion as a number: Kubernetes promises that those of one kind can be compared.
fn version_of(text: Option<&str>) -> u64 {
    text.and_then(|t| t.parse().ok()).unwrap_or_default()
}

/// An object that was put on its shelf.
pub struct News<V> {
    pub id: Id,
    /// Its group, and the one that it left.
    pub groups: Vec<String>,
    pub value: Arc<V>,
    /// It is none of ours any more.
    pub gone: bool,
}

/// Puts an object on its shelf, if it is news there. One that is none of ours any more leaves it.
pub fn keep<K: Resource<DynamicType = ()>, V>(
    shelf: &Shelf<V>,
    object: K,
    view: fn(K) -> Option<(String, V)>,
) -> Option<News<V>> {
    let (id, version) = state_of(&object)?;
    let Some(item) = item(object, view) else {
        let (group, _) = shelf.find(&id)?;
        let value = shelf.remove(&id, version)?;
        return Some(News { id, groups: vec![group], value, gone: true });
    };
    let (id, group) = (item.id.clone(), item.group.clone());
    let left = shelf.find(&id).map(|(left, _)| left).filter(|left| *left != group);
    let news = shelf.put(item);
    let value = shelf.get(&id).filter(|_| news)?;
    Some(News { id, groups: [Some(group), left].into_iter().flatten().collect(), value, gone: false })
}

/// Objects of Millrace's own kinds are kept whole, but for runs that have ended, and grouped by namespace.
pub fn whole<K: Resource<DynamicType = ()> + Kept>(object: K) -> Option<(String, K)> {
    Some((object.namespace()?, object.kept()))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn job(job: k8s_openapi::api::batch::v1::Job) -> Option<(String, millrace_core::run::JobView)> {
    Some((label(&job.metadata, RUN_UID_LABEL)?.to_owned(), job_view(&job)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn look_job(job: k8s_openapi::api::batch::v1::Job) -> Option<(String, millrace_core::run::JobView)> {
    Some((label(&job.metadata, PIPELINE_UID_LABEL)?.to_owned(), look_job_view(&job)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
fn look_pod(pod: k8s_openapi::api::core::v1::Pod) -> Option<(String, millrace_core::run::PodView)> {
    Some((label(&pod.metadata, PIPELINE_UID_LABEL)?.to_owned(), look_pod_view(&pod)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
fn stage_pod(pod: k8s_openapi::api::core::v1::Pod) -> Option<(String, millrace_core::run::PodView)> {
    Some((label(&pod.metadata, RUN_UID_LABEL)?.to_owned(), stage_pod_view(&pod)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
fn server_pod(pod: k8s_openapi::api::core::v1::Pod) -> Option<(String, millrace_core::run::PodView)> {
    Some((served_group(&pod)?, server_pod_view(&pod)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn server_deployment(
    deployment: k8s_openapi::api::apps::v1::Deployment,
) -> Option<(String, millrace_core::deployment::DeploymentView)> {
    Some((served_group(&deployment)?, deployment_view(&deployment)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn service(
    service: k8s_openapi::api::core::v1::Service,
) -> Option<(String, millrace_core::deployment::ServiceView)> {
    Some((served_group(&service)?, service_view(&service)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn graph_service(
    service: k8s_openapi::api::core::v1::Service,
) -> Option<(String, millrace_core::deployment::ServiceView)> {
    let name = label(&service.metadata, GRAPH_LABEL)?;
    Some((Id::new(service.namespace()?, name).to_string(), service_view(&service)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn autoscaler(
    autoscaler: k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler,
) -> Option<(String, millrace_core::deployment::AutoscalerView)> {
    Some((served_group(&autoscaler)?, autoscaler_view(&autoscaler)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn budget(budget: PodDisruptionBudget) -> Option<(String, millrace_core::deployment::BudgetView)> {
    Some((served_group(&budget)?, budget_view(&budget)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn routes(map: k8s_openapi::api::core::v1::ConfigMap) -> Option<(String, millrace_core::routing::RoutesView)> {
    let ours = map.metadata.name.as_deref() == Some(ROUTES) && is_ours(&map.metadata);
    ours.then(|| Some((map.namespace()?, routes_view(&map))))?
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn router_deployment(
    deployment: k8s_openapi::api::apps::v1::Deployment,
) -> Option<(String, millrace_core::deployment::DeploymentView)> {
    let ours = deployment.metadata.name.as_deref() == Some(ROUTER) && is_ours(&deployment.metadata);
    ours.then(|| Some((deployment.namespace()?, deployment_view(&deployment))))?
}

/// Whoever made it: what has the name of something of ours is told.
#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
pub fn part<K: Part>(part: K) -> Option<(String, PartView)> {
    Some((part.meta().namespace.clone()?, part_view(&part)))
}

#[allow(clippy::needless_pass_by_value, reason = "`keep` hands objects over")]
fn router_pod(pod: k8s_openapi::api::core::v1::Pod) -> Option<(String, millrace_core::routing::RouterPod)> {
    Some((pod.namespace()?, router_view(&pod)))
}

/// `namespace/name` of the ModelDeployment that something belongs to.
pub(super) fn served_group<K: Resource<DynamicType = ()>>(object: &K) -> Option<String> {
    let name = label(object.meta(), DEPLOYMENT_LABEL)?;
    Some(Id::new(object.namespace()?, name).to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_none_of_ours_any_more_leaves_its_shelf() {
        let shelf = Shelf::default();
        let map = |version: &str, manager: &str| -> ConfigMap {
            let labels = json!({ "app.kubernetes.io/managed-by": manager, "millrace.dev/router": "millrace-router" });
            let metadata = json!({ "name": ROUTES, "namespace": "ns", "resourceVersion": version, "labels": labels });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let news = |version: &str, manager: &str| keep(&shelf, map(version, manager), routes).map(|news| news.gone);
        assert_eq!(news("5", "millrace"), Some(false));
        assert_eq!(news("4", "helm"), None, "an older state takes nothing away");
        assert_eq!((news("6", "helm"), shelf.len()), (Some(true), 0));
        assert_eq!(news("7", "helm"), None, "it never was ours");
    }
}
