//! Where a table is, and its files as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::io::AsyncWriteExt;

use super::TableError;
use crate::objects::{self, Access, ObjectError, Place};
use crate::say;

/// A table's place, whether there is one or not.
pub struct Table {
    /// As people write it.
    pub name: String,
    store: Arc<dyn ObjectStore>,
    /// Below which it lies: of a path here the store begins at the machine's root.
    root: String,
    of: Of,
}

/// What the store calls a file as it is: another content has another tag. Without one nobody can say.
#[derive(Clone, Debug, Default)]
pub(super) struct Tag(Option<String>);

impl Tag {
    /// Lists and answers write the same one with quotes or without.
    fn of(e_tag: Option<String>) -> Self {
        Self(e_tag.map(|text| text.trim_start_matches("W/").trim_matches('"').to_owned()))
    }

    /// Surely the same file.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.is_some() && self.0 == other.0
    }
}

enum Of {
    Bucket(Place),
    /// The path here.
    Folder(PathBuf),
}

impl Table {
    /// In a bucket, as `s3://bucket/path`, or at a path here.
    pub fn at(uri: &str, access: &Access) -> Result<Self, TableError> {
        let no_address = || TableError::Address { found: crate::say::excerpt(uri, 200) };
        let place = uri.strip_prefix("file://").unwrap_or(uri);
        let name = uri.to_owned();
        if let Some(found) = objects::open(place, access) {
            let place = found.map_err(|error| match error {
                ObjectError::Address { .. } => no_address(),
                other => other.into(),
            })?;
            let root = place.key.trim_matches('/').to_owned();
            if root.is_empty() {
                return Err(no_address());
            }
            return Ok(Self { name, store: place.store.clone(), root, of: Of::Bucket(place) });
        }
        if place.is_empty() || place.contains("://") {
            return Err(no_address());
        }
        let folder = std::path::absolute(place).map_err(|_| no_address())?;
        let root = folder.to_str().ok_or_else(no_address)?.trim_matches('/').to_owned();
        Ok(Self { name, store: Arc::new(LocalFileSystem::new()), root, of: Of::Folder(folder) })
    }

    /// The path here, unless it is in a bucket.
    fn folder(&self) -> Option<&Path> {
        match &self.of {
            Of::Bucket(_) => None,
            Of::Folder(folder) => Some(folder),
        }
    }

    /// As it is: a name may have what looks like an escape of an URL.
    fn path(&self, below: &str) -> object_store::path::Path {
        let whole = format!("{}/{below}", self.root);
        object_store::path::Path::parse(&whole).unwrap_or_else(|_| object_store::path::Path::from(whole))
    }

    fn failed(&self, source: &object_store::Error) -> TableError {
        match &self.of {
            Of::Bucket(place) => TableError::Store(place.explain(&self.name, source)),
            Of::Folder(_) => TableError::Here { name: self.name.clone(), answer: say::one_line(source) },
        }
    }

    /// The files directly in a folder, by name. With `from` those alone whose names come later.
    pub(super) async fn files_in(&self, below: &str, from: Option<&str>) -> Result<BTreeMap<String, Tag>, TableError> {
        let path = self.path(below);
        let listed = match from {
            Some(from) => self.store.list_with_offset(Some(&path), &self.path(&format!("{below}/{from}"))),
            None => self.store.list(Some(&path)),
        };
        let listed = listed.map_ok(|object| (object.location, object.e_tag));
        let all: Vec<_> = listed.try_collect().await.map_err(|source| self.failed(&source))?;
        let direct = all.into_iter().filter_map(|(location, tag)| {
            let mut rest = location.prefix_match(&path)?;
            let name = rest.next()?.as_ref().to_owned();
            rest.next().is_none().then_some((name, Tag::of(tag)))
        });
        // Not every server knows from where it is asked.
        Ok(direct.filter(|(name, _)| from.is_none_or(|from| name.as_str() > from)).collect())
    }

    /// The bytes of a file, if it is there.
    pub(super) async fn get(&self, below: &str) -> Result<Option<Vec<u8>>, TableError> {
        match self.store.get(&self.path(below)).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(|source| self.failed(&source))?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed(&source)),
        }
    }

    /// Makes a small file at once, and only if there is none. None where there was one.
    pub(super) async fn create(&self, below: &str, bytes: Vec<u8>) -> Result<Option<Tag>, TableError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(below), PutPayload::from(bytes), options).await {
            Ok(made) => Ok(Some(Tag::of(made.e_tag))),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(None),
            Err(source) => Err(self.failed(&source)),
        }
    }

    /// Writes a small file, over the one that is there.
    pub(super) async fn put(&self, below: &str, bytes: Vec<u8>) -> Result<(), TableError> {
        self.store
            .put(&self.path(below), PutPayload::from(bytes))
            .await
            .map(drop)
            .map_err(|source| self.failed(&source))
    }

    /// A file of the table on this machine: itself, or a copy in a folder of ours.
    pub(super) async fn local(&self, below: &str, work: &Path) -> Result<PathBuf, TableError> {
        if let Some(folder) = self.folder() {
            return Ok(folder.join(below));
        }
        let write = |source| TableError::Write { name: self.name.clone(), source };
        let answer = self.store.get(&self.path(below)).await.map_err(|source| self.failed(&source))?;
        std::fs::create_dir_all(work).map_err(write)?;
        let path = work.join("read.parquet");
        let mut file = tokio::fs::File::create(&path).await.map_err(write)?;
        let mut bytes = answer.into_stream();
        while let Some(chunk) = bytes.next().await {
            file.write_all(&chunk.map_err(|source| self.failed(&source))?).await.map_err(write)?;
        }
        file.flush().await.map_err(write)?;
        Ok(path)
    }

    /// Brings a file to its place, whole before anybody can name it. Its size.
    pub(super) async fn bring(&self, from: &Path, below: &str) -> Result<u64, TableError> {
        let failed = |source| TableError::Write { name: self.name.clone(), source };
        if let Some(folder) = self.folder() {
            return copy(from, &folder.join(below)).map_err(failed);
        }
        let mut source = tokio::fs::File::open(from).await.map_err(failed)?;
        let mut target = BufWriter::new(self.store.clone(), self.path(below));
        let size = tokio::io::copy(&mut source, &mut target).await.map_err(failed)?;
        target.shutdown().await.map_err(failed)?;
        Ok(size)
    }
}

/// A copy that a machine's failure does not take back: the commit comes after it.
fn copy(from: &Path, to: &Path) -> std::io::Result<u64> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut target = std::fs::File::create_new(to)?;
    let size = std::io::copy(&mut std::fs::File::open(from)?, &mut target)?;
    target.sync_all()?;
    Ok(size)
}
