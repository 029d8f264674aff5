//! After all items of a stage whose store is one of objects: what they made is put together within the store. The bytes do not come here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use futures::{StreamExt, TryStreamExt, stream};
use millrace_contract::{
    ArtifactKind, BlobFile, ITEMS_OUTPUT, Manifest, ManifestOutput, OutputRecord, Task, TaskItems, Usage, item_folder,
    output_key, output_path,
};
use millrace_files::digest::{self, Stop};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::error::Doing;
use super::{Remote, RemoteError, RemoteStage, below};
use crate::collect::{self, CollectError, is_below};
use crate::elsewhere::{self, Elsewhere, Layout};
use crate::folders::StoreError;
use crate::item;
use crate::manifest::is_of;
use crate::outputs::Outputs;
use crate::place::Place;

/// Requests at a time: they are small, and the store does the work.
const AT_ONCE: usize = 16;

/// What the items of a stage made.
#[derive(Debug, Default)]
pub struct Together {
    pub outputs: Outputs,
    pub usage: Usage,
}

/// A file of an item, as a file of the stage.
struct Taken {
    index: u64,
    from: Path,
    file: BlobFile,
}

impl Taken {
    /// `folder` is that of the stage, or of the item of it, that made the output at `path` below.
    fn new(index: u64, folder: &Path, path: &str, file: &BlobFile) -> Self {
        let from = below(folder, &format!("{path}/{}", file.path));
        let path = if file.path.is_empty() { index.to_string() } else { format!("{index}/{}", file.path) };
        Self { index, from, file: BlobFile { path, ..file.clone() } }
    }
}

/// A folder by its path in the store. No path that is none is there.
fn of_store(folder: &str) -> Path {
    Path::parse(folder).unwrap_or_default()
}

/// A file of an item, and where the stage is to have it.
struct Copied {
    index: u64,
    from: Path,
    to: Path,
}

/// Copies the items' outputs below the stage's, each by its index, and writes the list of items to the pod's disk.
pub fn put_together(
    task: &Task,
    items: &TaskItems,
    place: &Place,
    stage: &RemoteStage,
    stop: Stop<'_>,
) -> Result<Together, CollectError> {
    let values = item::all(items, place, stop)?;
    let remote = &stage.remote;
    let names = task.outputs.keys().filter(|output| *output != ITEMS_OUTPUT);
    let mut taken: BTreeMap<&String, Vec<Taken>> = names.map(|name| (name, Vec::new())).collect();
    let path = place.at(output_path(task.attempt, ITEMS_OUTPUT));
    let unwritten = |source| StoreError::new(&path, source);
    let mut lines = BufWriter::new(File::create(&path).map_err(unwritten)?);
    let mut together = Together::default();
    if let Some(told) = &items.told {
        let mut all = Vec::new();
        for (index, value) in (0..items.total).zip(&values) {
            writeln!(lines, "{}", elsewhere::for_people(value)).map_err(unwritten)?;
            all.extend(elsewhere::of_line(index, value, told, Layout::Objects, task)?);
        }
        let found = remote.wait(stop, remote.elsewhere(&all)).map_err(CollectError::Remote)?;
        for (made, found) in all.iter().zip(found) {
            let found = found?;
            if let Some(taken) = taken.get_mut(&made.output) {
                let folder = of_store(&made.folder);
                taken.extend(found.files.iter().map(|file| Taken::new(made.index, &folder, &found.path, file)));
            }
        }
    } else {
        let manifests = remote.wait(stop, remote.manifests(task, items.total)).map_err(CollectError::Remote)?;
        for ((index, value), manifest) in (0..items.total).zip(&values).zip(manifests) {
            let manifest = manifest.map_err(|why| CollectError::Lost { index, why })?;
            writeln!(lines, "{}", collect::line(index, value, &manifest.report)).map_err(unwritten)?;
            collect::add(&mut together.usage, &manifest.report.usage);
            for (output, made) in &manifest.outputs {
                if let Some(taken) = taken.get_mut(output) {
                    let folder = remote.key(&item_folder(index));
                    taken.extend(made.files.iter().map(|file| Taken::new(index, &folder, &made.path, file)));
                }
            }
        }
    }
    lines.flush().map_err(unwritten)?;
    let mut copies = Vec::new();
    for (name, mut taken) in taken {
        taken.sort_by(|a, b| a.file.path.as_bytes().cmp(b.file.path.as_bytes()));
        let files: Vec<BlobFile> = taken.iter().map(|taken| taken.file.clone()).collect();
        let digest = digest::of_folder(&files);
        let path = output_key(name, &digest);
        copies.extend(taken.into_iter().map(|Taken { index, from, file }| {
            let to = remote.key(&format!("{path}/{}", file.path));
            Copied { index, from, to }
        }));
        let record = OutputRecord {
            kind: ArtifactKind::Artifact,
            digest: digest.clone(),
            size: files.iter().map(|file| file.size).sum(),
            files: files.len() as u64,
            items: None,
            signature: None,
            format: None,
        };
        together.outputs.records.insert(name.clone(), record);
        together.outputs.lists.insert(name.clone(), ManifestOutput { digest, path, files });
    }
    remote.wait(stop, remote.copy(&copies)).map_err(|error| match error {
        RemoteError::NotFound { uri } => {
            let of = copies.iter().find(|copy| remote.uri_of(&copy.from) == uri);
            CollectError::Lost { index: of.map_or(0, |copy| copy.index), why: format!("there is no {uri}") }
        }
        other => CollectError::Remote(other),
    })?;
    Ok(together)
}

impl Remote {
    /// These outputs, as the manifests of the stages that made them have them.
    async fn elsewhere(&self, all: &[Elsewhere]) -> Result<Vec<Result<ManifestOutput, CollectError>>, RemoteError> {
        let read = async |made: &Elsewhere| {
            let text = self.read(&of_store(&made.folder).join("manifest.json")).await?;
            Ok(made.in_manifest(text.as_deref()))
        };
        stream::iter(all).map(read).buffered(AT_ONCE).try_collect().await
    }

    /// The manifest of each item, or why it has none.
    async fn manifests(&self, task: &Task, total: u64) -> Result<Vec<Result<Manifest, String>>, RemoteError> {
        let read = async |index: u64| {
            let key = self.key(&format!("{}/manifest.json", item_folder(index)));
            let uri = self.uri_of(&key);
            let Some(text) = self.read(&key).await? else { return Ok(Err(format!("there is no {uri}"))) };
            let manifest = serde_json::from_slice(&text).ok().filter(|found| is_of(found, task) && is_plain(found));
            Ok(manifest.ok_or_else(|| format!("{uri} is no manifest of this stage")))
        };
        stream::iter(0..total).map(read).buffered(AT_ONCE).try_collect().await
    }

    async fn copy(&self, copies: &[Copied]) -> Result<(), RemoteError> {
        let copy = async |Copied { from, to, .. }: &Copied| {
            self.store.copy(from, to).await.map_err(|error| match error {
                error @ object_store::Error::NotFound { .. } => self.failed(Doing::Read, from)(error),
                error => self.failed(Doing::Write, to)(error),
            })
        };
        stream::iter(copies).map(copy).buffer_unordered(AT_ONCE).try_collect().await
    }
}

/// What it names is the item's own.
fn is_plain(manifest: &Manifest) -> bool {
    manifest.outputs.iter().all(|(name, output)| {
        output.path == output_key(name, &output.digest)
            && output.files.iter().all(|file| file.path.is_empty() || is_below(&file.path))
    })
}
