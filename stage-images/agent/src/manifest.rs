//! `manifest.json`: made once in a stage's folder, by the first complete attempt. Whoever comes later reports that one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use millrace_contract::{Manifest, Outcome, Task, manifest_path};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::digest::{self, DigestError};
use crate::folders::{self, Folders, StoreError};
use crate::place::Place;
use crate::sync;

/// The manifest of an earlier attempt, if it is this stage's and all that it lists is still what it was.
///
/// One that is not moves aside: its stage was asked to run again because a consumer found an output lost, and reporting
/// the same outputs once more would never end.
///
/// # Errors
/// [`Recovery::Stopped`] if the agent was asked to stop meanwhile; [`Recovery::Store`] if the store fails.
pub fn recover(task: &Task, place: &Place, stop: &AtomicBool) -> Result<Option<Manifest>, Recovery> {
    let path = place.at(manifest_path());
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::new(&path, error).into()),
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

fn is_of(manifest: &Manifest, task: &Task) -> bool {
    let report = &manifest.report;
    report.run_uid == task.run_uid && report.stage == task.stage && report.outcome == Outcome::Succeeded
}

fn intact(manifest: &Manifest, place: &Place, stop: &AtomicBool) -> Result<bool, DigestError> {
    let stage = folders::stage(place);
    for (name, output) in &manifest.outputs {
        let path = format!("attempts/{}/outputs/{name}", manifest.report.attempt);
        if output.path != path || digest::artifact(&stage.join(path), stop)?.digest != output.digest {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the manifest, unless there is one: then that one is returned.
pub fn publish(
    manifest: &Manifest,
    durable: bool,
    folders: &Folders,
    place: &Place,
) -> Result<Option<Manifest>, StoreError> {
    let path = place.at(manifest_path());
    let temporary = folders.attempt.join("manifest.json");
    let text = serde_json::to_vec(manifest).map_err(|error| StoreError::new(&temporary, io::Error::other(error)))?;
    write(&temporary, &text, durable).map_err(|source| StoreError::new(&temporary, source))?;
    let created = create(&temporary, &path);
    if durable {
        sync::folder(&folders::stage(place))?;
    }
    match created {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A network file system may have done it, lost the answer, and tried again.
            let there = fs::read(&path).map_err(|source| StoreError::new(&path, source))?;
            if there == text {
                return Ok(None);
            }
            let theirs = serde_json::from_slice(&there).map_err(|source| StoreError::new(&path, source.into()))?;
            Ok(Some(theirs))
        }
        Err(source) => Err(StoreError::new(&path, source)),
    }
}

fn write(path: &Path, text: &[u8], durable: bool) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
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
