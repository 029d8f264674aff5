//! Collects the declared outputs of a command that exited 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millrace_contract::{ArtifactKind, ManifestOutput, OutputRecord, Task, env_name, output_path};
use millrace_files::digest::{self, DigestError};
use thiserror::Error;

use crate::deadline::Deadline;
use crate::folders::StoreError;
use crate::list::{self, ListError};
use crate::model::{self, ModelError};
use crate::place::Place;
use crate::sync::{self, SyncError};

#[derive(Debug, Error)]
pub enum OutputError {
    #[error(
        "the command exited 0 without output {name:?}: write a file or a folder at $MILLRACE_OUTPUT_{} ({path}); {there}",
        env_name(name)
    )]
    Missing { name: String, path: PathBuf, there: String },
    #[error("output {name:?} cannot be used: {source}")]
    Unusable { name: String, source: DigestError },
    #[error("output {name:?}, which a later stage runs over, is no list of items: {source}")]
    NotAList { name: String, source: ListError },
    #[error("output {name:?} is no model: {source}")]
    NotAModel { name: String, source: ModelError },
    #[error(
        "the stage's timeout was over while output {name:?} was hashed and brought to disk, though the command had ended: raise `timeout`, or \
         write less"
    )]
    Late { name: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an attempt made: as the report has it, and as the manifest has it.
#[derive(Debug, Default)]
pub struct Outputs {
    pub records: BTreeMap<String, OutputRecord>,
    pub lists: BTreeMap<String, ManifestOutput>,
}

/// Hashes every output; with a durable store, all of it is on disk afterwards. Only time ends this early: what a command made
/// is hashed to the end, also when the pod is being deleted. What is `stored` already is not looked at.
pub fn collect(task: &Task, place: &Place, stored: &Outputs, deadline: Deadline) -> Result<Outputs, OutputError> {
    let mut outputs = Outputs::default();
    for (name, declared) in task.outputs.iter().filter(|(name, _)| !stored.records.contains_key(*name)) {
        let path = place.at(output_path(task.attempt, name));
        if fs::symlink_metadata(&path).is_err() {
            if declared.optional {
                continue;
            }
            return Err(OutputError::Missing { name: name.clone(), there: what_is_there(&path), path });
        }
        let stop = || deadline.passed();
        let found = digest::artifact(&path, &stop).map_err(|source| match source {
            DigestError::Stopped(_) => OutputError::Late { name: name.clone() },
            source => OutputError::Unusable { name: name.clone(), source },
        })?;
        let (signature, format) = match declared.kind {
            ArtifactKind::Artifact => (None, None),
            ArtifactKind::Model => {
                let format = declared.format.as_deref();
                let signature = model::signature(&path, format)
                    .map_err(|source| OutputError::NotAModel { name: name.clone(), source })?;
                (signature, Some(format.unwrap_or("onnx").to_owned()))
            }
        };
        // Who collects knows how many there are.
        let collected = task.items.as_ref().filter(|items| items.order.is_none()).map(|items| items.total);
        let counted = || collected.map_or_else(|| list::count(&path), Ok);
        let items = declared.items.then(counted).transpose();
        let items = items.map_err(|source| OutputError::NotAList { name: name.clone(), source })?;
        if task.durable {
            sync::artifact(&path, &found.files, &stop).map_err(|error| match error {
                SyncError::Stopped => OutputError::Late { name: name.clone() },
                SyncError::Store(error) => error.into(),
            })?;
        }
        let record = OutputRecord {
            kind: declared.kind,
            digest: found.digest.clone(),
            size: found.size,
            files: found.files.len() as u64,
            items,
            signature,
            format,
        };
        outputs.records.insert(name.clone(), record);
        let below_stage = format!("attempts/{}/outputs/{name}", task.attempt);
        outputs
            .lists
            .insert(name.clone(), ManifestOutput { digest: found.digest, path: below_stage, files: found.files });
    }
    Ok(outputs)
}

/// Often it is a spelling error: the names that are there help.
fn what_is_there(path: &Path) -> String {
    let Some(folder) = path.parent() else { return String::new() };
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names.truncate(5);
    if names.is_empty() {
        "nothing was written there".to_owned()
    } else {
        format!("there is only {}", names.join(", "))
    }
}
