//! Asks the routers of namespaces that serve models what they have in force and in flight, and wakes those ModelDeployments and InferenceGraphs for which
//! something has changed that their plans look at, or another number of pods is due.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use millrace_core::api::{InferenceGraph, ModelDeployment, ScaleMetric};
use millrace_core::autoscale::{Counted, Timed};
use millrace_core::deployment::{
    counted, followed, has_log_news, has_news, has_stream_news, is_awake, is_due, is_settled, monitored_candidate,
    queries, timed, watched,
};
use millrace_core::graph;
use millrace_core::routing::{ADMIN_PORT, ModelReport, Report};
use millrace_routes::Stats;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use crate::fetch::{Failed, fetch};
use crate::key::{Id, Kind};
use crate::store::Stores;
use crate::wake::Queues;

/// How often routers are asked while something moves in their namespace, or pods follow the load.
const BUSY: Duration = Duration::from_secs(1);
/// How often they are asked else.
const QUIET: Duration = Duration::from_secs(5);
/// After a change they are asked so soon: they have heard of it by then.
const SOON: Duration = Duration::from_millis(100);
/// One that has no answer in this time has none.
const ANSWER: Duration = Duration::from_secs(1);
/// Routers that are asked at once, and of one namespace. Anybody may label a pod as a router: that must cost others nothing.
const AT_ONCE: usize = 64;
const OF_NAMESPACE: usize = 16;
/// What they are asked for.
const STATS: &str = "/stats";
/// A longer answer is none: so much, and so much for each revision, each query of Prometheus, each stream and
/// each model that there is.
const ANSWER_BYTES: usize = 16 << 10;
const REVISION_BYTES: usize = 4 << 10;
const QUERY_BYTES: usize = 1 << 10;
/// What a router said counts until it gave no answer so many times in a row. Then it is asked as if nothing moved.
const MISSES: u32 = 3;

type Answers = FuturesUnordered<BoxFuture<'static, (Target, Result<Stats, Failed>)>>;

/// Asks routers for as long as the process lives.
pub struct Asker {
    stores: Arc<Stores>,
    queues: Arc<Queues>,
    due: HashMap<String, Instant>,
    misses: HashMap<String, u32>,
    /// Those that were asked and have not answered yet.
    asked: HashSet<String>,
    at_once: Arc<Semaphore>,
    answers: Answers,
}

/// A router to be asked.
struct Target {
    namespace: String,
    uid: String,
    pod: String,
    address: SocketAddr,
    /// The longest answer.
    bytes: usize,
}

impl Asker {
    pub fn new(stores: Arc<Stores>, queues: Arc<Queues>) -> Self {
        Self {
            stores,
            queues,
            due: HashMap::new(),
            misses: HashMap::new(),
            asked: HashSet::new(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            answers: FuturesUnordered::new(),
        }
    }

    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(BUSY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stores = self.stores.clone();
        let mut soon: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.ask(None),
                () = stores.hurry.asked() => { soon.get_or_insert(Instant::now() + SOON); }
                () = until(soon), if soon.is_some() => {
                    soon = None;
                    self.ask(Some(&stores.hurry.take()));
                }
                Some((target, answer)) = self.answers.next() => self.take(&target, answer),
            }
        }
    }

    /// Asks all of them once, and takes the answers that come in this time.
    pub async fn first(&mut self, longest: Duration) {
        self.ask(None);
        let answers = async {
            while let Some((target, answer)) = self.answers.next().await {
                self.take(&target, answer);
            }
        };
        let _all_or_late = tokio::time::timeout(longest, answers).await;
    }

    /// Asks those whose time has come, or those of some namespaces at once. Nobody waits for another's answer.
    fn ask(&mut self, at_once: Option<&HashSet<String>>) {
        for target in self.targets(at_once) {
            self.asked.insert(target.uid.clone());
            let at_once = self.at_once.clone();
            self.answers.push(Box::pin(async move {
                let _place = at_once.acquire().await;
                let stats = tokio::time::timeout(ANSWER, fetch::<Stats>(target.address, STATS, target.bytes)).await;
                (target, stats.map_err(Failed::from).flatten())
            }));
        }
    }

    fn targets(&mut self, at_once: Option<&HashSet<String>>) -> Vec<Target> {
        // Whether something moves, and how long an answer may be.
        let mut namespaces: BTreeMap<String, (bool, usize)> = BTreeMap::new();
        let (mut follows, mut judged) = (HashSet::new(), HashSet::new());
        self.stores.deployments.each(None, |id, deployment| {
            let (busy, bytes) = namespaces.entry(id.namespace.clone()).or_default();
            let is_judged = watched(deployment).is_some();
            *busy |= !is_settled(deployment) || is_awake(deployment) || is_judged;
            if followed(deployment).is_some() {
                follows.insert(id.clone());
            }
            if is_judged {
                judged.insert(id.clone());
            }
            let revisions = 1 + deployment.status.as_ref().map_or(0, |status| status.revisions.len());
            let figures = 1 + queries(deployment).len() + usize::from(deployment.spec.stream.is_some());
            *bytes += REVISION_BYTES * revisions + QUERY_BYTES * figures;
        });
        self.stores.graphs.each(None, |id, graph| {
            let (busy, bytes) = namespaces.entry(id.namespace.clone()).or_default();
            *busy |= !graph::is_settled(graph);
            *bytes += QUERY_BYTES;
        });
        let now = Instant::now();
        self.due.retain(|namespace, _| namespaces.contains_key(namespace));
        let (mut targets, mut present) = (Vec::new(), HashSet::new());
        for (namespace, (busy, bytes)) in namespaces {
            let routers = self.stores.routers.group(&namespace);
            present.extend(routers.values().map(|router| router.pod.uid.clone()));
            let due = match at_once {
                Some(these) if !these.contains(&namespace) => continue,
                Some(_) => true,
                None => self.due.get(&namespace).is_none_or(|due| *due <= now),
            };
            if due {
                self.due.insert(namespace.clone(), now + QUIET);
            }
            for router in routers.into_values().filter(|router| router.is_running()).take(OF_NAMESPACE) {
                let uid = &router.pod.uid;
                let silent = self.misses.get(uid).is_some_and(|misses| *misses >= MISSES);
                if self.asked.contains(uid) || !(due || busy && !silent) {
                    continue;
                }
                let Some(ip) = router.address.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
                targets.push(Target {
                    namespace: namespace.clone(),
                    uid: uid.clone(),
                    pod: router.pod.name.clone(),
                    address: SocketAddr::new(ip, ADMIN_PORT),
                    bytes: ANSWER_BYTES + bytes,
                });
            }
        }
        self.stores.reports.keep(&present);
        self.stores.loads.keep(&follows);
        self.stores.tallies.keep(&judged);
        self.misses.retain(|uid, _| present.contains(uid));
        targets
    }

    fn take(&mut self, target: &Target, answer: Result<Stats, Failed>) {
        self.asked.remove(&target.uid);
        let models: Vec<_> = self.stores.deployments.group(&target.namespace).into_values().collect();
        let graphs: Vec<_> = self.stores.graphs.group(&target.namespace).into_values().collect();
        let now = Timestamp::now();
        let report = match answer.and_then(|stats| Ok((report_of(&target.pod, &stats, &models, &graphs)?, stats))) {
            Ok((report, stats)) => {
                self.misses.remove(&target.uid);
                for model in &models {
                    self.note(target, &stats, model, now);
                }
                Some(Arc::new(report))
            }
            Err(error) => {
                let misses = self.misses.entry(target.uid.clone()).or_default();
                *misses = misses.saturating_add(1);
                if *misses != MISSES {
                    return;
                }
                // Once: it is asked again all the time.
                tracing::warn!(namespace = target.namespace, router = target.pod, %error, "a router does not answer");
                None
            }
        };
        let before = self.stores.reports.replace(&target.uid, report.clone());
        let none = BTreeSet::new();
        for graph in graphs {
            let name = graph.name_any();
            if said_of(before.as_deref(), &name, &none) != said_of(report.as_deref(), &name, &none) {
                self.queues.of(Kind::Graph).push(Id::new(&target.namespace, name));
            }
        }
        let queue = self.queues.of(Kind::Deployment);
        for model in models {
            let name = model.name_any();
            let draining = draining(&model);
            let news = said_of(before.as_deref(), &name, &draining) != said_of(report.as_deref(), &name, &draining);
            let id = Id::new(&target.namespace, name);
            if news {
                queue.push(id);
            } else if self.is_due(&id, &model, now)
                || self.has_verdict(&id, &model, now)
                || self.has_counts(&id, &model, now)
            {
                queue.push_unless_failing(id);
            }
        }
    }

    /// Keeps what a router counted, where the number of pods follows it or a rollout is judged by it.
    fn note(&self, target: &Target, stats: &Stats, model: &ModelDeployment, now: Timestamp) {
        let id = Id::new(&target.namespace, model.name_any());
        if let Some((_, follow)) = followed(model) {
            if let Some(counted) = Counted::of(stats, &id.name, counted(model)) {
                self.stores.loads.heard(&id, &target.uid, counted, now);
            }
            if let Some(query) = &follow.query {
                let said = stats.models.get(&id.name).and_then(|said| follow.said(said));
                self.stores.loads.answered(&id, &target.uid, query, said, now);
            }
            let timed = (follow.metric == ScaleMetric::Latency).then(|| Timed::of(stats, &id.name, timed(model)));
            if let Some(timed) = timed.flatten() {
                self.stores.loads.took(&id, &target.uid, timed, now);
            }
        }
        if let Some(step) = watched(model) {
            self.stores.tallies.heard(&id, &step, &target.uid, stats, now);
        }
    }

    /// Whether a pass would write another verdict, or figures that are not old.
    fn has_verdict(&self, id: &Id, model: &ModelDeployment, now: Timestamp) -> bool {
        let measured = watched(model).and_then(|_| self.stores.tallies.measured(id));
        let rows = monitored_candidate(model).and_then(|of| self.stores.drifts.sum(id, &of, now));
        measured.is_some_and(|measured| has_news(model, Some(&measured), rows.as_ref(), now))
    }

    /// Whether a pass would write what became of the payload log, or of the messages of the stream.
    fn has_counts(&self, id: &Id, model: &ModelDeployment, now: Timestamp) -> bool {
        let logs = model.spec.monitoring.as_ref().is_some_and(|monitoring| monitoring.log.is_some());
        if !logs && model.spec.stream.is_none() {
            return false;
        }
        let routers = self.stores.routers.group(&id.namespace);
        let reports: Vec<_> = routers.values().filter_map(|router| self.stores.reports.get(&router.pod.uid)).collect();
        let said = || reports.iter().map(AsRef::as_ref);
        logs && has_log_news(model, said(), now) || model.spec.stream.is_some() && has_stream_news(model, said(), now)
    }

    /// Whether a pass would choose another number of pods: none is made for nothing.
    fn is_due(&self, id: &Id, model: &ModelDeployment, now: Timestamp) -> bool {
        let Some((revision, follow)) = followed(model) else { return false };
        let view = self.stores.server_deployments.get(&Id::new(&id.namespace, revision));
        view.is_some_and(|view| {
            let load = self.stores.load(id, &follow, &view, now);
            is_due(model, &view, &load, now)
        })
    }
}

async fn until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time).await;
    }
}

/// What the plan of a model looks at: whether the router answers, and what it says. What is in flight matters of revisions that go.
fn said_of(report: Option<&Report>, model: &str, draining: &BTreeSet<&str>) -> (bool, Option<ModelReport>) {
    let said = report.and_then(|report| report.models.get(model));
    (report.is_some(), said.map(|said| said.with_flight_of(draining)))
}

fn draining(model: &ModelDeployment) -> BTreeSet<&str> {
    let revisions = model.status.iter().flat_map(|status| &status.revisions);
    revisions.filter(|revision| revision.draining_since.is_some()).map(|revision| revision.name.as_str()).collect()
}

fn report_of(
    pod: &str,
    stats: &Stats,
    models: &[Arc<ModelDeployment>],
    graphs: &[Arc<InferenceGraph>],
) -> Result<Report, Failed> {
    if stats.pod != pod {
        return Err(format!("the pod \"{}\" answers at the address", stats.pod).into());
    }
    Ok(Report::of(stats, models, graphs))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millrace_core::api::{ModelDeploymentSpec, ModelDeploymentStatus, RevisionStatus};
    use millrace_core::routing::RevisionReport;
    use millrace_routes::{ModelStats, RevisionStats};

    use super::*;

    fn report(generation: u64, pods: u64, is_busy: bool) -> Report {
        let revisions = BTreeMap::from([("a".to_owned(), RevisionReport { pods, is_busy })]);
        let said = ModelReport { generation, revisions, ..ModelReport::default() };
        Report { models: BTreeMap::from([("m".to_owned(), said)]) }
    }

    #[test]
    fn what_is_in_flight_is_news_only_of_a_revision_that_goes() {
        let (idle, busy) = (report(1, 1, false), report(1, 1, true));
        let (none, goes) = (BTreeSet::new(), BTreeSet::from(["a"]));
        let said = |report: Option<&Report>, settled| said_of(report, "m", if settled { &none } else { &goes });
        assert_eq!(said(Some(&busy), true), said(Some(&idle), true));
        assert_ne!(said(Some(&busy), false), said(Some(&idle), false));
        for other in [Some(report(2, 1, false)), Some(report(1, 0, false)), Some(Report::default()), None] {
            assert_ne!(said(other.as_ref(), true), said(Some(&idle), true), "{other:?}");
        }
        assert_ne!(said(Some(&Report::default()), true), said(None, true));
        assert_eq!(said_of(Some(&idle), "other", &none), said_of(Some(&Report::default()), "other", &none));
    }

    /// A model with one revision in its status.
    fn model(name: &str, revision: &str) -> Arc<ModelDeployment> {
        let mut model = ModelDeployment::new(name, ModelDeploymentSpec::default());
        model.metadata.namespace = Some("ns".to_owned());
        let revisions = vec![RevisionStatus { name: revision.to_owned(), weight: 100, ..RevisionStatus::default() }];
        model.status = Some(ModelDeploymentStatus { revisions, ..ModelDeploymentStatus::default() });
        Arc::new(model)
    }

    fn said(models: &[(&str, &[&str])]) -> Stats {
        let models = models.iter().map(|(name, revisions)| {
            let revisions = revisions.iter().map(|name| ((*name).to_owned(), RevisionStats::default()));
            ((*name).to_owned(), ModelStats { generation: 1, revisions: revisions.collect(), ..ModelStats::default() })
        });
        Stats { pod: "router".to_owned(), boot: 1, at_us: 1, models: models.collect() }
    }

    #[test]
    fn an_address_that_came_to_another_pod_says_nothing() {
        assert!(report_of("router-a", &said(&[]), &[], &[]).is_err());
        assert_eq!(report_of("router", &said(&[]), &[], &[]).unwrap(), Report::default());
    }

    #[test]
    fn only_what_is_said_of_models_and_revisions_that_there_are_is_kept() {
        let made_up: Vec<String> = (0..1000).map(|i| format!("made-up-{i}")).collect();
        let revisions: Vec<&str> = made_up.iter().map(String::as_str).chain(["m-1"]).collect();
        let mut models: Vec<(&str, &[&str])> = made_up.iter().map(|name| (name.as_str(), [].as_slice())).collect();
        models.push(("m", &revisions));
        let report = report_of("router", &said(&models), &[model("m", "m-1"), model("n", "n-1")], &[]).unwrap();
        assert_eq!(report.models.keys().collect::<Vec<_>>(), ["m"]);
        assert_eq!(report.models["m"].revisions.keys().collect::<Vec<_>>(), ["m-1"]);
    }

    #[tokio::test]
    async fn one_that_never_answers_keeps_nobody_waiting_and_is_not_asked_twice() {
        let mut asker = Asker::new(Arc::default(), Arc::default());
        let target = |uid: &str| Target {
            namespace: "ns".to_owned(),
            uid: uid.to_owned(),
            pod: "router".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            bytes: 1,
        };
        let (silent, other) = (target("silent"), target("other"));
        asker.asked = HashSet::from(["silent".to_owned(), "other".to_owned()]);
        asker.answers.push(Box::pin(async move {
            std::future::pending::<()>().await;
            (silent, Err("never".into()))
        }));
        asker.answers.push(Box::pin(async move { (other, Ok(said(&[]))) }));
        asker.first(Duration::from_millis(50)).await;
        assert!(asker.stores.reports.get("other").is_some());
        assert!(asker.asked.contains("silent") && !asker.asked.contains("other"));
    }
}
