//! `millrace-agent send`: the files of an artifact, one after the other, for who copies it. They say how large they are before they come; that
//! they are what their producer reported is for the receiver to check.

use std::io::{self, Read, Write};
use std::path::Path;

use millrace_contract::{ArtifactHead, FilePart};
use millrace_files::digest::{self, DigestError, Entry, Stop};
use millrace_files::regular;
use thiserror::Error;

use crate::logs;
use crate::remote::{self, Budget};

#[derive(Debug, Error)]
pub enum SendError {
    #[error(transparent)]
    Artifact(#[from] DigestError),
    #[error("{path} changed while it was read")]
    Changed { path: String },
    #[error("failed to copy {path}: {source}")]
    Copy { path: String, source: io::Error },
    #[error("failed to write: {0}")]
    Write(#[from] io::Error),
}

pub fn write(root: &Path) -> Result<(), SendError> {
    let files = digest::walk(root, &|| false)?;
    let folder = !matches!(files.as_slice(), [only] if only.path.is_empty());
    let mut out = io::stdout().lock();
    line(&mut out, &ArtifactHead { folder, files: files.len() as u64 })?;
    for Entry { path, size } in files {
        let place = if path.is_empty() { root.to_owned() } else { root.join(&path) };
        let failed = |source: io::Error| SendError::Copy { path: path.clone(), source };
        let file = regular::open(&place).map_err(|error| failed(error.into()))?;
        line(&mut out, &FilePart { path: path.clone(), bytes: size })?;
        if io::copy(&mut file.take(size), &mut out).map_err(failed)? != size {
            return Err(SendError::Changed { path });
        }
    }
    out.flush()?;
    Ok(())
}

/// As [`write`], of the artifact in the store of objects that the environment names. Nothing of it touches the pod's disk.
pub fn write_stored(budget: Budget, stop: Stop<'_>) -> Result<(), String> {
    remote::send(&logs::asked()?, budget, stop, &mut io::stdout().lock()).map_err(|error| error.to_string())
}

/// A line before bytes.
pub fn line(out: &mut (impl Write + ?Sized), value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
