//! Checkpoints: the state of a table in one Parquet file, so that readers need not replay all commits.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::ReaderBuilder;
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::log::LOG;
use super::snapshot::Snapshot;
use super::{Table, TableError};
use crate::dataset::DatasetError;

/// A table has a checkpoint after so many commits.
const EVERY: u64 = 10;
/// Actions that are in memory as JSON.
const AT_ONCE: usize = 1024;
/// For so long a checkpoint has what was taken out, unless the table says something else: who reads an older version still needs those files, so
/// nobody may delete them.
const WEEK: i64 = 7 * 24 * 3_600_000;
const RETENTION: &str = "delta.deletedFileRetentionDuration";

/// What is known of each action: all of it is in a checkpoint, but for what says the same again (`stats_parsed`, and all of a removed file that
/// its `add` said).
const HELD: [(&str, &[&str]); 6] = [
    ("protocol", &["minReaderVersion", "minWriterVersion"]),
    (
        "metaData",
        &["id", "name", "description", "format", "schemaString", "partitionColumns", "configuration", "createdTime"],
    ),
    (
        "add",
        &[
            "path",
            "partitionValues",
            "partitionValues_parsed",
            "size",
            "modificationTime",
            "dataChange",
            "stats",
            "stats_parsed",
            "tags",
        ],
    ),
    (
        "remove",
        &[
            "path",
            "deletionTimestamp",
            "dataChange",
            "extendedFileMetadata",
            "partitionValues",
            "size",
            "stats",
            "tags",
        ],
    ),
    ("txn", &["appId", "version", "lastUpdated"]),
    // It is of its commit alone.
    ("commitInfo", &[]),
];

/// Whether a checkpoint has room for an action, so that nothing that others wrote is lost with it.
pub(super) fn holds(kind: &str, value: &Value) -> bool {
    let Some((_, known)) = HELD.iter().find(|(name, _)| *name == kind) else { return false };
    let there = |name: &str| value.get(name).is_some_and(|value| !value.is_null());
    let options = value.pointer("/format/options").and_then(Value::as_object);
    let whole =
        || value.as_object().is_some_and(|all| all.keys().all(|name| known.contains(&name.as_str()) || !there(name)));
    kind == "commitInfo"
        || (whole() && (there("stats") || !there("stats_parsed")) && options.is_none_or(serde_json::Map::is_empty))
}

impl Table {
    /// Writes one where it is time. What a checkpoint of ours has no room for belongs to whoever wrote it, who makes checkpoints too.
    pub(super) async fn checkpoint(&self, snapshot: &mut Snapshot) -> Result<(), TableError> {
        let version = snapshot.version;
        if version == 0 || !version.is_multiple_of(EVERY) {
            return Ok(());
        }
        if snapshot.foreign || snapshot.protocol.min_writer_version != 2 {
            return Ok(());
        }
        if let Some(time) = retention(snapshot) {
            let oldest = Timestamp::now().as_millisecond().saturating_sub(time);
            snapshot.removed.retain(|_, at| at.is_some_and(|at| at >= oldest));
        }
        let (bytes, count) = parquet(actions(snapshot)).map_err(|error| match error {
            Failed::Arrow(source) => TableError::Arrow(source),
            Failed::Parquet(source) => DatasetError::Damaged { path: self.name.clone().into(), source }.into(),
        })?;
        // One that is there says the same.
        self.create(&format!("{LOG}/{version:020}.checkpoint.parquet"), bytes).await?;
        let hint = json!({ "version": version, "size": count });
        self.put(&format!("{LOG}/_last_checkpoint"), hint.to_string().into_bytes()).await
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
}

/// Milliseconds for which removed files are kept. None for ever: what the table says is not understood.
fn retention(snapshot: &Snapshot) -> Option<i64> {
    match snapshot.metadata.configuration.get(RETENTION) {
        None => Some(WEEK),
        Some(text) => interval(text.as_deref()?),
    }
}

/// Such as `interval 1 week`, or `interval 2 days 12 hours`.
fn interval(text: &str) -> Option<i64> {
    let text = text.to_ascii_lowercase();
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "interval").collect();
    let pairs = words.chunks(2).map(|pair| {
        let &[count, unit] = pair else { return None };
        let unit = match unit.strip_suffix('s').unwrap_or(unit) {
            "week" => WEEK,
            "day" => WEEK / 7,
            "hour" => 3_600_000,
            "minute" => 60_000,
            "second" => 1000,
            "millisecond" => 1,
            _ => return None,
        };
        count.parse::<i64>().ok().filter(|count| *count >= 0)?.checked_mul(unit)
    });
    (!words.is_empty()).then_some(())?;
    pairs.reduce(|all, one| all?.checked_add(one?)).flatten()
}

fn actions(snapshot: &Snapshot) -> impl Iterator<Item = Value> {
    let (protocol, metadata) = (&snapshot.protocol, &snapshot.metadata);
    let begins = [
        json!({ "protocol": {
            "minReaderVersion": protocol.min_reader_version, "minWriterVersion": protocol.min_writer_version
        } }),
        json!({ "metaData": {
            "id": metadata.id, "name": metadata.name, "description": metadata.description,
            "format": { "provider": "parquet", "options": {} }, "schemaString": metadata.schema_string,
            "partitionColumns": metadata.partition_columns, "configuration": metadata.configuration, "createdTime": metadata.created_time
        } }),
    ];
    let transactions = snapshot.transactions.iter();
    let transactions = transactions.map(|(app, version)| json!({ "txn": { "appId": app, "version": version } }));
    let added = snapshot.files.values().map(|file| {
        json!({ "add": {
            "path": file.path, "partitionValues": file.partition_values, "size": file.size,
            "modificationTime": file.modification_time, "dataChange": false, "stats": file.stats, "tags": file.tags
        } })
    });
    let removed = snapshot.removed.iter();
    let removed =
        removed.map(|(path, at)| json!({ "remove": { "path": path, "deletionTimestamp": at, "dataChange": false } }));
    begins.into_iter().chain(transactions).chain(added).chain(removed)
}

/// The file, and how many actions it has.
fn parquet(mut actions: impl Iterator<Item = Value>) -> Result<(Vec<u8>, usize), Failed> {
    let schema = Arc::new(schema());
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(AT_ONCE).build_decoder()?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None)?;
    let mut count = 0;
    loop {
        let some: Vec<Value> = actions.by_ref().take(AT_ONCE).collect();
        decoder.serialize(&some)?;
        let Some(batch) = decoder.flush()? else { break };
        writer.write(&batch)?;
        count += some.len();
    }
    Ok((writer.into_inner()?, count))
}

/// The columns that the protocol gives a checkpoint.
fn schema() -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let small = |name: &str| Field::new(name, DataType::Int32, true);
    let map = |name: &str| {
        let entry =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
        let entry = Field::new("key_value", DataType::Struct(entry), false);
        Field::new(name, DataType::Map(Arc::new(entry), false), true)
    };
    let all = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields.into()), true);
    let columns = DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)));
    Schema::new(vec![
        all("txn", vec![text("appId"), number("version"), number("lastUpdated")]),
        all(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                number("size"),
                number("modificationTime"),
                Field::new("dataChange", DataType::Boolean, true),
                text("stats"),
                map("tags"),
            ],
        ),
        all(
            "remove",
            vec![text("path"), number("deletionTimestamp"), Field::new("dataChange", DataType::Boolean, true)],
        ),
        all(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                all("format", vec![text("provider"), map("options")]),
                text("schemaString"),
                Field::new("partitionColumns", columns, true),
                map("configuration"),
                number("createdTime"),
            ],
        ),
        all("protocol", vec![small("minReaderVersion"), small("minWriterVersion")]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_room_for_what_it_writes_and_for_nothing_else() {
        let schema = schema();
        for (kind, known) in HELD.iter().filter(|(kind, _)| *kind != "commitInfo") {
            let DataType::Struct(fields) = schema.field_with_name(kind).unwrap().data_type() else { panic!("{kind}") };
            let missing = fields.iter().find(|field| !known.contains(&field.name().as_str()));
            assert_eq!(missing, None, "{kind}");
        }
        for (kind, value, held) in [
            (
                "add",
                json!({ "path": "a", "stats": "{}", "stats_parsed": { "numRecords": 1 }, "baseRowId": null }),
                true,
            ),
            ("add", json!({ "path": "a", "stats": null, "stats_parsed": { "numRecords": 1 } }), false),
            ("add", json!({ "path": "a", "baseRowId": 7 }), false),
            ("remove", json!({ "path": "a", "extendedFileMetadata": true, "size": 1, "tags": {} }), true),
            ("remove", json!({ "path": "a", "deletionVector": { "storageType": "u" } }), false),
            ("metaData", json!({ "id": "1", "format": { "provider": "parquet", "options": {} } }), true),
            ("metaData", json!({ "id": "1", "format": { "provider": "parquet", "options": { "a": "b" } } }), false),
            ("commitInfo", json!({ "operation": "OPTIMIZE" }), true),
            ("domainMetadata", json!({ "domain": "d" }), false),
        ] {
            assert_eq!(holds(kind, &value), held, "{kind} {value}");
        }
    }

    #[test]
    fn what_was_taken_out_is_kept_as_long_as_the_table_says() {
        for (text, time) in [
            ("interval 1 week", Some(604_800_000)),
            ("interval 168 hours", Some(604_800_000)),
            ("INTERVAL 1 day 12 hours", Some(129_600_000)),
            ("0 seconds", Some(0)),
            ("interval 1 month", None),
            ("interval", None),
            ("interval 1", None),
            ("interval -1 day", None),
        ] {
            assert_eq!(interval(text), time, "{text}");
        }
        assert_eq!(retention(&Snapshot::default()), Some(WEEK));
    }
}
