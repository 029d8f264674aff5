//! Rows of a database into a table: one query, read as a stream, in one snapshot, by a session that can only read.
//!
//! Credentials come from the environment alone: what is in `with` is in the pipeline, in the run's status and in logs.

mod address;
mod copied;
mod postgres;
mod rows;
mod sqlite;
mod statement;
mod tls;

use std::path::Path;
use std::sync::Arc;

use ::arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

pub use address::{Address, AddressError};

use super::layout::LayoutError;
use super::params::{Bound, Format, Params, SqlParams};
use super::position::{PositionError, Since};
use super::source::SourceError;
use crate::say;
use crate::sink::SinkError;

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(
        "parameter sql: it is needed because the source is a database; write sql: {{ table: … }} or sql: {{ query: … }}"
    )]
    NoSql,
    #[error("parameter sql: found {found}, expected one of query and table")]
    QueryOrTable { found: &'static str },
    #[error("parameter {parameter}: it is for files, but the source is a database; leave it out")]
    ForFiles { parameter: &'static str },
    #[error("there is no user for {address}: name one in the address (postgresql://user@host/database), or set PGUSER")]
    NoUser { address: String },
    #[error("failed to connect to {address}")]
    Dial {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to connect to {address}: it does not answer within {seconds} s")]
    Slow { address: String, seconds: u64 },
    #[error(
        "failed to sign in to {address} as {user}; the password is taken from PGPASSWORD, and TLS is asked for unless sql.allowPlaintext is true"
    )]
    SignIn {
        address: String,
        user: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("failed to prepare TLS for {address}: {reason}")]
    Tls { address: String, reason: String },
    #[error("parameter sql: {address} does not take the query")]
    PostgresQuery {
        address: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("failed to read from {address}")]
    PostgresRead {
        address: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error(
        "parameter source: there is no file {path}; mount the folder of the database into the stage with `volumes`, or correct the path"
    )]
    NoFile { path: String },
    #[error("failed to open {path} as an SQLite database")]
    SqliteOpen {
        path: String,
        #[source]
        source: rusqlite::Error,
    },
    #[error("parameter sql: {path} does not take the query")]
    SqliteQuery {
        path: String,
        #[source]
        source: rusqlite::Error,
    },
    #[error("failed to read from {path}")]
    SqliteRead {
        path: String,
        #[source]
        source: rusqlite::Error,
    },
    #[error(
        "parameter sql.watermark.column: {column} is of type {found}, expected integer, number, date or timestamp: only those have one order everywhere"
    )]
    WatermarkType { column: String, found: &'static str },
    #[error("parameter sql.watermark.column: there is no column `{column}`; the columns are: {known}")]
    WatermarkColumn { column: String, known: String },
    #[error("parameter sql.watermark.above: '{found}' is no {expected}, which the column {column} holds")]
    WatermarkAbove { column: String, found: String, expected: &'static str },
    #[error("{name}, row {row}, column {column}: '{found}' is no {expected}; declare another type in schema")]
    Value { name: String, row: u64, column: String, found: String, expected: &'static str },
    #[error(
        "{name}, row {row}, column {column}: a value of {bytes} bytes as text, expected at most {} MiB; name the columns to keep in columns, without this one",
        limit >> 20
    )]
    LongValue { name: String, row: u64, column: String, bytes: usize, limit: usize },
    #[error("{name}: the query gives no rows; correct it, or set sql.watermark if there may be none that are new")]
    NoRows { name: String },
    #[error(
        "parameter sql.watermark.column: it is {found}, but what was read before goes up to a value of {expected}; take {expected} again, or give what is read now a name of its own in table.position"
    )]
    OtherColumn { found: String, expected: String },
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Size(#[from] SourceError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What was read.
pub struct Read {
    pub rows: u64,
    pub schema: Arc<Schema>,
    /// The highest value of the watermark's column, or the one that was given if there are no new rows.
    pub watermark: Option<String>,
}

/// Where the next run goes on: above the value that this one has reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub column: String,
    pub above: String,
}

impl Read {
    /// None: it is not read by a watermark, or no row was ever read.
    pub fn position(&self, params: &Params) -> Option<Position> {
        let column = params.sql.as_ref()?.watermark.as_ref()?.column.clone();
        Some(Position { column, above: self.watermark.clone()? })
    }
}

/// Reads what the parameters ask of the database, and writes it to a folder.
pub async fn ingest(address: &Address, params: &Params, since: &Since, to: &Path) -> Result<Read, DatabaseError> {
    let sql = &above(check(params)?, since)?;
    let read = match address {
        Address::Postgres(server) => postgres::ingest(server, sql, params, to).await?,
        Address::Sqlite(path) => sqlite::ingest(path, sql, params, to)?,
    };
    if read.rows == 0 && sql.watermark.is_none() {
        return Err(DatabaseError::NoRows { name: address.name() });
    }
    Ok(read)
}

/// What was reached before is more than what a person has written.
fn above(sql: &SqlParams, since: &Since) -> Result<SqlParams, DatabaseError> {
    let mut sql = sql.clone();
    if let (Some(watermark), Some(since)) = (&mut sql.watermark, since.get::<Position>()?) {
        if watermark.column != since.column {
            return Err(DatabaseError::OtherColumn {
                found: say::excerpt(&watermark.column, 60),
                expected: say::excerpt(&since.column, 60),
            });
        }
        watermark.above = Some(Bound(since.above));
    }
    Ok(sql)
}

fn check(params: &Params) -> Result<&SqlParams, DatabaseError> {
    let format = params.format.is_some_and(|format| format != Format::Auto);
    for (parameter, there) in [("format", format), ("csv", params.csv.is_some()), ("s3", params.s3.is_some())] {
        if there {
            return Err(DatabaseError::ForFiles { parameter });
        }
    }
    let sql = params.sql.as_ref().ok_or(DatabaseError::NoSql)?;
    match (&sql.query, &sql.table) {
        (Some(_), Some(_)) => Err(DatabaseError::QueryOrTable { found: "both" }),
        (None, None) => Err(DatabaseError::QueryOrTable { found: "neither" }),
        _ => Ok(sql),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::parse;
    use serde_json::json;

    #[test]
    fn what_was_reached_before_is_read_above_and_another_column_is_refused() {
        let params: Params = parse(
            "ingest",
            r#"{"source": "sqlite:/x", "sql": {"table": "t", "watermark": {"column": "id", "above": 3}}}"#,
        )
        .unwrap();
        let sql = params.sql.as_ref().unwrap();
        let bound = |since: Since| above(sql, &since).map(|sql| sql.watermark.unwrap().above.unwrap().0);
        assert_eq!(bound(Since::default()).unwrap(), "3");
        assert_eq!(bound(Since::new(Some(json!({ "column": "id", "above": "17" })))).unwrap(), "17");
        let message = bound(Since::new(Some(json!({ "column": "at", "above": "17" })))).unwrap_err().to_string();
        assert!(message.contains("it is id") && message.contains("a value of at"), "{message}");
    }

    #[test]
    fn the_next_run_goes_on_above_what_was_reached() {
        let read = |watermark: Option<&str>| Read {
            rows: 0,
            schema: Arc::new(Schema::empty()),
            watermark: watermark.map(ToOwned::to_owned),
        };
        let marked = r#"{"source": "sqlite:/x", "sql": {"table": "t", "watermark": {"column": "id"}}}"#;
        let marked: Params = parse("ingest", marked).unwrap();
        let whole: Params = parse("ingest", r#"{"source": "sqlite:/x", "sql": {"table": "t"}}"#).unwrap();
        let reached = Position { column: "id".into(), above: "9".into() };
        assert_eq!(read(Some("9")).position(&marked), Some(reached));
        assert_eq!(read(None).position(&marked), None);
        assert_eq!(read(None).position(&whole), None);
    }
}
