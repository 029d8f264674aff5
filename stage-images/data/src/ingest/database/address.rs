//! Where a database is: `postgresql://user@host:port/database`, `mysql://user@host:port/database`, or `sqlite:/path/of/the/file`.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "parameter source: it has a password, which everybody who sees the pipeline or the run could read; leave it out, and give it to the stage from a Secret: overrides: {{ env: {{ {variable}: {{ secret: {{ name: …, key: … }} }} }} }}"
    )]
    Password { variable: &'static str },
    #[error("parameter source: the address of the database is not read beyond its name; leave out what follows ? or #")]
    More,
    #[error("parameter source: the address of the database has no {part}; write {scheme}://user@host:port/database")]
    Incomplete { part: &'static str, scheme: &'static str },
    #[error("parameter source: it is no address of a database: {reason}; write {scheme}://user@host:port/database")]
    Malformed { reason: String, scheme: &'static str },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Postgres(Server),
    /// MariaDB's too.
    Mysql(Server),
    Sqlite(PathBuf),
}

/// What servers of a kind have in common.
struct Kind {
    scheme: &'static str,
    port: u16,
    password: &'static str,
}

const POSTGRES: Kind = Kind { scheme: "postgresql", port: 5432, password: "PGPASSWORD" };
const MYSQL: Kind = Kind { scheme: "mysql", port: 3306, password: "MYSQL_PASSWORD" };

/// A database of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: Option<String>,
}

impl Address {
    /// None if the source is no database.
    pub fn parse(source: &str) -> Result<Option<Self>, AddressError> {
        match source.split_once(':') {
            Some(("postgresql" | "postgres", _)) => Ok(Some(Self::Postgres(server(source, &POSTGRES)?))),
            Some(("mysql" | "mariadb", _)) => Ok(Some(Self::Mysql(server(source, &MYSQL)?))),
            Some(("sqlite", path)) => Ok(Some(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into()))),
            _ => Ok(None),
        }
    }

    /// The address for people.
    pub fn name(&self) -> String {
        match self {
            Self::Postgres(server) | Self::Mysql(server) => server.name(),
            Self::Sqlite(path) => path.display().to_string(),
        }
    }
}

impl Server {
    pub fn name(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

fn server(source: &str, kind: &Kind) -> Result<Server, AddressError> {
    let scheme = kind.scheme;
    // What the parser says does not quote the address, which may hold a password.
    let url = Url::parse(source).map_err(|error| AddressError::Malformed { reason: error.to_string(), scheme })?;
    if url.password().is_some() {
        return Err(AddressError::Password { variable: kind.password });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(AddressError::More);
    }
    let text = |encoded: &str| percent_decode_str(encoded).decode_utf8_lossy().into_owned();
    let missing = |part| AddressError::Incomplete { part, scheme };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| missing("host"))?;
    let database = text(url.path().trim_start_matches('/'));
    if database.is_empty() {
        return Err(missing("database"));
    }
    Ok(Server {
        host: text(host.trim_matches(['[', ']'])),
        port: url.port().unwrap_or(kind.port),
        database,
        user: Some(text(url.username())).filter(|user| !user.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(source: &str) -> Result<Option<Address>, AddressError> {
        Address::parse(source)
    }

    #[test]
    fn addresses_are_read_with_what_they_leave_out() {
        let server = |host: &str, port, database: &str, user: Option<&str>| {
            let (host, database, user) = (host.into(), database.into(), user.map(Into::into));
            Ok(Some(Address::Postgres(Server { host, port, database, user })))
        };
        assert_eq!(parsed("postgresql://db.shop.svc/shop"), server("db.shop.svc", 5432, "shop", None));
        assert_eq!(parsed("postgres://me@[::1]:6543/a%20b"), server("::1", 6543, "a b", Some("me")));
        let Ok(Some(Address::Mysql(found))) = parsed("mariadb://me@db/shop") else {
            panic!("no server of MySQL's kind")
        };
        assert_eq!(found, Server { host: "db".into(), port: 3306, database: "shop".into(), user: Some("me".into()) });
        for path in ["sqlite:/data/shop.db", "sqlite:///data/shop.db"] {
            assert_eq!(parsed(path), Ok(Some(Address::Sqlite("/data/shop.db".into()))));
        }
        for other in ["/data/a.csv", "https://host/x", "s3://lake/a", "C:a"] {
            assert_eq!(parsed(other), Ok(None));
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let message = parsed("postgresql://me:hunter2@host/db").unwrap_err().to_string();
        assert!(message.contains("PGPASSWORD") && !message.contains("hunter2"), "{message}");
        let message = parsed("mysql://me:hunter2@host/db").unwrap_err().to_string();
        assert!(message.contains("MYSQL_PASSWORD") && !message.contains("hunter2"), "{message}");
        let message = parsed("postgresql://host/db?password=hunter2").unwrap_err().to_string();
        assert!(message.contains("leave out what follows") && !message.contains("hunter2"), "{message}");
        let message = parsed("postgresql://me:hunter2@host:port/db").unwrap_err().to_string();
        assert!(message.contains("invalid port number") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |part, scheme| Err(AddressError::Incomplete { part, scheme });
        assert_eq!(parsed("postgresql:///db"), missing("host", "postgresql"));
        assert_eq!(parsed("postgresql://host"), missing("database", "postgresql"));
        assert_eq!(parsed("mysql://host"), missing("database", "mysql"));
    }
}
