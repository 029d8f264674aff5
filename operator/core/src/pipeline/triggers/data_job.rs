//! The Job that looks for new data: one small pod that waits.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaimVolumeSource, PodSpec, Volume, VolumeMount};
use millrace_contract::{LOOK_DIR, LookAccess, LookKnown, LookTask};

use crate::api::{DataTrigger, DataTriggerStatus, MLPipeline};
use crate::config::Config;
use crate::pipeline::worker;
use crate::pod::Claims;
use crate::{duration, names, pod, reach};

const PROGRAM: &str = "/usr/local/bin/millrace-data";
const DATA: &str = "millrace-data";
/// Between two looks, unless something is said.
const POLL_SECONDS: u64 = 300;
/// Pods of one Job that may fail, those of lost nodes among them.
const FAILURES: i32 = 6;

/// The Job that is told what the status knows. Told anything else it has another name.
pub(super) fn build(
    pipeline: &MLPipeline,
    name: &str,
    trigger: &DataTrigger,
    status: &DataTriggerStatus,
    config: &Config,
    claims: &Claims,
) -> Job {
    let spec = pod_spec(trigger, &task(trigger, status), config);
    let of = worker::owner(&pipeline.metadata);
    // With the number of reports: what is known may be what was known before.
    let key = format!("{}/{name}/{}/{}", of.uid, status.reports, serde_json::to_string(&spec).unwrap_or_default());
    worker::job(pipeline, names::look(&of.name, &key), name, FAILURES, spec, claims)
}

fn task(trigger: &DataTrigger, status: &DataTriggerStatus) -> LookTask {
    let seconds = |text: Option<&String>| text.and_then(|text| duration::parse(text)).map(|time| time.as_secs());
    // What is there at first starts nothing, so it may be known at once.
    let counts = status.observed_time.is_some() || trigger.initial;
    let access = trigger.access.clone().unwrap_or_default();
    let error = status.error.as_ref().map(|error| error.reason.clone());
    let known = LookKnown { version: status.version.clone(), error };
    let poll = seconds(trigger.poll.as_ref()).unwrap_or(POLL_SECONDS);
    // After a fault it looks at once: somebody may have mended what the pod is given.
    let looked = status.observed_time.as_ref().filter(|_| status.error.is_none());
    LookTask {
        uri: trigger.uri.clone(),
        poll,
        settle: seconds(trigger.settle.as_ref()).filter(|_| counts).unwrap_or_default(),
        access: LookAccess {
            endpoint: access.endpoint,
            region: access.region,
            account: access.account,
            anonymous: access.anonymous,
        },
        known: (status.reports > 0).then_some(known),
        after: looked.map(|looked| looked.0.as_second().saturating_add(i64::try_from(poll).unwrap_or(i64::MAX))),
    }
}

fn pod_spec(trigger: &DataTrigger, task: &LookTask, config: &Config) -> PodSpec {
    let params = pod::escape(&serde_json::to_string(task).unwrap_or_default());
    let mut main = Container {
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(["look", "--params"].map(str::to_owned).into_iter().chain([params]).collect()),
        env: trigger.access.as_ref().and_then(|access| reach::credentials(&trigger.uri, access.secret_ref.as_ref())),
        resources: Some(pod::small("5m", "32Mi", "128Mi")),
        ..pod::own_container(pod::MAIN, &config.data_image, config)
    };
    let mut volumes = None;
    if let Some((claim, _)) = reach::claim_of(&trigger.uri) {
        // Read-only in the container alone: to a volume that is read-only the kubelet gives no group, and a new one belongs to root.
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
        volumes =
            Some(vec![Volume { name: DATA.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() }]);
        main.volume_mounts = Some(vec![VolumeMount {
            name: DATA.to_owned(),
            mount_path: LOOK_DIR.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]);
    }
    PodSpec {
        volumes,
        // It holds nothing that is to be put in order.
        termination_grace_period_seconds: Some(1),
        ..worker::pod(main, config)
    }
}
