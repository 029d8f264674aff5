//! Compares a model's files with the digest that they were registered with, before anything in them is trusted.

use std::path::{Path, PathBuf};

use millrace_files::digest::{self, Artifact, DigestError};
use thiserror::Error;

/// What a model is called that is a single file.
const MODEL_FILE: &str = "model.onnx";
/// Names that a message has at most: a file that is missing or too many is often seen by them.
const NAMES: usize = 5;

/// Why the files are not those that were registered. Says so of the model, whose name stands before.
#[derive(Debug, Error)]
pub enum NotIntact {
    #[error(
        "is not what was registered: {dir:?} ({files}) has the digest {found}, --model-digest expects {expected}; put the \
         registered files back, or register these as a new version and serve that one; beside spec.model.uri write the digest \
         of the files that are meant"
    )]
    Differs { dir: PathBuf, files: String, found: String, expected: String },
    #[error(
        "cannot be compared with --model-digest {expected}: {source}; --model-dir needs the registered files, all of them \
         and nothing else"
    )]
    Unreadable { expected: String, source: DigestError },
}

/// Reads every file once, in bounded memory.
pub fn verify(dir: &Path, expected: &str) -> Result<(), NotIntact> {
    let unreadable = |source| NotIntact::Unreadable { expected: expected.to_owned(), source };
    // The folder's own name may be a link; what is in it may not. A place that is not there is told by its own name.
    let place = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let artifact = digest::artifact(&place, &|| false).map_err(unreadable)?;
    let Artifact { digest: found, size, files } = &artifact;
    // Of a file that was fetched from a web server its own digest is known.
    if found != expected && !artifact.is_file(MODEL_FILE, expected) {
        let (dir, files) = (dir.to_owned(), summary(&artifact));
        return Err(NotIntact::Differs { dir, files, found: found.clone(), expected: expected.to_owned() });
    }
    tracing::info!(digest = found, size, files = files.len(), "the model is what was registered");
    Ok(())
}

/// `2 files: model.onnx of 120 bytes, signature.json of 80 bytes`
fn summary(artifact: &Artifact) -> String {
    let count = artifact.files.len();
    if count == 0 {
        return "no file".to_owned();
    }
    let name = |path: &str| path.chars().take(80).collect::<String>();
    let mut names: Vec<String> =
        artifact.files.iter().take(NAMES).map(|file| format!("{} of {} bytes", name(&file.path), file.size)).collect();
    if count > NAMES {
        names.push("…".to_owned());
    }
    format!("{count} {}: {}", if count == 1 { "file" } else { "files" }, names.join(", "))
}
