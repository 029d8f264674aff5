//! Writes to a store. What an attempt made is hours of work: while the store does not answer, the agent tries again for a while.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use millrace_contract::BlobFile;
use millrace_files::regular;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutPayload};

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
    /// Of the file system that it has to lie in: a program that runs meanwhile may put a link to anything above it, also to what only the
    /// agent can read of itself in `/proc`.
    pub device: Option<u64>,
}

impl Upload {
    fn open(&self) -> Result<File, RemoteError> {
        let disk = |source| RemoteError::Disk { path: self.from.clone(), source };
        let file = regular::open(&self.from).map_err(|error| disk(error.into()))?;
        let found = file.metadata().map_err(disk)?.dev();
        if self.device.is_some_and(|device| device != found) {
            return Err(disk(io::Error::other("it lies in another file system")));
        }
        Ok(file)
    }
}

/// An upload in parts. What is there of one that does not come to its end would be paid for: then it is taken back, also if nobody asks for
/// it any more.
struct Begun<'a> {
    remote: &'a Remote,
    /// None before its begin and after its end.
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            self.remote.leave(async move {
                let _ = parts.abort().await;
            });
        }
    }
}

impl Remote {
    /// The files of an artifact at `root`, which get keys below `key`.
    pub fn uploads(&self, root: &FilePath, key: &str, files: &[BlobFile]) -> Vec<Upload> {
        let upload = |file: &BlobFile| {
            let from = if file.path.is_empty() { root.to_owned() } else { root.join(&file.path) };
            Upload { from, key: self.key(&format!("{key}/{}", file.path)), size: file.size, device: None }
        };
        files.iter().map(upload).collect()
    }

    /// Small files several at a time, large ones one after the other and each in several parts at a time.
    pub async fn upload(&self, all: &[Upload], budget: Budget) -> Result<(), RemoteError> {
        self.upload_within(PATIENCE, all, budget).await
    }

    /// As [`Self::upload`]; a store that does not answer is waited for only so long.
    pub async fn upload_within(&self, patience: Duration, all: &[Upload], budget: Budget) -> Result<(), RemoteError> {
        let end = Instant::now() + patience;
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
        let mut bytes = Vec::new();
        let read = upload.open()?.take(pieces::size(upload.size) + 1).read_to_end(&mut bytes);
        read.map_err(|source| RemoteError::Disk { path: upload.from.clone(), source })?;
        if bytes.len() as u64 > pieces::size(upload.size) {
            let source = io::Error::other("it grew while it was read");
            return Err(RemoteError::Disk { path: upload.from.clone(), source });
        }
        let put = self.store.put(&upload.key, bytes.into()).await;
        put.map(|_| ()).map_err(self.failed(Doing::Write, &upload.key))
    }

    async fn put_large(&self, upload: &Upload, budget: Budget) -> Result<(), RemoteError> {
        let disk = |source| RemoteError::Disk { path: upload.from.clone(), source };
        let failed = self.failed(Doing::Write, &upload.key);
        let file = upload.open()?;
        let piece = pieces::size(upload.size);
        let mut begun = Begun { remote: self, parts: None };
        let parts = begun.parts.insert(self.store.put_multipart(&upload.key).await.map_err(&failed)?);
        let sends = stream::iter(pieces::of(upload.size)).map(|range| {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
            file.read_exact_at(&mut bytes, range.start).map_err(disk)?;
            Ok(parts.put_part(bytes.into()).map_err(&failed))
        });
        sends.try_buffer_unordered(budget.at_once(piece)).try_collect::<()>().await?;
        parts.complete().await.map_err(&failed)?;
        begun.parts = None;
        Ok(())
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
