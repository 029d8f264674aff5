//! What is said in events only: by the Job controller of a Job that gets no pod (quota, Pod Security), by the kubelet of
//! a pod that it cannot prepare (a volume that does not mount), by an autoscaler of the cluster of a pod that no node takes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use millrace_core::duration;
use millrace_core::plan::sooner;
use millrace_core::run::{JobView, PodView, Words};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::write::chain;

/// A pod comes within a second and its containers within some; what takes longer than this is looked into.
const PATIENCE: Duration = Duration::from_secs(5);
/// An object that still waits is looked at again after this.
const EVERY: Duration = Duration::from_secs(15);
/// The same of pods that no node takes: many may wait for long.
const RARELY: Duration = Duration::from_mins(1);
/// While they are being read.
const SOON: Duration = Duration::from_secs(2);
/// What was read of a namespace answers for this long, or for as many times as long as the reading took.
const FRESH: Duration = Duration::from_secs(2);
const TIMES: u32 = 20;
/// How long a pass waits for the first answer.
const FIRST: Duration = Duration::from_secs(10);
/// Events of one answer, and answers of one reading.
const PAGE: u32 = 500;
const PAGES: usize = 100;

/// What the events of each namespace said last. The apiserver reads all events of a namespace to find those of one object, so they are read for
/// all objects that wait; only the first time a pass waits for it.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<HashMap<(String, Which), Read>>>);

#[derive(Default)]
struct Read {
    begun: bool,
    ended: Option<Instant>,
    took: Duration,
    words: HashMap<String, Words>,
    done: Arc<Notify>,
}

impl Read {
    fn ended_within(&self, time: Duration) -> bool {
        self.ended.is_some_and(|ended| ended.elapsed() < time)
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
            let (due, wait) = due(job.created, now, EVERY);
            let (words, more) =
                if due { self.words(client, namespace, &job.uid, Which::Preparing).await } else { (None, false) };
            look_again = sooner(look_again, Some(if more { SOON } else { wait }));
            found.extend(words.map(|words| (job.name.clone(), words)));
        }
        (found, look_again)
    }

    /// Gives each pod that is not prepared, and says nothing itself, the kubelet's words, and adds an autoscaler's to the scheduler's; and
    /// when to look again.
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
        for pod in pods.iter_mut().filter(|pod| (in_preparation(pod) || is_unplaced(pod)) && speaks(pod)) {
            let unplaced = is_unplaced(pod);
            let which = if unplaced { Which::Placing } else { Which::Preparing };
            let (due, wait) = due(pod.created, now, if unplaced { RARELY } else { EVERY });
            let (words, more) = if due { self.words(client, namespace, &pod.uid, which).await } else { (None, false) };
            look_again = sooner(look_again, Some(if more { SOON } else { wait }));
            if let Some(words) = words {
                *pod = Arc::new(if unplaced { with_autoscaler(pod, &words) } else { with_kubelet(pod, words) });
            }
        }
        look_again
    }

    /// What is known about an object, and whether more is on its way. The first answer is waited for: after a start what the status says would go
    /// and come back.
    async fn words(&self, client: &Client, namespace: &str, uid: &str, which: Which) -> (Option<Words>, bool) {
        let key = (namespace.to_owned(), which);
        let known = |read: &Read| (read.words.get(uid).cloned(), read.begun);
        let done: Arc<Notify>;
        let first = {
            let mut all = self.all();
            all.retain(|_, read| read.begun || read.ended_within(RARELY * 2));
            let read = all.entry(key.clone()).or_default();
            if !read.begun && !read.ended_within(FRESH.max(read.took * TIMES)) {
                read.begun = true;
                tokio::spawn(self.clone().read(client.clone(), key.clone()));
            }
            if read.ended.is_some() {
                return known(read);
            }
            done = Arc::clone(&read.done);
            done.notified()
        };
        let _ = tokio::time::timeout(FIRST, first).await;
        self.all().get(&key).map(known).unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(String, Which), Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self, client: Client, key: (String, Which)) {
        let began = Instant::now();
        let found = read_all(&client, &key.0, key.1).await;
        let mut all = self.all();
        let read = all.entry(key.clone()).or_default();
        (read.begun, read.took, read.ended) = (false, began.elapsed(), Some(Instant::now()));
        read.done.notify_waiters();
        match found {
            Ok(words) => read.words = words,
            // What was known stays.
            Err(error) => tracing::warn!(namespace = key.0, error = %chain(&error), "failed to read events"),
        }
    }
}

/// Which events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// The kubelet's of pods, and the Job controller's.
    Preparing,
    /// What cluster-autoscaler says of a pod that no node takes: a node comes, or why none does; and Karpenter of the one that it makes. The
    /// scheduler's are not asked for: there may be many, and the pod has its words.
    Placing,
}

impl Which {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Preparing => &["type=Warning"],
            Self::Placing => &["reason=TriggeredScaleUp", "reason=NotTriggerScaleUp", "reason=Nominated"],
        }
    }
}

/// The newest words about each object of a namespace, by its uid.
async fn read_all(client: &Client, namespace: &str, which: Which) -> Result<HashMap<String, Words>, kube::Error> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut found = HashMap::new();
    for fields in which.fields() {
        let mut page = ListParams::default().fields(fields).limit(PAGE);
        for _ in 0..PAGES {
            let listed = api.list(&page).await?;
            keep_newest(&mut found, listed.items);
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(found.into_iter().map(|(uid, (_, words))| (uid, words)).collect())
}

/// Whether its events are to be read now, and when to look again.
fn due(created: Option<Timestamp>, now: Timestamp, every: Duration) -> (bool, Duration) {
    let age = created.map_or(Duration::ZERO, |at| duration::since(at, now));
    if age < PATIENCE { (false, PATIENCE.saturating_sub(age) + Duration::from_millis(50)) } else { (true, every) }
}

/// A pod that no node takes.
fn is_unplaced(pod: &PodView) -> bool {
    pod.phase == "Pending" && pod.node.is_none() && !pod.deleting && pod.unschedulable.is_some()
}

fn with_kubelet(pod: &PodView, words: Words) -> PodView {
    PodView { words: Some(words), ..pod.clone() }
}

/// What the autoscaler says comes first: the scheduler's words may be long, and what is long is cut.
fn with_autoscaler(pod: &PodView, said: &Words) -> PodView {
    let unschedulable = pod.unschedulable.as_ref().map(|words| Words {
        message: format!("{}: {}; {}", said.reason, in_order(&said.message), words.message),
        ..words.clone()
    });
    PodView { unschedulable, ..pod.clone() }
}

/// What follows the colon, in one order: cluster-autoscaler gives its reasons in any, and no status is written for that.
fn in_order(message: &str) -> String {
    let Some((head, reasons)) = message.trim_end().split_once(": ") else { return message.trim_end().to_owned() };
    let mut reasons: Vec<&str> = reasons.split(", ").collect();
    reasons.sort_unstable();
    format!("{head}: {}", reasons.join(", "))
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
    fn what_an_autoscaler_does_for_a_pod_that_no_node_takes_is_told_before_why_none_does() {
        let words = Words { reason: "Unschedulable".into(), message: "0/1 nodes are available".into() };
        let pod = PodView { phase: "Pending".into(), unschedulable: Some(words), ..PodView::default() };
        assert!(is_unplaced(&pod) && !in_preparation(&pod));
        assert!(!is_unplaced(&PodView { node: Some("n".into()), ..pod.clone() }));
        assert!(!is_unplaced(&PodView { unschedulable: None, ..pod.clone() }));
        assert!(!is_unplaced(&PodView { deleting: true, ..pod.clone() }));
        let words = Words {
            reason: "TriggeredScaleUp".into(),
            message: "pod triggered scale-up: [{gpu 0->1 (max: 4)}]".into(),
        };
        let told = with_autoscaler(&pod, &words).unschedulable.unwrap();
        assert_eq!(told.reason, "Unschedulable", "the scheduler's, by which waiting is known");
        assert_eq!(
            told.message,
            "TriggeredScaleUp: pod triggered scale-up: [{gpu 0->1 (max: 4)}]; 0/1 nodes are available"
        );
    }

    #[test]
    fn reasons_in_another_order_are_no_news() {
        let said = "pod didn't trigger scale-up: 2 Insufficient nvidia.com/gpu, 1 max node group size reached";
        let again = "pod didn't trigger scale-up: 1 max node group size reached, 2 Insufficient nvidia.com/gpu";
        assert_eq!(in_order(said), again);
        assert_eq!(in_order(again), again);
        assert_eq!(in_order("max total nodes in cluster reached "), "max total nodes in cluster reached");
    }

    #[test]
    fn a_pod_without_a_node_is_looked_at_less_often() {
        let (made, now) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + Duration::from_secs(6));
        assert_eq!(due(Some(made), now, RARELY), (true, RARELY));
        let soon = Timestamp::UNIX_EPOCH + Duration::from_secs(4);
        assert_eq!(due(Some(made), soon, RARELY), (false, Duration::from_millis(1050)));
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
