//! `millrace-agent get`: brings what lies at an address to the path of an output. It is the program of a stage in whose pod nobody else's program
//! runs, so that nobody else is where the credentials are.
//!
//! What lies there is taken as it is: an archive stays one, and nothing is decompressed.

mod address;
mod asked;
mod claim;
pub mod http;

use std::fmt;
use std::fs;
use std::path::Path;

use millrace_contract::{GET_ENV, GET_KNOWN_ENV, GET_VALIDATOR, StoreKind, TaskSource, TaskStore};
use millrace_files::digest::{self, DigestError};

use crate::cgroup::Cgroup;
use crate::remote::{self, Budget, RemoteError};
use crate::sync::is_no_room;
use asked::Asked;

/// A version is a result, and those of a stage have 1 KiB.
const LONGEST_VERSION: usize = 200;
/// A longer validator is kept by nobody: what it is of is brought anew.
const LONGEST_VALIDATOR: usize = 300;

/// What became of the question for an address.
pub enum Brought {
    /// What an earlier run read lies there still.
    Unchanged,
    New {
        /// For people.
        version: Option<String>,
        /// For a later run: by this the source tells whether it has changed.
        validator: Option<String>,
    },
}

/// Why nothing was brought.
#[derive(Debug)]
pub struct GetError {
    said: String,
    /// Another try would meet the same.
    pub last: bool,
    /// There was no room.
    pub full: bool,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl GetError {
    fn last(said: impl Into<String>) -> Self {
        Self { said: said.into(), last: true, full: false }
    }

    fn passing(said: impl Into<String>) -> Self {
        Self { said: said.into(), last: false, full: false }
    }

    fn disk(path: &Path, error: &std::io::Error) -> Self {
        let said = format!("failed to write {}: {error}; the store, or the node's disk, may be full", path.display());
        Self { said, last: false, full: is_no_room(error) }
    }
}

/// Brings it, and says in a sentence what that was.
pub fn run(arguments: &[std::ffi::OsString]) -> Result<String, GetError> {
    let asked = Asked::read(arguments)?;
    let authority = std::env::var(format!("{GET_ENV}ca.crt")).ok().filter(|text| !text.is_empty());
    let shown = address::shown(&asked.uri);
    let known = std::env::var(GET_KNOWN_ENV).ok().filter(|text| !text.is_empty());
    let (authority, known) = (authority.as_deref(), known.as_deref());
    let brought = match asked.uri.split_once("://") {
        Some(("http" | "https", _)) => {
            http::get(&http::Source::new(&asked.uri, Some(GET_ENV)).known(known), &asked.to, &|| false)?
        }
        Some(("s3", rest)) => bucket(StoreKind::S3, rest, &asked, authority, known)?,
        Some(("gs", rest)) => bucket(StoreKind::Gcs, rest, &asked, authority, known)?,
        Some(("az", rest)) => bucket(StoreKind::Azure, rest, &asked, authority, known)?,
        Some(("pvc", _)) => claim::copy(&asked)?,
        _ => {
            return Err(GetError::last(format!(
                "nobody reads {shown}: write https://, http://, s3://, gs://, az:// or pvc://"
            )));
        }
    };
    let Brought::New { version, validator } = brought else {
        // An empty file of a download that did not begin is no output.
        fs::remove_file(&asked.to).or_else(ignore_absent).map_err(|error| GetError::disk(&asked.to, &error))?;
        return Ok(format!("{shown}: what an earlier run read lies there still"));
    };
    let found = digest::artifact(&asked.to, &|| false).map_err(|error| match error {
        // A bucket's folder may be empty, an output may not be absent.
        DigestError::Missing(_) => GetError::last(format!("there is nothing at {shown}")),
        error => GetError::last(error.to_string()),
    })?;
    if let Some(wanted) = asked.digest.filter(|wanted| *wanted != found.digest) {
        let said = format!(
            "what lies at {shown} is not what is asked for: its digest is {}, and not {wanted}; correct inputs.….digest, or what lies there",
            found.digest
        );
        return Err(GetError::last(said));
    }
    let version = version.map(|version| version.chars().take(LONGEST_VERSION).collect::<String>());
    if let Some(version) = &version {
        result("source_version", version)?;
    }
    if let Some(validator) = &validator {
        result(GET_VALIDATOR, validator)?;
    }
    let files = if found.files.len() == 1 { "1 file".to_owned() } else { format!("{} files", found.files.len()) };
    let version = version.map(|version| format!(", version {version}")).unwrap_or_default();
    Ok(format!("{shown}: {files}, {} bytes, {}{version}", found.size, found.digest))
}

fn ignore_absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// What lies in a bucket: an object, or all objects below a folder.
fn bucket(
    kind: StoreKind,
    rest: &str,
    asked: &Asked,
    authority: Option<&str>,
    known: Option<&str>,
) -> Result<Brought, GetError> {
    let shown = &asked.uri;
    let Some((bucket, key)) =
        rest.split_once('/').filter(|(bucket, key)| !bucket.is_empty() && !key.trim_matches('/').is_empty())
    else {
        return Err(GetError::last(format!(
            "{shown} names no bucket with a path: write {}://<bucket>/<path>",
            kind.scheme()
        )));
    };
    if let Some(endpoint) = &asked.endpoint {
        address::checked(endpoint)?;
    }
    let store = TaskStore {
        kind,
        bucket: bucket.to_owned(),
        endpoint: asked.endpoint.clone(),
        region: asked.region.clone(),
        account: asked.account.clone(),
        credentials: asked.secret.then(|| GET_ENV.to_owned()),
        anonymous: asked.anonymous,
    };
    let source = TaskSource { store, key: key.trim_end_matches('/').to_owned() };
    let others = remote::Others { source: &source, authority };
    let budget = Budget::of(Cgroup::find().memory_limit());
    match remote::take(&others, &asked.to, known, budget, &|| false) {
        Ok(None) => Ok(Brought::Unchanged),
        Ok(Some(remote::Taken { version, validator })) => {
            Ok(Brought::New { version: version.map(|version| version.trim_matches('"').to_owned()), validator })
        }
        // What was written while it was read may be quiet the next time.
        Err(error @ (RemoteError::Unreachable { .. } | RemoteError::Bad { .. })) => {
            Err(GetError::passing(error.to_string()))
        }
        Err(RemoteError::Disk { path, source }) => Err(GetError::disk(&path, &source)),
        Err(error) => Err(GetError::last(error.to_string())),
    }
}

/// A result of the stage. As JSON: a version may be a number, and is text nevertheless.
fn result(name: &str, text: &str) -> Result<(), GetError> {
    let Some(out) = std::env::var_os("MILLRACE_OUT") else { return Ok(()) };
    let folder = Path::new(&out).join("results");
    let written =
        fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(name), serde_json::json!(text).to_string()));
    written.map_err(|error| GetError::disk(&folder, &error))
}
