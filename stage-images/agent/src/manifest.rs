//! `manifest.json`: made once in a stage's folder, by the first complete attempt. Whoever comes later reports that one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millrace_contract::{Manifest, Outcome, Task, flaw, manifest_path};
use millrace_files::digest::{self, DigestError, Stop};
use millrace_files::regular::{self, ReadError};
use millrace_files::short;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::deadline::Deadline;
use crate::folders::{self, Folders, StoreError};
use crate::place::Place;
use crate::sync;

/// A manifest of a million files; a longer one is none.
pub const SIZE_LIMIT: u64 = 256 * 1024 * 1024;

/// The manifest of an earlier attempt, if it is this stage's and all that it lists is still what it was.
///
/// Anything else of that name moves aside, and the command runs.
///
/// # Errors
/// [`Recovery::Stopped`] if the agent was asked to stop meanwhile; [`Recovery::Store`] if the store fails.
pub fn recover(task: &Task, place: &Place, stop: Stop<'_>) -> Result<Option<Manifest>, Recovery> {
    let path = place.at(manifest_path());
    let text = match regular::read(&path, SIZE_LIMIT) {
        Ok(text) => text,
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(ReadError::Io(error)) => return Err(StoreError::new(&path, error).into()),
        Err(ReadError::NotRegular | ReadError::TooLarge { .. }) => Vec::new(),
    };
    if let Some(manifest) = serde_json::from_slice(&text).ok().filter(|manifest| is_of(manifest, task)) {
        match intact(&manifest, place, stop) {
            Ok(true) => return Ok(Some(manifest)),
            Err(DigestError::Stopped(_)) => return Err(Recovery::Stopped),
            Ok(false) | Err(_) => {}
        }
    }
    let aside = path.with_extension(format!("before-attempt-{}.json", task.attempt));
    match fs::rename(&path, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::new(&path, error).into()),
        _ => Ok(None),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Recovery {
    #[error("stopped while an earlier attempt's outputs were checked")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a manifest is this stage's, and of an attempt that was complete.
pub fn is_of(manifest: &Manifest, task: &Task) -> bool {
    let report = &manifest.report;
    let ours = report.run_uid == task.run_uid && report.stage == task.stage && report.outcome == Outcome::Succeeded;
    // A command can write such a file too.
    ours && flaw(report).is_none()
}

fn intact(manifest: &Manifest, place: &Place, stop: Stop<'_>) -> Result<bool, DigestError> {
    let stage = folders::stage(place);
    if !manifest.outputs.is_empty() && folders::in_place(place, manifest.report.attempt).is_err() {
        return Ok(false);
    }
    for (name, output) in &manifest.outputs {
        let path = format!("attempts/{}/outputs/{name}", manifest.report.attempt);
        if output.path != path || digest::artifact(&stage.join(path), stop)?.digest != output.digest {
            return Ok(false);
        }
    }
    Ok(true)
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(
        "the stage's timeout was over while its manifest was written, though the command had ended: raise `timeout`"
    )]
    Late,
    #[error("{} is there, and is no manifest of this stage: the name is the agent's, let the command not write it", short(.0))]
    Taken(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the manifest, unless there is one: then that one is returned.
pub fn publish(
    manifest: &Manifest,
    task: &Task,
    folders: &Folders,
    place: &Place,
    deadline: Deadline,
) -> Result<Option<Manifest>, PublishError> {
    let path = place.at(manifest_path());
    let temporary = folders.attempt.join("manifest.json");
    let text = serde_json::to_vec(manifest).map_err(|error| StoreError::new(&temporary, io::Error::other(error)))?;
    write(&temporary, &text, task.durable).map_err(|source| StoreError::new(&temporary, source))?;
    // Once it has its name the attempt is complete: a stage that is late has to end before.
    if deadline.passed() {
        return Err(PublishError::Late);
    }
    let created = create(&temporary, &path);
    if task.durable {
        sync::folder(&folders::stage(place))?;
    }
    match created {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A network file system may have done it, lost the answer, and tried again.
            let there = match regular::read(&path, SIZE_LIMIT) {
                Ok(there) if there == text => return Ok(None),
                Ok(there) => there,
                Err(ReadError::Io(source)) => return Err(StoreError::new(&path, source).into()),
                Err(ReadError::NotRegular | ReadError::TooLarge { .. }) => return Err(PublishError::Taken(path)),
            };
            let theirs = serde_json::from_slice(&there).ok().filter(|theirs| is_of(theirs, task));
            theirs.map(Some).ok_or(PublishError::Taken(path))
        }
        Err(source) => Err(StoreError::new(&path, source).into()),
    }
}

fn write(path: &Path, text: &[u8], durable: bool) -> io::Result<()> {
    let file = regular::write(path, text)?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// The name appears with the whole content, and only if it is not taken: by a hard link, else by an exclusive rename.
fn create(temporary: &Path, path: &Path) -> io::Result<()> {
    let Err(error) = fs::hard_link(temporary, path) else { return Ok(()) };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EMLINK) => {
            renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE).map_err(|errno| match errno {
                Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP => io::ErrorKind::Unsupported.into(),
                other => other.into(),
            })
        }
        _ => Err(error),
    }
}
