//! The log of a table: which files it has, and the actions in them.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::json::LineDelimitedWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::place::Tag;
use super::{Table, TableError};
use crate::dataset::DatasetError;

pub(super) const LOG: &str = "_delta_log";

/// The actions of a checkpoint that are read. Those behind `sidecar` say that others write the table too.
const ACTIONS: [&str; 7] = ["txn", "add", "metaData", "protocol", "sidecar", "remove", "domainMetadata"];

/// What a commit says of the rows that it appends: the field `millrace` of its `commitInfo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Where the source goes on, as JSON of its own.
    pub position: Value,
    /// Names the batch: whoever is not told whether a commit came through finds it here.
    pub batch: String,
    /// Rows that the run has appended, in all its attempts.
    pub rows: u64,
    /// Namespace, run and stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// The files of a log.
#[derive(Debug, Default)]
pub struct Listing {
    pub(super) commits: BTreeMap<u64, Tag>,
    /// Checkpoints that are whole, by version: the names of their parts.
    pub checkpoints: BTreeMap<u64, Vec<String>>,
}

impl Listing {
    pub(super) fn of(files: BTreeMap<String, Tag>) -> Self {
        let mut listing = Self::default();
        let mut parts: BTreeMap<(u64, usize), Vec<String>> = BTreeMap::new();
        for (name, tag) in files {
            let words: Vec<&str> = name.split('.').collect();
            let Some(version) = words.first().filter(|word| word.len() == 20).and_then(|word| word.parse().ok()) else {
                continue;
            };
            match words[1..] {
                ["json"] => drop(listing.commits.insert(version, tag)),
                ["checkpoint", "parquet"] => drop(listing.checkpoints.insert(version, vec![name])),
                ["checkpoint", _, total, "parquet"] => {
                    if let Ok(total) = total.parse() {
                        parts.entry((version, total)).or_default().push(name);
                    }
                }
                _ => {}
            }
        }
        for ((version, total), names) in parts {
            if names.len() == total {
                listing.checkpoints.entry(version).or_insert(names);
            }
        }
        listing
    }

    /// The last version; none where there is no table.
    pub(super) fn last(&self) -> Option<u64> {
        self.commits.keys().last().max(self.checkpoints.keys().last()).copied()
    }
}

/// Files that a commit names.
#[derive(Debug, Default)]
pub struct Changes {
    pub added: Vec<String>,
    /// Rows are taken out, or changed.
    pub removes: bool,
}

impl Table {
    pub(super) async fn listing(&self) -> Result<Listing, TableError> {
        Ok(Listing::of(self.files_in(LOG, None).await?))
    }

    /// What of it belongs to a version and those after it.
    pub(super) async fn listing_from(&self, version: u64) -> Result<Listing, TableError> {
        Ok(Listing::of(self.files_in(LOG, Some(&format!("{version:020}"))).await?))
    }

    /// The mark of a commit, if it is there and has one.
    pub(super) async fn mark(&self, version: u64) -> Result<Option<Mark>, TableError> {
        let actions = self.actions(version).await?.unwrap_or_default();
        let text = actions.iter().find_map(|action| action.get("commitInfo")?.get("millrace")?.as_str());
        Ok(text.and_then(|text| serde_json::from_str(text).ok()))
    }

    /// The files that a commit names, or none where its log is gone.
    pub(super) async fn changes(&self, version: u64) -> Result<Option<Changes>, TableError> {
        let Some(actions) = self.actions(version).await? else { return Ok(None) };
        let mut changes = Changes::default();
        for action in &actions {
            // A writer that only puts rows together says so: then no row is new, and none is gone.
            let changes_data = |file: &Value| file.get("dataChange").and_then(Value::as_bool).unwrap_or(true);
            if let Some(add) = action.get("add").filter(|add| changes_data(add)) {
                changes.added.extend(add.get("path").and_then(Value::as_str).map(ToOwned::to_owned));
            }
            changes.removes |= action.get("remove").is_some_and(changes_data);
        }
        Ok(Some(changes))
    }

    /// The actions of a commit, or none where its log is gone.
    pub(super) async fn actions(&self, version: u64) -> Result<Option<Vec<Value>>, TableError> {
        let Some(bytes) = self.get(&format!("{LOG}/{version:020}.json")).await? else { return Ok(None) };
        let actions = serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<_, _>>();
        actions.map(Some).map_err(|source| TableError::Log { name: self.name.clone(), version, source })
    }

    /// Gives each action of a part of a checkpoint that says what the table is.
    pub(super) async fn checkpointed(
        &self,
        part: &str,
        version: u64,
        work: &Path,
        mut each: impl FnMut(Value) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        let path = self.local(&format!("{LOG}/{part}"), work).await?;
        let damaged = |source| DatasetError::Damaged { path: path.clone(), source };
        let file = std::fs::File::open(&path).map_err(|source| DatasetError::Read { path: path.clone(), source })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let wanted = builder.schema().fields().iter().enumerate();
        let wanted = wanted.filter(|(_, field)| ACTIONS.contains(&field.name().as_str()));
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(index, _)| index));
        for batch in builder.with_projection(mask).with_batch_size(1024).build().map_err(damaged)? {
            let mut lines = LineDelimitedWriter::new(Vec::new());
            lines.write(&batch?)?;
            lines.finish()?;
            for action in serde_json::Deserializer::from_slice(&lines.into_inner()).into_iter() {
                let action: Value =
                    action.map_err(|source| TableError::Log { name: self.name.clone(), version, source })?;
                // The rest of the checkpoint is in files beside it.
                if action.get("sidecar").is_some() {
                    return Err(TableError::Unsupported { name: self.name.clone(), what: "v2Checkpoint".into() });
                }
                each(action)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_counts_when_all_its_parts_are_there() {
        let names = [
            "00000000000000000003.json",
            "00000000000000000002.json",
            "00000000000000000002.checkpoint.0000000001.0000000002.parquet",
            "00000000000000000001.checkpoint.parquet",
            "00000000000000000003.crc",
            "_last_checkpoint",
            "3.json",
        ];
        let mut files: BTreeMap<String, Tag> = names.map(|name| (name.to_owned(), Tag::default())).into();
        let listing = Listing::of(files.clone());
        assert_eq!(listing.commits.keys().collect::<Vec<_>>(), [&2, &3]);
        assert_eq!(listing.checkpoints.keys().collect::<Vec<_>>(), [&1]);
        files.insert("00000000000000000002.checkpoint.0000000002.0000000002.parquet".into(), Tag::default());
        assert_eq!(Listing::of(files).checkpoints[&2].len(), 2);
    }
}
