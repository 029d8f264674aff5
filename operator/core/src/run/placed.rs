//! Pods whose claim is not everybody's: when the next one is made, and why one waits, in plain words before those of the cluster.

use std::time::Duration;

use super::pass::Pass;
use super::{PodView, Words, container};
use crate::api::StageStatus;
use crate::pipeline::FrozenContainer;
use crate::pipeline::claims::of_stage;
use crate::pod::{self, Access};

/// The scheduler's: no node where the pod could be has a pod that it has to be beside.
const NOT_NEAR: &str = "didn't match pod affinity rules";
/// The scheduler's: another pod has the claim.
const ONE_POD: &str = "ReadWriteOncePod access mode";
/// The attach controller's: another node has the volume.
const OTHER_NODE: &str = "Multi-Attach error";

/// A pod whose program has ended is gone within a second; with a sidecar that stops slowly it may take longer.
const LEAVES: Duration = Duration::from_secs(10);

/// How long at most the next pod is not made, because one of the run has ended and is still counted on its node. The scheduler would bind the next
/// one to that node; and one that may not run there it would look at again only minutes later, because it does not expect an end to help.
pub(super) fn leaving(pass: &Pass<'_>, stage: &FrozenContainer, status: &StageStatus) -> Option<Duration> {
    let ended = |pod: &PodView| pod.main.as_ref().is_some_and(|main| main.terminated.is_some());
    let leaves = pass.observed.pods.iter().any(|pod| pod.phase == "Running" && ended(pod));
    let mut bound =
        of_stage(pass.frozen, stage).filter(|claim| pass.observed.claims.get(*claim) == Some(&Access::OneNode));
    if leaves && bound.next().is_some() { pass.left(container::waits_since(status), LEAVES) } else { None }
}

/// What is said of a claim comes first: the cluster's words may be long, and what is long is cut.
pub(super) fn plainly(pass: &Pass<'_>, stage: &FrozenContainer, words: Words) -> Words {
    let Some(hint) = hint(pass, stage, &words.message).filter(|hint| !words.message.starts_with(hint)) else {
        return words;
    };
    Words { message: format!("{hint}: {}", words.message), ..words }
}

fn hint(pass: &Pass<'_>, stage: &FrozenContainer, message: &str) -> Option<String> {
    let with = |wanted: Access| {
        let claims = &pass.observed.claims;
        of_stage(pass.frozen, stage).find(move |claim| claims.get(*claim) == Some(&wanted))
    };
    if message.contains(NOT_NEAR) {
        let near = stage.container.settings.affinity.as_ref().and_then(|affinity| affinity.pod_affinity.as_ref());
        let claim = with(Access::OneNode).filter(|_| !near.is_some_and(pod::requires))?;
        return Some(format!(
            "the claim `{claim}` is in use on one node, and no other may mount it meanwhile (ReadWriteOnce): the pod waits for room \
             there, or until the claim is free"
        ));
    }
    if message.contains(ONE_POD) {
        let claim = with(Access::OnePod)?;
        return Some(format!(
            "another pod has the claim `{claim}`, and one at a time may mount it (ReadWriteOncePod): the pod waits until it is free"
        ));
    }
    message
        .contains(OTHER_NODE)
        .then(|| "a claim of the pod is in use on another node, and the pod waits until it is free there".to_owned())
}
