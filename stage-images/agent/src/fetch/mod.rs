//! `millrace-agent fetch`, the init container of a served model: it brings what `MILLRACE_FETCH` lists out of stores, into the pod or into the
//! cache of the namespace, and compares it. The server starts when all of it is whole.

mod cache;
mod progress;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use millrace_contract::{FETCH_ENV, Fetch, FetchSource, WebFile};
use millrace_files::digest::{self, Artifact, DigestError, Stop};
use thiserror::Error;

use crate::get::{GetError, http};
use crate::place::Place;
use crate::remote::{self, Budget, RemoteError};
use cache::CacheError;
use progress::{Comparing, Progress};

#[derive(Debug, Error)]
pub enum FetchError {
    #[error("{FETCH_ENV} is not set: the Millrace operator sets it")]
    NotAsked,
    #[error("failed to read {FETCH_ENV}: {0}; agent and operator are of different versions?")]
    Asked(serde_json::Error),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("{0}")]
    Web(GetError),
    #[error("the model is damaged: {uri} {why}")]
    Damaged { uri: String, why: String },
    #[error(
        "{uri} has the digest that the version says, but the version says it has {said} bytes, it has {found}: register the model anew"
    )]
    Size { uri: String, said: u64, found: u64 },
    #[error("stopped while the model was compared")]
    Stopped,
    #[error("failed to make room in the pod at {path}: {source}")]
    Pod { path: String, source: io::Error },
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Brings everything that is asked for.
pub fn fetch(place: &Place, budget: Budget, stop: Stop<'_>) -> Result<(), String> {
    let done = asked().and_then(|all| all.iter().try_for_each(|one| one_of(one, place, budget, stop)));
    done.map_err(|error| {
        let text = error.to_string();
        // Without it the kubelet takes the last lines of the log for the cause, and those are about progress.
        let file = OpenOptions::new().write(true).truncate(true).open(place.report());
        let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
        text
    })
}

fn asked() -> Result<Vec<Fetch>, FetchError> {
    let text = std::env::var(FETCH_ENV).map_err(|_| FetchError::NotAsked)?;
    serde_json::from_str(&text).map_err(FetchError::Asked)
}

fn one_of(fetch: &Fetch, place: &Place, budget: Budget, stop: Stop<'_>) -> Result<(), FetchError> {
    if let Some(task) = &fetch.cache {
        return cache::provide(fetch, task, place, budget, stop);
    }
    let to = place.at(&fetch.path);
    // What is left of a container before this one.
    clear(&to).map_err(|source| FetchError::Pod { path: to.display().to_string(), source })?;
    bring(fetch, &to, budget, stop).map(|_| ())
}

/// Brings the model to a path where nothing is yet, or an empty folder, and compares it.
fn bring(fetch: &Fetch, to: &Path, budget: Budget, stop: Stop<'_>) -> Result<Artifact, FetchError> {
    let uri = fetch.source.uri();
    let progress = Progress::new(&uri, to, fetch.size);
    let stop_or_say: Stop<'_> = &|| progress.look() || stop();
    match &fetch.source {
        FetchSource::Objects(source) => remote::bring(source, to, fetch.size, budget, stop_or_say)?,
        FetchSource::Web(file) => web(file, to, stop_or_say)?,
    }
    compare(to, fetch, stop).map_err(|flaw| match flaw {
        Flaw::Absent => FetchError::Damaged { uri: uri.clone(), why: "has no files".to_owned() },
        Flaw::Wrong(why) => FetchError::Damaged { uri: uri.clone(), why },
        Flaw::Size { said, found } => FetchError::Size { uri: uri.clone(), said, found },
        Flaw::Unread(error) => FetchError::Damaged { uri: uri.clone(), why: format!("cannot be compared: {error}") },
        Flaw::Stopped => FetchError::Stopped,
    })
}

/// Brings a file of a web server into a folder.
fn web(file: &WebFile, folder: &Path, stop: Stop<'_>) -> Result<(), FetchError> {
    let failed = |source| FetchError::Pod { path: folder.display().to_string(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let to = folder.join(&file.file);
    http::get(&http::Source::new(&file.uri, file.credentials.as_deref()), &to, stop).map_err(FetchError::Web)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o444)).map_err(failed)
}

/// How many bytes lie there, where that is said.
fn size(source: &FetchSource, stop: Stop<'_>) -> Result<Option<u64>, FetchError> {
    match source {
        FetchSource::Objects(source) => Ok(Some(remote::size(source, stop)?)),
        FetchSource::Web(file) => {
            http::size(&http::Source::new(&file.uri, file.credentials.as_deref()), stop).map_err(FetchError::Web)
        }
    }
}

/// Why something on a disk is not the model, or nobody can tell.
enum Flaw {
    Absent,
    Wrong(String),
    /// It is the model, and the version has its bytes wrong.
    Size {
        said: u64,
        found: u64,
    },
    /// The disk did not give its bytes: that says nothing of them.
    Unread(DigestError),
    Stopped,
}

/// Whether what lies at a path is the model, byte for byte. The digest alone decides: a size is what somebody said.
fn compare(path: &Path, fetch: &Fetch, stop: Stop<'_>) -> Result<Artifact, Flaw> {
    let failed = |error| match error {
        DigestError::Missing(missing) if missing == path => Flaw::Absent,
        DigestError::Stopped(_) => Flaw::Stopped,
        error @ (DigestError::Missing(_) | DigestError::Read { .. }) => Flaw::Unread(error),
        error @ (DigestError::NotAFile { .. } | DigestError::Name { .. }) => {
            Flaw::Wrong(format!("cannot be used: {error}"))
        }
    };
    let comparing = Comparing::new(&fetch.source.uri(), fetch.size);
    let found = digest::artifact(path, &|| comparing.look() || stop()).map_err(failed)?;
    let (is, told) = match (&fetch.source, found.files.as_slice()) {
        // As people know it who have the file. A page that asks to sign in is small.
        (FetchSource::Web(web), [only]) => (
            found.is_file(&web.file, &fetch.digest),
            format!("sha256:{} ({})", only.sha256, progress::amount(only.size)),
        ),
        _ => (found.digest == fetch.digest, found.digest.clone()),
    };
    if !is {
        return Err(Flaw::Wrong(format!("has the digest {told}, and not {}", fetch.digest)));
    }
    match fetch.size.filter(|said| *said != found.size) {
        Some(said) => Err(Flaw::Size { said, found: found.size }),
        None => Ok(found),
    }
}

fn clear(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO: Stop<'static> = &|| false;

    fn asked_for(digest: &str, size: Option<u64>) -> Fetch {
        let store = serde_json::json!({ "kind": "s3", "bucket": "lake" });
        let source = serde_json::json!({ "store": store, "key": "models/a" });
        let all = serde_json::json!({ "source": source, "path": "/millrace/models/a", "digest": digest, "size": size });
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_disk_that_does_not_give_its_bytes_does_not_make_them_wrong() {
        // Reading it at its begin is an error of input and output.
        let found =
            compare(Path::new("/proc/self/mem"), &asked_for(&format!("sha256:{}", "0".repeat(64)), Some(3)), GO);
        assert!(matches!(found, Err(Flaw::Unread(_))));
    }

    #[test]
    fn the_digest_alone_decides_and_a_wrong_size_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let of = |path: &Path, size| compare(path, &asked_for(digest, size), GO);
        assert!(of(&path, Some(3)).is_ok() && of(&path, None).is_ok());
        assert!(matches!(of(&path, Some(4)), Err(Flaw::Size { said: 4, found: 3 })));
        fs::write(&path, "abd").unwrap();
        assert!(matches!(of(&path, Some(3)), Err(Flaw::Wrong(_))));
        assert!(matches!(of(&path, None), Err(Flaw::Wrong(_))));
        assert!(matches!(of(&folder.path().join("b"), Some(3)), Err(Flaw::Absent)));
    }
}
