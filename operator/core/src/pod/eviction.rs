//! What is told to those who take nodes out of a cluster: whether a pod may be moved to another node. Whatever a PodTemplate of the catalog says
//! of it counts: the platform's admins know their nodes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodTemplateSpec, Volume};

use super::OWN_VOLUME;

/// Of cluster-autoscaler: with `false` the pod's node stays until the pod has ended.
const SAFE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Of cluster-autoscaler: volumes on the node's disk that do not keep the node. Any other one does.
const SAFE_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Of Karpenter: with `true` it leaves the pod's node alone.
const KEEP: &str = "karpenter.sh/do-not-disrupt";

/// For a pod whose work would be lost: its node stays until it has ended.
pub fn keeps_its_node(template: &mut PodTemplateSpec) {
    let annotations = annotations(template);
    // With one of them the admins have decided.
    if !annotations.contains_key(SAFE) && !annotations.contains_key(KEEP) {
        annotations.extend([(SAFE, "false"), (KEEP, "true")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

/// For a pod that another takes the place of: what Millrace has on the node's disk can be made again.
pub fn leaves_its_node(template: &mut PodTemplateSpec) {
    let volumes = template.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let own: BTreeSet<String> = volumes.filter(|volume| is_local(volume)).map(|volume| volume.name.clone()).collect();
    if own.is_empty() {
        return;
    }
    let named = annotations(template).entry(SAFE_VOLUMES.to_owned()).or_default();
    let all: BTreeSet<String> =
        named.split(',').filter(|name| !name.is_empty()).map(str::to_owned).chain(own).collect();
    *named = all.into_iter().collect::<Vec<_>>().join(",");
}

/// A volume of Millrace's on the disk of the node.
fn is_local(volume: &Volume) -> bool {
    let on_disk = volume.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() != Some("Memory"));
    on_disk && volume.name.starts_with(OWN_VOLUME)
}

fn annotations(template: &mut PodTemplateSpec) -> &mut BTreeMap<String, String> {
    template.metadata.get_or_insert_default().annotations.get_or_insert_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn changed(template: Value, change: fn(&mut PodTemplateSpec)) -> Value {
        let mut template: PodTemplateSpec = serde_json::from_value(template).unwrap();
        change(&mut template);
        serde_json::to_value(template).unwrap()["metadata"]["annotations"].take()
    }

    #[test]
    fn a_pod_keeps_its_node_unless_the_platforms_admins_say_otherwise() {
        let both = json!({ SAFE: "false", KEEP: "true", "net": "ib" });
        assert_eq!(changed(json!({ "metadata": { "annotations": { "net": "ib" } } }), keeps_its_node), both);
        for said in [json!({ SAFE: "true" }), json!({ KEEP: "false" })] {
            assert_eq!(changed(json!({ "metadata": { "annotations": said } }), keeps_its_node), said);
        }
    }

    #[test]
    fn what_can_be_made_again_keeps_no_node() {
        let volume = |name: &str, medium: Option<&str>| json!({ "name": name, "emptyDir": { "medium": medium } });
        let spec = |volumes: Value| json!({ "containers": [], "volumes": volumes });
        // A sidecar of an admin's, which nobody here knows, and memory, which keeps nothing anyway.
        let volumes =
            json!([volume("millrace-model", None), volume("cache", None), volume("millrace-shm", Some("Memory"))]);
        let found = changed(json!({ "spec": spec(volumes.clone()) }), leaves_its_node);
        assert_eq!(found, json!({ SAFE_VOLUMES: "millrace-model" }));
        let said = json!({ "annotations": { SAFE_VOLUMES: "cache" } });
        let found = changed(json!({ "metadata": said, "spec": spec(volumes) }), leaves_its_node);
        assert_eq!(found, json!({ SAFE_VOLUMES: "cache,millrace-model" }));
        assert_eq!(changed(json!({ "spec": spec(json!([volume("cache", None)])) }), leaves_its_node), Value::Null);
    }
}
