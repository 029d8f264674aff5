//! A stage's folder in a store of objects.
//!
//! ```text
//! <prefix>/runs/<run>/<stage>/manifest.json                    made once, by the first complete attempt
//!                             attempts/<n>.json                made once, by the first pod of an attempt, before its command
//!                             attempts/<n>/partial.json        names and sizes of what a timeout left, for people
//!                             attempts/<n>/log/<since>/<place> what the program printed, of each pod of the attempt
//!                             attempts/<n>/checkpoint/<since>/ what the next attempt goes on from, until the stage is complete
//!                             outputs/<output>/<digest>[/…]    follows from what it is: whoever makes the same writes the same
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use millrace_contract::{Manifest, ManifestOutput, Task, TaskSource, item_folder, output_key, output_path};
use millrace_files::digest::Stop;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::json;

use super::error::Doing;
use super::log::RemoteLog;
use super::upload::Upload;
use super::{Budget, Remote, RemoteError};
use crate::archive::Bounds;
use crate::ending::PARTIAL;
use crate::manifest::is_of;
use crate::place::Place;

/// So long a single request is tried again. Signatures of requests expire after a few minutes.
const PATIENCE: Duration = Duration::from_mins(1);
const MANIFEST: &str = "manifest.json";

pub struct RemoteStage {
    pub(super) remote: Remote,
    pub(super) budget: Budget,
    /// Where the folder is, for those who work beside this thread.
    pub(super) place: TaskSource,
}

impl RemoteStage {
    /// The stage's folder, or that of this pod's item; none if the stage has no store of objects.
    pub fn open(task: &Task, item: Option<u64>, budget: Budget) -> Result<Option<Self>, RemoteError> {
        let Some(TaskSource { store, key }) = &task.folder else { return Ok(None) };
        let key = item.map_or_else(|| key.clone(), |item| format!("{key}/{}", item_folder(item)));
        let place = TaskSource { store: store.clone(), key };
        let remote = Remote::open(&place, PATIENCE)?;
        Ok(Some(Self { remote, budget, place }))
    }

    /// Begins to keep what the attempt's program prints. The error is for people.
    pub fn log(&self, task: &Task, bounds: Bounds) -> Result<RemoteLog, String> {
        RemoteLog::open(&self.place, task.attempt, bounds)
    }

    /// Whether the store can be written, and keeps what was written first: else hours of work would end here.
    pub fn begin(&self, task: &Task, stop: Stop<'_>) -> Result<(), RemoteError> {
        let key = self.remote.key(&format!("attempts/{}.json", task.attempt));
        let text = json!({ "runUid": task.run_uid, "stage": task.stage, "attempt": task.attempt }).to_string();
        self.remote.wait(stop, async {
            match self.remote.create(&key, text.clone().into()).await {
                Err(RemoteError::Exists { .. }) => return Ok(()),
                made => made?,
            }
            match self.remote.create(&key, text.into()).await {
                Err(RemoteError::Exists { .. }) => Ok(()),
                Ok(()) => Err(RemoteError::Refused {
                    uri: self.remote.uri_of(&key),
                    doing: Doing::Write,
                    answer: "it was written twice, though the second request said If-None-Match".to_owned(),
                    remedy: "use a store with conditional writes: without them two attempts could both be the first",
                }),
                Err(other) => Err(other),
            }
        })
    }

    /// The manifest of an earlier attempt, if it is this stage's and all that it lists is there.
    ///
    /// One whose outputs are gone moves aside, and the command runs.
    pub fn recover(&self, task: &Task, stop: Stop<'_>) -> Result<Option<Manifest>, RemoteError> {
        let key = self.remote.key(MANIFEST);
        self.remote.wait(stop, async {
            let Some(text) = self.remote.read(&key).await? else { return Ok(None) };
            if let Some(manifest) = serde_json::from_slice(&text).ok().filter(|found| is_of(found, task))
                && self.remote.intact(&manifest).await?
            {
                return Ok(Some(manifest));
            }
            let aside = self.remote.key(&format!("manifest.before-attempt-{}.json", task.attempt));
            let store = &self.remote.store;
            store.put(&aside, text.into()).await.map_err(self.remote.failed(Doing::Write, &aside))?;
            store.delete(&key).await.map_err(self.remote.failed(Doing::Write, &key))?;
            Ok(None)
        })
    }

    /// Brings the outputs that `manifest` lists into the store and makes the manifest, with what is `stored` already, unless there is one:
    /// then that one is returned.
    pub fn publish(
        &self,
        manifest: &mut Manifest,
        stored: BTreeMap<String, ManifestOutput>,
        task: &Task,
        place: &Place,
        stop: Stop<'_>,
    ) -> Result<Option<Manifest>, RemoteError> {
        let mut uploads: Vec<Upload> = Vec::new();
        for (name, output) in &mut manifest.outputs {
            output.path = output_key(name, &output.digest);
            uploads.extend(self.remote.uploads(
                &place.at(output_path(task.attempt, name)),
                &output.path,
                &output.files,
            ));
        }
        self.remote.wait(stop, self.remote.upload(&uploads, self.budget))?;
        manifest.outputs.extend(stored);
        self.create(manifest, task, stop)
    }

    /// Keeps what is said of a timeout's outputs, which go with the pod. A store that does not take it hides nothing.
    pub fn keep_partial(&self, task: &Task, partial: String, stop: Stop<'_>) {
        let key = self.remote.key(&format!("attempts/{}/{PARTIAL}", task.attempt));
        let _ = self.remote.wait(stop, async {
            let put = self.remote.store.put(&key, partial.into()).await;
            put.map(|_| ()).map_err(self.remote.failed(Doing::Write, &key))
        });
    }

    fn create(&self, manifest: &Manifest, task: &Task, stop: Stop<'_>) -> Result<Option<Manifest>, RemoteError> {
        let key = self.remote.key(MANIFEST);
        let text = serde_json::to_vec(manifest)
            .map_err(|error| RemoteError::Bad { uri: self.remote.uri_of(&key), why: error.to_string() })?;
        self.remote.wait(stop, async {
            match self.remote.create_patiently(&key, text.clone().into()).await {
                Err(RemoteError::Exists { .. }) => {}
                made => return made.map(|()| None),
            }
            let there = self.remote.read(&key).await?.unwrap_or_default();
            // The answer to our own request was lost, and it was made again.
            if there == text {
                return Ok(None);
            }
            let theirs = serde_json::from_slice(&there).ok().filter(|theirs| is_of(theirs, task));
            theirs.map(Some).ok_or_else(|| RemoteError::Bad {
                uri: self.remote.uri_of(&key),
                why: "it is there, and is no manifest of this stage: let nobody but Millrace write below runs/"
                    .to_owned(),
            })
        })
    }
}

impl Remote {
    /// The bytes of an object, if it is there.
    pub(super) async fn read(&self, key: &Path) -> Result<Option<Vec<u8>>, RemoteError> {
        let failed = self.failed(Doing::Read, key);
        let found = match self.store.get(key).await {
            Err(error @ object_store::Error::NotFound { .. }) => {
                return match failed(error) {
                    RemoteError::NotFound { .. } => Ok(None),
                    other => Err(other),
                };
            }
            found => found.map_err(&failed)?,
        };
        if found.meta.size > crate::manifest::SIZE_LIMIT {
            let why = format!("it has {} bytes: nobody but Millrace should write below runs/", found.meta.size);
            return Err(RemoteError::Bad { uri: self.uri_of(key), why });
        }
        found.bytes().await.map(|bytes| Some(bytes.to_vec())).map_err(failed)
    }

    /// Every file of a manifest is there with its size. Whoever reads one compares its digest.
    async fn intact(&self, manifest: &Manifest) -> Result<bool, RemoteError> {
        for (name, output) in &manifest.outputs {
            if output.path != output_key(name, &output.digest) {
                return Ok(false);
            }
            let key = self.key(&output.path);
            let sizes: Vec<u64> = match output.files.as_slice() {
                [] => continue,
                [only] if only.path.is_empty() => match self.store.head(&key).await {
                    Ok(found) => vec![found.size],
                    Err(object_store::Error::NotFound { .. }) => vec![],
                    Err(error) => return Err(self.failed(Doing::Read, &key)(error)),
                },
                _ => {
                    let sizes = self.store.list(Some(&key)).map_ok(|found| found.size).try_collect();
                    sizes.await.map_err(self.failed(Doing::Read, &key))?
                }
            };
            let wanted = output.files.iter().map(|file| file.size);
            if sizes.len() != output.files.len() || sizes.iter().sum::<u64>() != wanted.sum::<u64>() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
