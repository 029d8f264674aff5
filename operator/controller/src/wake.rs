//! Who looks again when something changes. The rule: whatever a plan may look at wakes the object it plans for.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use millrace_core::api::{
    ConcurrencyPolicy, InferenceGraph, MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion, StageTemplate,
};
use millrace_core::deployment::{AutoscalerView, BudgetView, DeploymentView, GatewayView, RouteView, ServiceView};
use millrace_core::names::ROUTER;
use millrace_core::run::{Claim, FRONT, Peer, Slot, asks, bound, claims, has_asked, lock_names, parent, priority};

use crate::key::{Id, Kind};
use crate::queue::Queue;
use crate::store::{Stores, names_gateway};

/// One queue a kind.
#[derive(Default)]
pub struct Queues {
    pipelines: Queue,
    runs: Queue,
    templates: Queue,
    versions: Queue,
    deployments: Queue,
    graphs: Queue,
    routing: Queue,
}

impl Queues {
    pub fn of(&self, kind: Kind) -> &Queue {
        match kind {
            Kind::Pipeline => &self.pipelines,
            Kind::Run => &self.runs,
            Kind::Template => &self.templates,
            Kind::Version => &self.versions,
            Kind::Deployment => &self.deployments,
            Kind::Graph => &self.graphs,
            Kind::Routing => &self.routing,
        }
    }
}

/// The pipeline of a run, if it has one.
pub fn pipeline_of(run: &MLPipelineRun) -> Option<&str> {
    run.spec.pipeline_ref.as_ref().map(|r| r.name.as_str())
}

/// A run that has ended is woken by nothing but a change of itself.
fn ended(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_some_and(|s| s.completion_time.is_some())
}

/// A run that has begun looks at no pipeline and no template any more.
fn begun(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_some_and(|s| s.frozen.is_some() && s.start_time.is_some())
}

/// The pipelines that a pipeline follows by `onPipeline`.
pub fn followed(pipeline: &MLPipeline) -> impl Iterator<Item = &str> {
    let triggers = pipeline.spec.triggers.iter().flat_map(|triggers| triggers.on_pipeline.values());
    triggers.map(|trigger| trigger.pipeline.as_str())
}

/// The pipelines that follow one, and with `all` those that follow these, and so on.
pub fn followers(stores: &Stores, id: &Id, all: bool) -> Vec<Id> {
    let mut follows: HashMap<String, Vec<Id>> = HashMap::new();
    stores.pipelines.each(Some(&id.namespace), |key, pipeline| {
        for name in followed(pipeline) {
            follows.entry(name.to_owned()).or_default().push(key.clone());
        }
    });
    let mut found: Vec<Id> = follows.remove(&id.name).unwrap_or_default();
    let mut at = 0;
    while let Some(next) = found.get(at).filter(|_| all) {
        let more = follows.remove(&next.name).unwrap_or_default();
        found.extend(more);
        at += 1;
    }
    found
}

/// The history of a pipeline waits for what those that follow it have noted, and a run of it for its number.
pub fn pipeline_status(stores: &Stores, queues: &Queues, id: &Id, pipeline: &MLPipeline) {
    let given = pipeline.status.iter().flat_map(|status| &status.run_numbers).flat_map(|numbers| numbers.given.keys());
    let given: HashSet<&str> = given.map(String::as_str).collect();
    if !given.is_empty() {
        stores.runs.each(Some(&id.namespace), |key, run| {
            let numbered = run.status.as_ref().is_some_and(|status| status.number.is_some());
            if !numbered && run.metadata.uid.as_deref().is_some_and(|uid| given.contains(uid)) {
                queues.runs.push(key.clone());
            }
        });
    }
    for name in followed(pipeline) {
        queues.pipelines.push(Id::new(&id.namespace, name));
    }
}

/// A Job or a pod that looks for data; `group` is the pipeline's uid.
pub fn look<V>(stores: &Stores, queues: &Queues, id: &Id, group: &str, _: &V, _gone: bool) {
    stores.pipelines.each(Some(&id.namespace), |key, pipeline| {
        if pipeline.metadata.uid.as_deref() == Some(group) {
            queues.pipelines.push(key.clone());
        }
    });
}

pub fn pipeline(stores: &Stores, queues: &Queues, id: &Id, _: &str, pipeline: &MLPipeline, gone: bool) {
    queues.pipelines.push(id.clone());
    // They may be told that it is there, or is a circle with them.
    for key in followers(stores, id, true) {
        queues.pipelines.push(key);
    }
    pipeline_status(stores, queues, id, pipeline);
    // A run that names another is told which there are. The operator writes a status into every one that it has seen.
    let new_or_gone = gone || pipeline.status.is_none();
    let bounded = bound(pipeline.spec.concurrency.as_ref()).is_some();
    stores.runs.each(Some(&id.namespace), |key, run| {
        let named = pipeline_of(run).is_some_and(|name| new_or_gone || (name == id.name && !bounded));
        // One that people have answered may wait for a slot.
        let waits = || !begun(run) || Peer::of(run).is_some_and(|peer| peer.wants);
        if named && !ended(run) && waits() {
            queues.runs.push(key.clone());
        }
    });
    if bounded {
        wake_front(stores, queues, &id.namespace, &id.name);
    }
}

/// How many runs of a pipeline run at a time, if it says so.
pub fn bound_of(stores: &Stores, pipeline: &Id) -> Option<(ConcurrencyPolicy, usize)> {
    bound(stores.pipelines.get(pipeline)?.spec.concurrency.as_ref())
}

/// The runs of a pipeline that look at each other: those that have begun, and the first of those that wait. Those behind them are woken
/// when these move up.
fn wake_front(stores: &Stores, queues: &Queues, namespace: &str, pipeline: &str) {
    let Some(found) = stores.pipelines.get(&Id::new(namespace, pipeline)) else { return };
    let concurrency = found.spec.concurrency.as_ref();
    let Some((_, max)) = bound(concurrency) else { return };
    let mut waiting = Vec::new();
    stores.runs.each(Some(namespace), |key, run| {
        if pipeline_of(run) == Some(pipeline) {
            match Peer::of(run) {
                Some(peer) if peer.begun() => queues.runs.push(key.clone()),
                Some(peer) if peer.wants => {
                    let (priority, since, _) = peer.rank(concurrency);
                    waiting.push((priority, since, key.clone()));
                }
                _ => {}
            }
        }
    });
    let front = waiting.len().min(max.saturating_add(FRONT));
    if front < waiting.len() {
        waiting.select_nth_unstable(front);
    }
    waiting.into_iter().take(front).for_each(|(_, _, key)| queues.runs.push(key));
}

/// Those that wait for a lock that this run has held or wants: the first of them, because more do not get it. Those behind them are woken when these
/// move up, and look by themselves after a while.
fn wake_lockers(stores: &Stores, queues: &Queues, id: &Id, run: &MLPipelineRun) {
    let names = lock_names(run);
    if names.is_empty() {
        return;
    }
    let mut waiting = Vec::new();
    stores.runs.each(Some(&id.namespace), |key, other| {
        if key != id && !ended(other) {
            let pipeline = pipeline_of(other).and_then(|name| stores.pipelines.get(&Id::new(&id.namespace, name)));
            let waits = |claim: &Claim| !claim.held && claim.names.keys().any(|name| names.contains(name.as_str()));
            let claims = claims(other, priority(other, pipeline.as_deref()), |_| false);
            let first =
                claims.iter().filter(|claim| waits(claim)).map(|claim| (Reverse(claim.priority), claim.since)).min();
            waiting.extend(first.map(|(priority, since)| (priority, since, key.clone())));
        }
    });
    waiting.sort_unstable();
    waiting.into_iter().take(FRONT).for_each(|(_, _, key)| queues.runs.push(key));
}

pub fn run(stores: &Stores, queues: &Queues, id: &Id, _: &str, run: &MLPipelineRun, gone: bool) {
    if gone {
        stores.forget_run(run);
        not_cached(stores, queues, run);
    } else {
        stores.know_run(run, id);
    }
    queues.runs.push(id.clone());
    run_status(stores, queues, id, run);
    // What was written here was told then. A new one may replace others, and one that is gone makes place.
    if let Some(pipeline) = pipeline_of(run).filter(|_| gone || Peer::of(run).is_some_and(|peer| !peer.begun())) {
        wake_front(stores, queues, &id.namespace, pipeline);
    }
}

/// The status of a run matters to its pipeline: which is the last one, which are kept.
pub fn run_status(stores: &Stores, queues: &Queues, id: &Id, run: &MLPipelineRun) {
    wake_lockers(stores, queues, id, run);
    // The run that it belongs to; and those that belong to it, once their stage has ended without them.
    if let Some(owner) = parent(run) {
        queues.runs.push(Id::new(&id.namespace, &owner.name));
    }
    let stages = run.status.iter().flat_map(|status| status.stages.values()).filter(|stage| stage.state.ended());
    for stage in stages {
        if let Some(named) = &stage.run {
            queues.runs.push(Id::new(&id.namespace, &named.name));
        } else if stage.items.is_some() && stage.job.is_none() {
            // Its items are runs.
            let children = stores.children(&id.namespace, run).into_iter().filter(|(_, child)| !ended(child));
            children.for_each(|(name, _)| queues.runs.push(Id::new(&id.namespace, &name)));
        }
    }
    if let Some(pipeline) = pipeline_of(run) {
        let named = Id::new(&id.namespace, pipeline);
        let replaces = || bound_of(stores, &named).is_some_and(|(policy, _)| policy == ConcurrencyPolicy::Replace);
        // One that waits for people holds no slot. A newer one takes the place of one that runs once it was found to be right.
        let free = |peer: Peer| peer.slot == Slot::Left || peer.locked || peer.waits && replaces();
        if ended(run) {
            for key in followers(stores, &named, false) {
                queues.pipelines.push(key);
            }
        }
        let takes = ended(run) || Peer::of(run).is_some_and(free);
        queues.pipelines.push(named);
        if takes {
            wake_front(stores, queues, &id.namespace, pipeline);
        }
        // What older runs ask is no question any more.
        if has_asked(run) {
            stores.runs.each(Some(&id.namespace), |key, other| {
                if key != id && pipeline_of(other) == Some(pipeline) && asks(other) {
                    queues.runs.push(key.clone());
                }
            });
        }
    }
}

/// What a run says of results: those who wait for one of them are told.
pub fn cached(stores: &Stores, queues: &Queues, run: &MLPipelineRun) {
    stores.cached.put(run).into_iter().for_each(|id| queues.runs.push(id));
}

/// A run is gone, and what it said of results: those who waited for it are told.
pub fn not_cached(stores: &Stores, queues: &Queues, run: &MLPipelineRun) {
    stores.cached.forget(run).into_iter().for_each(|id| queues.runs.push(id));
}

/// A template may be the catalog's: then every namespace looks again. Templates change rarely.
pub fn template(stores: &Stores, queues: &Queues, id: &Id, _: &str, _: &StageTemplate, _gone: bool) {
    queues.templates.push(id.clone());
    stores.pipelines.each(None, |key, _| queues.pipelines.push(key.clone()));
    stores.runs.each(None, |key, run| {
        if !ended(run) && !begun(run) {
            queues.runs.push(key.clone());
        }
    });
}

pub fn version(stores: &Stores, queues: &Queues, id: &Id, _: &str, version: &ModelVersion, _gone: bool) {
    queues.versions.push(id.clone());
    stores.deployments.each(Some(&id.namespace), |key, deployment| {
        if deployment.spec.model.name.as_ref() == Some(&version.spec.model) {
            queues.deployments.push(key.clone());
        }
    });
    wake_runs(stores, queues, &id.namespace);
}

pub fn deployment(stores: &Stores, queues: &Queues, id: &Id, _: &str, deployment: &ModelDeployment, _gone: bool) {
    queues.deployments.push(id.clone());
    deployment_status(stores, queues, id, deployment);
}

/// The status of a ModelDeployment matters to the runs that deploy to it or read what it serves, to the pipelines that it triggers, and is
/// what the routes are made of.
pub fn deployment_status(stores: &Stores, queues: &Queues, id: &Id, _: &ModelDeployment) {
    queues.routing.push(Id::new(&id.namespace, ROUTER));
    wake_runs(stores, queues, &id.namespace);
    // A model that a graph names, or one that has a graph's name.
    stores.graphs.each(Some(&id.namespace), |key, graph| {
        if key.name == id.name || graph.spec.models().contains(id.name.as_str()) {
            queues.graphs.push(key.clone());
        }
    });
    stores.pipelines.each(Some(&id.namespace), |key, pipeline| {
        if watched_models(pipeline).any(|name| name == id.name) {
            queues.pipelines.push(key.clone());
        }
    });
}

/// A graph: the routes are made of it, and whom its name keeps from a Service looks again.
pub fn graph(stores: &Stores, queues: &Queues, id: &Id, _: &str, graph: &InferenceGraph, _gone: bool) {
    queues.graphs.push(id.clone());
    if stores.deployments.get(id).is_some() {
        queues.deployments.push(id.clone());
    }
    graph_status(stores, queues, id, graph);
}

/// The routes have the port that its status keeps.
pub fn graph_status(_: &Stores, queues: &Queues, id: &Id, _: &InferenceGraph) {
    queues.routing.push(Id::new(&id.namespace, ROUTER));
}

/// The Service of a graph; `group` is its namespace and name.
pub fn graph_service(stores: &Stores, queues: &Queues, id: &Id, group: &str, _: &ServiceView, gone: bool) {
    if gone {
        stores.applied_services.forget(id);
    }
    if let Some((namespace, name)) = group.split_once('/') {
        queues.graphs.push(Id::new(namespace, name));
    }
}

/// The ModelDeployments that a pipeline's triggers look at.
pub fn watched_models(pipeline: &MLPipeline) -> impl Iterator<Item = &str> {
    let triggers = pipeline.spec.triggers.iter().flat_map(|triggers| triggers.on_model.values());
    triggers.map(|trigger| trigger.model_deployment.as_str())
}

fn wake_runs(stores: &Stores, queues: &Queues, namespace: &str) {
    stores.runs.each(Some(namespace), |key, run| {
        if !ended(run) {
            queues.runs.push(key.clone());
        }
    });
}

/// A Job or a pod of a run; `group` is the run's uid.
pub fn of_run<V>(stores: &Stores, queues: &Queues, _: &Id, group: &str, _: &V, _gone: bool) {
    if let Some(id) = stores.run_id(group) {
        queues.runs.push(id);
    }
}

/// The Deployment of a revision.
pub fn server_deployment(stores: &Stores, queues: &Queues, id: &Id, group: &str, view: &DeploymentView, gone: bool) {
    if gone {
        stores.applied.forget(id);
        stores.reached.forget(id);
    }
    of_deployment(stores, queues, id, group, view, gone);
}

/// A Service of a ModelDeployment.
pub fn service(stores: &Stores, queues: &Queues, id: &Id, group: &str, view: &ServiceView, gone: bool) {
    if gone {
        stores.applied_services.forget(id);
    }
    of_deployment(stores, queues, id, group, view, gone);
}

/// The HorizontalPodAutoscaler of a ModelDeployment.
pub fn autoscaler(stores: &Stores, queues: &Queues, id: &Id, group: &str, view: &AutoscalerView, gone: bool) {
    if gone {
        stores.applied_autoscalers.forget(id);
    }
    of_deployment(stores, queues, id, group, view, gone);
}

/// The PodDisruptionBudget of a ModelDeployment.
pub fn budget(stores: &Stores, queues: &Queues, id: &Id, group: &str, view: &BudgetView, gone: bool) {
    if gone {
        stores.applied_budgets.forget(id);
    }
    of_deployment(stores, queues, id, group, view, gone);
}

/// The `HTTPRoute` of a ModelDeployment.
pub fn http_route(stores: &Stores, queues: &Queues, id: &Id, group: &str, view: &RouteView, gone: bool) {
    if gone {
        stores.applied_http_routes.forget(id);
    }
    of_deployment(stores, queues, id, group, view, gone);
}

/// A Gateway: those that name it look again.
pub fn gateway(stores: &Stores, queues: &Queues, id: &Id, _: &str, _: &GatewayView, _gone: bool) {
    stores.deployments.each(None, |key, deployment| {
        if names_gateway(deployment, id) {
            queues.deployments.push(key.clone());
        }
    });
}

/// Something of a ModelDeployment; `group` is its namespace and name.
pub fn of_deployment<V>(_: &Stores, queues: &Queues, _: &Id, group: &str, _: &V, _gone: bool) {
    if let Some((namespace, name)) = group.split_once('/') {
        queues.deployments.push(Id::new(namespace, name));
    }
}

/// The routes or the Deployment of a namespace's routers: its plan looks at them, and so do its ModelDeployments and InferenceGraphs.
pub fn routing<V>(stores: &Stores, queues: &Queues, id: &Id, group: &str, view: &V, gone: bool) {
    queues.routing.push(Id::new(&id.namespace, ROUTER));
    router(stores, queues, id, group, view, gone);
}

/// Anything else that the routers need.
pub fn part<V>(_: &Stores, queues: &Queues, id: &Id, _: &str, _: &V, _gone: bool) {
    queues.routing.push(Id::new(&id.namespace, ROUTER));
}

/// A router's pod.
pub fn router<V>(stores: &Stores, queues: &Queues, id: &Id, _: &str, _: &V, _gone: bool) {
    stores.deployments.each(Some(&id.namespace), |key, _| queues.deployments.push(key.clone()));
    stores.graphs.each(Some(&id.namespace), |key, _| queues.graphs.push(key.clone()));
}

#[cfg(test)]
mod tests {
    use millrace_core::api::MLPipelineStatus;
    use serde_json::json;

    use super::*;
    use crate::store::{keep, whole};

    #[test]
    fn a_model_wakes_the_graphs_that_name_it_or_have_its_name() {
        let stores = Stores::default();
        for (name, asks) in [("first", "m"), ("second", "other"), ("m", "other")] {
            let steps = json!([{ "name": "s", "model": asks }]);
            let spec = json!({ "nodes": { "main": { "switch": { "steps": steps } } } });
            let mut graph = InferenceGraph::new(name, serde_json::from_value(spec).unwrap());
            graph.metadata.namespace = Some("ns".into());
            graph.metadata.resource_version = Some("1".into());
            keep(&stores.graphs, graph, whole).unwrap();
        }
        let woken = |model: &str| {
            let queues = Queues::default();
            deployment(&stores, &queues, &Id::new("ns", model), "ns", &ModelDeployment::default(), true);
            (queues.of(Kind::Graph).depth(), queues.of(Kind::Routing).depth())
        };
        assert_eq!((woken("m"), woken("other"), woken("nobody")), ((2, 1), (2, 1), (0, 1)));
        let queues = Queues::default();
        router(&stores, &queues, &Id::new("ns", "r"), "ns", &(), false);
        assert_eq!(queues.of(Kind::Graph).depth(), 3);
    }

    #[test]
    fn a_stage_that_has_ended_wakes_the_runs_of_its_items_that_go_on() {
        let stores = Stores::default();
        let run = |name: &str, owner: &str, status: serde_json::Value| {
            let spec = json!({ "pipelineRef": { "name": "p" } });
            let mut run = MLPipelineRun::new(name, serde_json::from_value(spec).unwrap());
            run.metadata.namespace = Some("ns".into());
            run.metadata.uid = Some(name.into());
            run.metadata.resource_version = Some("1".into());
            let owners = json!([{ "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "name": owner, "uid": owner, "controller": true }]);
            run.metadata.owner_references = serde_json::from_value(owners).unwrap();
            run.status = serde_json::from_value(status).unwrap();
            run
        };
        for (name, owner, status) in [
            ("r-each-1-0", "r", json!({})),
            ("r-each-1-1", "r", json!({ "completionTime": "2026-01-01T00:00:00Z" })),
            ("other-each-1-0", "other", json!({})),
        ] {
            keep(&stores.runs, run(name, owner, status), whole).unwrap();
        }
        let woken = |state: &str| {
            let queues = Queues::default();
            let stages = json!({ "each": { "state": state, "items": { "total": 2 } } });
            let mut outer = run("r", "nobody", json!({ "stages": stages }));
            outer.metadata.owner_references = None;
            run_status(&stores, &queues, &Id::new("ns", "r"), &outer);
            queues.of(Kind::Run).depth()
        };
        assert_eq!((woken("Running"), woken("Failed")), (0, 1));
        assert_eq!(
            stores.children("ns", &run("r", "nobody", json!({}))).into_keys().collect::<Vec<_>>(),
            ["r-each-1-0", "r-each-1-1"]
        );
    }

    #[test]
    fn a_run_that_has_asked_people_wakes_those_that_ask_and_those_that_want_its_slot() {
        let stores = Stores::default();
        let run = |name: &str, status: serde_json::Value| {
            let spec = json!({ "pipelineRef": { "name": "p" } });
            let mut run = MLPipelineRun::new(name, serde_json::from_value(spec).unwrap());
            run.metadata.namespace = Some("ns".into());
            run.metadata.resource_version = Some("1".into());
            run.status = serde_json::from_value(status).unwrap();
            run
        };
        let keep_run = |name: &str, status: serde_json::Value| {
            keep(&stores.runs, run(name, status), whole).unwrap();
        };
        let stage = |state: &str| {
            let stages = json!({ "sign-off": { "state": state, "approval": {} } });
            json!({ "startTime": "2026-01-01T00:00:00Z", "stages": stages })
        };
        let spec = json!({ "stages": {}, "concurrency": { "policy": "Queue" } });
        let mut bounded = MLPipeline::new("p", serde_json::from_value(spec).unwrap());
        bounded.metadata.namespace = Some("ns".into());
        bounded.metadata.resource_version = Some("1".into());
        keep(&stores.pipelines, bounded, whole).unwrap();
        keep_run("waits-for-people", stage("Pending"));
        keep_run("waits-for-a-slot", json!({}));
        keep_run("over", json!({ "completionTime": "2026-01-01T00:00:00Z" }));
        let woken = |run: &MLPipelineRun| {
            let queues = Queues::default();
            run_status(&stores, &queues, &Id::new("ns", "new"), run);
            queues.of(Kind::Run).depth()
        };
        assert_eq!(woken(&run("new", stage("Pending"))), 2);
        assert_eq!(woken(&run("new", stage("Succeeded"))), 1, "it was decided ahead, and has the slot");
        assert_eq!(woken(&run("new", json!({ "startTime": "2026-01-01T00:00:00Z" }))), 0);
        // Answered, and without a slot: it goes on when the bound is taken away.
        let mut queued = stage("Pending");
        queued["frozen"] = json!("p-0");
        queued["conditions"] = json!([{
            "type": "Succeeded", "status": "Unknown", "reason": "Queued", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
        let woken_by_pipeline = || {
            let queues = Queues::default();
            let free = MLPipeline { status: Some(MLPipelineStatus::default()), ..MLPipeline::default() };
            pipeline(&stores, &queues, &Id::new("ns", "p"), "ns", &free, false);
            queues.of(Kind::Run).depth()
        };
        let before = woken_by_pipeline();
        keep_run("queued", queued);
        assert_eq!(woken_by_pipeline(), before + 1);
    }

    #[test]
    fn a_run_that_changes_wakes_those_that_wait_for_a_lock_of_its_own() {
        let stores = Stores::default();
        let run = |name: &str, lock: &str, time: &str, over: bool| {
            let locks = json!({ "names": { lock: 1 }, time: "2026-01-01T00:00:00Z" });
            let state = if over { "Succeeded" } else { "Pending" };
            let mut run =
                MLPipelineRun::new(name, serde_json::from_value(json!({ "pipeline": { "stages": {} } })).unwrap());
            run.metadata.namespace = Some("ns".into());
            run.metadata.resource_version = Some("1".into());
            run.status =
                serde_json::from_value(json!({ "stages": { "load": { "state": state, "locks": locks } } })).unwrap();
            run
        };
        for (name, lock, time) in
            [("waits", "x", "waitTime"), ("holds", "x", "holdTime"), ("waits-for-another", "y", "waitTime")]
        {
            keep(&stores.runs, run(name, lock, time, false), whole).unwrap();
        }
        let queues = Queues::default();
        run_status(&stores, &queues, &Id::new("ns", "over"), &run("over", "x", "holdTime", true));
        assert_eq!(queues.of(Kind::Run).depth(), 1);
        let many = FRONT + 5;
        for number in 0..many {
            keep(&stores.runs, run(&format!("many-{number}"), "z", "waitTime", false), whole).unwrap();
        }
        let queues = Queues::default();
        run_status(&stores, &queues, &Id::new("ns", "over"), &run("over", "z", "holdTime", true));
        assert_eq!(queues.of(Kind::Run).depth(), FRONT, "more do not get it");
    }

    #[test]
    fn only_a_pipeline_that_is_new_or_gone_wakes_runs_that_name_another() {
        let stores = Stores::default();
        for (name, names) in [("mine", "shop"), ("other", "shpo")] {
            let spec = json!({ "pipelineRef": { "name": names } });
            let mut run = MLPipelineRun::new(name, serde_json::from_value(spec).unwrap());
            run.metadata.namespace = Some("ns".into());
            run.metadata.resource_version = Some("1".into());
            keep(&stores.runs, run, whole).unwrap();
        }
        let woken = |status: bool, gone: bool| {
            let queues = Queues::default();
            let shop = MLPipeline { status: status.then(Default::default), ..MLPipeline::default() };
            pipeline(&stores, &queues, &Id::new("ns", "shop"), "ns", &shop, gone);
            queues.of(Kind::Run).depth()
        };
        assert_eq!([woken(false, false), woken(true, true), woken(true, false)], [2, 2, 1]);
    }

    #[test]
    fn a_run_that_ends_wakes_the_pipelines_that_follow_its_own_and_a_pipeline_all_behind_it() {
        let stores = Stores::default();
        for (name, follows) in
            [("a", json!({})), ("b", json!({ "a": { "pipeline": "a" } })), ("c", json!({ "b": { "pipeline": "b" } }))]
        {
            let spec = json!({ "stages": {}, "triggers": { "onPipeline": follows } });
            let mut made = MLPipeline::new(name, serde_json::from_value(spec).unwrap());
            made.metadata.namespace = Some("ns".into());
            made.metadata.resource_version = Some("1".into());
            keep(&stores.pipelines, made, whole).unwrap();
        }
        let woken = |wake: &dyn Fn(&Queues)| {
            let queues = Queues::default();
            wake(&queues);
            queues.of(Kind::Pipeline).depth()
        };
        let run = |status: serde_json::Value| {
            let mut run =
                MLPipelineRun::new("r", serde_json::from_value(json!({ "pipelineRef": { "name": "a" } })).unwrap());
            run.status = serde_json::from_value(status).unwrap();
            run
        };
        let goes_on = run(json!({}));
        assert_eq!(woken(&|queues| run_status(&stores, queues, &Id::new("ns", "r"), &goes_on)), 1);
        let over = run(json!({ "completionTime": "2026-01-01T00:00:00Z" }));
        assert_eq!(woken(&|queues| run_status(&stores, queues, &Id::new("ns", "r"), &over)), 2);
        let a = stores.pipelines.get(&Id::new("ns", "a")).unwrap();
        assert_eq!(woken(&|queues| pipeline(&stores, queues, &Id::new("ns", "a"), "ns", &a, false)), 3);
        // What it follows looks again whether its history may go on.
        let b = stores.pipelines.get(&Id::new("ns", "b")).unwrap();
        assert_eq!(woken(&|queues| pipeline_status(&stores, queues, &Id::new("ns", "b"), &b)), 1);
    }
}
