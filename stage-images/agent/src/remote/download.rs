//! Brings an artifact from a store to the pod's disk. Whoever reads it there compares its digest.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use millrace_contract::{BlobFile, TaskSource};
use millrace_files::digest::{Stop, of_folder};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt};
use percent_encoding::percent_decode_str;

use super::error::Doing;
use super::{Budget, Remote, RemoteError, client, pieces};

/// A store that does not answer is told soon: nothing is lost yet.
const PATIENCE: Duration = Duration::from_mins(1);

/// Brings the object of this key, or all objects below it, to a path where nothing is yet, or an empty folder. `size` is what it should
/// have in bytes, where somebody has said that.
pub fn bring(
    source: &TaskSource,
    to: &FilePath,
    size: Option<u64>,
    budget: Budget,
    stop: Stop<'_>,
) -> Result<(), RemoteError> {
    let remote = Remote::open(source, PATIENCE)?;
    let files = match remote.wait(stop, remote.find()) {
        // An empty folder leaves nothing in a store of objects.
        Err(RemoteError::NotFound { .. }) if size == Some(0) => Vec::new(),
        found => found?,
    };
    // What would not be taken anyway does not fill the disk first.
    let found = bytes(&files);
    if let Some(size) = size.filter(|size| *size != found) {
        let why = format!("it has {found} bytes, its producer reported {size}");
        return Err(RemoteError::Bad { uri: remote.uri, why });
    }
    if files.is_empty() {
        return make(to);
    }
    remote.wait(stop, remote.download(&files, to, budget))?;
    files.iter().try_for_each(|file| {
        let path = file.at(to);
        // A copy of the pod's own, but a program that writes to its inputs should not work here and fail on a claim.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444))
            .map_err(|source| RemoteError::Disk { path, source })
    })
}

/// How many bytes lie there.
pub fn size(source: &TaskSource, stop: Stop<'_>) -> Result<u64, RemoteError> {
    let remote = Remote::open(source, PATIENCE)?;
    remote.wait(stop, remote.find()).map(|files| bytes(&files))
}

fn bytes(files: &[Found]) -> u64 {
    files.iter().map(|file| file.size).sum()
}

/// What lies at an address of somebody else's store, whose digest and size nobody said.
pub struct Others<'a> {
    pub source: &'a TaskSource,
    pub authority: Option<&'a str>,
}

/// What was brought from there.
pub struct Taken {
    /// That of a single object.
    pub version: Option<String>,
    /// Of all that lies there, if the store names versions.
    pub validator: Option<String>,
}

/// Brings what lies there, as it is at one time: an object that is written anew meanwhile ends it. Nothing if it is what is `known`.
pub fn take(
    others: &Others<'_>,
    to: &FilePath,
    known: Option<&str>,
    budget: Budget,
    stop: Stop<'_>,
) -> Result<Option<Taken>, RemoteError> {
    let store = client::open_other(&others.source.store, PATIENCE, others.authority);
    let remote = Remote::with(others.source, store)?;
    let files = remote.wait(stop, remote.find())?;
    let validator = validator(&files);
    if known.is_some() && validator.as_deref() == known {
        return Ok(None);
    }
    remote.wait(stop, remote.download(&files, to, budget))?;
    let version = match files.as_slice() {
        [only] if only.path.is_empty() => only.tag.clone(),
        _ => None,
    };
    Ok(Some(Taken { version, validator }))
}

/// A digest of which files lie there, in which version each. None where a version is missing, or is only nearly the same.
fn validator(files: &[Found]) -> Option<String> {
    let versioned = files.iter().map(|Found { key: _, path, size, tag }| {
        let tag = tag.clone().filter(|tag| !tag.is_empty() && !tag.starts_with("W/"))?;
        Some(BlobFile { path: path.clone(), sha256: tag, size: *size })
    });
    let mut all = versioned.collect::<Option<Vec<BlobFile>>>()?;
    all.sort_by(|a, b| a.path.cmp(&b.path));
    // A digest of versions, where it is one of contents elsewhere.
    Some(format!("objects:{}", of_folder(&all)))
}

fn make(folder: &FilePath) -> Result<(), RemoteError> {
    fs::create_dir_all(folder).map_err(|source| RemoteError::Disk { path: folder.to_owned(), source })
}

/// A file of an artifact. `path` is empty if the artifact is a single file.
pub(super) struct Found {
    key: Path,
    pub(super) path: String,
    pub(super) size: u64,
    /// The version that is read, where it may be written anew.
    tag: Option<String>,
}

impl Found {
    /// A file that is told of, in whichever version it is.
    pub(super) fn new(key: Path, path: String, size: u64) -> Self {
        Self { key, path, size, tag: None }
    }

    fn at(&self, root: &FilePath) -> PathBuf {
        if self.path.is_empty() { root.to_owned() } else { root.join(&self.path) }
    }
}

/// Objects that stand for folders are no files of an artifact. A console makes them where somebody makes a folder: they are empty and their keys end with
/// `/`, which a listing does not show; but below such a key there are others, or it is the artifact's own.
fn without_markers(objects: Vec<ObjectMeta>, root: &Path) -> Vec<ObjectMeta> {
    let keys: BTreeSet<String> = objects.iter().map(|object| object.location.to_string()).collect();
    let is_marker = |object: &ObjectMeta| {
        let below = format!("{}/", object.location);
        object.size == 0
            && (object.location == *root
                || keys.range(below.clone()..).next().is_some_and(|key| key.starts_with(&below)))
    };
    objects.into_iter().filter(|object| !is_marker(object)).collect()
}

impl Remote {
    /// The files of the artifact that lies here.
    pub(super) async fn find(&self) -> Result<Vec<Found>, RemoteError> {
        match self.store.head(&self.root).await {
            Ok(ObjectMeta { location, size, e_tag, .. }) => {
                return Ok(vec![Found { key: location, path: String::new(), size, tag: e_tag }]);
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed(Doing::Read, &self.root)(error)),
        }
        let objects: Vec<ObjectMeta> =
            self.store.list(Some(&self.root)).try_collect().await.map_err(self.failed(Doing::Read, &self.root))?;
        let objects = without_markers(objects, &self.root);
        if objects.is_empty() {
            return Err(RemoteError::NotFound { uri: self.uri.clone() });
        }
        objects.into_iter().map(|object| self.found(object)).collect()
    }

    fn found(&self, object: ObjectMeta) -> Result<Found, RemoteError> {
        let below = object.location.as_ref().strip_prefix(self.root.as_ref()).unwrap_or_default();
        let path = percent_decode_str(below.trim_start_matches('/')).decode_utf8().map(std::borrow::Cow::into_owned);
        let plain =
            |path: &String| path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
        match path.ok().filter(plain) {
            Some(path) => Ok(Found { key: object.location, path, size: object.size, tag: object.e_tag }),
            None => {
                let why = "its name is no path of a file below a folder".to_owned();
                Err(RemoteError::Bad { uri: self.uri_of(&object.location), why })
            }
        }
    }

    pub(super) async fn download(&self, files: &[Found], to: &FilePath, budget: Budget) -> Result<(), RemoteError> {
        for file in files {
            let path = file.at(to);
            if let Some(folder) = path.parent() {
                make(folder)?;
            }
            File::create(&path).map_err(|source| RemoteError::Disk { path, source })?;
        }
        let largest = files.iter().map(|file| pieces::size(file.size)).max().unwrap_or(1);
        let pieces = files.iter().flat_map(|file| pieces::of(file.size).map(move |range| (file, range)));
        let moves = stream::iter(pieces).map(async |(file, range)| {
            let begins = range.start;
            let bytes = self.piece(file, range).await?;
            let path = file.at(to);
            let written =
                OpenOptions::new().write(true).open(&path).and_then(|file| file.write_all_at(bytes.as_ref(), begins));
            written.map_err(|source| RemoteError::Disk { path, source })
        });
        moves.buffer_unordered(budget.at_once(largest)).try_collect::<()>().await
    }

    /// Bytes of the version of a file that was found.
    pub(super) async fn piece(&self, file: &Found, range: Range<u64>) -> Result<impl AsRef<[u8]>, RemoteError> {
        let wanted = range.end - range.start;
        let options =
            GetOptions { range: Some(GetRange::Bounded(range)), if_match: file.tag.clone(), ..GetOptions::default() };
        let failed = |error| match error {
            object_store::Error::Precondition { .. } => {
                let why = "it was written anew while it was read".to_owned();
                RemoteError::Bad { uri: self.uri_of(&file.key), why }
            }
            error => self.failed(Doing::Read, &file.key)(error),
        };
        let answer = self.store.get_opts(&file.key, options).await.map_err(failed)?;
        let bytes = answer.bytes().await.map_err(failed)?;
        // Of a range a store gives what there is.
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        Err(RemoteError::Bad { uri: self.uri_of(&file.key), why: "it is shorter than it should be".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_the_same_while_its_files_and_all_their_versions_are() {
        let file = |path: &str, size, tag: Option<&str>| Found {
            key: Path::from(path),
            path: path.to_owned(),
            size,
            tag: tag.map(str::to_owned),
        };
        let of = |files: &[(&str, u64, Option<&str>)]| {
            validator(&files.iter().map(|(path, size, tag)| file(path, *size, *tag)).collect::<Vec<_>>())
        };
        let known = of(&[("a", 1, Some("\"1\"")), ("b", 2, Some("\"2\""))]);
        assert!(known.is_some());
        assert_eq!(of(&[("b", 2, Some("\"2\"")), ("a", 1, Some("\"1\""))]), known, "in any order");
        for other in [
            &[("a", 1, Some("\"1\""))][..],
            &[("a", 1, Some("\"1\"")), ("b", 2, Some("\"3\""))],
            &[("a", 1, Some("\"1\"")), ("b", 3, Some("\"2\""))],
            &[("a", 1, Some("\"1\"")), ("c", 2, Some("\"2\""))],
        ] {
            assert_ne!(of(other), known, "{other:?}");
        }
        assert_eq!(of(&[("a", 1, None)]), None);
        assert_eq!(of(&[("a", 1, Some("W/\"1\""))]), None, "nearly the same is not enough");
    }

    #[test]
    fn objects_that_stand_for_folders_are_no_files() {
        let object = |key: &str, size| ObjectMeta {
            location: Path::parse(key).unwrap(),
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size,
            e_tag: None,
            version: None,
        };
        let all =
            [("a/m/", 0), ("a/m/f/", 0), ("a/m/f/x", 3), ("a/m/f.txt", 0), ("a/m/g", 2), ("a/m/g/h", 1), ("a/m/e", 0)];
        let kept = without_markers(all.map(|(key, size)| object(key, size)).into(), &Path::from("a/m"));
        let keys: Vec<&str> = kept.iter().map(|object| object.location.as_ref()).collect();
        assert_eq!(keys, ["a/m/f/x", "a/m/f.txt", "a/m/g", "a/m/g/h", "a/m/e"]);
    }
}
