//! What the Job controller says of a Job that gets no pod (quota, Pod Security): it says so in events only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use millrace_core::run::{JobView, PodView, Words};
use tokio::time::Instant;

use crate::write::chain;

/// A pod comes within a second; a Job that has none after this long is looked into.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events of one Job are read once in this time.
const EVERY: Duration = Duration::from_secs(15);
/// Events that are read of one Job.
const EVENTS: u32 = 20;

/// What was read last of each Job, by its uid.
#[derive(Default)]
pub struct Warnings(Mutex<HashMap<String, (Instant, Option<Words>)>>);

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
            let age =
                job.created.map_or(Duration::ZERO, |at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
            let wait = if age < PATIENCE { PATIENCE.saturating_sub(age) + Duration::from_millis(50) } else { EVERY };
            look_again = Some(look_again.map_or(wait, |w: Duration| w.min(wait)));
            if age >= PATIENCE
                && let Some(words) = self.words(client, namespace, &job.uid).await
            {
                found.insert(job.name.clone(), words);
            }
        }
        (found, look_again)
    }

    async fn words(&self, client: &Client, namespace: &str, uid: &str) -> Option<Words> {
        {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, words)) = kept.get(uid).filter(|(read, _)| read.elapsed() < EVERY) {
                return words.clone();
            }
        }
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        let fields = format!("involvedObject.uid={uid},reason=FailedCreate");
        let words = match api.list(&ListParams::default().fields(&fields).limit(EVENTS)).await {
            Ok(list) => newest(list.items),
            Err(error) => {
                tracing::warn!(namespace, job_uid = uid, error = %chain(&error), "failed to read a Job's events");
                None
            }
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (read, _)| read.elapsed() < EVERY);
        kept.insert(uid.to_owned(), (Instant::now(), words.clone()));
        words
    }
}

/// A Job that goes on and has no pod.
fn lonely(job: &JobView, pods: &[Arc<PodView>]) -> bool {
    let over = job.complete || job.failed.is_some() || job.deleting;
    !over && !pods.iter().any(|pod| pod.owner.as_ref() == Some(&job.uid))
}

fn newest(events: Vec<Event>) -> Option<Words> {
    let at = |e: &Event| {
        let times = [e.last_timestamp.as_ref().map(|t| t.0), e.event_time.as_ref().map(|t| t.0)];
        times.into_iter().flatten().max()
    };
    let event = events.into_iter().max_by_key(at)?;
    Some(Words { reason: event.reason.unwrap_or_default(), message: event.message.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_with_a_pod_of_its_own_needs_no_words() {
        let job = JobView { uid: "j".into(), ..JobView::default() };
        let pod = |owner: &str| Arc::new(PodView { owner: Some(owner.into()), ..PodView::default() });
        assert!(lonely(&job, &[]));
        assert!(lonely(&job, &[pod("another")]));
        assert!(!lonely(&job, &[pod("j")]));
        assert!(!lonely(&JobView { complete: true, ..job }, &[]));
    }

    #[test]
    fn the_newest_words_are_told() {
        let event = |time: &str, message: &str| {
            let json = json!({ "metadata": {}, "involvedObject": {}, "lastTimestamp": time, "reason": "FailedCreate", "message": message });
            serde_json::from_value::<Event>(json).unwrap()
        };
        let events = vec![event("2026-01-01T00:00:05Z", "exceeded quota"), event("2026-01-01T00:00:01Z", "older")];
        assert_eq!(newest(events).unwrap().message, "exceeded quota");
        assert_eq!(newest(Vec::new()), None);
    }
}
