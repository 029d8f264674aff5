//! The document of routes: from the statuses of ModelDeployments and the specs of InferenceGraphs.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kube_core::ResourceExt;
use millrace_routes::{HeaderRule, Limits, Log, Model, Queue, Revision, Routes, Shadow, Sink, Source, Sticky};

use super::objects::Home;
use super::{RoutesView, security};
use crate::api::{HeaderRoute, InferenceGraph, LogMode, LogSink, ModelDeployment, PayloadLog, RevisionStatus, RouteTo};
use crate::autoscale::starts_from_zero;
use crate::deployment::{self, SERVER_PORT, exposed, log_writer, queries};
use crate::graph::{self, Demand};
use crate::names::sha256_hex;

/// Models have these ports: above the routers' own, below those that the kernel gives to outgoing connections.
pub(super) const PORTS: RangeInclusive<u16> = 10_000..=32_767;

/// Something that is routed, and the ports that it has or had.
struct Entry<'a> {
    name: String,
    uid: String,
    /// In its status.
    kept: Option<u16>,
    /// In the document before.
    old: Option<u16>,
    of: Of<'a>,
}

enum Of<'a> {
    Model(&'a ModelDeployment),
    /// All of it but its port.
    Graph(Box<Model>),
}

/// What each of so many routers is told. A model or a graph keeps the port that its status has; until that is written, the one of the document before.
pub(super) fn document(home: &Home<'_>, before: Option<&RoutesView>, routers: i32) -> Routes {
    let entries = entries(home, before, routers);
    // A graph that is not routed for now has its Service still: its port is nobody else's.
    let of_graphs = home.graphs.iter().filter_map(|graph| port(graph.status.as_ref()?.router_port));
    let kept: BTreeSet<u16> = entries.iter().filter_map(|entry| entry.kept).chain(of_graphs).collect();
    let seen = before
        .into_iter()
        .flat_map(|before| before.ports.values().copied().chain(before.graphs.values().map(|graph| graph.port)));
    let mut given: BTreeSet<u16> = seen.chain(kept.iter().copied()).collect();
    let mut taken = BTreeSet::new();
    let routed = entries.into_iter().filter_map(|entry| {
        let old = entry.old.filter(|port| PORTS.contains(port) && !kept.contains(port));
        let port = match entry.kept {
            // Twice the same only if somebody has written into a status: the routers would take none of the routes.
            Some(port) => Some(port).filter(|port| taken.insert(*port))?,
            None => match old.filter(|port| taken.insert(*port)) {
                Some(port) => port,
                None => from(&entry.uid).find(|port| given.insert(*port))?,
            },
        };
        Some(match entry.of {
            Of::Model(model) => routed(model, port, routers),
            Of::Graph(graph) => Model { port, ..*graph },
        })
    });
    Routes { models: routed.collect() }
}

/// Models and graphs by name. Where both have one, the Service is that of who has a port already, the model's if both or none has. A graph
/// takes no name from a model that is not routed yet.
fn entries<'a>(home: &Home<'a>, before: Option<&RoutesView>, routers: i32) -> Vec<Entry<'a>> {
    let has_port = |graph: &&&InferenceGraph| graph.status.as_ref().is_some_and(|status| status.router_port.is_some());
    let with_port: BTreeSet<String> = home.graphs.iter().filter(has_port).map(|graph| graph.name_any()).collect();
    let yields = |model: &ModelDeployment| {
        let none = model.status.as_ref().is_none_or(|status| status.router_port.is_none());
        none && with_port.contains(&model.name_any())
    };
    let models: Vec<&ModelDeployment> = home.owners.iter().filter(|model| !yields(model)).copied().collect();
    let of_models: BTreeSet<String> = models.iter().map(|model| model.name_any()).collect();
    let is_taken = |name: &str| of_models.contains(name) || !with_port.contains(name) && home.names.contains(name);
    let graphs = home.graphs.iter().filter(|graph| !is_taken(&graph.name_any()));
    let graphs = graphs.filter_map(|graph| {
        let old = before.and_then(|before| before.graphs.get(&graph.name_any()));
        Some(Entry {
            name: graph.name_any(),
            uid: graph.uid().unwrap_or_default(),
            kept: port(graph.status.as_ref().and_then(|status| status.router_port)),
            old: old.map(|old| old.port),
            of: Of::Graph(Box::new(of_graph(graph, old, home.owners, routers)?)),
        })
    });
    let old = |name: &str| before.and_then(|before| before.ports.get(name).copied());
    let models = models.iter().map(|model| Entry {
        name: model.name_any(),
        uid: model.uid().unwrap_or_default(),
        kept: port(model.status.as_ref().and_then(|status| status.router_port)),
        old: old(&model.name_any()),
        of: Of::Model(model),
    });
    let mut entries: Vec<Entry<'_>> = models.chain(graphs).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// A port of a status.
fn port(port: Option<i32>) -> Option<u16> {
    u16::try_from(port?).ok().filter(|port| PORTS.contains(port))
}

/// A graph, without its port. Where its spec was not accepted, what was accepted before goes on; none that leads past a door.
fn of_graph(graph: &InferenceGraph, old: Option<&Model>, models: &[&ModelDeployment], routers: i32) -> Option<Model> {
    let all = || models.iter().copied();
    if !graph::check(graph).is_empty() {
        return old.filter(|old| Demand::of_document(old, all()).is_none()).cloned();
    }
    if Demand::of(&graph.spec, all()).is_some() {
        return None;
    }
    let served = |name: &str| {
        let model = all().find(|model| model.metadata.name.as_deref() == Some(name));
        model.map_or_else(|| name.to_owned(), |model| model.model_name().to_owned())
    };
    Some(Model {
        name: graph.name_any(),
        port: 0,
        generation: graph.metadata.generation.and_then(|of| u64::try_from(of).ok()).unwrap_or_default(),
        revisions: Vec::new(),
        headers: Vec::new(),
        sticky: None,
        shadow: None,
        queue: Queue::default(),
        limits: Limits {
            body_bytes: graph.spec.max_body_bytes.or(Some(graph::BODY_BYTES)).and_then(|of| u64::try_from(of).ok()),
            ..Limits::default()
        },
        security: graph.spec.security.as_ref().map(|asked| security::document(asked, routers)),
        queries: Vec::new(),
        log: None,
        stream: None,
        graph: Some(graph::document(&graph.spec, served)?),
    })
}

/// All ports, from one on that follows from the uid: one that was given back hardly comes to the next model, whatever leads to it still.
fn from(uid: &str) -> impl Iterator<Item = u16> {
    let first = u32::from_str_radix(&sha256_hex(uid.as_bytes())[..6], 16).unwrap_or_default()
        % u32::try_from(PORTS.len()).unwrap_or(1);
    let first = PORTS.start() + u16::try_from(first).unwrap_or_default();
    (first..=*PORTS.end()).chain(*PORTS.start()..first)
}

fn routed(model: &ModelDeployment, port: u16, routers: i32) -> Model {
    let status = model.status.as_ref();
    let starts = starts_from_zero(model.spec.scale.as_ref());
    Model {
        name: model.name_any(),
        port,
        generation: status.map_or(0, |status| u64::try_from(status.traffic_generation).unwrap_or_default()),
        revisions: status.into_iter().flat_map(|status| &status.revisions).map(|of| revision(of, starts)).collect(),
        headers: headers(model),
        sticky: model
            .spec
            .routing
            .as_ref()
            .and_then(|routing| routing.sticky.as_ref())
            .map(|sticky| Sticky { header: sticky.header.clone() }),
        shadow: status.into_iter().flat_map(|status| &status.revisions).find_map(shadow),
        queue: deployment::queue(model),
        limits: deployment::limits(model),
        security: model.spec.security.as_ref().map(|asked| security::document(asked, routers)),
        queries: queries(model),
        log: log(model),
        stream: deployment::stream(model),
        graph: None,
    }
}

/// Bytes of a body that an event has, where the spec says nothing.
const BODY_BYTES: u64 = 64 << 10;

fn log(model: &ModelDeployment) -> Option<Log> {
    let PayloadLog { sampling, max_body_bytes, sink, table: _ } = model.spec.monitoring.as_ref()?.log.as_deref()?;
    let revisions = || model.status.iter().flat_map(|status| &status.revisions);
    let unregistered =
        |revision: &RevisionStatus| Some((revision.name.clone(), revision.artifact.as_ref()?.digest.clone()));
    let bytes = max_body_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(BODY_BYTES);
    Some(Log {
        namespace: model.namespace().unwrap_or_default(),
        model: model.model_name().to_owned(),
        digests: revisions().filter_map(unregistered).collect(),
        versions: revisions().filter_map(|revision| Some((revision.name.clone(), revision.version?))).collect(),
        sampling: *sampling,
        body_bytes: bytes.min(Log::LONGEST_BODY),
        sink: match sink {
            Some(sink) => to(sink),
            None => Sink { address: log_writer::address(model)?, batched: true, tells: true, ..Sink::default() },
        },
    })
}

fn to(sink: &LogSink) -> Sink {
    let LogSink { address, mode, token_secret, ca_config_map } = sink;
    Sink {
        address: address.clone(),
        batched: *mode == Some(LogMode::Batched),
        tells: false,
        token: token_secret.as_ref().map(|entry| security::entry(Source::Secret, entry)),
        ca: ca_config_map.as_ref().map(|entry| security::entry(Source::ConfigMap, entry)),
    }
}

/// The rules that lead to a revision that there is.
pub(crate) fn headers(model: &ModelDeployment) -> Vec<HeaderRule> {
    let status = model.status.as_ref();
    let canary = exposed(status.and_then(|status| status.rollout.as_ref())).map(|rollout| rollout.revision.as_str());
    let stable = status.and_then(|status| status.stable_revision.as_deref());
    let routed = |name: &&str| status.is_some_and(|status| status.revisions.iter().any(|known| known.name == *name));
    let rules = model.spec.routing.iter().flat_map(|routing| routing.headers.values());
    let rules = rules.filter_map(|HeaderRoute { header, value, to }| {
        let revision = match to {
            RouteTo::Canary => canary,
            RouteTo::Stable => stable,
        };
        let revision = revision.filter(routed)?.to_owned();
        Some(HeaderRule { header: header.clone(), value: value.clone(), revision })
    });
    rules.collect()
}

fn shadow(revision: &RevisionStatus) -> Option<Shadow> {
    let sample = revision.sample.filter(|sample| *sample > 0.0 && *sample <= 1.0)?;
    Some(Shadow { revision: revision.name.clone(), sample, body_bytes: Shadow::default_body_bytes() })
}

/// Where the pods of a revision listen.
pub(super) fn server_port(revision: &RevisionStatus) -> u16 {
    revision.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(SERVER_PORT)
}

/// `starts`: the first request to it at zero starts a pod.
fn revision(status: &RevisionStatus, starts: bool) -> Revision {
    Revision {
        name: status.name.clone(),
        service: status.name.clone(),
        port: server_port(status),
        weight: u32::try_from(status.weight).unwrap_or_default(),
        concurrency: status.concurrency,
        deployment: starts.then(|| status.name.clone()),
        ready_path: deployment::ready_path(status),
        protocol: deployment::protocol(status),
    }
}
