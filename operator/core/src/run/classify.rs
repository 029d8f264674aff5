//! Where an attempt stands, from its Job and its pod. The pod comes first: it tells a second before the Job does.

use k8s_openapi::jiff::Timestamp;

use super::ending::{self, Ending, Wanted};
use super::{JobView, Observed, PodView, Words};
use crate::api::JobRef;

/// What a pod on its way waits for in the ordinary course of things: not worth a write.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// The node is unreachable: nothing more will be heard of its pods.
const NODE_LOST: &str = "DeletionByTaintManager";

/// Reason of what ran on a node that is not heard of.
pub(super) const LOST: &str = "NodeLost";
/// The scheduler says of a claim that it is not found, and again that it is not.
const TWICE: &str = " not found. not found";

/// An attempt as it is seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen<'a> {
    pub job: Option<&'a JobView>,
    pub pod: Option<&'a PodView>,
    pub standing: Standing,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// Its Job was never seen: it has to be made, or made sure of.
    Unmade,
    /// No program runs yet, and why, in the words of whom it waits for, if they are known.
    Pending(Option<Words>),
    /// Its pod is on its way, and nothing holds it up.
    Starting,
    Running(Option<Timestamp>),
    /// Something ended, and who knows how has not been heard yet.
    Unclear,
    Ended(Ending),
}

/// Finds the Job and the pod of an attempt and says where they stand.
pub(super) fn look<'a>(wanted: Wanted<'_>, reference: &JobRef, observed: &'a Observed) -> Seen<'a> {
    let job = job_of(wanted.run_uid, reference, observed);
    let uid = reference.uid.as_deref().or(job.map(|job| job.uid.as_str()));
    let Some(uid) = uid else { return Seen { job, pod: None, standing: Standing::Unmade } };
    let pod = pod_of(wanted, uid, observed);
    let standing = match (job, pod) {
        (job, Some(pod)) => match (of_pod(wanted, pod), job) {
            (Standing::Ended(ending), job) => Standing::Ended(deadline(job).unwrap_or(ending)),
            // The pod's last word is on its way.
            (_, Some(JobView { failed: Some(_), .. })) => deadline(job).map_or(Standing::Unclear, Standing::Ended),
            (standing, _) => standing,
        },
        (Some(job), None) => of_job(job, observed),
        (None, None) => Standing::Ended(Ending::disrupted(
            "JobDeleted",
            format!("Job {} is gone, and its pod with it", reference.name),
        )),
    };
    Seen { job, pod, standing }
}

/// The run's own Job of this name, and of this uid once that is known.
pub(super) fn job_of<'a>(run_uid: &str, reference: &JobRef, observed: &'a Observed) -> Option<&'a JobView> {
    observed.jobs.iter().map(AsRef::as_ref).find(|job| {
        job.name == reference.name
            && job.owner.as_deref() == Some(run_uid)
            && reference.uid.as_ref().is_none_or(|uid| *uid == job.uid)
    })
}

/// The pod of a Job: one that has ended well, else the newest.
fn pod_of<'a>(wanted: Wanted<'_>, job_uid: &str, observed: &'a Observed) -> Option<&'a PodView> {
    let ours = observed.pods.iter().map(AsRef::as_ref).filter(|pod| {
        pod.owner.as_deref() == Some(job_uid) && pod.stage == wanted.stage && pod.attempt == wanted.attempt
    });
    ours.max_by_key(|pod| {
        let succeeded = matches!(of_pod(wanted, pod), Standing::Ended(Ending::Succeeded(_)));
        (succeeded, pod.created)
    })
}

/// The Job's own deadline is the last resort: it ended what nobody else did.
fn deadline(job: Option<&JobView>) -> Option<Ending> {
    let words = job?.failed.as_ref().filter(|words| words.reason == "DeadlineExceeded")?;
    Some(Ending::failed(&words.reason, &words.message))
}

fn of_job(job: &JobView, observed: &Observed) -> Standing {
    if let Some(ending) = deadline(Some(job)) {
        return Standing::Ended(ending);
    }
    if job.deleting {
        return Standing::Ended(Ending::disrupted("JobDeleted", format!("Job {} was deleted", job.name)));
    }
    if let Some(words) = &job.failed {
        let message =
            format!("the pod is gone and its report with it; the Job says {}: {}", words.reason, words.message);
        return Standing::Ended(Ending::disrupted("PodLost", message));
    }
    if job.complete {
        let message = "the pod is gone and its report with it; its Job is complete";
        return Standing::Ended(Ending::disrupted("PodLost", message));
    }
    Standing::Pending(observed.job_warnings.get(&job.name).cloned())
}

pub(super) fn of_pod(wanted: Wanted<'_>, pod: &PodView) -> Standing {
    let main = pod.main.as_ref();
    if let Some(end) = main.and_then(|main| main.terminated.as_ref()) {
        return Standing::Ended(ending::of(wanted, pod, end));
    }
    if pod.phase == "Failed" {
        return Standing::Ended(before_the_program(pod));
    }
    if let Some(words) = pod.disrupted.as_ref().filter(|words| pod.deleting && words.reason == NODE_LOST) {
        return Standing::Ended(Ending::disrupted(LOST, &words.message));
    }
    if pod.phase == "Unknown" {
        let node = pod.node.as_deref().unwrap_or("its node");
        return Standing::Ended(Ending::disrupted(LOST, format!("{node} is not heard of any more")));
    }
    if let Some(since) = main.and_then(|main| main.running_since) {
        return Standing::Running(Some(since));
    }
    waiting(pod).map_or(Standing::Starting, |words| Standing::Pending(Some(words)))
}

/// Its node is not heard of: the pod is there until somebody says that the node is gone.
pub(super) fn is_lost(pod: &PodView) -> bool {
    pod.phase == "Unknown" || pod.deleting && pod.disrupted.as_ref().is_some_and(|words| words.reason == NODE_LOST)
}

/// A program of the pod's runs, or may begin to.
#[must_use]
pub fn runs(pod: &PodView) -> bool {
    let lost = is_lost(pod);
    let over = matches!(pod.phase.as_str(), "Succeeded" | "Failed" | "Unknown");
    !(lost || over || pod.main.as_ref().is_some_and(|main| main.terminated.is_some()))
}

/// A pod that failed before its program ran.
fn before_the_program(pod: &PodView) -> Ending {
    if let Some(words) = &pod.disrupted {
        return Ending::disrupted(&words.reason, &words.message);
    }
    if let Some(end) = pod.init.as_ref().and_then(|init| init.terminated.as_ref()).filter(|end| end.exit_code != 0) {
        return Ending::failed("AgentNotDelivered", format!("container agent: {}: {}", end.reason, end.message));
    }
    // Refused by the kubelet (OutOfcpu, NodeAffinity …), evicted before it began, or its node is gone.
    match &pod.words {
        Some(words) if !words.reason.is_empty() => Ending::disrupted(&words.reason, &words.message),
        _ => Ending::disrupted("PodFailed", format!("pod {} failed before its program began", pod.name)),
    }
}

/// What a pod waits for, if it is out of the ordinary.
pub(crate) fn waiting(pod: &PodView) -> Option<Words> {
    let waits = |container: &Option<super::ContainerView>| {
        container.as_ref().and_then(|c| c.waiting.clone()).filter(|words| !ORDINARY.contains(&words.reason.as_str()))
    };
    pod.unschedulable
        .clone()
        .or_else(|| waits(&pod.init))
        .or_else(|| waits(&pod.main))
        .or_else(|| pod.words.clone())
        .filter(|words| !words.reason.is_empty())
        .map(|words| Words { message: words.message.replace(TWICE, " not found"), ..words })
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
