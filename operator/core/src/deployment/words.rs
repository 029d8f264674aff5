//! Why a revision is not ready, in the words of those who know: kubelet, scheduler, apiserver, the server itself.

use super::{DeploymentView, Observed};
use crate::clip::clip;
use crate::run::PodView;

/// A longer message loses its middle: this many bytes.
const LONGEST: usize = 1024;

/// Somebody's words about a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// It will not get well by waiting a little.
    pub failing: bool,
    /// It is on its way, and nothing is the matter.
    pub starting: bool,
    pub message: String,
}

/// What is said about a revision's pods; failures first.
pub(super) fn about(view: &DeploymentView, observed: &Observed) -> Option<Reason> {
    let refused = view.failure.as_ref().map(|words| Reason {
        failing: true,
        starting: false,
        message: cut(&format!("no pod can be made: {}: {}", words.reason, words.message)),
    });
    let mut pods: Vec<&PodView> = observed
        .pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| pod.stage == view.name && !pod.deleting && pod.phase != "Failed" && pod.phase != "Succeeded")
        .collect();
    // The same pod every time, so that a status does not swing between two.
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    let mut said: Vec<Reason> = pods.into_iter().filter_map(about_pod).collect();
    // What is the matter comes before what only takes its time.
    said.sort_by_key(|reason| (!reason.failing, reason.starting));
    refused.or_else(|| said.into_iter().next()).or_else(|| loads(view, observed))
}

/// Its pods run, and none of them can serve yet.
fn loads(view: &DeploymentView, observed: &Observed) -> Option<Reason> {
    let pods = observed.pods.iter().filter(|pod| pod.stage == view.name && !pod.deleting && view.ready == 0);
    let running = pods.filter_map(|pod| Some((pod.main.as_ref()?.running_since?, &pod.name)));
    let (since, name) = running.min()?;
    let message = format!(
        "the server of pod {name} runs since {since} and does not say that it can serve: kubectl logs {name} says how far"
    );
    Some(Reason { failing: false, starting: true, message: cut(&message) })
}

/// What the kubelet, the scheduler or the program say of one pod.
pub(crate) fn pod_words(pod: &PodView) -> Option<String> {
    about_pod(pod).map(|reason| reason.message)
}

fn about_pod(pod: &PodView) -> Option<Reason> {
    let name = &pod.name;
    if let Some(words) = &pod.unschedulable {
        return Some(Reason {
            failing: false,
            starting: false,
            message: cut(&format!("pod {name}: {}: {}", words.reason, words.message)),
        });
    }
    // A model that has to be fetched first: its server waits for that.
    let said = pod.init.as_ref().filter(|init| init.terminated.is_some() || init.waiting.is_some());
    if said.is_none()
        && let Some(since) = pod.init.as_ref().and_then(|init| init.running_since)
    {
        let message = format!("pod {name} fetches its model since {since}: kubectl logs {name} -c agent says how far");
        return Some(Reason { failing: false, starting: true, message });
    }
    let container = said.or(pod.main.as_ref())?;
    // Said while it runs again, too: until it is ready nothing shows that it is better this time.
    let ended = container.terminated.as_ref().map(|end| {
        let how = end.signal.map_or(format!("exit code {}", end.exit_code), |signal| format!("signal {signal}"));
        format!("{} ({how}): {}", end.reason, end.message.trim())
    });
    let waiting = container
        .waiting
        .as_ref()
        // Every pod goes through these two; they say nothing.
        .filter(|words| words.reason != "ContainerCreating" && words.reason != "PodInitializing")
        .map(|words| format!("{}: {}", words.reason, words.message.trim()));
    let parts: Vec<String> = [waiting, ended].into_iter().flatten().collect();
    if parts.is_empty() {
        // What the kubelet says in events while it prepares the pod: a volume that does not mount.
        let words = pod.words.as_ref().filter(|words| !words.reason.is_empty())?;
        return Some(Reason {
            failing: false,
            starting: false,
            message: cut(&format!("pod {name}: {}: {}", words.reason, words.message)),
        });
    }
    Some(Reason { failing: true, starting: false, message: cut(&format!("pod {name}: {}", parts.join("; "))) })
}

fn cut(text: &str) -> String {
    clip(text.trim_end_matches([' ', ':']), LONGEST)
}
