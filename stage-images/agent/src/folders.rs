//! The folders of one attempt. Here a store that cannot be written shows first, so the error carries the remedy.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use millrace_contract::{OUT_DIR, STAGE_DIR, Task, attempt_dir, checkpoint_dir};
use nix::unistd::{getegid, geteuid};
use thiserror::Error;

use crate::place::Place;

#[derive(Debug, Error)]
#[error("failed to write {path} in the store: {source}; {state}. {remedy}")]
pub struct StoreError {
    pub path: PathBuf,
    pub source: io::Error,
    state: String,
    remedy: &'static str,
}

impl StoreError {
    /// Says who tried, what the folder allows, and what to change.
    pub fn new(path: &Path, source: io::Error) -> Self {
        let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
        let folder = fs::metadata(existing).map_or_else(
            |error| format!("{} cannot be looked at: {error}", existing.display()),
            |found| {
                let mode = found.mode() & 0o7777;
                format!("{} has owner {}:{} and mode {mode:04o}", existing.display(), found.uid(), found.gid())
            },
        );
        let state = format!("the pod runs as {}:{}, {folder}", geteuid(), getegid());
        let remedy = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "The claim is full: make it larger, or let `history` delete more runs"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "The claim is mounted read-only: give it an access mode that allows writing (ReadWriteOnce or ReadWriteMany)"
            }
            io::ErrorKind::Unsupported => {
                "This file system has neither hard links nor exclusive renames: use a claim of another storage class"
            }
            _ => {
                "Let the pod's fsGroup be the folder's group and the folder group-writable (a CSI driver may skip fsGroup \
                 on ReadWriteMany), or run the stage as the folder's owner"
            }
        };
        Self { path: path.to_owned(), source, state, remedy }
    }
}

/// Where an attempt works.
#[derive(Debug)]
pub struct Folders {
    pub attempt: PathBuf,
    pub out: PathBuf,
    pub checkpoint: PathBuf,
    /// The newest checkpoint folder of an earlier attempt that has something in it.
    pub restore: Option<PathBuf>,
}

/// Makes `outputs/`, `out/results/` and `checkpoint/` of this attempt.
pub fn prepare(task: &Task, place: &Place) -> Result<Folders, StoreError> {
    let attempt = place.at(attempt_dir(task.attempt));
    set_aside(&attempt)?;
    let out = attempt.join(OUT_DIR);
    let checkpoint = place.at(checkpoint_dir(task.attempt));
    for folder in [&attempt.join("outputs"), &out.join("results"), &checkpoint] {
        fs::create_dir_all(folder).map_err(|source| StoreError::new(folder, source))?;
    }
    let restore =
        (1..task.attempt).rev().map(|earlier| place.at(checkpoint_dir(earlier))).find(|folder| has_entries(folder));
    Ok(Folders { attempt, out, checkpoint, restore })
}

/// A second pod of the same attempt (the first one's node was lost) begins with empty folders. The first one may still
/// be alive: what it has open moves away with it.
fn set_aside(attempt: &Path) -> Result<(), StoreError> {
    for count in 1.. {
        if !attempt.exists() {
            break;
        }
        let aside = attempt.with_extension(format!("replaced-{count}"));
        if !aside.exists() {
            return fs::rename(attempt, aside).map_err(|source| StoreError::new(attempt, source));
        }
    }
    Ok(())
}

fn has_entries(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// The stage's own folder.
pub fn stage(place: &Place) -> PathBuf {
    place.at(STAGE_DIR)
}
