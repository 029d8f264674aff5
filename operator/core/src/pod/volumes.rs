//! A person's volumes, and `/dev/shm`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodSpec,
    SecretVolumeSource, Volume as PodVolume, VolumeMount,
};
use serde_json::Value;

use super::OWN_VOLUME;
use super::settings::{extend, quantity};
use crate::api::Volume;

pub(super) fn into(
    pod: &mut PodSpec,
    main: &mut Container,
    volumes: &BTreeMap<String, Volume>,
    shared_memory: Option<&Value>,
) {
    extend(&mut pod.volumes, volumes.iter().map(|(name, volume)| source(name, volume)));
    extend(
        &mut main.volume_mounts,
        volumes.iter().map(|(name, volume)| VolumeMount {
            name: name.clone(),
            mount_path: volume.mount_path.clone(),
            sub_path: volume.sub_path.clone(),
            read_only: volume.read_only.then_some(true),
            ..VolumeMount::default()
        }),
    );
    if let Some(size) = shared_memory {
        let name = format!("{OWN_VOLUME}shm");
        extend(
            &mut main.volume_mounts,
            std::iter::once(VolumeMount {
                name: name.clone(),
                mount_path: "/dev/shm".to_owned(),
                ..VolumeMount::default()
            }),
        );
        extend(&mut pod.volumes, std::iter::once(in_memory(name, Some(size))));
    }
}

fn source(name: &str, volume: &Volume) -> PodVolume {
    if let Some(memory) = &volume.memory {
        return in_memory(name.to_owned(), memory.size.as_ref());
    }
    PodVolume {
        name: name.to_owned(),
        config_map: volume.config_map.as_ref().map(|keys| ConfigMapVolumeSource {
            name: keys.name.clone(),
            optional: Some(keys.optional),
            ..ConfigMapVolumeSource::default()
        }),
        secret: volume.secret.as_ref().map(|keys| SecretVolumeSource {
            secret_name: Some(keys.name.clone()),
            optional: Some(keys.optional),
            ..SecretVolumeSource::default()
        }),
        persistent_volume_claim: volume.claim.as_ref().map(|claim| PersistentVolumeClaimVolumeSource {
            claim_name: claim.name.clone(),
            // The mount is what is read-only: another mount of the same claim may write.
            read_only: None,
        }),
        ..PodVolume::default()
    }
}

fn in_memory(name: String, size: Option<&Value>) -> PodVolume {
    PodVolume {
        name,
        empty_dir: Some(EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: size.map(quantity) }),
        ..PodVolume::default()
    }
}
