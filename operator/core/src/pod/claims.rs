//! Claims that one node may mount at a time (ReadWriteOnce). The scheduler does not bring their pods together: one that comes to another node waits
//! there until the volume is free. So each pod that mounts one carries a label with the claim's name, and goes where such pods are.
//!
//! Pods that have ended do not count, and the first one goes anywhere: no node is named, and none has to be read. Of ReadWriteOncePod the scheduler
//! itself sees to it that there is one pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, PersistentVolumeClaim, PodAffinity, PodAffinityTerm, PodSpec, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};

use super::OWN_VOLUME;
use crate::names;

/// What a node is told apart by.
const NODE: &str = "kubernetes.io/hostname";
/// The largest there is.
const WEIGHT: i32 = 100;

/// Who may mount a claim at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Pods on any nodes.
    Shared,
    /// Pods on one node.
    OneNode,
    /// One pod.
    OnePod,
}

/// Claims of a namespace by name. Of one that is missing here it is not known: it is not there yet, or may not be read.
pub type Claims = BTreeMap<String, Access>;

impl Access {
    /// As the volume has it that the claim is bound to, which may offer more than was asked for; until then as it was asked for.
    #[must_use]
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let bound = claim.status.as_ref().and_then(|status| status.access_modes.as_ref());
        let asked = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
        let modes = bound.filter(|modes| !modes.is_empty()).or(asked);
        let has = |wanted: &[&str]| modes.into_iter().flatten().any(|mode| wanted.contains(&mode.as_str()));
        if has(&["ReadWriteMany", "ReadOnlyMany"]) {
            Self::Shared
        } else if has(&["ReadWriteOncePod"]) {
            Self::OnePod
        } else if has(&["ReadWriteOnce"]) {
            Self::OneNode
        } else {
            Self::Shared
        }
    }
}

/// Brings a finished pod to the node where the claims that it mounts are in use.
///
/// The scheduler counts only pods that match all required terms of a pod at once. So there is one such term, for the first claim, which is the
/// store's where the pod has one; to the pods of the others it is drawn as far as they let it. To all of them where a person requires
/// pods to be near beside it, which would otherwise have to mount the claim too, and where it is not known who may mount a claim.
pub fn stay_together(metadata: &mut ObjectMeta, spec: &mut PodSpec, claims: &Claims) {
    let near: Vec<(String, Option<Access>)> = mounted(spec)
        .into_iter()
        .map(|claim| (claim.to_owned(), claims.get(claim).copied()))
        .filter(|(_, access)| !matches!(access, Some(Access::Shared | Access::OnePod)))
        .collect();
    if near.is_empty() {
        return;
    }
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(near.iter().map(|(claim, _)| label(claim)));
    let affinity = spec.affinity.get_or_insert_with(Affinity::default).pod_affinity.get_or_insert_default();
    let free = !requires(affinity);
    let first = near.iter().position(|(_, access)| free && *access == Some(Access::OneNode));
    for (at, (claim, _)) in near.iter().enumerate() {
        if first == Some(at) {
            affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(beside(claim));
        } else {
            let drawn = WeightedPodAffinityTerm { weight: WEIGHT, pod_affinity_term: beside(claim) };
            affinity.preferred_during_scheduling_ignored_during_execution.get_or_insert_default().push(drawn);
        }
    }
}

/// Says of a pod which claims it mounts, for those that go where it is.
pub fn name_claims(metadata: &mut ObjectMeta, spec: &PodSpec) {
    let claims = mounted(spec);
    if !claims.is_empty() {
        metadata.labels.get_or_insert_default().extend(claims.into_iter().map(label));
    }
}

fn label(claim: &str) -> (String, String) {
    (names::claim_label(claim), "mounted".to_owned())
}

/// A person wants pods near that may know nothing of the claim.
pub(crate) fn requires(affinity: &PodAffinity) -> bool {
    affinity.required_during_scheduling_ignored_during_execution.as_ref().is_some_and(|terms| !terms.is_empty())
}

/// The claims of a pod, each once: those that Millrace mounts first, in the order in which it does, the store's before others; then a person's.
fn mounted(spec: &PodSpec) -> Vec<&str> {
    let volumes = || spec.volumes.iter().flatten();
    let own = |volume: &&Volume| volume.name.starts_with(OWN_VOLUME);
    let all = volumes().filter(own).chain(volumes().filter(|volume| !own(volume)));
    let mut found: Vec<&str> = Vec::new();
    for claim in all.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
        if !found.contains(&claim.claim_name.as_str()) {
            found.push(&claim.claim_name);
        }
    }
    found
}

/// On a node where a pod mounts the claim.
fn beside(claim: &str) -> PodAffinityTerm {
    let there =
        LabelSelectorRequirement { key: names::claim_label(claim), operator: "Exists".to_owned(), values: None };
    PodAffinityTerm {
        label_selector: Some(LabelSelector { match_expressions: Some(vec![there]), ..LabelSelector::default() }),
        topology_key: NODE.to_owned(),
        ..PodAffinityTerm::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn access(spec: &[&str], status: &[&str]) -> Access {
        let claim = json!({ "spec": { "accessModes": spec }, "status": { "accessModes": status } });
        Access::of(&serde_json::from_value(claim).unwrap())
    }

    /// A pod with these volumes (name and claim) and this affinity, once it is placed.
    fn placed(volumes: &[(&str, &str)], affinity: &Value, claims: &[(&str, Access)]) -> Value {
        let volumes: Vec<Value> = volumes
            .iter()
            .map(|(name, claim)| json!({ "name": name, "persistentVolumeClaim": { "claimName": claim } }))
            .collect();
        let spec = json!({ "containers": [], "volumes": volumes, "affinity": affinity });
        let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
        let mut metadata = ObjectMeta::default();
        let claims = claims.iter().map(|(name, access)| ((*name).to_owned(), *access)).collect();
        stay_together(&mut metadata, &mut spec, &claims);
        json!({ "labels": metadata.labels, "affinity": spec.affinity })
    }

    fn near(claim: &str) -> Value {
        let there = json!({ "key": format!("claim.millrace.dev/{claim}"), "operator": "Exists" });
        json!({ "labelSelector": { "matchExpressions": [there] }, "topologyKey": "kubernetes.io/hostname" })
    }

    const REQUIRED: &str = "/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution";

    #[test]
    fn a_claim_that_several_nodes_may_mount_is_shared_whatever_else_it_offers() {
        for (spec, status, expected) in [
            (&["ReadWriteMany"][..], &[][..], Access::Shared),
            (&["ReadWriteOnce", "ReadWriteMany"], &[], Access::Shared),
            (&["ReadOnlyMany"], &[], Access::Shared),
            (&["ReadWriteOnce"], &[], Access::OneNode),
            (&["ReadWriteOnce"], &["ReadWriteOnce"], Access::OneNode),
            // The volume that it got can do more than was asked for.
            (&["ReadWriteOnce"], &["ReadWriteOnce", "ReadWriteMany"], Access::Shared),
            (&["ReadWriteOncePod"], &[], Access::OnePod),
            (&[], &[], Access::Shared),
            (&["SomethingNew"], &[], Access::Shared),
        ] {
            assert_eq!(access(spec, status), expected, "{spec:?} {status:?}");
        }
        assert_eq!(Access::of(&PersistentVolumeClaim::default()), Access::Shared);
    }

    #[test]
    fn a_pod_goes_where_its_claim_is_in_use_and_is_found_there() {
        let pod = placed(&[("millrace-store", "artifacts")], &Value::Null, &[("artifacts", Access::OneNode)]);
        assert_eq!(
            pod["labels"],
            json!({ "claim.millrace.dev/artifacts": "mounted" }),
            "else the first one waits for ever"
        );
        assert_eq!(pod.pointer(REQUIRED), Some(&json!([near("artifacts")])));
        assert_eq!(pod.pointer(PREFERRED), None);
    }

    #[test]
    fn a_claim_that_is_shared_or_of_one_pod_and_a_pod_without_one_stay_as_they_are() {
        let untouched = json!({ "labels": null, "affinity": null });
        for access in [Access::Shared, Access::OnePod] {
            assert_eq!(placed(&[("millrace-store", "a")], &Value::Null, &[("a", access)]), untouched, "{access:?}");
        }
        assert_eq!(placed(&[], &Value::Null, &[("a", Access::OneNode)]), untouched);
    }

    #[test]
    fn where_nobody_knows_who_may_mount_a_claim_its_pods_are_drawn_together_and_not_bound() {
        let pod = placed(&[("millrace-store", "late")], &Value::Null, &[]);
        assert_eq!(pod["labels"], json!({ "claim.millrace.dev/late": "mounted" }));
        assert_eq!(pod.pointer(REQUIRED), None);
        assert_eq!(pod.pointer(PREFERRED), Some(&json!([{ "weight": 100, "podAffinityTerm": near("late") }])));
    }

    #[test]
    fn of_several_claims_the_stores_binds_and_the_others_draw() {
        // The scheduler asks for one pod that matches all required terms.
        let volumes = [("data", "cheap"), ("millrace-store", "store"), ("again", "store"), ("more", "b")];
        let claims = [("cheap", Access::OneNode), ("store", Access::OneNode), ("b", Access::Shared)];
        let pod = placed(&volumes, &Value::Null, &claims);
        assert_eq!(pod["labels"].as_object().unwrap().len(), 2, "{pod}");
        assert_eq!(pod.pointer(REQUIRED), Some(&json!([near("store")])));
        assert_eq!(pod.pointer(PREFERRED), Some(&json!([{ "weight": 100, "podAffinityTerm": near("cheap") }])));
        // A store that all nodes may mount binds nobody.
        let pod = placed(
            &volumes,
            &Value::Null,
            &[("cheap", Access::OneNode), ("store", Access::Shared), ("b", Access::Shared)],
        );
        assert_eq!(pod.pointer(REQUIRED), Some(&json!([near("cheap")])));
    }

    #[test]
    fn what_a_person_says_of_places_stays() {
        let node = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [] } });
        let pod = placed(&[("millrace-store", "a")], &node, &[("a", Access::OneNode)]);
        assert_eq!(pod["affinity"]["nodeAffinity"], node["nodeAffinity"]);
        assert_eq!(pod.pointer(REQUIRED), Some(&json!([near("a")])));
        // Pods that a person wants near need not mount the claim: then both terms would never hold.
        let term = json!({ "labelSelector": { "matchLabels": { "app": "feature-cache" } }, "topologyKey": "zone" });
        let own = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        let pod = placed(&[("millrace-store", "a")], &own, &[("a", Access::OneNode)]);
        assert_eq!(pod.pointer(REQUIRED), Some(&json!([term])));
        assert_eq!(pod.pointer(PREFERRED), Some(&json!([{ "weight": 100, "podAffinityTerm": near("a") }])));
    }

    #[test]
    fn a_long_name_of_a_claim_is_a_label_all_the_same_and_no_other_ones() {
        let (a, b) = (format!("{}.a", "x".repeat(200)), format!("{}.b", "x".repeat(200)));
        for name in [&a, &b] {
            let label = names::claim_label(name);
            assert!(label.strip_prefix("claim.millrace.dev/").unwrap().len() <= 63, "{label}");
        }
        assert_ne!(names::claim_label(&a), names::claim_label(&b));
        let mut metadata = ObjectMeta::default();
        let spec =
            json!({ "containers": [], "volumes": [{ "name": "m", "persistentVolumeClaim": { "claimName": a } }] });
        name_claims(&mut metadata, &serde_json::from_value(spec).unwrap());
        assert_eq!(metadata.labels.unwrap().into_keys().collect::<Vec<_>>(), [names::claim_label(&a)]);
    }
}
