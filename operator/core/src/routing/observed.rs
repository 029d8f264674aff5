//! What the plans of routers and of ModelDeployments look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_routes::{Routes, Stats};

use crate::api::ModelDeployment;
use crate::deployment::DeploymentView;
use crate::plan::Refusal;
use crate::run::PodView;

/// Everything that the routers of one namespace depend on.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub models: Vec<Arc<ModelDeployment>>,
    /// The ConfigMap [`crate::names::ROUTES`].
    pub routes: Option<Arc<RoutesView>>,
    /// The Deployment [`crate::names::ROUTER`].
    pub deployment: Option<Arc<DeploymentView>>,
}

/// The ConfigMap of the routes as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutesView {
    pub resource_version: String,
    /// Uids.
    pub owners: BTreeSet<String>,
    /// The document as it is written there.
    pub text: String,
    /// Each model's port.
    pub ports: BTreeMap<String, u16>,
}

impl RoutesView {
    /// A document that cannot be read has given no port away: it is written anew.
    #[must_use]
    pub fn new(resource_version: String, owners: BTreeSet<String>, text: String) -> Self {
        let routes: Routes = serde_json::from_str(&text).unwrap_or_default();
        let ports = routes.models.into_iter().map(|model| (model.name, model.port)).collect();
        Self { resource_version, owners, text, ports }
    }
}

/// What a ModelDeployment sees of the routers of its namespace.
#[derive(Clone, Debug, Default)]
pub struct Routers {
    /// The port of this model, once it is in the routes.
    pub port: Option<u16>,
    pub pods: Vec<Router>,
    pub deployment: Option<Arc<DeploymentView>>,
    /// What the apiserver refused of the routers' objects.
    pub refusals: Vec<Refusal>,
}

/// A router, and what it said last.
#[derive(Clone, Debug, Default)]
pub struct Router {
    pub pod: Arc<RouterPod>,
    pub report: Option<Arc<Report>>,
}

/// A router's pod as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterPod {
    pub pod: PodView,
    pub address: Option<String>,
    /// Callers are sent to it.
    pub ready: bool,
}

impl RouterPod {
    /// It may have requests in hand.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let ended = self.pod.phase == "Succeeded" || self.pod.phase == "Failed";
        !ended && self.pod.main.as_ref().is_some_and(|main| main.running_since.is_some())
    }
}

/// What a router says, as far as decisions look at it. It stays the same while nothing changes but counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub models: BTreeMap<String, ModelReport>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelReport {
    pub generation: u64,
    pub revisions: BTreeMap<String, RevisionReport>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionReport {
    pub has_pods: bool,
    /// Requests are in flight to it or wait for it.
    pub is_busy: bool,
}

impl From<&Stats> for Report {
    fn from(stats: &Stats) -> Self {
        let models = stats.models.iter().map(|(name, model)| {
            let revisions = model.revisions.iter().map(|(name, revision)| {
                let report = RevisionReport { has_pods: revision.pods > 0, is_busy: revision.in_flight > 0 };
                (name.clone(), report)
            });
            (name.clone(), ModelReport { generation: model.generation, revisions: revisions.collect() })
        });
        Self { models: models.collect() }
    }
}

impl Report {
    /// The same but for what is in flight.
    #[must_use]
    pub fn without_flight(&self) -> Self {
        let mut report = self.clone();
        for model in report.models.values_mut() {
            model.revisions.values_mut().for_each(|revision| revision.is_busy = false);
        }
        report
    }
}
