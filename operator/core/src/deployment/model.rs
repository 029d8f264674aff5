//! How a model gets into its server's pod: mounted from a claim, or fetched by the agent before the server starts.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use millrace_contract::{FETCH_ENV, Fetch};

use super::objects::MODEL_DIR;
use crate::api::ModelVersion;
use crate::config::Config;
use crate::pod;
use crate::store::{self, Place};

/// The volume of the model, and where the server sees it.
pub(super) fn mounted(place: &Place) -> (Volume, VolumeMount) {
    let name = format!("{}model", pod::OWN_VOLUME);
    let mount = VolumeMount {
        name: name.clone(),
        mount_path: MODEL_DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    match place {
        Place::Claim { claim, path } => {
            let source = PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                // Not read-only here: some drivers then mount the whole claim read-only on the node, for stages too.
                read_only: None,
            };
            let volume = Volume { name, persistent_volume_claim: Some(source), ..Volume::default() };
            (volume, VolumeMount { sub_path: Some(path.clone()), ..mount })
        }
        Place::Objects(_) => {
            let volume = Volume { name, empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
            (volume, mount)
        }
    }
}

/// The init container that brings a model out of a store of objects and compares it; none for a claim. The server has no credential.
pub(super) fn fetched(
    place: &Place,
    version: &ModelVersion,
    mount: &VolumeMount,
    config: &Config,
) -> Option<Container> {
    let Place::Objects(objects) = place else { return None };
    let artifact = &version.spec.artifact;
    let fetch = Fetch {
        source: objects.source(),
        path: MODEL_DIR.to_owned(),
        digest: artifact.digest.clone(),
        size: artifact.size,
    };
    Some(Container {
        command: Some(["/millrace-agent", "fetch"].map(str::to_owned).to_vec()),
        env: Some(vec![EnvVar {
            name: FETCH_ENV.to_owned(),
            value: Some(pod::escape(&serde_json::to_string(&[fetch]).unwrap_or_default())),
            ..EnvVar::default()
        }]),
        env_from: store::environment(objects.secret()),
        // Bytes on their way to the disk count too, but those the kernel gives up.
        resources: Some(pod::small("10m", "32Mi", "128Mi")),
        volume_mounts: Some(vec![VolumeMount { read_only: None, ..mount.clone() }]),
        ..pod::own_container(pod::AGENT_INIT, &config.agent_image, config)
    })
}
