//! MySQL and MariaDB: one prepared statement, whose rows the server streams, in one snapshot, in a transaction that can only read.

use std::path::Path;
use std::time::Duration;

use mysql_async::consts::ColumnType as Kind;
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Conn, Error, IoError, OptsBuilder, SslOpts, Value};

use super::address::Server;
use super::rows::Rows;
use super::statement::{self, Dialect, Found};
use super::{DatabaseError, Read, tls};
use crate::ingest::params::{Params, SqlParams};
use crate::ingest::values;
use crate::types::ColumnType;

/// To connect, agree on TLS and sign in.
const CONNECT_SECONDS: u64 = 20;
/// After such a silence the server's machine is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The character set of what is no text.
const BINARY: u16 = 63;

/// Times in UTC, and nothing but reading. The snapshot is one of all tables that have transactions.
const SESSION: [&str; 3] = [
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
];

pub async fn ingest(server: &Server, sql: &SqlParams, params: &Params, to: &Path) -> Result<Read, DatabaseError> {
    let seconds = CONNECT_SECONDS;
    let mut connection = tokio::time::timeout(Duration::from_secs(seconds), connect(server, sql))
        .await
        .map_err(|_| DatabaseError::Slow { address: server.name(), seconds })??;
    let query = |source: Error| DatabaseError::ServerQuery { address: server.name(), source: source.into() };
    let read = |source: Error| DatabaseError::ServerRead { address: server.name(), source: source.into() };
    let base = connection.prep(statement::base(Dialect::Mysql, sql)).await.map_err(query)?;
    let found: Vec<Found> = base
        .columns()
        .iter()
        .map(|column| Found { name: column.name_str().into_owned(), column_type: column_type(column) })
        .collect();
    let plan = statement::plan(&server.name(), Dialect::Mysql, sql, params, &found)?;
    // A statement that is prepared is one statement, whatever the query has in it.
    let wanted = connection.prep(plan.query.as_str()).await.map_err(query)?;
    let binary: Vec<bool> = wanted.columns().iter().map(is_binary).collect();
    let mut rows = Rows::create(server.name(), &plan, params.max_bytes, to)?;
    let mut stream = connection.exec_iter(&wanted, ()).await.map_err(query)?;
    let mut texts = Vec::with_capacity(binary.len());
    while let Some(row) = stream.next().await.map_err(read)? {
        texts.clear();
        texts.extend(row.unwrap().into_iter().zip(&binary).map(|(value, binary)| text(value, *binary)));
        rows.count(texts.iter().flatten().map(String::len).sum())?;
        rows.push(&texts)?;
    }
    drop(stream);
    let done = rows.finish()?;
    // The rows are there, whatever the server says to a goodbye.
    let _ = connection.disconnect().await;
    Ok(done)
}

/// A session that can only read.
async fn connect(server: &Server, sql: &SqlParams) -> Result<Conn, DatabaseError> {
    let address = server.name();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = server.user.clone().or_else(|| variable("MYSQL_USER"));
    let nobody = || DatabaseError::NoUser { address: address.clone(), scheme: "mysql", variable: "MYSQL_USER" };
    let user = user.ok_or_else(nobody)?;
    let options = OptsBuilder::default()
        .ip_or_hostname(server.host.as_str())
        .tcp_port(server.port)
        .db_name(Some(server.database.as_str()))
        .user(Some(user.as_str()))
        .pass(variable("MYSQL_PASSWORD"))
        // Never another way in than the one that was agreed on, as a socket of a server on this machine.
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE))
        .ssl_opts(if sql.allow_plaintext.unwrap_or(false) { None } else { Some(secured(&address)?) });
    let refused = |source: Error| match source {
        Error::Io(IoError::Io(source)) if !is_tls(&source) => DatabaseError::Dial { address: address.clone(), source },
        source => DatabaseError::SignIn {
            address: address.clone(),
            user: user.clone(),
            password: "MYSQL_PASSWORD",
            source: source.into(),
        },
    };
    let mut connection = Conn::new(options).await.map_err(refused)?;
    for statement in SESSION {
        let set = connection.query_drop(statement).await;
        set.map_err(|source| DatabaseError::ServerRead { address: address.clone(), source: source.into() })?;
    }
    Ok(connection)
}

/// Whether it was TLS that failed, on a connection that was there.
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>()).is_some()
}

/// TLS that is verified as everywhere here.
fn secured(address: &str) -> Result<SslOpts, DatabaseError> {
    let found = tls::authorities().map_err(|reason| DatabaseError::Tls { address: address.to_owned(), reason })?;
    let roots = found.into_iter().map(|certificate| certificate.to_vec().into()).collect();
    Ok(SslOpts::default().with_root_certs(roots).with_disable_built_in_roots(true))
}

/// The type of a table's column for one of the server's. What has no word here is its text.
fn column_type(column: &Column) -> ColumnType {
    match column.column_type() {
        // What `BOOLEAN` is.
        Kind::MYSQL_TYPE_TINY if column.column_length() == 1 => ColumnType::Boolean,
        Kind::MYSQL_TYPE_TINY
        | Kind::MYSQL_TYPE_SHORT
        | Kind::MYSQL_TYPE_INT24
        | Kind::MYSQL_TYPE_LONG
        | Kind::MYSQL_TYPE_LONGLONG
        | Kind::MYSQL_TYPE_YEAR => ColumnType::Integer,
        Kind::MYSQL_TYPE_FLOAT | Kind::MYSQL_TYPE_DOUBLE | Kind::MYSQL_TYPE_DECIMAL | Kind::MYSQL_TYPE_NEWDECIMAL => {
            ColumnType::Number
        }
        Kind::MYSQL_TYPE_DATE | Kind::MYSQL_TYPE_NEWDATE => ColumnType::Date,
        Kind::MYSQL_TYPE_DATETIME | Kind::MYSQL_TYPE_TIMESTAMP => ColumnType::Timestamp,
        _ => ColumnType::String,
    }
}

/// Whether a column has bytes that are no text. Numbers and times have that character set too, and come as digits.
fn is_binary(column: &Column) -> bool {
    let digits = !matches!(column_type(column), ColumnType::String) || column.column_type() == Kind::MYSQL_TYPE_TIME;
    column.character_set() == BINARY && !digits && column.column_type() != Kind::MYSQL_TYPE_JSON
}

/// A value as text; none for NULL, and for `0000-00-00`, by which the server says that there is no date.
fn text(value: Value, binary: bool) -> Option<String> {
    Some(match value {
        Value::NULL | Value::Date(0, 0, 0, ..) => return None,
        Value::Bytes(bytes) if binary => values::hex(&bytes),
        Value::Bytes(bytes) => {
            // The connection's character set is UTF-8.
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Date(year, month, day, 0, 0, 0, 0) => format!("{year:04}-{month:02}-{day:02}"),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{}", fraction(micros))
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let (sign, hours) = (if negative { "-" } else { "" }, days * 24 + u32::from(hours));
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micros))
        }
    })
}

fn fraction(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_their_text() {
        for (value, expected) in [
            (Value::Int(-7), "-7"),
            (Value::UInt(u64::MAX), "18446744073709551615"),
            (Value::Float(0.1), "0.1"),
            (Value::Double(1e-300), &format!("0.{}1", "0".repeat(299))),
            (Value::Date(2026, 11, 1, 0, 0, 0, 0), "2026-11-01"),
            (Value::Date(2026, 11, 1, 9, 0, 0, 500_000), "2026-11-01 09:00:00.500000"),
            (Value::Time(true, 34, 22, 59, 59, 0), "-838:59:59"),
            (Value::Bytes("ä".into()), "ä"),
        ] {
            assert_eq!(text(value, false).as_deref(), Some(expected));
        }
        assert_eq!(text(Value::Bytes(vec![0, 255]), true).as_deref(), Some("\\x00ff"));
        assert_eq!(text(Value::NULL, false), None);
        assert_eq!(text(Value::Date(0, 0, 0, 0, 0, 0, 0), false), None);
    }
}
