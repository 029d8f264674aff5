//! The document of routes: from the statuses of ModelDeployments.

use std::collections::{BTreeMap, BTreeSet};

use kube_core::ResourceExt;
use millrace_routes::{Limits, Model, Protocol, Queue, Revision, Routes};

use crate::api::{ModelDeployment, RevisionStatus};
use crate::deployment::{READY_PATH, SERVER_PORT};

/// Models have the ports from here on; the routers' own are below.
pub(super) const FIRST_PORT: u16 = 10_000;

/// The routes of these models. A model keeps its port; a new one gets one that the document before did not give away: callers of a
/// model that has just gone may still come to its port.
pub(super) fn document(models: &[&ModelDeployment], before: &BTreeMap<String, u16>) -> Routes {
    let mut given: BTreeSet<u16> = before.values().copied().collect();
    let mut kept = BTreeSet::new();
    let mut models: Vec<&ModelDeployment> = models.to_vec();
    models.sort_by_key(|model| model.name_any());
    let routed = models.into_iter().filter_map(|model| {
        let old = before.get(&model.name_any()).copied().filter(|port| *port >= FIRST_PORT);
        // Twice the same only if somebody has written into the document.
        let port = match old.filter(|port| kept.insert(*port)) {
            Some(port) => port,
            None => (FIRST_PORT..=u16::MAX).find(|port| given.insert(*port))?,
        };
        Some(routed(model, port))
    });
    Routes { models: routed.collect() }
}

fn routed(model: &ModelDeployment, port: u16) -> Model {
    let status = model.status.as_ref();
    Model {
        name: model.name_any(),
        port,
        generation: status.map_or(0, |status| u64::try_from(status.traffic_generation).unwrap_or_default()),
        revisions: status.into_iter().flat_map(|status| &status.revisions).map(revision).collect(),
        headers: Vec::new(),
        sticky: None,
        shadow: None,
        queue: Queue::default(),
        limits: Limits::default(),
    }
}

fn revision(status: &RevisionStatus) -> Revision {
    Revision {
        name: status.name.clone(),
        service: status.name.clone(),
        port: SERVER_PORT,
        weight: u32::try_from(status.weight).unwrap_or_default(),
        concurrency: None,
        deployment: None,
        ready_path: Some(READY_PATH.to_owned()),
        protocol: Protocol::Auto,
    }
}
