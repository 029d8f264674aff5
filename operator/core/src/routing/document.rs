//! The document of routes: from the statuses of ModelDeployments.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use kube_core::ResourceExt;
use millrace_routes::{
    HeaderRule, Limits, Log, Model, Protocol, Queue, Revision, Routes, Shadow, Sink, Source, Sticky,
};

use super::security;
use crate::api::{HeaderRoute, LogMode, LogSink, ModelDeployment, PayloadLog, RevisionStatus, RouteTo};
use crate::autoscale::starts_from_zero;
use crate::deployment::{READY_PATH, SERVER_PORT, exposed, queries};
use crate::names::sha256_hex;

/// Models have these ports: above the routers' own, below those that the kernel gives to outgoing connections.
pub(super) const PORTS: RangeInclusive<u16> = 10_000..=32_767;

/// What each of so many routers is told of these models. A model keeps the port that its status has; until that is written, the one of the document before.
pub(super) fn document(models: &[&ModelDeployment], before: &BTreeMap<String, u16>, routers: i32) -> Routes {
    let mut models: Vec<&ModelDeployment> = models.to_vec();
    models.sort_by_key(|model| model.name_any());
    let kept: BTreeSet<u16> = models.iter().filter_map(|model| kept(model)).collect();
    let mut given: BTreeSet<u16> = before.values().copied().chain(kept.iter().copied()).collect();
    let mut taken = BTreeSet::new();
    let routed = models.into_iter().filter_map(|model| {
        let old = before.get(&model.name_any()).copied().filter(|port| PORTS.contains(port) && !kept.contains(port));
        let port = match self::kept(model) {
            // Twice the same only if somebody has written into a status: the routers would take none of the routes.
            Some(port) => Some(port).filter(|port| taken.insert(*port))?,
            None => match old.filter(|port| taken.insert(*port)) {
                Some(port) => port,
                None => from(&model.uid().unwrap_or_default()).find(|port| given.insert(*port))?,
            },
        };
        Some(routed(model, port, routers))
    });
    Routes { models: routed.collect() }
}

fn kept(model: &ModelDeployment) -> Option<u16> {
    let port = model.status.as_ref()?.router_port?;
    u16::try_from(port).ok().filter(|port| PORTS.contains(port))
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
        queue: Queue::default(),
        limits: limits(model),
        security: model.spec.security.as_ref().map(|asked| security::document(asked, routers)),
        queries: queries(model),
        log: log(model),
        stream: crate::deployment::stream(model),
    }
}

/// Bytes of a body that an event has, where the spec says nothing.
const BODY_BYTES: u64 = 64 << 10;

fn log(model: &ModelDeployment) -> Option<Log> {
    let PayloadLog { sampling, max_body_bytes, sink } = model.spec.monitoring.as_ref()?.log.as_deref()?;
    let LogSink { address, mode, token_secret, ca_config_map } = sink;
    let revisions = model.status.iter().flat_map(|status| &status.revisions);
    let bytes = max_body_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(BODY_BYTES);
    Some(Log {
        namespace: model.namespace().unwrap_or_default(),
        model: model.spec.model.name.clone(),
        versions: revisions.filter_map(|revision| Some((revision.name.clone(), revision.version?))).collect(),
        sampling: *sampling,
        body_bytes: bytes.min(Log::LONGEST_BODY),
        sink: Sink {
            address: address.clone(),
            batched: *mode == Some(LogMode::Batched),
            token: token_secret.as_ref().map(|entry| security::entry(Source::Secret, entry)),
            ca: ca_config_map.as_ref().map(|entry| security::entry(Source::ConfigMap, entry)),
        },
    })
}

fn limits(model: &ModelDeployment) -> Limits {
    let bytes = model.spec.security.as_ref().and_then(|security| security.max_body_bytes);
    Limits { body_bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()), ..Limits::default() }
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
        concurrency: None,
        deployment: starts.then(|| status.name.clone()),
        ready_path: Some(status.ready_path.clone().unwrap_or_else(|| READY_PATH.to_owned())),
        protocol: Protocol::Auto,
    }
}
