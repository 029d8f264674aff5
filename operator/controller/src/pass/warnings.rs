//! What is said in events only: by the Job controller of a Job that gets no pod (quota, Pod Security), by the kubelet of
//! a pod that it cannot prepare (a volume that does not mount).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use millrace_core::duration;
use millrace_core::plan::sooner;
use millrace_core::run::{JobView, PodView, Words};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::write::chain;

/// A pod comes within a second and its containers within some; what takes longer than this is looked into.
const PATIENCE: Duration = Duration::from_secs(5);
/// An object that still waits is looked at again after this.
const EVERY: Duration = Duration::from_secs(15);
/// What was read of a namespace answers for this long, or for as many times as long as the reading took.
const FRESH: Duration = Duration::from_secs(2);
const TIMES: u32 = 20;
/// Events of one answer, and answers of one reading.
const PAGE: u32 = 500;
const PAGES: usize = 20;

/// What the events of each namespace said last. The apiserver reads all events of a namespace to find those of one object, so they are read for
/// all objects that wait.
#[derive(Default)]
pub struct Warnings(Mutex<HashMap<String, Arc<AsyncMutex<Read>>>>);

#[derive(Default)]
struct Read {
    ended: Option<Instant>,
    took: Duration,
    words: Arc<HashMap<String, Words>>,
}

impl Read {
    fn is_fresh(&self) -> bool {
        self.ended.is_some_and(|ended| ended.elapsed() < FRESH.max(self.took * TIMES))
    }
}

impl Warnings {
    /// The words about each of these Jobs that has no pod, by Job name, and when to look again.
    pub async fn of(
        &self,
        client: &Client,
        namespace: &str,
        jobs: &[Arc<JobView>],
        pods: &[Arc<PodView>],
        now: Timestamp,
    ) -> (BTreeMap<String, Words>, Option<Duration>) {
        let (mut found, mut look_again) = (BTreeMap::new(), None);
        for job in jobs.iter().filter(|job| lonely(job, pods)) {
            let (due, wait) = due(job.created, now);
            look_again = sooner(look_again, Some(wait));
            if due && let Some(words) = self.words(client, namespace, &job.uid).await {
                found.insert(job.name.clone(), words);
            }
        }
        (found, look_again)
    }

    /// Gives each pod that is not prepared, and says nothing itself, the kubelet's words; and when to look again.
    pub async fn tell(
        &self,
        client: &Client,
        namespace: &str,
        pods: &mut [Arc<PodView>],
        now: Timestamp,
    ) -> Option<Duration> {
        let mut look_again = None;
        // Of many items one speaks for all.
        let mut items = 0;
        let mut speaks = |pod: &PodView| {
            items += u32::from(pod.index.is_some());
            pod.index.is_none() || items == 1
        };
        for pod in pods.iter_mut().filter(|pod| in_preparation(pod) && speaks(pod)) {
            let (due, wait) = due(pod.created, now);
            look_again = sooner(look_again, Some(wait));
            if due && let Some(words) = self.words(client, namespace, &pod.uid).await {
                *pod = Arc::new(PodView { words: Some(words), ..PodView::clone(pod) });
            }
        }
        look_again
    }

    async fn words(&self, client: &Client, namespace: &str, uid: &str) -> Option<Words> {
        let place = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, place| place.try_lock().is_ok_and(|read| read.is_fresh()) || Arc::strong_count(place) > 1);
            Arc::clone(all.entry(namespace.to_owned()).or_default())
        };
        // Who comes meanwhile waits for the same answer.
        let mut read = place.lock().await;
        if !read.is_fresh() {
            let began = Instant::now();
            match warnings(client, namespace).await {
                Ok(words) => read.words = Arc::new(words),
                Err(error) => tracing::warn!(namespace, error = %chain(&error), "failed to read events"),
            }
            (read.took, read.ended) = (began.elapsed(), Some(Instant::now()));
        }
        read.words.get(uid).cloned()
    }
}

/// The newest words about each object of a namespace, by its uid.
async fn warnings(client: &Client, namespace: &str) -> Result<HashMap<String, Words>, kube::Error> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut page = ListParams::default().fields("type=Warning").limit(PAGE);
    let mut found = HashMap::new();
    for _ in 0..PAGES {
        let listed = api.list(&page).await?;
        keep_newest(&mut found, listed.items);
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    Ok(found.into_iter().map(|(uid, (_, words))| (uid, words)).collect())
}

/// Whether its events are to be read now, and when to look again.
fn due(created: Option<Timestamp>, now: Timestamp) -> (bool, Duration) {
    let age = created.map_or(Duration::ZERO, |at| duration::since(at, now));
    if age < PATIENCE { (false, PATIENCE.saturating_sub(age) + Duration::from_millis(50)) } else { (true, EVERY) }
}

/// A pod on a node whose containers wait, in the ordinary words.
fn in_preparation(pod: &PodView) -> bool {
    let ordinary = ["ContainerCreating", "PodInitializing"];
    let mut waiting = [&pod.init, &pod.main].into_iter().flatten().filter_map(|container| container.waiting.as_ref());
    let started =
        [&pod.init, &pod.main].into_iter().flatten().any(|c| c.running_since.is_some() || c.terminated.is_some());
    pod.phase == "Pending"
        && pod.node.is_some()
        && !pod.deleting
        && pod.words.is_none()
        && !started
        && waiting.all(|words| ordinary.contains(&words.reason.as_str()))
}

/// A Job that goes on and has no pod. Those of items are not looked at while some of them run.
fn lonely(job: &JobView, pods: &[Arc<PodView>]) -> bool {
    let over = job.complete || job.failed.is_some() || job.deleting;
    let runs = job.items.as_ref().is_some_and(|items| items.ready > 0);
    !over && !runs && !pods.iter().any(|pod| pod.owner.as_ref() == Some(&job.uid))
}

fn keep_newest(found: &mut HashMap<String, (Option<Timestamp>, Words)>, events: Vec<Event>) {
    for event in events {
        // Of a Job only why it gets no pod; `Error: ErrImagePull` is the short form of what the event beside it, and soon the container's state,
        // say in full.
        let (reason, message) = (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        let is_job = event.involved_object.kind.as_deref() == Some("Job");
        if (is_job && reason != "FailedCreate") || message.is_empty() || message.starts_with("Error: ") {
            continue;
        }
        let at = [event.last_timestamp.map(|t| t.0), event.event_time.map(|t| t.0)].into_iter().flatten().max();
        let Some(uid) = event.involved_object.uid else { continue };
        if found.get(&uid).is_none_or(|(kept, _)| *kept <= at) {
            found.insert(uid, (at, Words { reason, message }));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use millrace_core::run::{ContainerView, JobItems};

    use super::*;

    #[test]
    fn a_job_with_a_pod_of_its_own_needs_no_words() {
        let job = JobView { uid: "j".into(), ..JobView::default() };
        let pod = |owner: &str| Arc::new(PodView { owner: Some(owner.into()), ..PodView::default() });
        assert!(lonely(&job, &[]));
        assert!(lonely(&job, &[pod("another")]));
        assert!(!lonely(&job, &[pod("j")]));
        assert!(!lonely(&JobView { complete: true, ..job.clone() }, &[]));
        let items = |ready| Some(JobItems { ready, ..JobItems::default() });
        assert!(lonely(&JobView { items: items(0), ..job.clone() }, &[]));
        assert!(!lonely(&JobView { items: items(1), ..job }, &[]));
    }

    #[test]
    fn a_pod_is_in_preparation_while_nobody_says_more() {
        let creating = ContainerView {
            waiting: Some(Words { reason: "ContainerCreating".into(), message: String::new() }),
            ..ContainerView::default()
        };
        let pod =
            PodView { phase: "Pending".into(), node: Some("n".into()), main: Some(creating), ..PodView::default() };
        assert!(in_preparation(&pod));
        assert!(!in_preparation(&PodView { node: None, ..pod.clone() }));
        assert!(!in_preparation(&PodView { words: Some(Words::default()), ..pod.clone() }));
        let pulling = Words { reason: "ErrImagePull".into(), message: String::new() };
        let main = Some(ContainerView { waiting: Some(pulling), ..ContainerView::default() });
        assert!(!in_preparation(&PodView { main, ..pod }));
    }

    #[test]
    fn the_newest_words_of_each_are_told() {
        let event = |kind: &str, uid: &str, time: &str, reason: &str, message: &str| {
            let object = json!({ "kind": kind, "uid": uid });
            let json = json!({ "metadata": {}, "involvedObject": object, "lastTimestamp": time, "reason": reason, "message": message });
            serde_json::from_value::<Event>(json).unwrap()
        };
        let events = vec![
            event("Job", "j", "2026-01-01T00:00:05Z", "FailedCreate", "exceeded quota"),
            event("Job", "j", "2026-01-01T00:00:01Z", "FailedCreate", "older"),
            event("Job", "j", "2026-01-01T00:00:09Z", "BackoffLimitExceeded", "is over"),
            event("Pod", "p", "2026-01-01T00:00:05Z", "Failed", "Failed to pull image \"nowhere/none:1\""),
            event("Pod", "p", "2026-01-01T00:00:05Z", "Failed", "Error: ErrImagePull"),
        ];
        let mut found = HashMap::new();
        keep_newest(&mut found, events);
        assert_eq!(found.len(), 2);
        assert_eq!(found["j"].1.message, "exceeded quota");
        assert_eq!(found["p"].1.message, "Failed to pull image \"nowhere/none:1\"");
    }
}
