//! Checkpoints: the state of a table in one Parquet file, so that readers need not replay all commits.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::ReaderBuilder;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::log::LOG;
use super::snapshot::Snapshot;
use super::{Table, TableError};
use crate::dataset::DatasetError;

/// A table has a checkpoint after so many commits.
const EVERY: u64 = 10;

impl Table {
    /// Writes one where it is time, of a table that nobody else has written: what else such a table may have belongs to whoever wrote it, who
    /// makes checkpoints too.
    pub(super) async fn checkpoint(&self, version: u64) -> Result<(), TableError> {
        if version == 0 || !version.is_multiple_of(EVERY) {
            return Ok(());
        }
        let snapshot = self.snapshot(version).await?;
        if snapshot.foreign || snapshot.protocol.min_writer_version != 2 {
            return Ok(());
        }
        let actions = actions(&snapshot);
        let bytes = parquet(&actions).map_err(|error| match error {
            Failed::Arrow(source) => TableError::Arrow(source),
            Failed::Parquet(source) => DatasetError::Damaged { path: self.name.clone().into(), source }.into(),
        })?;
        // One that is there says the same.
        self.create(&format!("{LOG}/{version:020}.checkpoint.parquet"), bytes).await?;
        let hint = json!({ "version": version, "size": actions.len() });
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

fn actions(snapshot: &Snapshot) -> Vec<Value> {
    let metadata = &snapshot.metadata;
    let mut actions = vec![
        json!({ "protocol": {
            "minReaderVersion": snapshot.protocol.min_reader_version, "minWriterVersion": snapshot.protocol.min_writer_version
        } }),
        json!({ "metaData": {
            "id": metadata.id, "format": { "provider": "parquet", "options": {} }, "schemaString": metadata.schema_string,
            "partitionColumns": metadata.partition_columns, "configuration": metadata.configuration, "createdTime": metadata.created_time
        } }),
    ];
    let transactions = snapshot.transactions.iter();
    actions.extend(transactions.map(|(app, version)| json!({ "txn": { "appId": app, "version": version } })));
    actions.extend(snapshot.files.values().map(|file| {
        json!({ "add": {
            "path": file.path, "partitionValues": file.partition_values, "size": file.size,
            "modificationTime": file.modification_time, "dataChange": false, "stats": file.stats
        } })
    }));
    actions
}

fn parquet(actions: &[Value]) -> Result<Vec<u8>, Failed> {
    let schema = Arc::new(schema());
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(actions.len().max(1)).build_decoder()?;
    decoder.serialize(actions)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None)?;
    if let Some(batch) = decoder.flush()? {
        writer.write(&batch)?;
    }
    Ok(writer.into_inner()?)
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
