//! PostgreSQL: its own COPY streams the rows, in one snapshot, in a transaction that can only read.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::address::Server;
use super::copied::Copied;
use super::rows::Rows;
use super::statement::{self, Dialect, Found};
use super::tls::Tls;
use super::{DatabaseError, Read};
use crate::ingest::params::{Params, SqlParams};
use crate::types::ColumnType;

/// To connect, agree on TLS and sign in.
const CONNECT_SECONDS: u64 = 20;
/// After such a silence, and so often from then on, the server's machine is asked whether it is there. A query may think for long, but
/// a machine that is gone ends the stage.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// One form of each value, whatever the server is set to.
const SESSION: &str = "SET datestyle TO ISO, YMD; SET timezone TO 'UTC'; SET bytea_output TO hex; SET extra_float_digits TO 1; \
    SET client_encoding TO 'UTF8'; SET standard_conforming_strings TO on; \
    BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub async fn ingest(server: &Server, sql: &SqlParams, params: &Params, to: &Path) -> Result<Read, DatabaseError> {
    let seconds = CONNECT_SECONDS;
    let client = tokio::time::timeout(Duration::from_secs(seconds), connect(server, sql))
        .await
        .map_err(|_| DatabaseError::Slow { address: server.name(), seconds })??;
    let query = |source: Error| DatabaseError::ServerQuery { address: server.name(), source: source.into() };
    let read = |source: Error| DatabaseError::ServerRead { address: server.name(), source: source.into() };
    let base = client.prepare(&statement::base(Dialect::Postgres, sql)).await.map_err(query)?;
    let found: Vec<Found> = base
        .columns()
        .iter()
        .map(|column| Found { name: column.name().to_owned(), column_type: column_type(column.type_()) })
        .collect();
    let plan = statement::plan(&server.name(), Dialect::Postgres, sql, params, &found)?;
    let copy = format!("COPY ({}) TO STDOUT", plan.query);
    // Prepared by the driver, so it is one statement whatever the query has in it.
    let mut stream = Box::pin(client.copy_out(&copy).await.map_err(query)?);
    let mut rows = Rows::create(server.name(), &plan, params.max_bytes, to)?;
    let mut copied = Copied::default();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(read)?;
        rows.count(bytes.len())?;
        copied.take(&bytes, |row| rows.push(row))?;
    }
    rows.finish()
}

/// A session that can only read.
async fn connect(server: &Server, sql: &SqlParams) -> Result<Client, DatabaseError> {
    let address = server.name();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = server.user.clone().or_else(|| variable("PGUSER"));
    let nobody = || DatabaseError::NoUser { address: address.clone(), scheme: "postgresql", variable: "PGUSER" };
    let user = user.ok_or_else(nobody)?;
    let mut config = Config::new();
    config.user(&user).dbname(&server.database).application_name("millrace");
    if let Some(password) = variable("PGPASSWORD") {
        config.password(password);
    }
    let dialed = |source| DatabaseError::Dial { address: address.clone(), source };
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(dialed)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(4);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(dialed)?;
    let refused = |source: Error| DatabaseError::SignIn {
        address: address.clone(),
        user: user.clone(),
        password: "PGPASSWORD",
        source: source.into(),
    };
    // Each connection is a task that moves its bytes; what goes wrong there comes out of the client.
    let client = if sql.allow_plaintext.unwrap_or(false) {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
        tokio::spawn(connection);
        client
    } else {
        config.ssl_mode(SslMode::Require);
        let tls = Tls::new(&server.host).map_err(|reason| DatabaseError::Tls { address: address.clone(), reason })?;
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(refused)?;
        tokio::spawn(connection);
        client
    };
    let session = client.batch_execute(SESSION).await;
    session.map_err(|source| DatabaseError::ServerRead { address: address.clone(), source: source.into() })?;
    Ok(client)
}

/// The type of a table's column for one of the server's. What has no word here is its text.
fn column_type(own: &Type) -> ColumnType {
    match *own {
        Type::BOOL => ColumnType::Boolean,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => ColumnType::Integer,
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => ColumnType::Number,
        Type::DATE => ColumnType::Date,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => ColumnType::Timestamp,
        _ => ColumnType::String,
    }
}
