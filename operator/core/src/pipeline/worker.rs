//! What works for a pipeline beside its runs: a Job of one small pod of Millrace's own image, that knows nobody.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{API_VERSION, MLPipeline};
use crate::config::Config;
use crate::pod::Claims;
use crate::{names, pod};

/// A Job whose pods fail over and over is made again after so long.
const AGAIN_SECONDS: i32 = 300;

/// The pipeline as the controller of what is made for it.
pub(super) fn owner(pipeline: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "MLPipeline".to_owned(),
        name: pipeline.name.clone().unwrap_or_default(),
        uid: pipeline.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// The Job. `work` is in a label: what it was made for. `failures` of its pods may fail, those of lost nodes among them. `claims` says who may mount
/// what it mounts.
pub(super) fn job(
    pipeline: &MLPipeline,
    name: String,
    work: &str,
    failures: i32,
    mut pod: PodSpec,
    claims: &Claims,
) -> Job {
    let owner = owner(&pipeline.metadata);
    let labels = BTreeMap::from([
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
        (names::PIPELINE_LABEL.to_owned(), names::label_value(&owner.name)),
        (names::PIPELINE_UID_LABEL.to_owned(), owner.uid.clone()),
        (names::TRIGGER_LABEL.to_owned(), work.to_owned()),
    ]);
    let mut of_pod = ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() };
    pod::stay_together(&mut of_pod, &mut pod, claims);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pipeline.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(failures),
            ttl_seconds_after_finished: Some(AGAIN_SECONDS),
            template: PodTemplateSpec { metadata: Some(of_pod), spec: Some(pod) },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// Its pod, with this container.
pub(super) fn pod(main: Container, config: &Config) -> PodSpec {
    PodSpec {
        image_pull_secrets: config.pull_secrets(),
        restart_policy: Some("Never".to_owned()),
        containers: vec![main],
        ..pod::base()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::Access;

    #[test]
    fn a_pod_beside_the_runs_goes_where_their_claim_is_in_use_and_keeps_its_name() {
        let spec = json!({ "stages": { "s": { "container": { "image": "i", "command": ["c"] } } } });
        let pipeline = MLPipeline::new("p", serde_json::from_value(spec).unwrap());
        let volume = json!({ "name": "millrace-store", "persistentVolumeClaim": { "claimName": "artifacts" } });
        let made = |access: Access| {
            let pod = serde_json::from_value(json!({ "containers": [], "volumes": [volume] })).unwrap();
            json!(job(&pipeline, "p-look".into(), "lake", 3, pod, &Claims::from([("artifacts".to_owned(), access)])))
        };
        let (bound, free) = (made(Access::OneNode), made(Access::Shared));
        assert_eq!(bound["metadata"], free["metadata"]);
        let template = &bound["spec"]["template"];
        assert_eq!(template["metadata"]["labels"][names::TRIGGER_LABEL], "lake");
        assert_eq!(template["metadata"]["labels"]["claim.millrace.dev/artifacts"], "mounted");
        let near = "/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/topologyKey";
        assert_eq!(template.pointer(near), Some(&json!("kubernetes.io/hostname")));
        assert!(free["spec"]["template"]["spec"].get("affinity").is_none());
    }
}
