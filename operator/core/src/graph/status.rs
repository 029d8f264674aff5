//! The status of an InferenceGraph and the events that go with its changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::jiff::Timestamp;

use super::{Demand, Observed, objects};
use crate::api::{
    Address, ConditionStatus, Dependency, GraphModelStatus, GraphNode, InferenceGraph, InferenceGraphStatus,
    set_condition,
};
use crate::deployment::security;
use crate::plan::{Event, NAME_TAKEN, Plan};
use crate::problem::{self, Problem};

/// Reason of `Ready`: the routers do not have the graph in force.
const ASTRAY: &str = "RoutesNotInForce";
const NOT_FOUND: &str = "ModelNotFound";
const NOT_READY: &str = "ModelNotReady";
/// A model has a door that the graph would lead past.
const OPEN: &str = "SecurityRequired";

/// The conditions in one value.
struct Verdict {
    ready: bool,
    /// It waits for a change of a spec.
    stalled: bool,
    reason: &'static str,
    message: String,
}

/// The port that the graph has on the routers, once it has one. It never changes. One whose name a model has takes none: with a port it
/// would have the name, and the model would wait for it.
pub(super) fn router_port(graph: &InferenceGraph, observed: &Observed) -> Option<i32> {
    let kept = graph.status.as_ref().and_then(|status| status.router_port);
    kept.or_else(|| observed.routers.port.filter(|_| !is_taken(graph, observed)).map(i32::from))
}

/// A ModelDeployment has the name, and with it the Service.
pub(super) fn is_taken(graph: &InferenceGraph, observed: &Observed) -> bool {
    graph.metadata.name.as_ref().is_some_and(|name| observed.models.contains_key(name))
}

/// Whether nothing waits for what routers say.
#[must_use]
pub fn is_settled(graph: &InferenceGraph) -> bool {
    let waits = |reason: &str| [ASTRAY, security::NOT_IN_FORCE].contains(&reason);
    let conditions = graph.status.iter().flat_map(|status| &status.conditions);
    !conditions.into_iter().any(|condition| condition.status != "True" && waits(&condition.reason))
}

/// Writes status and events into the plan, if there is something new.
pub(super) fn report(
    plan: &mut Plan<InferenceGraphStatus>,
    graph: &InferenceGraph,
    observed: &Observed,
    problems: &[Problem],
    now: Timestamp,
) {
    let old = graph.status.clone().unwrap_or_default();
    let models = models(graph, observed);
    let owned = observed.service.as_ref().filter(|service| service.owner == graph.metadata.uid);
    let verdict = verdict(graph, observed, problems, &models);
    let ready = models.iter().filter(|model| model.ready).count();
    let mut status = InferenceGraphStatus {
        observed_generation: graph.metadata.generation,
        conditions: old.conditions.clone(),
        address: owned.map(|_| Address {
            url: format!(
                "{}://{}.{}.svc",
                if objects::speaks_tls(graph) { "https" } else { "http" },
                graph.metadata.name.as_deref().unwrap_or_default(),
                graph.metadata.namespace.as_deref().unwrap_or_default()
            ),
            gateway_url: None,
        }),
        router_port: router_port(graph, observed),
        models_ready: Some(format!("{ready}/{}", models.len())),
        models,
    };
    conditions(&mut status, graph, &verdict, problems, now);
    let asked = security::Asked::of_graph(graph);
    let secured = security::condition(&mut status.conditions, &asked, &observed.routers, now);
    plan.events = events(&old, &verdict);
    plan.events.extend(secured);
    plan.status = (graph.status.as_ref() != Some(&status)).then_some(status);
}

/// Its models, by name.
fn models(graph: &InferenceGraph, observed: &Observed) -> Vec<GraphModelStatus> {
    let of = |name: &str| {
        let model = observed.models.get(name);
        let deleted = model.is_some_and(|model| model.metadata.deletion_timestamp.is_some());
        let status = model.and_then(|model| model.status.as_ref());
        let ready = status.and_then(|status| status.conditions.iter().find(|condition| condition.type_ == "Ready"));
        let reason = match (model, ready) {
            (None, _) => Some("NotFound".to_owned()),
            (Some(_), _) if deleted => Some("Deleting".to_owned()),
            (Some(_), None) => Some("Pending".to_owned()),
            (Some(_), Some(ready)) => Some(ready.reason.clone()),
        };
        let ready = !deleted && ready.is_some_and(|ready| ready.status == "True");
        GraphModelStatus { name: name.to_owned(), ready, reason }
    };
    graph.spec.models().into_iter().map(of).collect()
}

/// Steps of a node that it can do without: those that are left out where they fail, and those that are never drawn.
fn spared(node: &GraphNode) -> BTreeSet<&str> {
    let in_sequence = node.sequence.iter().flat_map(|node| &node.steps).map(|step| (&step.target, step.dependency));
    let in_ensemble = node.ensemble.iter().flat_map(|node| &node.steps).map(|step| (&step.target, step.dependency));
    let soft = in_sequence.chain(in_ensemble).filter(|(_, dependency)| *dependency == Some(Dependency::Soft));
    let drawn = node.splitter.iter().flat_map(|node| &node.steps);
    let never = drawn.filter(|step| step.weight == 0).map(|step| &step.target);
    soft.map(|(target, _)| target).chain(never).map(|target| target.name.as_str()).collect()
}

/// The models that the graph cannot do without, each with the first step that leads to it, as people name it.
fn needed(graph: &InferenceGraph) -> BTreeMap<&str, String> {
    let mut needed = BTreeMap::new();
    let mut next: VecDeque<&str> = graph.spec.root().into_iter().collect();
    let mut seen: BTreeSet<&str> = next.iter().copied().collect();
    while let Some(name) = next.pop_front() {
        let Some(node) = graph.spec.nodes.get(name) else { continue };
        let spared = spared(node);
        for (_, target) in node.targets().into_iter().filter(|(_, target)| !spared.contains(&*target.name)) {
            if let Some(model) = &target.model {
                needed.entry(model.as_str()).or_insert_with(|| format!("{name}/{}", target.name));
            }
            next.extend(target.node.as_deref().filter(|below| seen.insert(below)));
        }
    }
    needed
}

fn verdict(graph: &InferenceGraph, observed: &Observed, problems: &[Problem], models: &[GraphModelStatus]) -> Verdict {
    let waits = |reason, message| Verdict { ready: false, stalled: false, reason, message };
    let stalls = |reason, message| Verdict { ready: false, stalled: true, reason, message };
    let name = graph.metadata.name.as_deref().unwrap_or_default();
    if let Some(first) = problems.first() {
        return stalls(first.reason, problem::summary(problems));
    }
    let owned = observed.service.as_ref().is_some_and(|service| service.owner == graph.metadata.uid);
    if is_taken(graph, observed) && !owned {
        let message = format!("the ModelDeployment \"{name}\" has the Service of this name: give one of both another");
        return stalls(NAME_TAKEN, message);
    }
    if let Some(demand) = Demand::of(&graph.spec, observed.models.values().map(AsRef::as_ref)) {
        return stalls(OPEN, demand.message());
    }
    if let Some(refusal) = observed.refusals.iter().chain(&observed.routers.refusals).next() {
        let message = format!("{} was refused: {} ({})", refusal.object, refusal.message, refusal.code);
        let passes = matches!(refusal.code, 403 | 409 | 429 | 500..);
        let reason = if refusal.reason == NAME_TAKEN { NAME_TAKEN } else { "Refused" };
        return Verdict { ready: false, stalled: !passes, reason, message };
    }
    let lacking = models.iter().filter(|model| !model.ready);
    let mut needed = needed(graph);
    let lacking = lacking.filter_map(|model| Some((model, needed.remove(&*model.name)?)));
    let mut lacking: Vec<_> = lacking.collect();
    // Those that are not there first.
    lacking.sort_by_key(|(model, _)| observed.models.contains_key(&model.name));
    if let Some((model, step)) = lacking.first() {
        let more =
            if lacking.len() > 1 { format!("; {} more are not ready", lacking.len() - 1) } else { String::new() };
        if !observed.models.contains_key(&model.name) {
            let message = format!(
                "step {step}: there is no ModelDeployment \"{}\" in this namespace: create it, or correct the step's model{more}",
                model.name
            );
            return waits(NOT_FOUND, message);
        }
        let why = words(observed, model);
        return waits(
            NOT_READY,
            format!("step {step}: the ModelDeployment \"{}\" is not ready: {why}{more}", model.name),
        );
    }
    if !owned {
        return waits("ServiceMissing", format!("the Service {name} that leads to the routers is not there yet"));
    }
    let generation = graph.metadata.generation.and_then(|of| u64::try_from(of).ok()).unwrap_or_default();
    if let Some(words) = observed.routers.unrouted(name, generation) {
        return waits(ASTRAY, words);
    }
    let lack = security::lack_of(&security::Asked::of_graph(graph), &observed.routers);
    if let Some(lack) = lack.filter(security::Lack::is_grave) {
        return waits(lack.reason, lack.message);
    }
    let left: Vec<&str> = models.iter().filter(|model| !model.ready).map(|model| model.name.as_str()).collect();
    let message = match left.as_slice() {
        [] => format!("all {} models answer", models.len()),
        left => format!("it answers without {}, which its steps can do without", left.join(", ")),
    };
    Verdict { ready: true, stalled: false, reason: "Serving", message }
}

/// Why a model is not ready, in its own words.
fn words(observed: &Observed, model: &GraphModelStatus) -> String {
    let status = observed.models.get(&model.name).and_then(|model| model.status.as_ref());
    let ready = status.and_then(|status| status.conditions.iter().find(|condition| condition.type_ == "Ready"));
    match ready.filter(|ready| ready.status != "True") {
        Some(ready) => problem::head(&format!("{}: {}", ready.reason, ready.message), 400),
        None => model.reason.clone().unwrap_or_default(),
    }
}

fn conditions(
    status: &mut InferenceGraphStatus,
    graph: &InferenceGraph,
    verdict: &Verdict,
    problems: &[Problem],
    now: Timestamp,
) {
    let Verdict { ready, stalled, reason, message } = verdict;
    let generation = graph.metadata.generation;
    let mut set = |kind: &str, is: bool, reason: &str, message: &str| {
        let is = if is { ConditionStatus::True } else { ConditionStatus::False };
        set_condition(&mut status.conditions, kind, is, reason, message, generation, now);
    };
    match problems.first() {
        None => set("Accepted", true, "Accepted", ""),
        Some(first) => set("Accepted", false, first.reason, &problem::every(problems)),
    }
    set("Ready", *ready, reason, message);
    for (kind, is) in [("Reconciling", !ready && !stalled), ("Stalled", *stalled)] {
        let (reason, message) = if is { (*reason, message.as_str()) } else { ("AsDesired", "") };
        set(kind, is, reason, message);
    }
}

/// When it begins to answer, and when it stops for a reason that somebody has to know.
fn events(old: &InferenceGraphStatus, verdict: &Verdict) -> Vec<Event> {
    let was = old.conditions.iter().find(|condition| condition.type_ == "Ready");
    let same = was.is_some_and(|was| was.reason == verdict.reason && was.message == verdict.message);
    let begins = verdict.ready && was.is_none_or(|was| was.status != "True");
    if begins {
        return vec![Event::normal("Serving", &verdict.message)];
    }
    let stops = was.is_some_and(|was| was.status == "True") && !verdict.ready;
    let tells = stops || verdict.stalled || verdict.reason == NOT_FOUND;
    if tells && !same && !verdict.ready {
        return vec![Event::warning(verdict.reason, &verdict.message)];
    }
    Vec::new()
}
