//! One commit with rows and with the position of their source. Whatever ends this program, the table has both or neither.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::files::random;
use super::log::{LOG, Mark};
use super::place::Tag;
use super::snapshot::Snapshot;
use super::{Table, TableError};
use crate::{dataset, say};

/// Commits that meet others'. Each time somebody else's came through.
const TRIES: u32 = 50;
const WRITER: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));

/// What is appended.
pub struct Batch<'a> {
    /// Whose position it is: the table keeps one for each.
    pub source: &'a str,
    /// The version that had the source's last position when it was read.
    pub after: Option<i64>,
    /// A folder of Parquet files.
    pub staged: &'a Path,
    pub rows: u64,
    /// Namespace, run and stage, and the rows that they have appended before.
    pub run: Option<&'a str>,
    pub rows_before: u64,
    /// What the source has reached with them.
    pub position: &'a Value,
}

/// The commit that has it.
#[derive(Debug)]
pub struct Appended {
    pub version: u64,
    /// The table was made by it.
    pub created: bool,
    /// The table with it, for the next one.
    pub snapshot: Option<Snapshot>,
}

/// Rows at their place, which no commit names yet.
struct Written {
    schema: Arc<Schema>,
    added: Vec<Value>,
}

impl Table {
    /// Appends rows. Nobody sees any of them before all are there. Of the log is read what came after the snapshot that is known.
    pub async fn append(
        &self,
        mut known: Option<Snapshot>,
        batch: &Batch<'_>,
        work: &Path,
    ) -> Result<Appended, TableError> {
        let (position, run) = (batch.position.clone(), batch.run.map(ToOwned::to_owned));
        let mark = Mark { position, batch: random(), rows: batch.rows_before + batch.rows, run };
        let mut written: Option<Written> = None;
        for _ in 0..TRIES {
            let snapshot = self.newer(known).await?;
            self.still(snapshot.as_ref(), batch)?;
            let (schema, begins) = match &snapshot {
                None => self.made_of(batch.staged)?,
                Some(snapshot) => {
                    let (columns, schema) = self.columns(snapshot)?;
                    self.writable(snapshot, &columns)?;
                    (Arc::new(schema), Vec::new())
                }
            };
            let added = match &written {
                Some(written) if written.schema != schema => {
                    return Err(TableError::Changed { name: self.name.clone() });
                }
                Some(written) => &written.added,
                None if batch.rows == 0 => &Vec::new(),
                None => {
                    let added = self.write(batch.staged, &schema, work).await?;
                    &written.insert(Written { schema, added }).added
                }
            };
            let version = snapshot.as_ref().map_or(0, |snapshot| snapshot.version + 1);
            let actions = commit(version, batch, &mark, begins, added);
            let made = self.create(&format!("{LOG}/{version:020}.json"), lines(&actions)).await?;
            // A server may have taken it and the answer may be lost: then it is ours.
            if made.is_some() || self.mark(version).await?.is_some_and(|other| other.batch == mark.batch) {
                let created = snapshot.is_none();
                let mut snapshot = self.with(snapshot.unwrap_or_default(), actions, version, made.unwrap_or_default());
                if let Some(snapshot) = &mut snapshot {
                    self.keep_short(snapshot).await;
                }
                return Ok(Appended { version, created, snapshot });
            }
            known = snapshot;
        }
        Err(TableError::Busy { name: self.name.clone(), tries: TRIES })
    }

    /// The table with a commit of ours. What it has there is not lost where this goes wrong.
    fn with(&self, mut snapshot: Snapshot, actions: Vec<Value>, version: u64, tag: Tag) -> Option<Snapshot> {
        self.follow(&mut snapshot, actions, version).ok()?;
        snapshot.tag = tag;
        Some(snapshot)
    }

    /// Nobody has appended rows of this source since it was read.
    fn still(&self, snapshot: Option<&Snapshot>, batch: &Batch<'_>) -> Result<(), TableError> {
        let Some(snapshot) = snapshot else { return Ok(()) };
        match self.reached(snapshot, batch.source)? {
            Some(version) if Some(version) != batch.after => {
                Err(TableError::Moved { name: self.name.clone(), version })
            }
            _ => Ok(()),
        }
    }

    /// The columns of a table that is made of these rows, and the actions that make it.
    fn made_of(&self, staged: &Path) -> Result<(Arc<Schema>, Vec<Value>), TableError> {
        let described = self.described(&dataset::schema(staged)?)?;
        let metadata = json!({
            "id": table_id(), "format": { "provider": "parquet", "options": {} }, "schemaString": described,
            "partitionColumns": [], "configuration": {}, "createdTime": Timestamp::now().as_millisecond()
        });
        let as_read =
            Snapshot { metadata: serde_json::from_value(metadata.clone()).unwrap_or_default(), ..Snapshot::default() };
        let (_, schema) = self.columns(&as_read)?;
        let protocol = json!({ "minReaderVersion": 1, "minWriterVersion": 2 });
        Ok((Arc::new(schema), vec![json!({ "protocol": protocol }), json!({ "metaData": metadata })]))
    }

    /// What it spares is time of readers: without it the table is right too.
    async fn keep_short(&self, snapshot: &mut Snapshot) {
        if let Err(error) = self.checkpoint(snapshot).await {
            say::line(format!("  no checkpoint: {}", say::one_line(&error)));
        }
    }
}

/// The actions of a commit.
fn commit(version: u64, batch: &Batch<'_>, mark: &Mark, begins: Vec<Value>, added: &[Value]) -> Vec<Value> {
    let now = Timestamp::now().as_millisecond();
    let info = json!({ "commitInfo": {
        "timestamp": now, "operation": "WRITE", "operationParameters": { "mode": "Append", "partitionBy": "[]" },
        "isBlindAppend": true, "engineInfo": WRITER, "millrace": json!(mark).to_string()
    } });
    let reached = json!({ "txn": { "appId": batch.source, "version": version, "lastUpdated": now } });
    let mut actions = vec![info];
    actions.extend(begins);
    actions.push(reached);
    actions.extend_from_slice(added);
    actions
}

fn lines(actions: &[Value]) -> Vec<u8> {
    actions.iter().flat_map(|action| format!("{action}\n").into_bytes()).collect()
}

/// As others write it: an UUID.
fn table_id() -> String {
    let hex = random();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
