//! Writes to a store. What an attempt made is hours of work: while the store does not answer, the agent tries again for a while.

use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use millrace_contract::BlobFile;
use millrace_files::regular;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutPayload, WriteMultipart};

use super::error::Doing;
use super::{Budget, Remote, RemoteError, pieces};

/// So long a store that does not answer is waited for, over all of an attempt's outputs.
const PATIENCE: Duration = Duration::from_mins(15);
const PAUSE: Duration = Duration::from_secs(5);

/// A file on the pod's disk, and the key that it gets.
pub struct Upload {
    pub from: PathBuf,
    pub key: Path,
    pub size: u64,
}

impl Remote {
    /// The files of an artifact at `root`, which get keys below `key`.
    pub fn uploads(&self, root: &FilePath, key: &str, files: &[BlobFile]) -> Vec<Upload> {
        let upload = |file: &BlobFile| {
            let from = if file.path.is_empty() { root.to_owned() } else { root.join(&file.path) };
            Upload { from, key: self.key(&format!("{key}/{}", file.path)), size: file.size }
        };
        files.iter().map(upload).collect()
    }

    /// Small files several at a time, large ones one after the other and each in several parts at a time.
    pub async fn upload(&self, all: &[Upload], budget: Budget) -> Result<(), RemoteError> {
        let end = Instant::now() + PATIENCE;
        let (small, large): (Vec<&Upload>, Vec<&Upload>) =
            all.iter().partition(|upload| upload.size <= pieces::size(upload.size));
        let small = stream::iter(small).map(|upload| patiently(end, async || self.put_small(upload).await));
        small.buffer_unordered(budget.at_once(pieces::size(0))).try_collect::<()>().await?;
        for upload in large {
            patiently(end, async || self.put_large(upload, budget).await).await?;
        }
        Ok(())
    }

    async fn put_small(&self, upload: &Upload) -> Result<(), RemoteError> {
        let limit = pieces::size(upload.size);
        let bytes = regular::read(&upload.from, limit)
            .map_err(|error| RemoteError::Disk { path: upload.from.clone(), source: error.into() })?;
        let put = self.store.put(&upload.key, bytes.into()).await;
        put.map(|_| ()).map_err(self.failed(Doing::Write, &upload.key))
    }

    async fn put_large(&self, upload: &Upload, budget: Budget) -> Result<(), RemoteError> {
        let disk = |source| RemoteError::Disk { path: upload.from.clone(), source };
        let failed = self.failed(Doing::Write, &upload.key);
        let file: File = regular::open(&upload.from).map_err(|error| disk(error.into()))?;
        let piece = pieces::size(upload.size);
        let parts = self.store.put_multipart(&upload.key).await.map_err(&failed)?;
        let mut parts = WriteMultipart::new_with_chunk_size(parts, usize::try_from(piece).unwrap_or(usize::MAX));
        for range in pieces::of(upload.size) {
            if let Err(error) = parts.wait_for_capacity(budget.at_once(piece)).await {
                // What is there of the upload would be paid for.
                let _ = parts.abort().await;
                return Err(failed(error));
            }
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
            file.read_exact_at(&mut bytes, range.start).map_err(disk)?;
            parts.put(bytes.into());
        }
        parts.finish().await.map(|_| ()).map_err(&failed)
    }

    /// Writes an object only if there is none of its key.
    pub async fn create(&self, key: &Path, bytes: PutPayload) -> Result<(), RemoteError> {
        let put = self.store.put_opts(key, bytes, PutMode::Create.into()).await;
        put.map(|_| ()).map_err(self.failed(Doing::Write, key))
    }

    /// As [`Self::create`], for as long as the store does not answer.
    pub async fn create_patiently(&self, key: &Path, bytes: PutPayload) -> Result<(), RemoteError> {
        patiently(Instant::now() + PATIENCE, async || self.create(key, bytes.clone()).await).await
    }
}

/// Does it again while the store does not answer, until `end`.
pub async fn patiently<W: Future<Output = Result<(), RemoteError>>>(
    end: Instant,
    work: impl Fn() -> W,
) -> Result<(), RemoteError> {
    loop {
        match work().await {
            Err(RemoteError::Unreachable { .. }) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}
