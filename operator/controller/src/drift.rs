//! Asks the pods of models whose drift is watched what they counted, and wakes those ModelDeployments for which that is news.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::jiff::Timestamp;
use millrace_contract::{DRIFT_PATH, DriftCounts, SERVER_ADMIN_PORT};
use millrace_core::deployment::{Monitored, has_drift_news, has_news, monitored, monitored_candidate, watched};
use millrace_core::drift::checked;
use millrace_core::run::PodView;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use crate::fetch::{Failed, fetch};
use crate::key::{Id, Kind};
use crate::store::{RevisionId, Stores};
use crate::wake::Queues;

/// How often it is looked whose time has come.
const TICK: Duration = Duration::from_secs(5);
/// A model is asked this many times in a window, but neither more often nor less often than the two below.
const IN_WINDOW: u32 = 60;
const SOONEST: Duration = Duration::from_secs(10);
const LATEST: Duration = Duration::from_mins(1);
/// One that has no answer in this time has none.
const ANSWER: Duration = Duration::from_secs(2);
/// Pods that are asked at once, and of one model: requests are spread over all, so some of them are a fair sample.
const AT_ONCE: usize = 8;
const OF_MODEL: usize = 16;
/// A longer answer is none. The largest profile that a server counts by needs about half of it.
const ANSWER_BYTES: usize = 512 << 10;

/// Asks for as long as the process lives.
pub struct DriftAsker {
    stores: Arc<Stores>,
    queues: Arc<Queues>,
    /// When each is asked next.
    due: HashMap<RevisionId, Instant>,
    /// Pods that were asked and have not answered yet.
    asked: HashSet<String>,
    at_once: Arc<Semaphore>,
    answers: FuturesUnordered<BoxFuture<'static, (Target, Result<DriftCounts, Failed>)>>,
}

/// A pod to be asked.
struct Target {
    id: Id,
    uid: String,
    address: SocketAddr,
    monitored: Monitored,
}

impl DriftAsker {
    pub fn new(stores: Arc<Stores>, queues: Arc<Queues>) -> Self {
        Self {
            stores,
            queues,
            due: HashMap::new(),
            asked: HashSet::new(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            answers: FuturesUnordered::new(),
        }
    }

    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.ask(),
                Some((target, answer)) = self.answers.next() => self.take(&target, answer),
            }
        }
    }

    fn ask(&mut self) {
        for target in self.targets() {
            self.asked.insert(target.uid.clone());
            let at_once = self.at_once.clone();
            self.answers.push(Box::pin(async move {
                let _place = at_once.acquire().await;
                let path = format!("{DRIFT_PATH}?window={}", target.monitored.window.as_secs());
                let answer = tokio::time::timeout(ANSWER, fetch(target.address, &path, ANSWER_BYTES)).await;
                (target, answer.map_err(Failed::from).flatten())
            }));
        }
    }

    fn targets(&mut self) -> Vec<Target> {
        let mut asked = Vec::new();
        self.stores.deployments.each(None, |id, deployment| {
            let every = |monitored: Monitored| {
                let every = (monitored.window / IN_WINDOW).clamp(SOONEST, LATEST);
                (id.clone(), monitored, every)
            };
            asked.extend(monitored(deployment).map(every));
            // A step may be shorter than the window.
            asked.extend(monitored_candidate(deployment).map(|monitored| (id.clone(), monitored, SOONEST)));
        });
        let keys = asked.iter().map(|(id, monitored, _)| (id.clone(), monitored.revision.clone())).collect();
        self.due.retain(|key, _| HashSet::contains(&keys, key));
        self.stores.drifts.keep(&keys);
        let (now, time) = (Instant::now(), Timestamp::now());
        let mut targets = Vec::new();
        for (id, monitored, every) in asked {
            let key = (id.clone(), monitored.revision.clone());
            if self.due.get(&key).is_some_and(|due| *due > now) {
                continue;
            }
            self.due.insert(key, now + every);
            self.stores.drifts.begin(&id, &monitored, time);
            // What was counted ages, also where nobody answers any more.
            self.tell(&id, time);
            let pods = self.stores.server_pods.group(&id.to_string()).into_values();
            let mut pods: Vec<_> = pods.filter(|pod| runs(pod, &monitored.revision)).collect();
            pods.sort_by(|a, b| a.uid.cmp(&b.uid));
            for pod in pods.into_iter().take(OF_MODEL).filter(|pod| !self.asked.contains(&pod.uid)) {
                let Some(ip) = pod.address.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
                targets.push(Target {
                    id: id.clone(),
                    uid: pod.uid.clone(),
                    address: SocketAddr::new(ip, SERVER_ADMIN_PORT),
                    monitored: monitored.clone(),
                });
            }
        }
        targets
    }

    fn take(&mut self, target: &Target, answer: Result<DriftCounts, Failed>) {
        self.asked.remove(&target.uid);
        let Monitored { model, version, .. } = &target.monitored;
        let now = Timestamp::now();
        match answer.and_then(|said| Ok(checked(said, model, &version.to_string())?)) {
            Ok(counts) => {
                self.stores.drifts.heard(&target.id, &target.monitored, &target.uid, counts, now);
                self.tell(&target.id, now);
            }
            // The condition says that nobody answers; a line for every pod and minute would say no more.
            Err(error) => {
                self.stores.drifts.missed(&target.id, &target.monitored);
                tracing::debug!(namespace = target.id.namespace, model = target.id.name, pod = target.uid, %error, "a model server does not say what it counted");
            }
        }
    }

    /// Wakes the ModelDeployment if a pass would write something else.
    fn tell(&self, id: &Id, now: Timestamp) {
        let Some(deployment) = self.stores.deployments.get(id) else { return };
        let of_promoted = || {
            let counts = self.stores.drifts.sum(id, &monitored(&deployment)?, now)?;
            Some(has_drift_news(&deployment, &counts, now))
        };
        let of_candidate = || {
            let counts = self.stores.drifts.sum(id, &monitored_candidate(&deployment)?, now)?;
            watched(&deployment)?;
            let measured = self.stores.tallies.measured(id);
            Some(has_news(&deployment, measured.as_ref(), Some(&counts), now))
        };
        if of_promoted() == Some(true) || of_candidate() == Some(true) {
            self.queues.of(Kind::Deployment).push_unless_failing(id.clone());
        }
    }
}

fn runs(pod: &PodView, revision: &str) -> bool {
    let running = pod.main.as_ref().is_some_and(|main| main.running_since.is_some());
    pod.stage == revision && pod.phase == "Running" && running
}

#[cfg(test)]
mod tests {
    use millrace_core::run::ContainerView;

    use super::*;

    #[test]
    fn only_pods_of_the_revision_that_run_are_asked() {
        let running = ContainerView { running_since: Some(Timestamp::UNIX_EPOCH), ..ContainerView::default() };
        let pod = |stage: &str, phase: &str, main: Option<ContainerView>| PodView {
            stage: stage.to_owned(),
            phase: phase.to_owned(),
            main,
            ..PodView::default()
        };
        assert!(runs(&pod("m-1", "Running", Some(running.clone())), "m-1"));
        for other in [
            pod("m-2", "Running", Some(running.clone())),
            pod("m-1", "Pending", Some(running)),
            pod("m-1", "Running", Some(ContainerView::default())),
            pod("m-1", "Running", None),
        ] {
            assert!(!runs(&other, "m-1"), "{other:?}");
        }
    }
}
