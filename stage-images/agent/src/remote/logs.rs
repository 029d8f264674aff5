//! The logs of a run's folder in a store of objects, for `millrace-agent logs`. Who may write there may have put anything there: nothing is
//! read without a bound.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use millrace_contract::{LOG_DIR, LogPart, TaskSource, WantedLog, item_folder};
use millrace_files::digest::Stop;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::error::Doing;
use super::{Remote, RemoteError};
use crate::logs::{LARGEST, MOST_FILES, begun};

/// A store that does not answer is told soon: somebody waits for it.
const PATIENCE: Duration = Duration::from_mins(1);
/// Requests at a time: a log's objects have a MiB each.
const AT_ONCE: usize = 4;

/// The logs of one run.
pub struct KeptLogs<'a> {
    remote: Remote,
    /// What the run has folders for.
    folders: Vec<String>,
    stop: Stop<'a>,
}

/// The log of one pod, and where it lies.
pub struct KeptLog {
    pub part: LogPart,
    objects: Vec<(u64, Path)>,
}

/// Whose a log is: the item, the attempt, and when its pod began. In this order they are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Whose {
    item: Option<u64>,
    attempt: u32,
    since: u64,
}

impl<'a> KeptLogs<'a> {
    pub fn open(run: &TaskSource, stop: Stop<'a>) -> Result<Self, RemoteError> {
        let remote = Remote::open(run, PATIENCE)?;
        let listed = remote.wait(stop, async {
            let listed = remote.store.list_with_delimiter(Some(&remote.root)).await;
            listed.map_err(remote.failed(Doing::Read, &remote.root))
        })?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        let folders = listed.common_prefixes.iter().filter_map(name).collect();
        Ok(Self { remote, folders, stop })
    }

    /// The logs of a stage: of all that it was begun with, one after the other; of items by their index.
    pub fn find(&self, wanted: &WantedLog, item: Option<u64>) -> Result<Vec<KeptLog>, RemoteError> {
        let mut all = Vec::new();
        for stage in begun(&self.folders, &wanted.stage) {
            let below = match item {
                Some(item) => vec![format!("{stage}/{}/attempts", item_folder(item))],
                None => vec![format!("{stage}/attempts"), format!("{stage}/items")],
            };
            let mut logs: BTreeMap<Whose, Vec<(u64, Path)>> = BTreeMap::new();
            for below in below {
                self.list(stage, &below, &mut logs)?;
            }
            logs.retain(|whose, _| wanted.attempt.is_none_or(|wanted| wanted == whose.attempt));
            all.extend(of_attempts(&wanted.stage, logs));
        }
        Ok(all)
    }

    fn list(&self, stage: &str, below: &str, logs: &mut BTreeMap<Whose, Vec<(u64, Path)>>) -> Result<(), RemoteError> {
        let (remote, root) = (&self.remote, self.remote.key(below));
        let stage = format!("{}/", self.remote.key(stage));
        remote.wait(self.stop, async {
            let mut listed = remote.store.list(Some(&root)).map_err(remote.failed(Doing::Read, &root));
            while let Some(ObjectMeta { location, size, .. }) = listed.try_next().await? {
                let found = location.as_ref().strip_prefix(&stage).and_then(whose);
                if let Some((whose, place)) = found.filter(|_| size <= LARGEST) {
                    logs.entry(whose).or_default().push((place, location));
                }
            }
            Ok(())
        })
    }

    /// The objects of a log, with the places of their first bytes, in their order.
    pub fn read(&self, log: &KeptLog) -> Result<Vec<(u64, Vec<u8>)>, RemoteError> {
        let remote = &self.remote;
        remote.wait(self.stop, async {
            let reads = stream::iter(&log.objects).map(async |(place, key)| {
                // One that its writer took away a moment ago is left out.
                Ok::<_, RemoteError>(remote.read(key).await?.map(|bytes| (*place, bytes)))
            });
            let read: Vec<Option<(u64, Vec<u8>)>> = reads.buffered(AT_ONCE).try_collect().await?;
            Ok(read.into_iter().flatten().collect())
        })
    }
}

/// Whose log a key below the stage's folder belongs to, and which place in it: `[items/<index>/]attempts/<n>/log/<since>/<place>`.
fn whose(key: &str) -> Option<(Whose, u64)> {
    let (item, rest) = match key.strip_prefix("items/") {
        Some(rest) => rest.split_once('/').and_then(|(index, rest)| Some((Some(index.parse().ok()?), rest)))?,
        None => (None, key),
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let ["attempts", attempt, LOG_DIR, since, place] = parts.as_slice() else { return None };
    Some((Whose { item, attempt: attempt.parse().ok()?, since: since.parse().ok()? }, place.parse().ok()?))
}

/// Each with its place among the pods of its attempt: those that were replaced count from 1.
fn of_attempts(stage: &str, logs: BTreeMap<Whose, Vec<(u64, Path)>>) -> Vec<KeptLog> {
    let mut found: Vec<KeptLog> = Vec::new();
    for (Whose { item, attempt, since: _ }, mut objects) in logs {
        objects.sort();
        objects.truncate(MOST_FILES);
        if let Some(before) = found.last_mut().filter(|log| log.part.item == item && log.part.attempt == attempt) {
            before.part.replaced = Some(0);
        }
        let part = LogPart { stage: stage.to_owned(), item, attempt, replaced: None, bytes: 0 };
        found.push(KeptLog { part, objects });
    }
    let mut count = 0;
    for log in &mut found {
        match &mut log.part.replaced {
            Some(replaced) => {
                count += 1;
                *replaced = count;
            }
            None => count = 0,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Item, attempt, which of its pods, and the places of its objects.
    type Told = (Option<u64>, u32, Option<u32>, Vec<u64>);

    fn logs(keys: &[&str]) -> Vec<Told> {
        let mut logs: BTreeMap<Whose, Vec<(u64, Path)>> = BTreeMap::new();
        for key in keys {
            if let Some((whose, place)) = whose(key) {
                logs.entry(whose).or_default().push((place, Path::from(*key)));
            }
        }
        let told = |log: KeptLog| {
            let places = log.objects.iter().map(|(place, _)| *place).collect();
            (log.part.item, log.part.attempt, log.part.replaced, places)
        };
        of_attempts("train", logs).into_iter().map(told).collect()
    }

    #[test]
    fn logs_come_by_item_and_attempt_and_the_pods_of_one_attempt_in_their_order() {
        let found = logs(&[
            "attempts/10/log/0000000000000007/00000000000000000000",
            "attempts/2/log/0000000000000005/00000000000000001000",
            "attempts/2/log/0000000000000005/00000000000000000000",
            "attempts/2/log/0000000000000004/00000000000000000000",
            "attempts/2/log/0000000000000003/00000000000000000000",
            "items/10/attempts/1/log/0000000000000001/00000000000000000000",
            "items/9/attempts/1/log/0000000000000002/00000000000000000000",
        ]);
        let expected = [
            (None, 2, Some(1), vec![0]),
            (None, 2, Some(2), vec![0]),
            (None, 2, None, vec![0, 1000]),
            (None, 10, None, vec![0]),
            (Some(9), 1, None, vec![0]),
            (Some(10), 1, None, vec![0]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_log_is_left_out() {
        for key in [
            "manifest.json",
            "attempts/1.json",
            "attempts/1/log/1",
            "attempts/x/log/1/0",
            "attempts/1/log/1/0/0",
            "attempts/1/checkpoint/1/0",
            "items/x/attempts/1/log/1/0",
            "items/1/outputs/log/1/0",
        ] {
            assert_eq!(whose(key), None, "{key}");
        }
    }
}
