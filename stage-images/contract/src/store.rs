//! Stores that no claim brings into a pod: the agent reaches them over the network.

use serde::{Deserialize, Serialize};

use crate::ModelCacheTask;

/// Begins the names of the variables with what a store's Secret holds. They are the agent's: no program of a stage gets them.
pub const STORE_ENV: &str = "MILLRACE_STORE_";
/// What `millrace-agent fetch` is to bring, as a JSON list of [`Fetch`].
pub const FETCH_ENV: &str = "MILLRACE_FETCH";

/// What `millrace-agent keep` is to put into a store, as JSON of a [`Keep`].
pub const CODE_ENV: &str = "MILLRACE_CODE";
/// What `millrace-agent logs -` and `millrace-agent send -` are to read, as JSON of a [`ReadTask`].
pub const READ_ENV: &str = "MILLRACE_READ";
/// Begins the names of the variables with what `millrace-agent get` needs to reach an address.
pub const GET_ENV: &str = "GET_";
/// What an earlier run found at an address, as its result [`GET_VALIDATOR`] says: nothing is brought if that lies there still.
pub const GET_KNOWN_ENV: &str = "GET_KNOWN";
/// The result of `millrace-agent get` by which the source tells whether it has changed. There is none where that is not sure.
pub const GET_VALIDATOR: &str = "source_validator";
/// How `millrace-agent get` ends where another try would meet the same.
pub const GET_FINAL: u8 = 2;

/// A store of objects, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskStore {
    pub kind: StoreKind,
    /// A container on Azure.
    pub bucket: String,
    /// `http://` only where it is written so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// S3 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Azure only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What the names of the variables with the Secret's entries begin with. Without it the pod's own identity counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// Everybody may read it: it is asked without a signature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

/// What a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    S3,
    Gcs,
    Azure,
}

impl StoreKind {
    /// Of addresses in such a store.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// A file or a folder in a store: the object of this key, or all objects below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskSource {
    pub store: TaskStore,
    pub key: String,
}

impl TaskSource {
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{}://{}/{}", self.store.kind.scheme(), self.store.bucket, self.key)
    }
}

/// A file that a web server gives to who asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebFile {
    pub uri: String,
    /// What it is called in its folder.
    pub file: String,
    /// What the names of the variables with the Secret's entries begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}

/// Where an artifact lies that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FetchSource {
    Objects(TaskSource),
    Web(WebFile),
}

impl FetchSource {
    #[must_use]
    pub fn uri(&self) -> String {
        match self {
            Self::Objects(source) => source.uri(),
            Self::Web(file) => file.uri.clone(),
        }
    }
}

/// An artifact to bring to a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fetch {
    pub source: FetchSource,
    pub path: String,
    pub digest: String,
    /// Bytes, where somebody has said them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Fetch it once for all pods: `path` is then that of the model in the cache, and ends with what the model is called there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<ModelCacheTask>,
}

/// A file to put into a store of objects, or at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keep {
    /// Without it, it stays at the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<TaskSource>,
    pub path: String,
    pub digest: String,
    pub size: u64,
}

/// What is to be read out of a store of objects: the folder of a run, or an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadTask {
    pub source: TaskSource,
    /// Bytes of the artifact: an empty folder leaves nothing in a store of objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// The key of an output in a store of objects, below its stage's. It follows from what the output is: attempts that made the same write the
/// same, and no attempt can change what another has reported.
#[must_use]
pub fn output_key(output: &str, digest: &str) -> String {
    format!("outputs/{output}/{}", digest.strip_prefix("sha256:").unwrap_or(digest))
}
