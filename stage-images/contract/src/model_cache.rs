//! The cache of models of a namespace: a folder of a claim, which the agents of the namespace's pods fill and keep in order.
//!
//! ```text
//! <claim>/millrace-models/
//!   models/<digest>           a model, whole: its server mounts this, read-only
//!   used/<digest>             its bytes; written whenever a pod asks for it
//!   locks/<digest>            locked by who fetches or compares it
//!   fetching/<digest>.<pod>   a model on its way
//!   gone/<digest>.<pod>.<ns>  one on its way out
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The cache's folder below a claim's root.
pub const MODEL_CACHE_FOLDER: &str = "millrace-models";
/// Where the agent has that folder.
pub const MODEL_CACHE_DIR: &str = "/millrace/models";
/// Below it: the models.
pub const MODEL_CACHE_MODELS: &str = "models";
/// Where the agent finds the folder with [`NEEDED_MODELS`].
pub const NEEDED_MODELS_DIR: &str = "/millrace/needed";
/// A file with the [`NeededModels`] as JSON. Where there is none, every model counts as needed.
pub const NEEDED_MODELS: &str = "models.json";

/// The cache that a model is to be fetched into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelCacheTask {
    pub claim: String,
    /// Bytes of all models together, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// A model that nothing needs goes when it was not asked for, for so long.
    pub keep_seconds: u64,
}

/// Which models of a namespace's claims have a revision that serves them, at zero too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeededModels {
    /// Digests by claim.
    pub claims: BTreeMap<String, BTreeSet<String>>,
}
