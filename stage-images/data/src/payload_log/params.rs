//! The parameters of `payload-log`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::PayloadLogError;
use crate::ingest::append::of_one_cloud;
use crate::objects::{Access, AzureParams, GcsParams, S3Params};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    pub table: TableParams,
    /// Where the events come.
    #[serde(default)]
    listen: Option<Listen>,
    /// A folder that outlives the container.
    #[serde(default)]
    spool: Option<PathBuf>,
    /// What has come in such a time goes into one commit.
    #[serde(default)]
    every_seconds: Option<u64>,
    /// Of events that wait for their commit.
    #[serde(default)]
    spool_bytes: Option<u64>,
}

/// The Delta table that the events are appended to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TableParams {
    /// In a bucket, as `s3://bucket/path`, or a mounted path. It is made by the first events.
    pub uri: String,
    #[serde(default)]
    s3: Option<S3Params>,
    #[serde(default)]
    gcs: Option<GcsParams>,
    #[serde(default)]
    azure: Option<AzureParams>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Listen(SocketAddr);

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("found {text:?}, expected an address and a port, as \"[::]:8080\""))
    }
}

/// A day: what has not been seen for longer is no log.
const LONGEST: u64 = 86_400;
/// A few requests fit.
const SMALLEST: u64 = 1 << 20;

impl Params {
    /// What no type says.
    pub fn check(&self) -> Result<(), PayloadLogError> {
        let TableParams { uri, s3, gcs, azure } = &self.table;
        of_one_cloud(uri, s3.is_some(), gcs.is_some(), azure.is_some())?;
        for (parameter, found, least, most) in [
            ("everySeconds", self.every_seconds, 1, LONGEST),
            ("spoolBytes", self.spool_bytes, SMALLEST, i64::MAX.unsigned_abs()),
        ] {
            if let Some(found) = found.filter(|found| !(least..=most).contains(found)) {
                return Err(PayloadLogError::Bounds { parameter, found, least, most });
            }
        }
        Ok(())
    }

    pub fn listen(&self) -> SocketAddr {
        self.listen.map_or_else(|| (Ipv6Addr::UNSPECIFIED, 8080).into(), |listen| listen.0)
    }

    pub fn spool(&self) -> &Path {
        self.spool.as_deref().unwrap_or(Path::new("/spool"))
    }

    pub fn every(&self) -> Duration {
        Duration::from_secs(self.every_seconds.unwrap_or(60))
    }

    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes.unwrap_or(256 << 20)
    }
}

impl TableParams {
    /// How the table's bucket is reached.
    pub fn access(&self) -> Access {
        Access {
            s3: self.s3.clone().unwrap_or_default(),
            gcs: self.gcs.clone().unwrap_or_default(),
            azure: self.azure.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::parse;

    fn checked(json: &str) -> Result<Params, String> {
        let params: Params = parse("payload-log", json).map_err(|error| error.to_string())?;
        params.check().map(|()| params).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let params = checked(r#"{"table": {"uri": "s3://lake/log"}, "listen": null}"#).unwrap();
        assert_eq!((params.listen().to_string(), params.spool()), ("[::]:8080".into(), Path::new("/spool")));
        assert_eq!((params.every(), params.spool_bytes()), (Duration::from_mins(1), 268_435_456));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (json, words) in [
            (r#"{}"#, "missing field `table`"),
            (r#"{"table": {"uri": "/t", "position": "x"}}"#, "table.position: unknown field `position`"),
            (r#"{"table": {"uri": "/t"}, "listen": "8080"}"#, "listen: found \"8080\", expected an address and a port"),
            (r#"{"table": {"uri": "/t"}, "everySeconds": 0}"#, "everySeconds: found 0, expected 1 to 86400"),
            (r#"{"table": {"uri": "/t"}, "spoolBytes": 9}"#, "spoolBytes: found 9, expected 1048576 or more"),
            (r#"{"table": {"uri": "gs://a/t", "s3": {}}}"#, "parameter table.s3: it is for a table at s3://"),
        ] {
            let error = checked(json).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
