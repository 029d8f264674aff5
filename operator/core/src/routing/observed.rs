//! What the plans of routers and of ModelDeployments look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_contract::NEEDED_MODELS;
use millrace_routes::{LogStats, Model, ROUTES_KEY, Routes, SecurityStats, Stats, StreamProblem, StreamStats};

use crate::api::{InferenceGraph, ModelDeployment};
use crate::deployment::{Applied, DeploymentView, digest};
use crate::plan::Refusal;
use crate::problem::head;
use crate::run::PodView;

/// Everything that the routers of one namespace depend on.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub models: Vec<Arc<ModelDeployment>>,
    pub graphs: Vec<Arc<InferenceGraph>>,
    /// The ConfigMap [`crate::names::ROUTES`].
    pub routes: Option<Arc<RoutesView>>,
    /// Everything that is there for the routers, by [`super::key`].
    pub parts: BTreeMap<String, PartView>,
    /// What became of each when this operator applied it last, by the same key.
    pub applied: BTreeMap<String, Applied>,
}

/// An object of the routers as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartView {
    pub uid: String,
    /// It was made for the routers.
    pub is_ours: bool,
    /// Digest of what Millrace says of it.
    pub shape: u64,
}

/// The ConfigMap of the routes as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutesView {
    pub uid: String,
    pub resource_version: String,
    /// Uids.
    pub owners: BTreeSet<String>,
    /// The document as it is written there.
    pub text: String,
    /// Which models of caches must stay, as it is written there.
    pub needed: Option<String>,
    /// Each model's port.
    pub ports: BTreeMap<String, u16>,
    /// Each graph as it is there.
    pub graphs: BTreeMap<String, Model>,
}

impl RoutesView {
    /// A document that cannot be read has given no port away: it is written anew.
    #[must_use]
    pub fn new(
        uid: String,
        resource_version: String,
        owners: BTreeSet<String>,
        data: Option<&BTreeMap<String, String>>,
    ) -> Self {
        let of = |key: &str| data.and_then(|data| data.get(key)).cloned();
        let (text, needed) = (of(ROUTES_KEY).unwrap_or_default(), of(NEEDED_MODELS));
        let routes: Routes = serde_json::from_str(&text).unwrap_or_default();
        let (graphs, models): (Vec<Model>, Vec<Model>) =
            routes.models.into_iter().partition(|model| model.graph.is_some());
        let ports = models.into_iter().map(|model| (model.name, model.port)).collect();
        let graphs = graphs.into_iter().map(|graph| (graph.name.clone(), graph)).collect();
        Self { uid, resource_version, owners, text, needed, ports, graphs }
    }
}

impl RoutesView {
    /// Digest of what it says and whose it is.
    #[must_use]
    pub fn shape(&self) -> u64 {
        digest(&(&self.text, &self.needed, &self.owners))
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
    pub security: Option<SecurityReport>,
    /// What became of the events of the payload log. It changes with every request.
    pub log: Option<LogStats>,
    /// What became of the messages of the stream. It changes all the time.
    pub stream: Option<StreamReport>,
}

/// What a router says of the stream: it is compared, so its rate is in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Of the settings that it has.
    pub id: String,
    /// Messages that wait, where it could find out a moment ago.
    pub lag: Option<u64>,
    pub partitions: u32,
    pub rate: u64,
    pub answered: u64,
    pub rejected: u64,
    pub retried: u64,
    pub problem: Option<StreamProblem>,
}

/// A lag that was looked at longer ago says nothing of now.
const LAG_FRESH: u64 = 45_000;

impl StreamReport {
    fn of(said: &StreamStats) -> Self {
        // Who refused them is in the routers' metrics.
        let StreamStats { id, lag, partitions, rate, answered, rejected, retried, refused: _, problem } = said;
        let fresh = lag.age_ms.is_some_and(|age| age <= LAG_FRESH);
        // Anybody's pod may have answered: what is no number, or none that there can be, is nothing.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = |value: f64| value.clamp(0.0, 1e15).round() as u64;
        Self {
            id: head(id, PROBLEM),
            lag: lag.value.filter(|value| fresh && value.is_finite()).map(whole),
            partitions: *partitions,
            rate: whole(if rate.is_finite() { rate * 1e3 } else { 0.0 }),
            answered: *answered,
            rejected: *rejected,
            retried: *retried,
            problem: problem.as_ref().map(|problem| StreamProblem { says: plain(&problem.says), ..problem.clone() }),
        }
    }
}

/// What a router has in force of `spec.security`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityReport {
    pub id: String,
    /// Nobody is let in.
    pub closed: bool,
    /// What is wrong with Secrets and ConfigMaps.
    pub problems: Vec<String>,
}

/// Problems that are taken from a router, and characters of each.
const PROBLEMS: usize = 8;
const PROBLEM: usize = 400;

impl SecurityReport {
    /// Bounded: anybody's pod may have answered.
    fn of(said: &SecurityStats) -> Self {
        let SecurityStats { id, closed, problems } = said;
        let problems = problems.iter().take(PROBLEMS).map(|text| plain(text)).collect();
        Self { id: head(id, PROBLEM), closed: *closed, problems }
    }
}

/// Bounded, and in one line.
fn plain(text: &str) -> String {
    head(&text.replace(|c: char| c.is_control(), " "), PROBLEM)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionReport {
    /// Pods that requests are sent to.
    pub pods: u64,
    /// Requests are in flight to it or wait for it.
    pub is_busy: bool,
}

impl Report {
    /// What was said of these models and of the revisions in their statuses. The rest is dropped: anybody's pod may have answered.
    #[must_use]
    pub fn of(stats: &Stats, models: &[Arc<ModelDeployment>], graphs: &[Arc<InferenceGraph>]) -> Self {
        let known = models.iter().filter_map(|model| {
            let name = model.metadata.name.clone()?;
            let said = stats.models.get(&name)?;
            let revisions = model.status.iter().flat_map(|status| &status.revisions).filter_map(|revision| {
                let said = said.revisions.get(&revision.name)?;
                Some((revision.name.clone(), RevisionReport { pods: said.pods, is_busy: said.in_flight > 0 }))
            });
            let asked = model.spec.security.is_some();
            let security = said.security.as_ref().filter(|_| asked).map(SecurityReport::of);
            let asked = model.spec.monitoring.as_ref().is_some_and(|monitoring| monitoring.log.is_some());
            let log = said.log.as_ref().filter(|_| asked).map(|said| {
                let problem = said.problem.as_deref().map(plain);
                LogStats { problem, ..said.clone() }
            });
            let stream = said.stream.as_ref().filter(|_| model.spec.stream.is_some()).map(StreamReport::of);
            let (generation, revisions) = (said.generation, revisions.collect());
            Some((name, ModelReport { generation, revisions, security, log, stream }))
        });
        let of_graphs = graphs.iter().filter_map(|graph| {
            let name = graph.metadata.name.clone()?;
            let said = stats.models.get(&name)?;
            let asked = graph.spec.security.is_some();
            let security = said.security.as_ref().filter(|_| asked).map(SecurityReport::of);
            Some((name, ModelReport { generation: said.generation, security, ..ModelReport::default() }))
        });
        // Where both have a name, the model is meant: the graph does not get its Service.
        Self { models: of_graphs.chain(known).collect() }
    }
}

impl ModelReport {
    /// The same but for what is in flight to others than these revisions, and what was counted of the payload log and the stream.
    #[must_use]
    pub fn with_flight_of(&self, revisions: &BTreeSet<&str>) -> Self {
        let mut report = Self { log: None, stream: None, ..self.clone() };
        report.revisions.iter_mut().for_each(|(name, said)| said.is_busy &= revisions.contains(name.as_str()));
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_router_says_of_security_is_bounded() {
        let problems = (0..100).map(|_| "a\nb".repeat(10_000)).collect();
        let said = SecurityStats { id: "x".repeat(10_000), closed: true, problems };
        let report = SecurityReport::of(&said);
        assert_eq!((report.id.chars().count(), report.problems.len()), (PROBLEM, PROBLEMS));
        assert!(report.problems.iter().all(|text| text.chars().count() == PROBLEM && !text.contains('\n')));
    }
}
