//! What stays in the store of a complete stage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Report;

/// `<stage>/manifest.json`: created once, by the first complete attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// What the winner reported.
    pub report: Report,
    pub outputs: BTreeMap<String, ManifestOutput>,
}

/// Every file of one output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestOutput {
    pub digest: String,
    /// Below the stage's folder; in a store of objects as [`crate::output_key`] says.
    pub path: String,
    pub files: Vec<BlobFile>,
}

/// One file of an output. `path` is empty if the output is a single file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobFile {
    pub path: String,
    pub sha256: String,
    pub size: u64,
}
