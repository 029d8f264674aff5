//! What of the store a stage's pod sees, and how the agent gets into it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container as PodContainer, EmptyDirVolumeSource, LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSpec,
    ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use millrace_contract::{AGENT_COPY_DIR, INPUTS_DIR, STAGE_DIR};

use super::inputs::Mounted;
use super::pass::Pass;
use crate::config::Config;
use crate::{names, pod};

const STORE: &str = "millrace-store";
const BIN: &str = "millrace-bin";

/// Where the init container brings the agent.
pub(super) fn agent_path() -> String {
    format!("{AGENT_COPY_DIR}/millrace-agent")
}

/// The folder of a stage, below its claim's root. A stage that is begun again after it was tried has another one: what was complete before
/// is not to be found for its own. No name of a stage has a dot.
pub(super) fn stage_folder(pass: &Pass<'_>, stage: &str, retries: u32) -> String {
    let run = names::run_folder(pass.run_name(), pass.run_uid());
    if retries == 0 { format!("{run}/{stage}") } else { format!("{run}/{stage}.{retries}") }
}

/// The stage's own folder: of the store, or one that ends with the pod.
pub(super) fn own(pass: &Pass<'_>, stage: &str, retries: u32, spec: &mut PodSpec, main: &mut PodContainer) {
    let mut mount = VolumeMount { name: STORE.to_owned(), mount_path: STAGE_DIR.to_owned(), ..VolumeMount::default() };
    let volume = match &pass.frozen.store {
        Some(store) => {
            // By subPath: a stage's program reaches nobody else's artifacts.
            mount.sub_path = Some(stage_folder(pass, stage, retries));
            claim(STORE, &store.pvc.claim_name)
        }
        None => {
            Volume { name: STORE.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
        }
    };
    spec.volumes.get_or_insert_default().push(volume);
    main.volume_mounts.get_or_insert_default().push(mount);
}

/// Every input, read-only. A claim other than the store's gets a volume of its own, once.
pub(super) fn inputs(inputs: &BTreeMap<String, Mounted>, spec: &mut PodSpec, main: &mut PodContainer) {
    for (name, input) in inputs {
        main.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: of_claim(spec, &input.claim),
            mount_path: format!("{INPUTS_DIR}/{name}"),
            sub_path: Some(input.path.clone()),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

/// The pod's volume of a claim, which it gets if it has none.
pub(super) fn of_claim(spec: &mut PodSpec, wanted: &str) -> String {
    let volumes = spec.volumes.get_or_insert_default();
    let ours = |volume: &&Volume| {
        volume.name.starts_with(pod::OWN_VOLUME)
            && volume.persistent_volume_claim.as_ref().is_some_and(|found| found.claim_name == wanted)
    };
    if let Some(found) = volumes.iter().find(ours) {
        return found.name.clone();
    }
    let claims = volumes.iter().filter(|volume| volume.persistent_volume_claim.is_some()).count();
    let name = format!("millrace-claim-{claims}");
    volumes.push(claim(&name, wanted));
    name
}

/// The init container that copies the agent, for images that do not carry it.
pub(super) fn agent(config: &Config, spec: &mut PodSpec, main: &mut PodContainer) {
    let mount = VolumeMount { name: BIN.to_owned(), mount_path: AGENT_COPY_DIR.to_owned(), ..VolumeMount::default() };
    spec.volumes.get_or_insert_default().push(Volume {
        name: BIN.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    let quantities = |cpu: Option<&str>| {
        let cpu = cpu.map(|cpu| ("cpu".to_owned(), Quantity(cpu.to_owned())));
        Some(cpu.into_iter().chain([("memory".to_owned(), Quantity("32Mi".to_owned()))]).collect())
    };
    spec.init_containers.get_or_insert_default().push(PodContainer {
        name: pod::AGENT_INIT.to_owned(),
        image: Some(config.agent_image.clone()),
        image_pull_policy: config.pull_policy_of(&config.agent_image),
        command: Some(["/millrace-agent", "copy", AGENT_COPY_DIR].map(str::to_owned).to_vec()),
        // No CPU limit: a copy that is throttled delays every stage.
        resources: Some(ResourceRequirements {
            requests: quantities(Some("10m")),
            limits: quantities(None),
            ..ResourceRequirements::default()
        }),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![mount.clone()]),
        ..PodContainer::default()
    });
    main.volume_mounts.get_or_insert_default().push(VolumeMount { read_only: Some(true), ..mount });
}

/// The credentials for Millrace's own images.
pub(super) fn pull_secrets(config: &Config, spec: &mut PodSpec) {
    for name in &config.image_pull_secrets {
        let secrets = spec.image_pull_secrets.get_or_insert_default();
        if !secrets.iter().any(|secret| secret.name == *name) {
            secrets.push(LocalObjectReference { name: name.clone() });
        }
    }
}

fn claim(volume: &str, claim: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            ..PersistentVolumeClaimVolumeSource::default()
        }),
        ..Volume::default()
    }
}
