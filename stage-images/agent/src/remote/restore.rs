//! The checkpoints of earlier attempts, out of a store of objects: the latest complete ones are brought back before the program runs, and all
//! of them go once the stage is complete.

use std::fs::{self, File};
use std::io;
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use millrace_contract::{STAGE_DIR, Task};
use millrace_files::digest::Stop;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::checkpoints::{CHECKPOINT, Checkpoints, INDEX, Index, Stored, key};
use super::download::Found;
use super::error::Doing;
use super::{Remote, RemoteError, RemoteStage};
use crate::place::Place;
use crate::{snapshot, supervise};

/// So long it may take to clear what nobody needs any more.
const CLEARING: Duration = Duration::from_secs(30);
/// Requests at a time.
const AT_ONCE: usize = 16;

/// Whose checkpoints they are: the attempt, and when its pod began.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whose {
    attempt: u32,
    since: String,
}

impl Whose {
    /// The latest is the greatest. An item's pods count anew with each Job: there the time alone tells.
    fn rank(&self, items: bool) -> (u32, &str) {
        (if items { 0 } else { self.attempt }, &self.since)
    }

    /// It may be a pod before one of this attempt.
    fn is_before(&self, task: &Task) -> bool {
        task.items.is_some() || self.attempt <= task.attempt
    }
}

impl RemoteStage {
    /// Brings the checkpoints of the latest pod before this one that has any to where those of that attempt would be on a claim. What
    /// cannot be brought would fail every further attempt too: an older one is better than none, and none is better than no attempt.
    pub fn restore(&self, task: &Task, place: &Place, stop: Stop<'_>) -> Result<(), RemoteError> {
        let found = self.remote.wait(stop, self.remote.checkpoints())?;
        let before = |(whose, key): &(Whose, Path)| is_index(key) && whose.is_before(task);
        let mut all: Vec<Whose> = found.into_iter().filter(before).map(|(whose, _)| whose).collect();
        all.sort_by(|a, b| a.rank(task.items.is_some()).cmp(&b.rank(task.items.is_some())));
        let mut lost = false;
        for whose in all.into_iter().rev() {
            let mut troubles = Vec::new();
            let brought = self.bring(&whose, task, place, stop, &mut troubles)?;
            for why in &troubles {
                supervise::not_restored(&why.to_string());
            }
            if brought {
                return Ok(());
            }
            lost |= !troubles.is_empty();
        }
        if lost {
            supervise::not_restored("none is left, the program begins anew");
        }
        Ok(())
    }

    /// False if there is no checkpoint. What is wrong with some of them is told in `troubles`; an error is one of the store, or the end.
    fn bring(
        &self,
        whose: &Whose,
        task: &Task,
        place: &Place,
        stop: Stop<'_>,
        troubles: &mut Vec<RemoteError>,
    ) -> Result<bool, RemoteError> {
        let Whose { attempt, since } = whose;
        let (remote, below) = (&self.remote, format!("attempts/{attempt}/{CHECKPOINT}/{since}"));
        let index = remote.key(&format!("{below}/{INDEX}"));
        let text = match remote.wait(stop, remote.read(&index)) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => return passing(error, troubles).map(|()| false),
        };
        let found: Option<Index> = serde_json::from_slice(&text).ok();
        let found = found.filter(|index| index.checkpoints.keys().all(|name| is_name(name))).unwrap_or_default();
        if found.checkpoints.is_empty() {
            return Ok(false);
        }
        // Another pod of this attempt: as on a claim, where its folder was set aside.
        let aside = if *attempt < task.attempt { attempt.to_string() } else { format!("{}.replaced-1", task.attempt) };
        let folder = place.at(format!("{STAGE_DIR}/attempts/{aside}/{CHECKPOINT}"));
        // The newest first: where the disk has no room for all, it is the one that is needed.
        let mut all: Vec<(&String, &Stored)> = found.checkpoints.iter().collect();
        all.sort_by_key(|(_, stored)| std::cmp::Reverse(stored.snapshot.modified));
        let mut brought = false;
        for (name, stored) in all {
            let (to, below) = (folder.join(name), format!("{below}/{}", key(stored.number)));
            let Err(error) = self.bring_one(&to, &below, stored, stop) else {
                brought = true;
                continue;
            };
            // There is never a half of one.
            let removed = if stored.snapshot.folder { fs::remove_dir_all(&to) } else { fs::remove_file(&to) };
            let removed = removed.or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(RemoteError::Disk { path: to, source: error }),
            });
            passing(error, troubles)?;
            removed?;
        }
        if !brought {
            let _ = fs::remove_dir_all(&folder);
        }
        Ok(brought)
    }

    fn bring_one(&self, to: &FilePath, below: &str, stored: &Stored, stop: Stop<'_>) -> Result<(), RemoteError> {
        let remote = &self.remote;
        let disk = |source| RemoteError::Disk { path: to.to_owned(), source };
        let above = if stored.snapshot.folder { Some(to) } else { to.parent() };
        above.map_or(Ok(()), fs::create_dir_all).map_err(disk)?;
        let files = stored.snapshot.files.iter().map(|file| {
            let key = remote.key(&format!("{below}/{}", file.path));
            let plain = |path: &str| path.is_empty() || path.split('/').all(is_name);
            if plain(&file.path) && file.path.is_empty() != stored.snapshot.folder {
                return Ok(Found::new(key, file.path.clone(), file.size));
            }
            Err(RemoteError::Bad { uri: remote.uri_of(&key), why: "it is no file of a checkpoint".to_owned() })
        });
        let files: Vec<Found> = files.collect::<Result<_, _>>()?;
        remote.wait(stop, remote.download(&files, to, self.budget))?;
        for file in &stored.snapshot.files {
            let path = if file.path.is_empty() { to.to_owned() } else { to.join(&file.path) };
            File::options()
                .write(true)
                .open(&path)
                .and_then(|found| found.set_modified(snapshot::time(file.modified)))
                .map_err(disk)?;
        }
        // By its time the newest is found.
        File::open(to).and_then(|found| found.set_modified(snapshot::time(stored.snapshot.modified))).map_err(disk)
    }

    /// Begins to keep what the attempt's program leaves in its folder of checkpoints. The error is for people.
    pub fn checkpoints(&self, task: &Task, folder: &FilePath) -> Result<Checkpoints, String> {
        let (attempt, items, place) = (task.attempt, task.items.is_some(), self.place.clone());
        let others = move |since: &str, stop: Stop<'_>| {
            let own = Whose { attempt, since: since.to_owned() };
            if let Ok(remote) = Remote::open(&place, CLEARING) {
                remote.clear(stop, |whose| whose.rank(items) < own.rank(items));
            }
        };
        Checkpoints::open(&self.place, attempt, folder.to_owned(), others)
    }

    /// Removes all of them: the stage is complete, and nothing goes on from there. What cannot be removed harms nobody.
    pub fn clear_checkpoints(&self, task: &Task, stop: Stop<'_>) {
        self.remote.clear(stop, |whose| whose.is_before(task));
    }
}

impl Remote {
    /// What belongs to checkpoints of the stage's attempts, and whose it is.
    async fn checkpoints(&self) -> Result<Vec<(Whose, Path)>, RemoteError> {
        let root = self.key("attempts");
        let below = format!("{}/", self.root);
        let listed = self.store.list(Some(&root)).map_err(self.failed(Doing::Read, &root));
        let found = listed.try_filter_map(|ObjectMeta { location, .. }| {
            let whose = location.as_ref().strip_prefix(&below).and_then(whose);
            std::future::ready(Ok(whose.map(|whose| (whose, location))))
        });
        found.try_collect().await
    }

    /// Removes the checkpoints of some pods.
    fn clear(&self, stop: Stop<'_>, goes: impl Fn(&Whose) -> bool) {
        let end = Instant::now() + CLEARING;
        let _ = self.wait(&|| stop() || Instant::now() > end, async {
            let found = self.checkpoints().await?.into_iter().filter(|(whose, _)| goes(whose));
            let (indexes, files): (Vec<Path>, Vec<Path>) = found.map(|(_, key)| key).partition(is_index);
            // Without its index nothing of a pod counts.
            self.delete(indexes).await?;
            self.delete(files).await
        });
    }

    /// Removes all objects below a key, and the one that has it.
    pub(super) async fn remove(&self, below: &Path) -> Result<(), RemoteError> {
        let listed = self.store.list(Some(below)).map_ok(|found| found.location);
        let mut keys: Vec<Path> = listed.try_collect().await.map_err(self.failed(Doing::Read, below))?;
        keys.push(below.clone());
        self.delete(keys).await
    }

    async fn delete(&self, keys: Vec<Path>) -> Result<(), RemoteError> {
        let deletes = keys.into_iter().map(async |key| match self.store.delete(&key).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            done => done.map_err(self.failed(Doing::Write, &key)),
        });
        stream::iter(deletes).buffered(AT_ONCE).try_collect::<()>().await
    }
}

/// Only a store that does not answer now, and the end, pass by themselves.
fn passing(error: RemoteError, troubles: &mut Vec<RemoteError>) -> Result<(), RemoteError> {
    if matches!(error, RemoteError::Unreachable { .. } | RemoteError::Stopped) {
        return Err(error);
    }
    troubles.push(error);
    Ok(())
}

/// Whose checkpoints a key below the stage's folder belongs to: `attempts/<n>/checkpoint/<since>/…`.
fn whose(key: &str) -> Option<Whose> {
    let mut parts = key.split('/');
    let ("attempts", attempt, CHECKPOINT, since) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    Some(Whose { attempt: attempt.parse().ok()?, since: since.to_owned() })
}

fn is_index(key: &Path) -> bool {
    key.filename() == Some(INDEX)
}

/// A part of a path that leads nowhere else.
fn is_name(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_found_by_their_keys_and_the_latest_pod_comes_last() {
        let of = |attempt, since: &str| Whose { attempt, since: since.to_owned() };
        assert_eq!(whose("attempts/2/checkpoint/0007/index.json"), Some(of(2, "0007")));
        assert_eq!(whose("attempts/2/checkpoint/0007/00000001/a/b"), Some(of(2, "0007")));
        for key in ["attempts/2.json", "attempts/2/log/0007/0", "attempts/x/checkpoint/7/a", "outputs/checkpoint/a/b"] {
            assert_eq!(whose(key), None, "{key}");
        }
        let mut all = [of(10, "1"), of(2, "3"), of(2, "2")];
        all.sort_by(|a, b| a.rank(false).cmp(&b.rank(false)));
        assert_eq!(all, [of(2, "2"), of(2, "3"), of(10, "1")]);
        all.sort_by(|a, b| a.rank(true).cmp(&b.rank(true)));
        assert_eq!(all, [of(10, "1"), of(2, "2"), of(2, "3")]);
    }
}
