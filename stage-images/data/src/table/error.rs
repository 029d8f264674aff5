//! What can be wrong with a table.

use arrow::error::ArrowError;

use crate::dataset::DatasetError;
use crate::ingest::source::SourceError;
use crate::objects::ObjectError;
use crate::sink::SinkError;

#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error(
        "`{found}` is no address of a table; write s3://bucket/path, the same with gs:// or az://, or a path that is mounted"
    )]
    Address { found: String },
    #[error(
        "there is no Delta table at {name}: it has no _delta_log; correct the address, or let `ingest` append to it first"
    )]
    NoTable { name: String },
    #[error("{name} has no version {version}, or its log does not reach back to it")]
    NoVersion { name: String, version: u64 },
    #[error("{name} uses what is not understood here: {what}; switch it off for the table, or take another one")]
    Unsupported { name: String, what: String },
    #[error("{name}: a file lies outside of the table ({path}), as in a shallow clone; read the table that has it")]
    Elsewhere { name: String, path: String },
    #[error(transparent)]
    Store(#[from] ObjectError),
    #[error("failed to read or write files of {name}: {answer}")]
    Here { name: String, answer: String },
    #[error(
        "{name} is partitioned by {columns}, and only tables without partitions are appended to; give another one in table.uri"
    )]
    Partitioned { name: String, columns: String },
    #[error(
        "{name}: a column of a table cannot be called '{column}': no spaces, line ends and none of , ; {{ }} ( ) ="
    )]
    ColumnName { name: String, column: String },
    #[error(
        "{name} has no column `{column}`; its columns are: {known}. Name those to append in columns, or add it to the table"
    )]
    NewColumn { name: String, column: String, known: String },
    #[error("{name}, column {column}: the rows have the type {found}, and the table {expected}; declare it in schema")]
    ColumnType { name: String, column: String, found: String, expected: String },
    #[error(
        "{name}, column {column}: a value of type {found} cannot become {expected}, which the table has; declare it in schema"
    )]
    Value {
        name: String,
        column: String,
        found: String,
        expected: String,
        #[source]
        source: ArrowError,
    },
    #[error(
        "{name}, column {column}: the table says that no value is missing, and of the rows there are {count} without one"
    )]
    Missing { name: String, column: String, count: usize },
    #[error(
        "{name} forgets positions after a time (delta.setTransactionRetentionDuration), and then rows would come twice; take that property from the table"
    )]
    Forgets { name: String },
    #[error(
        "the source's position in {name} is in version {version}, which is gone from the table's log; say where to go on with sql.watermark.above or delta.after, and give the source another name in table.position"
    )]
    PositionGone { name: String, version: i64 },
    #[error(
        "another run has appended rows of the same source to {name} meanwhile (version {version}), and nothing of this one's was: another attempt goes on from there"
    )]
    Moved { name: String, version: i64 },
    #[error("{name} is written so much that {tries} commits met others; nothing was appended")]
    Busy { name: String, tries: u32 },
    #[error(
        "{name}: its columns were changed while the rows were written; nothing was appended: another attempt sees them"
    )]
    Changed { name: String },
    #[error(
        "{name}: version {version} takes rows out, and what is new since version {since} can only be read where rows are added; read the table as a whole"
    )]
    Removed { name: String, version: u64, since: u64 },
    #[error(
        "{name}: version {version} is gone from its log, and what is new since version {since} cannot be told; read the table as a whole"
    )]
    LogGone { name: String, version: u64, since: u64 },
    #[error("{name} is another table than the one that was read before: that had the id {expected}, this has {found}")]
    OtherTable { name: String, found: String, expected: String },
    #[error(
        "{name}: what was read before goes up to version {since}, and its last version is {last}: it was made anew"
    )]
    Behind { name: String, since: u64, last: u64 },
    #[error("{name}: there is no column `{column}`; the columns are: {known}")]
    NoColumn { name: String, column: String, known: String },
    #[error("parameter delta.timeColumn: {column} is of type {found}, expected date or timestamp")]
    TimeColumn { column: String, found: String },
    #[error("{name}: the log of version {version} is damaged")]
    Log {
        name: String,
        version: u64,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to write for the table {name}")]
    Write {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Size(#[from] SourceError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("failed to handle a batch of rows")]
    Arrow(#[from] ArrowError),
}
