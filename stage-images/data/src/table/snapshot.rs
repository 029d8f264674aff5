//! A snapshot: the actions of a checkpoint and of the commits after it, replayed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::log::{Listing, Mark};
use super::place::Tag;
use super::protocol::Protocol;
use super::{Table, TableError, checkpoint};

/// From here on a later checkpoint is less to read than the commits.
const FAR: u64 = 100;

/// A file of a table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// Below the table, as an URL has it.
    pub path: String,
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub modification_time: i64,
    /// JSON.
    #[serde(default)]
    pub stats: Option<String>,
    #[serde(default)]
    pub deletion_vector: Option<Value>,
    /// What its writer wants to know of it.
    #[serde(default)]
    pub tags: Option<Value>,
}

/// What a table is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    /// JSON.
    pub schema_string: String,
    #[serde(default)]
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub created_time: Option<i64>,
}

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub version: u64,
    /// Of its commit.
    pub(super) tag: Tag,
    pub protocol: Protocol,
    pub metadata: Metadata,
    pub files: BTreeMap<String, Add>,
    /// The last version of each application.
    pub transactions: BTreeMap<String, i64>,
    /// Files that were taken out, by path, and when: in milliseconds since 1970.
    pub removed: BTreeMap<String, Option<i64>>,
    /// It has what a checkpoint of ours has no room for.
    pub foreign: bool,
}

/// A mark, and the version that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Marked {
    pub version: i64,
    pub mark: Mark,
}

impl Table {
    /// The last snapshot; none where there is no table.
    pub async fn last(&self) -> Result<Option<Snapshot>, TableError> {
        let listing = self.listing().await?;
        match listing.last() {
            Some(version) => self.replay(&listing, version).await.map(Some),
            None => Ok(None),
        }
    }

    /// The last snapshot, of which an earlier one is known: only what came after that is read, where its commit is still there.
    pub(super) async fn newer(&self, known: Option<Snapshot>) -> Result<Option<Snapshot>, TableError> {
        let forward = match known {
            Some(known) => self.forward(known).await?,
            None => None,
        };
        match forward {
            Some(snapshot) => Ok(Some(snapshot)),
            None => self.last().await,
        }
    }

    /// None where it cannot be told what came after it: its commit is gone, as one is that was cleaned up, or belongs to another table.
    async fn forward(&self, mut known: Snapshot) -> Result<Option<Snapshot>, TableError> {
        let listing = self.listing_from(known.version).await?;
        if listing.commits.get(&known.version).is_none_or(|tag| !tag.is(&known.tag)) {
            return Ok(None);
        }
        let last = listing.last().unwrap_or(known.version);
        if last - known.version > FAR && listing.checkpoints.range(known.version + 1..).next().is_some() {
            return Ok(None);
        }
        for version in known.version + 1..=last {
            let Some(actions) = self.actions(version).await? else { return Ok(None) };
            self.follow(&mut known, actions, version)?;
        }
        known.tag = listing.commits.get(&last).cloned().unwrap_or_default();
        Ok(Some(known))
    }

    /// Makes it the snapshot of its next version.
    pub(super) fn follow(&self, known: &mut Snapshot, actions: Vec<Value>, version: u64) -> Result<(), TableError> {
        for action in actions {
            self.apply(known, action, version, false)?;
        }
        known.version = version;
        Ok(())
    }

    /// The snapshot of a version.
    pub(super) async fn snapshot(&self, version: u64) -> Result<Snapshot, TableError> {
        let listing = self.listing().await?;
        self.replay(&listing, version).await
    }

    async fn replay(&self, listing: &Listing, version: u64) -> Result<Snapshot, TableError> {
        let gone = || TableError::NoVersion { name: self.name.clone(), version };
        let tag = listing.commits.get(&version).cloned().unwrap_or_default();
        let mut snapshot = Snapshot { version, tag, ..Snapshot::default() };
        let checkpoint = listing.checkpoints.range(..=version).next_back();
        if let Some((at, parts)) = checkpoint {
            let work = TempDir::new().map_err(|source| TableError::Write { name: self.name.clone(), source })?;
            for part in parts {
                self.checkpointed(part, *at, work.path(), |action| self.apply(&mut snapshot, action, *at, true))
                    .await?;
            }
        }
        let first = checkpoint.map_or(0, |(at, _)| at + 1);
        for commit in first..=version {
            let actions = self.actions(commit).await?.ok_or_else(gone)?;
            self.follow(&mut snapshot, actions, commit)?;
        }
        if snapshot.metadata.schema_string.is_empty() {
            return Err(gone());
        }
        Ok(snapshot)
    }

    /// One action of a commit, or of a checkpoint. What nobody needs to know here is passed over.
    fn apply(
        &self,
        snapshot: &mut Snapshot,
        mut action: Value,
        version: u64,
        in_checkpoint: bool,
    ) -> Result<(), TableError> {
        let damaged = |source| TableError::Log { name: self.name.clone(), version, source };
        let Some(fields) = action.as_object_mut() else { return Ok(()) };
        let Some((kind, value)) = fields.iter_mut().find(|(_, value)| !value.is_null()) else { return Ok(()) };
        let value = value.take();
        snapshot.foreign |= !checkpoint::holds(kind, &value);
        match kind.as_str() {
            "protocol" => snapshot.protocol = serde_json::from_value(value).map_err(damaged)?,
            "metaData" => snapshot.metadata = serde_json::from_value(value).map_err(damaged)?,
            "add" => {
                let add: Add = serde_json::from_value(value).map_err(damaged)?;
                snapshot.removed.remove(&add.path);
                snapshot.files.insert(add.path.clone(), add);
            }
            "remove" => {
                // With another deletion vector the same file comes again, after or before this in the commit: such tables are refused as they
                // are read, so the path says which file it is.
                let path = value.get("path").and_then(Value::as_str).unwrap_or_default();
                let vector = value.get("deletionVector").is_some_and(|vector| !vector.is_null());
                if snapshot.files.get(path).is_some_and(|add| add.deletion_vector.is_some() == vector) {
                    snapshot.files.remove(path);
                } else if !in_checkpoint {
                    // It may be one that the table has under a name that is written in another way: then it would stay.
                    snapshot.foreign = true;
                }
                snapshot.removed.insert(path.to_owned(), value.get("deletionTimestamp").and_then(Value::as_i64));
            }
            "txn" => {
                let app = value.get("appId").and_then(Value::as_str).unwrap_or_default().to_owned();
                snapshot.transactions.insert(app, value.get("version").and_then(Value::as_i64).unwrap_or_default());
            }
            _ => {}
        }
        Ok(())
    }

    /// The version that has what was reached before of a source.
    pub(super) fn reached(&self, snapshot: &Snapshot, source: &str) -> Result<Option<i64>, TableError> {
        if snapshot.metadata.configuration.contains_key("delta.setTransactionRetentionDuration") {
            return Err(TableError::Forgets { name: self.name.clone() });
        }
        Ok(snapshot.transactions.get(source).copied())
    }

    /// What was reached before of a source.
    pub async fn marked(&self, snapshot: &Snapshot, source: &str) -> Result<Option<Marked>, TableError> {
        let Some(version) = self.reached(snapshot, source)? else { return Ok(None) };
        let gone = || TableError::PositionGone { name: self.name.clone(), version };
        let number = u64::try_from(version).map_err(|_| gone())?;
        let mark = self.mark(number).await?.ok_or_else(gone)?;
        Ok(Some(Marked { version, mark }))
    }
}
