//! The checkpoints of an attempt on their way into a store of objects, while its program runs.
//!
//! ```text
//! attempts/<n>/checkpoint/<since>/<number>/…    the files of one checkpoint, as it was at one time
//!                                 index.json    which of them count: written when all of their files are there
//! ```
//!
//! The folder is looked at every second. What has not changed is not sent again, what the program took away goes, and a checkpoint that
//! changes while it is read does not count. `<since>` is when the pod began.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_contract::{BlobFile, TaskSource};
use millrace_files::digest::Stop;
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use super::error::Doing;
use super::{Budget, Remote, RemoteError, worker};
use crate::snapshot::{self, Snapshot};

/// So long a single request is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the folder is looked at. After a checkpoint was sent it takes as long as that did: the store is not asked all the time.
const LOOK: Duration = Duration::from_secs(1);
/// What a pod's checkpoints are found by.
pub const INDEX: &str = "index.json";
/// The folder of checkpoints, below that of an attempt.
pub const CHECKPOINT: &str = "checkpoint";

/// Which checkpoints are complete in the store, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub checkpoints: BTreeMap<String, Stored>,
}

/// One of them: its files are below this number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub number: u64,
    #[serde(flatten)]
    pub snapshot: Snapshot,
}

/// The thread that keeps the checkpoints of one pod.
pub struct Checkpoints(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// What is under way is not waited for.
    give_up: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Nothing more comes.
    closed: bool,
    /// The thread has ended.
    done: bool,
    trouble: Option<String>,
}

impl Checkpoints {
    /// Starts to look at `folder`. `others` is called once there is a checkpoint of this pod: those of earlier ones are not needed any more.
    /// The error is for people.
    pub fn open(
        stage: &TaskSource,
        attempt: u32,
        folder: PathBuf,
        others: impl Fn(&str, Stop<'_>) + Send + 'static,
    ) -> Result<Self, String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let since = format!("{since:016}");
        let key = format!("{}/attempts/{attempt}/{CHECKPOINT}/{since}", stage.key);
        let remote = Remote::open(&TaskSource { store: stage.store.clone(), key }, PATIENCE);
        let remote = remote.map_err(|error| error.to_string())?;
        let device = std::fs::symlink_metadata(&folder).map_err(|error| error.to_string())?.dev();
        let mut mirror =
            Mirror { remote, folder, device, index: Index::default(), written: None, next: 0, left: BTreeSet::new() };
        let shared = Arc::new(Shared::default());
        worker::spawn("checkpoints", &shared, move |shared| shared.keep(&mut mirror, &|stop| others(&since, stop)))?;
        Ok(Self(shared))
    }

    /// The program has ended. With `last` what it left is sent, until `stop`. Why it is not in the store, if so.
    pub fn finish(&self, last: bool, stop: Stop<'_>) -> Option<String> {
        let mut state = self.0.state();
        state.closed = true;
        if !last {
            self.0.give_up.store(true, Ordering::SeqCst);
        }
        self.0.changed.notify_all();
        while !state.done {
            if stop() {
                self.0.give_up.store(true, Ordering::SeqCst);
            }
            let waited = self.0.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.trouble.take().filter(|_| last)
    }
}

impl worker::Shared for Shared {
    fn ended(&self, trouble: Option<String>) {
        let mut state = self.state();
        state.done = true;
        state.trouble = trouble.or(state.trouble.take());
        self.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, mirror: &mut Mirror, others: &dyn Fn(Stop<'_>)) {
        let stop = || self.give_up.load(Ordering::SeqCst);
        let (mut pause, mut alone) = (LOOK, false);
        loop {
            let closed = self.closed_within(pause);
            let began = Instant::now();
            let trouble = mirror.sync(&stop).err();
            if !alone && mirror.written.as_ref().is_some_and(|index| !index.checkpoints.is_empty()) {
                others(&stop);
                alone = true;
            }
            pause = LOOK.max(began.elapsed());
            self.state().trouble = trouble;
            if closed {
                return;
            }
        }
    }

    /// Waits for so long, or until nothing more comes.
    fn closed_within(&self, pause: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), pause, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

/// A folder and what of it is in the store.
struct Mirror {
    remote: Remote,
    folder: PathBuf,
    /// Of the file system that it lies in.
    device: u64,
    index: Index,
    /// As the store has it.
    written: Option<Index>,
    /// The number of the next checkpoint.
    next: u64,
    /// Numbers that count for nothing and may have files in the store.
    left: BTreeSet<u64>,
}

impl Mirror {
    /// Brings the store up to date. The error is for people.
    fn sync(&mut self, stop: Stop<'_>) -> Result<(), String> {
        // Also when there is no time left: whether all is there has to be told.
        let snapshot::Found { checkpoints: found, moving, mut trouble } = snapshot::all(&self.folder, &|| false);
        // What cannot be seen now may be there all the same.
        let mut whole = !moving && trouble.is_none();
        for (name, snapshot) in &found {
            if self.index.checkpoints.get(name).is_some_and(|stored| stored.snapshot == *snapshot) {
                continue;
            }
            match self.send(name, snapshot, stop) {
                Ok(kept) => whole &= kept,
                Err(error) => {
                    whole = false;
                    trouble = Some(error.to_string());
                    // With the store every one would fail, each after its own patience.
                    if !is_of_this_disk(&error) {
                        break;
                    }
                }
            }
        }
        // What the program took away may be all there is while its successor is not in the store.
        if whole {
            self.index.checkpoints.retain(|name, _| found.contains_key(name));
        }
        self.write(stop).map_err(|error| error.to_string())?;
        trouble.map_or(Ok(()), Err)
    }

    /// Sends one checkpoint under a number of its own. False if it changed meanwhile.
    fn send(&mut self, name: &str, snapshot: &Snapshot, stop: Stop<'_>) -> Result<bool, RemoteError> {
        let number = self.next;
        self.next += 1;
        let path = self.folder.join(name);
        let blob = |file: &snapshot::SnapshotFile| BlobFile {
            path: file.path.clone(),
            sha256: String::new(),
            size: file.size,
        };
        let files: Vec<BlobFile> = snapshot.files.iter().map(blob).collect();
        let mut uploads = self.remote.uploads(&path, &key(number), &files);
        for upload in &mut uploads {
            upload.device = Some(self.device);
        }
        let sent = self.remote.wait(stop, self.remote.upload_within(Duration::ZERO, &uploads, Budget::least()));
        if stop() {
            // What stays counts for nothing, and goes with the stage's checkpoints.
            return Err(RemoteError::Stopped);
        }
        let same = Snapshot::of(&path, stop).is_ok_and(|now| now == *snapshot);
        if sent.is_ok() && same {
            let stored = Stored { number, snapshot: snapshot.clone() };
            self.index.checkpoints.insert(name.to_owned(), stored);
            return Ok(true);
        }
        // A store that failed is asked for nothing more now: that would take as long again.
        self.left.insert(number);
        if sent.as_ref().err().is_none_or(is_of_this_disk) {
            self.clear(stop);
        }
        // A file that is not as it was is no trouble of the store.
        if same { sent.map(|()| true) } else { Ok(false) }
    }

    /// Says what counts, and then takes out what does not any more.
    fn write(&mut self, stop: Stop<'_>) -> Result<(), RemoteError> {
        if self.written.as_ref() == Some(&self.index) || self.written.is_none() && self.index.checkpoints.is_empty() {
            return Ok(());
        }
        let key = self.remote.key(INDEX);
        let text = serde_json::to_vec(&self.index)
            .map_err(|error| RemoteError::Bad { uri: self.remote.uri_of(&key), why: error.to_string() })?;
        self.remote.wait(stop, async {
            let put = self.remote.store.put(&key, text.into()).await;
            put.map(|_| ()).map_err(self.remote.failed(Doing::Write, &key))
        })?;
        let numbers = |index: &Index| index.checkpoints.values().map(|stored| stored.number).collect::<BTreeSet<u64>>();
        let before = self.written.replace(self.index.clone()).map(|before| numbers(&before)).unwrap_or_default();
        let now = numbers(&self.index);
        self.left.extend(before.difference(&now));
        self.clear(stop);
        Ok(())
    }

    /// Takes out what counts for nothing, until the store fails. What stays goes with the stage's checkpoints, or with the run.
    fn clear(&mut self, stop: Stop<'_>) {
        while let Some(number) = self.left.first().copied() {
            if self.remote.wait(stop, self.remote.remove(&self.remote.key(&key(number)))).is_err() {
                return;
            }
            self.left.remove(&number);
        }
    }
}

/// What is wrong with one checkpoint only.
fn is_of_this_disk(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Disk { .. } | RemoteError::Bad { .. })
}

/// The folder of a checkpoint, below that of the pod.
pub fn key(number: u64) -> String {
    format!("{number:08}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_not_waited_for() {
        let shared = Arc::new(Shared::default());
        worker::spawn("panics", &shared, |_| panic!("as a test wants it")).unwrap();
        assert!(Checkpoints(shared).finish(true, &|| false).is_some());
    }
}
