//! A sweep of a store of objects.

use std::cell::Cell;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use millrace_contract::{SWEEP_FOLDERS, SWEEP_RECORDS, TaskSource};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::error::Doing;
use super::{Remote, RemoteError};
use crate::sweep::{Cleared, Shelf, SweepError};

/// So long a single request is tried again.
const PATIENCE: Duration = Duration::from_mins(2);
/// Requests at a time.
const AT_ONCE: usize = 16;
/// So many keys are held in memory.
const HELD: usize = 10_000;
const RUNS: &str = "runs";

pub struct RemoteShelf<'a> {
    remote: Remote,
    /// Of the pipeline's history.
    folder: &'a str,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> RemoteShelf<'a> {
    pub fn open(store: &TaskSource, folder: &'a str, stop: &'a dyn Fn() -> bool) -> Result<Self, SweepError> {
        let remote = Remote::open(store, PATIENCE).map_err(|error| told(&error))?;
        Ok(Self { remote, folder, stop })
    }

    fn put(&self, key: &Path, bytes: &[u8]) -> Result<(), SweepError> {
        let put = async {
            let put = self.remote.store.put(key, bytes.to_vec().into()).await;
            put.map(|_| ()).map_err(self.remote.failed(Doing::Write, key))
        };
        self.remote.wait(&self.stop, put).map_err(|error| told(&error))
    }

    fn of_history(&self, below: &str) -> Path {
        self.remote.key(&format!("{}/{below}", self.folder))
    }
}

impl Shelf for RemoteShelf<'_> {
    fn record(&self, name: &str, lines: &[u8]) -> Result<(), SweepError> {
        self.put(&self.of_history(&format!("{SWEEP_RECORDS}/{name}")), lines)
    }

    fn folders(&self) -> Result<Option<Vec<u8>>, SweepError> {
        let key = self.of_history(SWEEP_FOLDERS);
        self.remote.wait(&self.stop, self.remote.read(&key)).map_err(|error| told(&error))
    }

    fn note(&self, folders: &[u8]) -> Result<(), SweepError> {
        self.put(&self.of_history(SWEEP_FOLDERS), folders)
    }

    fn clear(&self, folder: &str, keep: &dyn Fn(&str) -> bool, dry_run: bool) -> Result<Cleared, SweepError> {
        let runs = self.remote.key(RUNS);
        let whole = self.remote.key(&format!("{RUNS}/{folder}"));
        let below = |key: &Path| {
            let text = key.as_ref().strip_prefix(runs.as_ref()).unwrap_or_default();
            text.trim_start_matches('/').to_owned()
        };
        let store = &self.remote.store;
        let (mut cleared, kept) = (Cleared::default(), Cell::new(false));
        let work = async {
            let listed = store.list(Some(&whole)).map_err(self.remote.failed(Doing::Read, &whole));
            let goes = listed.try_filter(|found| {
                let path = below(&found.location);
                // Nothing that only begins with the folder's name.
                let within = path.starts_with(&format!("{folder}/"));
                let stays = within && keep(&path);
                kept.set(kept.get() || stays);
                std::future::ready(within && !stays)
            });
            let mut parts = std::pin::pin!(goes.try_chunks(HELD));
            while let Some(part) = parts.try_next().await.map_err(|error| error.1)? {
                let bytes = part.iter().map(|found| found.size).sum::<u64>();
                let deletes = part.iter().map(|found| async {
                    match store.delete(&found.location).await {
                        Err(object_store::Error::NotFound { .. }) => Ok(()),
                        done => done.map_err(self.remote.failed(Doing::Write, &found.location)),
                    }
                });
                if !dry_run {
                    stream::iter(deletes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
                }
                cleared.files += part.len() as u64;
                cleared.bytes += bytes;
            }
            Ok(())
        };
        match self.remote.wait(&self.stop, work) {
            Ok(()) => cleared.gone = !dry_run && !kept.get(),
            // Who may write may not always take out.
            Err(error @ RemoteError::Refused { doing: Doing::Write, .. }) => cleared.stays = Some(error.to_string()),
            Err(error) => return Err(told(&error)),
        }
        Ok(cleared)
    }
}

/// Hands over the files with the records of a pipeline.
pub fn records(
    store: &TaskSource,
    folder: &str,
    stop: &dyn Fn() -> bool,
    take: &mut dyn FnMut(&str),
) -> Result<(), RemoteError> {
    let remote = Remote::open(store, PATIENCE)?;
    let root = remote.key(&format!("{folder}/{SWEEP_RECORDS}"));
    remote.wait(&stop, async {
        let mut listed = remote.store.list(Some(&root)).map_err(remote.failed(Doing::Read, &root));
        while let Some(found) = listed.try_next().await? {
            if found.location.extension() == Some("jsonl")
                && let Some(bytes) = remote.read(&found.location).await?
            {
                take(&String::from_utf8_lossy(&bytes));
            }
        }
        Ok(())
    })
}

fn told(error: &RemoteError) -> SweepError {
    let reason = match error {
        RemoteError::Unreachable { .. } => "StoreUnreachable",
        RemoteError::Refused { doing: Doing::Read, .. } => "StoreNotReadable",
        RemoteError::Stopped => "Stopped",
        _ => "StoreNotWritable",
    };
    SweepError::new(reason, error)
}
