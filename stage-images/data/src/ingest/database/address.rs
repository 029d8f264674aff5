//! Where a database is: `postgresql://user@host:port/database`, or `sqlite:/path/of/the/file`.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "parameter source: it has a password, which everybody who sees the pipeline or the run could read; leave it out, and give it to the stage from a Secret: overrides: {{ env: {{ PGPASSWORD: {{ secret: {{ name: …, key: … }} }} }} }}"
    )]
    Password,
    #[error("parameter source: the address of the database is not read beyond its name; leave out what follows ? or #")]
    More,
    #[error("parameter source: the address of the database has no {part}; write postgresql://user@host:port/database")]
    Incomplete { part: &'static str },
    #[error("parameter source: it is no address of a database: {reason}; write postgresql://user@host:port/database")]
    Malformed { reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Postgres(Server),
    Sqlite(PathBuf),
}

/// A database of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: Option<String>,
}

const POSTGRES_PORT: u16 = 5432;

impl Address {
    /// None if the source is no database.
    pub fn parse(source: &str) -> Result<Option<Self>, AddressError> {
        match source.split_once(':') {
            Some(("postgresql" | "postgres", _)) => Ok(Some(Self::Postgres(server(source)?))),
            Some(("sqlite", path)) => Ok(Some(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into()))),
            _ => Ok(None),
        }
    }

    /// The address for people.
    pub fn name(&self) -> String {
        match self {
            Self::Postgres(server) => server.name(),
            Self::Sqlite(path) => path.display().to_string(),
        }
    }
}

impl Server {
    pub fn name(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

fn server(source: &str) -> Result<Server, AddressError> {
    // What the parser says does not quote the address, which may hold a password.
    let url = Url::parse(source).map_err(|error| AddressError::Malformed { reason: error.to_string() })?;
    if url.password().is_some() {
        return Err(AddressError::Password);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(AddressError::More);
    }
    let text = |encoded: &str| percent_decode_str(encoded).decode_utf8_lossy().into_owned();
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(AddressError::Incomplete { part: "host" })?;
    let database = text(url.path().trim_start_matches('/'));
    if database.is_empty() {
        return Err(AddressError::Incomplete { part: "database" });
    }
    Ok(Server {
        host: text(host.trim_matches(['[', ']'])),
        port: url.port().unwrap_or(POSTGRES_PORT),
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
        let message = parsed("postgresql://host/db?password=hunter2").unwrap_err().to_string();
        assert!(message.contains("leave out what follows") && !message.contains("hunter2"), "{message}");
        let message = parsed("postgresql://me:hunter2@host:port/db").unwrap_err().to_string();
        assert!(message.contains("invalid port number") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parsed("postgresql:///db"), Err(AddressError::Incomplete { part: "host" }));
        assert_eq!(parsed("postgresql://host"), Err(AddressError::Incomplete { part: "database" }));
    }
}
