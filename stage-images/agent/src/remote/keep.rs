//! One file that is put into a store by its digest: what is there already is the same.

use std::path::Path as FilePath;
use std::time::Duration;

use millrace_contract::TaskSource;
use millrace_files::digest::Stop;
use object_store::ObjectStoreExt;

use super::error::Doing;
use super::upload::Upload;
use super::{Budget, Remote, RemoteError};

const PATIENCE: Duration = Duration::from_secs(30);

/// There is an object of this size.
pub fn has(place: &TaskSource, size: u64, stop: Stop<'_>) -> Result<bool, RemoteError> {
    let remote = Remote::open(place, PATIENCE)?;
    let found = remote
        .wait(stop, async { remote.store.head(&remote.root).await.map_err(remote.failed(Doing::Read, &remote.root)) });
    match found {
        Ok(found) => Ok(found.size == size),
        Err(RemoteError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts a file there.
pub fn put(place: &TaskSource, from: &FilePath, budget: Budget, stop: Stop<'_>) -> Result<(), RemoteError> {
    let remote = Remote::open(place, PATIENCE)?;
    let size = from.metadata().map_err(|source| RemoteError::Disk { path: from.to_owned(), source })?.len();
    let upload = Upload { from: from.to_owned(), key: remote.root.clone(), size };
    remote.wait(stop, remote.upload(&[upload], budget))
}
