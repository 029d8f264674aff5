//! One file that is put into a store by its digest: what is there already is the same.

use std::path::Path as FilePath;
use std::time::Duration;

use futures::TryStreamExt;
use millrace_contract::TaskSource;
use millrace_files::digest::Stop;
use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};

use super::error::Doing;
use super::upload::Upload;
use super::{Budget, Remote, RemoteError};

const PATIENCE: Duration = Duration::from_secs(30);

/// There is an object with these bytes. It is read: one that was damaged may have kept its size.
pub fn has(place: &TaskSource, size: u64, digest: &str, stop: Stop<'_>) -> Result<bool, RemoteError> {
    let remote = Remote::open(place, PATIENCE)?;
    let found = remote.wait(stop, async {
        let failed = remote.failed(Doing::Read, &remote.root);
        let found = remote.store.get(&remote.root).await.map_err(&failed)?;
        if found.meta.size != size {
            return Ok(false);
        }
        let (mut hash, mut bytes) = (Sha256::new(), found.into_stream());
        while let Some(chunk) = bytes.try_next().await.map_err(&failed)? {
            hash.update(&chunk);
        }
        Ok(format!("sha256:{:x}", hash.finalize()) == digest)
    });
    match found {
        Err(RemoteError::NotFound { .. }) => Ok(false),
        found => found,
    }
}

/// Puts a file there.
pub fn put(place: &TaskSource, from: &FilePath, budget: Budget, stop: Stop<'_>) -> Result<(), RemoteError> {
    let remote = Remote::open(place, PATIENCE)?;
    let size = from.metadata().map_err(|source| RemoteError::Disk { path: from.to_owned(), source })?.len();
    let upload = Upload { from: from.to_owned(), key: remote.root.clone(), size, device: None };
    remote.wait(stop, remote.upload(&[upload], budget))
}
