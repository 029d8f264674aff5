//! The folders of one attempt. Here a store that cannot be written shows first, so the error carries the remedy.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use millrace_contract::{OUT_DIR, STAGE_DIR, Task, attempt_dir, checkpoint_dir};
use millrace_files::short;
use nix::unistd::{getegid, geteuid};
use thiserror::Error;

use crate::checkpoints::{self, Restore};
use crate::place::Place;

#[derive(Debug, Error)]
#[error("failed to write {} in the store: {source}; {state}. {remedy}", short(path))]
pub struct StoreError {
    pub path: PathBuf,
    pub source: io::Error,
    state: String,
    remedy: &'static str,
}

impl StoreError {
    /// Says who tried, what the folder allows, and what to change.
    pub fn new(path: &Path, source: io::Error) -> Self {
        let state = state(path);
        let remedy = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "The claim is full: make it larger, or delete folders below runs/ whose runs and models are not needed any more"
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

/// Who tries, and what the file or the folder above it allows.
pub fn state(path: &Path) -> String {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let found = fs::metadata(existing).map_or_else(
        |error| format!("{} cannot be looked at: {error}", existing.display()),
        |found| {
            let mode = found.mode() & 0o7777;
            format!("{} has owner {}:{} and mode {mode:04o}", existing.display(), found.uid(), found.gid())
        },
    );
    format!("the pod runs as {}:{}, {found}", geteuid(), getegid())
}

/// Where an attempt works.
#[derive(Debug)]
pub struct Folders {
    pub attempt: PathBuf,
    pub out: PathBuf,
    pub checkpoint: PathBuf,
    pub restore: Option<Restore>,
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
    let restore = checkpoints::last(place, task.attempt);
    Ok(Folders { attempt, out, checkpoint, restore })
}

/// A command may write everywhere below the stage's folder, also where it should not.
#[derive(Debug, Error)]
pub enum FolderError {
    #[error(
        "the command removed {}: of /millrace/stage only what is in the folders that MILLRACE_OUTPUT_…, MILLRACE_OUT and \
         MILLRACE_CHECKPOINT_DIR name is the command's",
        short(.0)
    )]
    Removed(PathBuf),
    #[error("the command put something else in the place of the folder {}, such as a link: write the outputs where MILLRACE_OUTPUT_… say", short(.0))]
    Replaced(PathBuf),
}

/// The folders above an attempt's outputs are there, and none is a link: what lies behind a link is not in the store.
pub fn in_place(place: &Place, attempt: u32) -> Result<(), FolderError> {
    let attempt = place.at(attempt_dir(attempt));
    let outputs = attempt.join("outputs");
    let attempts = attempt.parent().unwrap_or(&attempt);
    for folder in [attempts, &attempt, &outputs] {
        match fs::symlink_metadata(folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(FolderError::Replaced(folder.to_owned())),
            // Each declared output says for itself that it is missing.
            Err(_) if folder == outputs => {}
            Err(_) => return Err(FolderError::Removed(folder.to_owned())),
        }
    }
    Ok(())
}

/// A second pod of the same attempt (the first one's node was lost) begins with empty folders. The first one may still
/// be alive: what it has open moves away with it.
fn set_aside(attempt: &Path) -> Result<(), StoreError> {
    for count in 1.. {
        // A link that leads nowhere is there too.
        if fs::symlink_metadata(attempt).is_err() {
            break;
        }
        let aside = attempt.with_extension(format!("replaced-{count}"));
        if fs::symlink_metadata(&aside).is_err() {
            return fs::rename(attempt, aside).map_err(|source| StoreError::new(attempt, source));
        }
    }
    Ok(())
}

/// The highest number that an attempt of this folder has had; 0 if there was none.
pub fn last_attempt(place: &Place) -> u32 {
    let attempts = place.at(STAGE_DIR).join("attempts");
    let names = fs::read_dir(attempts).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).max().unwrap_or_default()
}

/// The stage's own folder.
pub fn stage(place: &Place) -> PathBuf {
    place.at(STAGE_DIR)
}
