//! How a model gets into its server's pod: mounted from a claim, or fetched by the agent before the server starts, into the pod or into a cache.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, KeyToPath, PersistentVolumeClaimVolumeSource,
    Volume, VolumeMount,
};
use millrace_contract::{
    FETCH_ENV, Fetch, FetchSource, MODEL_CACHE_DIR, MODEL_CACHE_FOLDER, MODEL_CACHE_MODELS, NEEDED_MODELS,
    NEEDED_MODELS_DIR, WebFile,
};

use super::asked_model::AskedModel;
use super::model_cache;
use super::objects::MODEL_DIR;
use super::origin::MODEL_FILE;
use super::origin::Origin;
use crate::api::ModelCache;
use crate::config::Config;
use crate::names::{self, ROUTES};
use crate::pod;
use crate::store;

/// Where a model comes from.
pub(super) struct Source<'a> {
    pub asked: &'a AskedModel,
    pub cache: Option<&'a ModelCache>,
}

impl Source<'_> {
    /// The cache that keeps it and its name there, if one does: what lies on a claim is there already.
    pub fn cached(&self) -> Option<(&ModelCache, String)> {
        let Origin::Fetched { source, .. } = &self.asked.origin else { return None };
        let hex = self.asked.digest.strip_prefix("sha256:")?;
        let entry = match source {
            // The same bytes under another name are another folder.
            FetchSource::Web(WebFile { file, .. }) if file != MODEL_FILE => {
                names::sha256_hex(format!("{hex}/{file}").as_bytes())
            }
            FetchSource::Web(_) | FetchSource::Objects(_) => hex.to_owned(),
        };
        self.cache.map(|cache| (cache, entry))
    }

    /// Where the server sees the model, and nothing else.
    pub fn mount(&self) -> VolumeMount {
        let sub_path = match (&self.asked.origin, self.cached()) {
            (Origin::Claim { path, .. }, _) => Some(path.clone()),
            (Origin::Fetched { .. }, Some((_, entry))) => {
                Some(format!("{MODEL_CACHE_FOLDER}/{MODEL_CACHE_MODELS}/{entry}"))
            }
            (Origin::Fetched { .. }, None) => None,
        };
        VolumeMount {
            name: volume_name(),
            mount_path: MODEL_DIR.to_owned(),
            read_only: Some(true),
            sub_path,
            ..VolumeMount::default()
        }
    }

    /// The volume of the model first.
    pub fn volumes(&self) -> Vec<Volume> {
        let claim = match (&self.asked.origin, self.cached()) {
            (Origin::Claim { claim, .. }, _) => Some(claim),
            (Origin::Fetched { .. }, cached) => cached.map(|(cache, _)| &cache.claim),
        };
        let model = match claim {
            Some(claim) => {
                // Not read-only here: some drivers then mount the whole claim read-only on the node, for stages too.
                let source = PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: None };
                Volume { name: volume_name(), persistent_volume_claim: Some(source), ..Volume::default() }
            }
            None => {
                Volume { name: volume_name(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
            }
        };
        std::iter::once(model).chain(self.cached().map(|_| needed())).collect()
    }

    /// The init container that brings a model out of a bucket, or from a web server, and compares it; none for a claim. The server has no credential.
    pub fn fetched(&self, mount: &VolumeMount, config: &Config) -> Option<Container> {
        let Origin::Fetched { source, secret } = &self.asked.origin else { return None };
        let cached = self.cached();
        let cached = cached.as_ref();
        let fetch = Fetch {
            source: source.clone(),
            path: cached.map_or_else(
                || MODEL_DIR.to_owned(),
                |(_, entry)| format!("{MODEL_CACHE_DIR}/{MODEL_CACHE_MODELS}/{entry}"),
            ),
            digest: self.asked.digest.clone(),
            size: self.asked.size,
            cache: cached.map(|(cache, _)| model_cache::task(cache)),
        };
        let mounts = match cached {
            None => vec![VolumeMount { read_only: None, ..mount.clone() }],
            Some(_) => vec![
                VolumeMount {
                    name: volume_name(),
                    mount_path: MODEL_CACHE_DIR.to_owned(),
                    sub_path: Some(MODEL_CACHE_FOLDER.to_owned()),
                    ..VolumeMount::default()
                },
                VolumeMount {
                    name: needed_name(),
                    mount_path: NEEDED_MODELS_DIR.to_owned(),
                    read_only: Some(true),
                    ..VolumeMount::default()
                },
            ],
        };
        Some(Container {
            command: Some(["/millrace-agent", "fetch"].map(str::to_owned).to_vec()),
            env: Some(vec![EnvVar {
                name: FETCH_ENV.to_owned(),
                value: Some(pod::escape(&serde_json::to_string(&[fetch]).unwrap_or_default())),
                ..EnvVar::default()
            }]),
            env_from: store::environment(secret.as_deref()),
            // Bytes on their way to the disk count too, but those the kernel gives up.
            resources: Some(pod::small("10m", "32Mi", "128Mi")),
            volume_mounts: Some(mounts),
            ..pod::own_container(pod::AGENT_INIT, &config.agent_image, config)
        })
    }
}

fn volume_name() -> String {
    format!("{}model", pod::OWN_VOLUME)
}

fn needed_name() -> String {
    format!("{}needed", pod::OWN_VOLUME)
}

/// What of the cache must stay. It stands beside the routes, of which a pod sees nothing, and may come later than the first pod.
fn needed() -> Volume {
    let key = KeyToPath { key: NEEDED_MODELS.to_owned(), path: NEEDED_MODELS.to_owned(), mode: None };
    let source = ConfigMapVolumeSource {
        name: ROUTES.to_owned(),
        items: Some(vec![key]),
        optional: Some(true),
        ..ConfigMapVolumeSource::default()
    };
    Volume { name: needed_name(), config_map: Some(source), ..Volume::default() }
}
