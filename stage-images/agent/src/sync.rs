//! Brings files and folders to disk, so that a manifest never speaks of bytes that a power cut took.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use millrace_contract::BlobFile;
use millrace_files::digest::Stop;
use millrace_files::regular;
use nix::errno::Errno;
use thiserror::Error;

use crate::folders::StoreError;

#[derive(Debug, Error)]
pub enum SyncError {
    #[error("stopped while files were brought to disk")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Every file of an artifact, and every folder on the way to it.
pub fn artifact(root: &Path, files: &[BlobFile], stop: Stop<'_>) -> Result<(), SyncError> {
    let mut folders: BTreeSet<PathBuf> = root.parent().map(Path::to_owned).into_iter().collect();
    if root.is_dir() {
        folders.insert(root.to_owned());
    }
    for file in files {
        let path = if file.path.is_empty() { root.to_owned() } else { root.join(&file.path) };
        if stop() {
            return Err(SyncError::Stopped);
        }
        let synced = regular::open(&path).map_err(io::Error::from).and_then(|file| file.sync_all());
        synced.map_err(|source| StoreError::new(&path, source))?;
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        folders.extend(above.map(Path::to_owned));
    }
    Ok(folders.iter().rev().try_for_each(|path| folder(path))?)
}

/// One folder: its names, not what is in the files.
pub fn folder(path: &Path) -> Result<(), StoreError> {
    match File::open(path).and_then(|folder| folder.sync_all()) {
        // Some network file systems know no such thing: there names are on disk at once.
        Err(error) if is_unknown(&error) => Ok(()),
        done => done.map_err(|source| StoreError::new(path, source)),
    }
}

/// The disk is full, or what may be used of it.
pub fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn is_unknown(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EBADF))
}
