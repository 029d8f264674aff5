//! Where a database is: `sqlite:/path/of/the/file`.

use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Sqlite(PathBuf),
}

impl Address {
    /// None if the source is no database.
    pub fn parse(source: &str) -> Option<Self> {
        let path = source.strip_prefix("sqlite:")?;
        Some(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into()))
    }

    /// The address for people.
    pub fn name(&self) -> String {
        let Self::Sqlite(path) = self;
        path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_written_as_a_path_or_as_an_address() {
        for path in ["sqlite:/data/shop.db", "sqlite:///data/shop.db"] {
            assert_eq!(Address::parse(path), Some(Address::Sqlite("/data/shop.db".into())));
        }
        for other in ["/data/a.csv", "https://host/x", "s3://lake/a", "/data/sqlite:x"] {
            assert_eq!(Address::parse(other), None);
        }
    }
}
