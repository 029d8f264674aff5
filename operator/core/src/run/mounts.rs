//! What of the store a stage's pod sees, and how the agent gets into it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container as PodContainer, EmptyDirVolumeSource, LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSpec,
    Volume, VolumeMount,
};
use millrace_contract::{AGENT_COPY_DIR, CLAIM_DIR, INPUTS_DIR, STAGE_DIR, TaskSource};

use super::inputs::Mounted;
use super::pass::Pass;
use crate::config::Config;
use crate::store::{self, Objects, Place};
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

/// The stage's own folder, if its store is one of objects.
pub(super) fn folder(pass: &Pass<'_>, stage: &str, retries: u32) -> Option<Objects> {
    store::objects(pass.frozen.store.as_ref()?, &stage_folder(pass, stage, retries))
}

/// As [`folder`], for the agent.
pub(super) fn told_folder(pass: &Pass<'_>, stage: &str, retries: u32) -> Option<TaskSource> {
    folder(pass, stage, retries).map(|objects| objects.source())
}

/// The stage's own folder: of the claim, or one that ends with the pod.
pub(super) fn own(pass: &Pass<'_>, stage: &str, retries: u32, spec: &mut PodSpec, main: &mut PodContainer) {
    let mut mount = VolumeMount { name: STORE.to_owned(), mount_path: STAGE_DIR.to_owned(), ..VolumeMount::default() };
    let volume = match pass.frozen.store.as_ref().and_then(store::claim) {
        Some(name) => {
            // By subPath: a stage's program reaches nobody else's artifacts.
            mount.sub_path = Some(stage_folder(pass, stage, retries));
            claim(STORE, name)
        }
        None => scratch(STORE),
    };
    spec.volumes.get_or_insert_default().push(volume);
    main.volume_mounts.get_or_insert_default().push(mount);
}

/// All runs of the store's claim, for the agent alone: a second name of a file has to be of the same mount.
pub(super) fn all_runs(pass: &Pass<'_>, spec: &mut PodSpec) {
    let Some(claim) = pass.frozen.store.as_ref().and_then(store::claim) else { return };
    let name = of_claim(spec, claim);
    let mount = VolumeMount {
        name,
        mount_path: format!("{CLAIM_DIR}/{}", names::RUNS),
        sub_path: Some(names::RUNS.to_owned()),
        ..VolumeMount::default()
    };
    spec.containers[0].volume_mounts.get_or_insert_default().push(mount);
}

/// Every input: those of a claim read-only. A claim other than the store's gets a volume of its own, once.
pub(super) fn inputs(inputs: &BTreeMap<String, Mounted>, spec: &mut PodSpec, main: &mut PodContainer) {
    if inputs.values().any(|input| matches!(input.place, Place::Objects(_))) {
        fetched(INPUTS_DIR, spec, main);
    }
    for (name, input) in inputs {
        let Place::Claim { claim, path } = &input.place else { continue };
        main.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: of_claim(spec, claim),
            mount_path: format!("{INPUTS_DIR}/{name}"),
            sub_path: Some(path.clone()),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

/// A folder that the agent fills: a volume of its own, whose names are the paths'.
pub(super) fn fetched(path: &str, spec: &mut PodSpec, main: &mut PodContainer) {
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = format!("{}{last}-fetched", pod::OWN_VOLUME);
    spec.volumes.get_or_insert_default().push(scratch(&name));
    let mount = VolumeMount { name, mount_path: path.to_owned(), ..VolumeMount::default() };
    main.volume_mounts.get_or_insert_default().push(mount);
}

/// The credentials of every store that the agent reaches.
pub(super) fn credentials<'a>(
    own: Option<&'a Objects>,
    inputs: impl IntoIterator<Item = &'a Mounted>,
    main: &mut PodContainer,
) {
    let of_input = |input: &'a Mounted| match &input.place {
        Place::Claim { .. } => None,
        Place::Objects(objects) => Some(objects),
    };
    let all = own.into_iter().chain(inputs.into_iter().filter_map(of_input));
    main.env_from = store::environment(all.filter_map(Objects::secret));
}

fn scratch(volume: &str) -> Volume {
    Volume { name: volume.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
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
    spec.init_containers.get_or_insert_default().push(PodContainer {
        command: Some(["/millrace-agent", "copy", AGENT_COPY_DIR].map(str::to_owned).to_vec()),
        resources: Some(pod::small("10m", "32Mi", "32Mi")),
        volume_mounts: Some(vec![mount.clone()]),
        ..pod::own_container(pod::AGENT_INIT, &config.agent_image, config)
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
