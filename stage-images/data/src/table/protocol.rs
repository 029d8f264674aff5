//! What a table asks of its readers and writers. What is not understood here is refused by its name.

use serde::Deserialize;

use super::schema::Column;
use super::snapshot::Snapshot;
use super::{Table, TableError};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    #[serde(default)]
    pub min_reader_version: u32,
    #[serde(default)]
    pub min_writer_version: u32,
    #[serde(default)]
    pub reader_features: Option<Vec<String>>,
    #[serde(default)]
    pub writer_features: Option<Vec<String>>,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None }
    }
}

/// Those that change nothing for who reads, unless the table makes use of them, which is looked at besides.
const READABLE: [&str; 5] = ["timestampNtz", "columnMapping", "deletionVectors", "v2Checkpoint", "vacuumProtocolCheck"];
/// The same for who appends whole files.
const WRITABLE: [&str; 12] = [
    "appendOnly",
    "invariants",
    "checkConstraints",
    "changeDataFeed",
    "generatedColumns",
    "columnMapping",
    "identityColumns",
    "timestampNtz",
    "deletionVectors",
    "domainMetadata",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

impl Table {
    /// The rows are what the files say.
    pub(super) fn readable(&self, snapshot: &Snapshot) -> Result<(), TableError> {
        let refused = |what: &str| Err(TableError::Unsupported { name: self.name.clone(), what: what.to_owned() });
        let protocol = &snapshot.protocol;
        if protocol.min_reader_version > 3 {
            return refused(&format!("reader version {}", protocol.min_reader_version));
        }
        let features = protocol.reader_features.iter().flatten();
        if let Some(other) = features.map(String::as_str).find(|feature| !READABLE.contains(feature)) {
            return refused(other);
        }
        if setting(snapshot, "delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
            return refused("columnMapping");
        }
        if snapshot.files.values().any(|add| add.deletion_vector.as_ref().is_some_and(|vector| !vector.is_null())) {
            return refused("deletionVectors");
        }
        Ok(())
    }

    /// A file of rows may be added by who knows nothing but their types.
    pub(super) fn writable(&self, snapshot: &Snapshot, columns: &[Column]) -> Result<(), TableError> {
        let refused = |what: &str| Err(TableError::Unsupported { name: self.name.clone(), what: what.to_owned() });
        self.readable(snapshot)?;
        let protocol = &snapshot.protocol;
        if protocol.min_writer_version > 7 {
            return refused(&format!("writer version {}", protocol.min_writer_version));
        }
        let features = protocol.writer_features.iter().flatten();
        if let Some(other) = features.map(String::as_str).find(|feature| !WRITABLE.contains(feature)) {
            return refused(other);
        }
        for (key, what) in [
            ("delta.constraints.", "checkConstraints"),
            ("delta.enableInCommitTimestamps", "inCommitTimestamp"),
            ("delta.enableRowTracking", "rowTracking"),
        ] {
            let on =
                |(name, value): (&String, &Option<String>)| name.starts_with(key) && value.as_deref() != Some("false");
            if snapshot.metadata.configuration.iter().any(on) {
                return refused(what);
            }
        }
        for (key, what) in [
            ("delta.invariants", "invariants"),
            ("delta.generationExpression", "generatedColumns"),
            ("delta.identity", "identityColumns"),
            ("CURRENT_DEFAULT", "allowColumnDefaults"),
        ] {
            if columns.iter().any(|column| column.metadata.keys().any(|name| name.starts_with(key))) {
                return refused(what);
            }
        }
        if snapshot.metadata.partition_columns.is_empty() {
            return Ok(());
        }
        let columns = crate::say::names(&snapshot.metadata.partition_columns);
        Err(TableError::Partitioned { name: self.name.clone(), columns })
    }
}

fn setting<'a>(snapshot: &'a Snapshot, key: &str) -> Option<&'a str> {
    snapshot.metadata.configuration.get(key)?.as_deref()
}
