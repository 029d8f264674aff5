//! The Job that looks for new data: one small pod that waits.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec,
    ResourceRequirements, SecretEnvSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use millrace_contract::{LOOK_DIR, LookKnown, LookS3, LookTask};

use crate::api::{API_VERSION, DataTrigger, DataTriggerStatus, MLPipeline, S3Access};
use crate::config::Config;
use crate::{duration, names, pod};

const PROGRAM: &str = "/usr/local/bin/millrace-data";
const DATA: &str = "millrace-data";
/// Between two looks, unless something is said.
const POLL_SECONDS: u64 = 300;
/// A Job whose pods fail over and over is made again after so long.
const AGAIN_SECONDS: i32 = 300;
/// Pods of one Job that may fail, those of lost nodes among them.
const FAILURES: i32 = 6;

/// The Job that is told what the status knows. Told anything else it has another name.
pub(super) fn build(
    pipeline: &MLPipeline,
    name: &str,
    trigger: &DataTrigger,
    status: &DataTriggerStatus,
    config: &Config,
) -> Job {
    let of = &pipeline.metadata;
    let (owner, uid) = (of.name.clone().unwrap_or_default(), of.uid.clone().unwrap_or_default());
    let spec = pod_spec(trigger, &task(trigger, status), config);
    // With the number of reports: what is known may be what was known before.
    let key = format!("{uid}/{name}/{}/{}", status.reports, serde_json::to_string(&spec).unwrap_or_default());
    let labels = BTreeMap::from([
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
        (names::PIPELINE_LABEL.to_owned(), names::label_value(&owner)),
        (names::PIPELINE_UID_LABEL.to_owned(), uid.clone()),
        (names::TRIGGER_LABEL.to_owned(), name.to_owned()),
    ]);
    Job {
        metadata: ObjectMeta {
            name: Some(names::look(&owner, &key)),
            namespace: of.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "MLPipeline".to_owned(),
                name: owner,
                uid,
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(FAILURES),
            ttl_seconds_after_finished: Some(AGAIN_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(spec),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

fn task(trigger: &DataTrigger, status: &DataTriggerStatus) -> LookTask {
    let seconds = |text: Option<&String>| text.and_then(|text| duration::parse(text)).map(|time| time.as_secs());
    // What is there at first starts nothing, so it may be known at once.
    let counts = status.observed_time.is_some() || trigger.initial;
    let access = |s3: &S3Access| {
        let S3Access { endpoint, region, allow_http, anonymous } = s3.clone();
        LookS3 { endpoint, region, allow_http, anonymous }
    };
    let error = status.error.as_ref().map(|error| error.reason.clone());
    let known = LookKnown { version: status.version.clone(), error };
    let poll = seconds(trigger.poll.as_ref()).unwrap_or(POLL_SECONDS);
    // After a fault it looks at once: somebody may have mended what the pod is given.
    let looked = status.observed_time.as_ref().filter(|_| status.error.is_none());
    LookTask {
        uri: trigger.uri.clone(),
        poll,
        settle: seconds(trigger.settle.as_ref()).filter(|_| counts).unwrap_or_default(),
        s3: trigger.s3.as_ref().map(access),
        known: (status.reports > 0).then_some(known),
        after: looked.map(|looked| looked.0.as_second().saturating_add(i64::try_from(poll).unwrap_or(i64::MAX))),
    }
}

fn pod_spec(trigger: &DataTrigger, task: &LookTask, config: &Config) -> PodSpec {
    let mut spec = pod::base();
    let params = pod::escape(&serde_json::to_string(task).unwrap_or_default());
    let quantity = |amounts: &[(&str, &str)]| {
        Some(amounts.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect())
    };
    let mut main = Container {
        name: pod::MAIN.to_owned(),
        image: Some(config.data_image.clone()),
        image_pull_policy: config.pull_policy_of(&config.data_image),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(["look", "--params"].map(str::to_owned).into_iter().chain([params]).collect()),
        env_from: trigger.secret_ref.as_ref().map(|secret| {
            vec![EnvFromSource {
                secret_ref: Some(SecretEnvSource { name: secret.name.clone(), optional: None }),
                ..EnvFromSource::default()
            }]
        }),
        resources: Some(ResourceRequirements {
            requests: quantity(&[("cpu", "5m"), ("memory", "32Mi")]),
            limits: quantity(&[("memory", "128Mi")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(pod::container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    if let Some((claim, _)) = claim_of(&trigger.uri) {
        // Read-only in the container alone: to a volume that is read-only the kubelet gives no group, and a new one belongs to root.
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
        spec.volumes =
            Some(vec![Volume { name: DATA.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }]);
        main.volume_mounts = Some(vec![VolumeMount {
            name: DATA.to_owned(),
            mount_path: LOOK_DIR.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]);
    }
    let secrets = config.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    spec.image_pull_secrets = Some(secrets.collect()).filter(|secrets: &Vec<_>| !secrets.is_empty());
    spec.restart_policy = Some("Never".to_owned());
    // It holds nothing that is to be put in order.
    spec.termination_grace_period_seconds = Some(1);
    spec.containers = vec![main];
    spec
}

/// Claim and path of a `pvc://` address.
pub(in crate::pipeline) fn claim_of(uri: &str) -> Option<(&str, &str)> {
    names::claim_and_path(uri.strip_suffix('/').unwrap_or(uri))
}
