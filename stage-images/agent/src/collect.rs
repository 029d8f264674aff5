//! After all items of a stage: what they made is put together, as the outputs of the stage. Nothing is copied: a file has two names then.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use millrace_contract::{
    BlobFile, CLAIM_DIR, ITEMS_OUTPUT, Manifest, ManifestOutput, Outcome, Report, STAGE_DIR, Task, TaskItems, Told,
    Usage, flaw, item_folder, output_path,
};
use millrace_files::regular::{self, ReadError};
use millrace_files::short;
use serde_json::{Value, json};
use thiserror::Error;

use crate::elsewhere::{self, Elsewhere, Layout};
use crate::folders::{self, StoreError};
use crate::item::{self, ItemsError};
use crate::manifest;
use crate::outputs::Outputs;
use crate::place::Place;
use crate::remote::RemoteError;

#[derive(Debug, Error)]
pub enum CollectError {
    #[error("what item {index} made cannot be found: {why}; begin the stage again with retryFrom")]
    Lost { index: u64, why: String },
    #[error(
        "output {output:?} of item {index} is not what the item reported: {path} has changed; begin the stage again with retryFrom"
    )]
    Changed { index: u64, output: String, path: String },
    #[error(
        "what item {index} made may not be read: {state}. Let its program write what others may read (umask 022), or run as no user of its own"
    )]
    Denied { index: u64, state: String },
    #[error(transparent)]
    Items(#[from] ItemsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Remote(RemoteError),
    #[error("stopped while what the items made was put together")]
    Stopped,
}

/// What the items used, all of them together, and what each file should be.
#[derive(Debug, Default)]
pub struct Collected {
    pub usage: Usage,
    /// Output, path below it, digest.
    expected: Vec<Expected>,
}

#[derive(Debug)]
struct Expected {
    index: u64,
    output: String,
    path: String,
    sha256: String,
}

/// Puts the items' outputs below the stage's, each by its index, and writes the list of them.
pub fn put_together(
    task: &Task,
    items: &TaskItems,
    place: &Place,
    stop: &dyn Fn() -> bool,
) -> Result<Collected, CollectError> {
    let values = item::all(items, place, stop)?;
    let stage = folders::stage(place);
    let into = |output: &str| place.at(output_path(task.attempt, output));
    for output in task.outputs.keys().filter(|output| *output != ITEMS_OUTPUT) {
        let folder = into(output);
        fs::create_dir_all(&folder).map_err(|source| StoreError::new(&folder, source))?;
    }
    let path = into(ITEMS_OUTPUT);
    let unwritten = |source| StoreError::new(&path, source);
    let mut lines = BufWriter::new(File::create(&path).map_err(unwritten)?);
    let mut collected = Collected::default();
    for (index, value) in (0..items.total).zip(&values) {
        if stop() {
            return Err(CollectError::Stopped);
        }
        if let Some(told) = &items.told {
            writeln!(lines, "{}", elsewhere::for_people(value)).map_err(unwritten)?;
            for made in elsewhere::of_line(index, value, told, Layout::Claim, task)? {
                take_elsewhere(task, told, &made, place, &mut collected)?;
            }
            continue;
        }
        let folder = stage.join(item_folder(index));
        let manifest = of_item(task, &folder, index)?;
        let report = &manifest.report;
        writeln!(lines, "{}", line(index, value, report)).map_err(unwritten)?;
        add(&mut collected.usage, &report.usage);
        for (output, made) in manifest.outputs.iter().filter(|(output, _)| task.outputs.contains_key(*output)) {
            collected.take(index, output, made, &folder, &into(output))?;
        }
    }
    lines.flush().map_err(unwritten)?;
    Ok(collected)
}

/// A line of the list of items. `value` is JSON.
pub fn line(index: u64, value: &str, report: &Report) -> Value {
    let value: Value = serde_json::from_str(value).unwrap_or_default();
    json!({ "index": index, "item": value, "results": report.results, "metrics": report.metrics })
}

/// What another item used, in the sum.
pub fn add(sum: &mut Usage, usage: &Usage) {
    sum.cpu_seconds += usage.cpu_seconds;
    sum.wall_seconds += usage.wall_seconds;
    sum.peak_memory_bytes = sum.peak_memory_bytes.max(usage.peak_memory_bytes);
}

/// An output of a stage of another run. A second name has to be of the same mount, so both are reached by the claim's root.
fn take_elsewhere(
    task: &Task,
    told: &Told,
    made: &Elsewhere,
    place: &Place,
    collected: &mut Collected,
) -> Result<(), CollectError> {
    let claim = place.at(CLAIM_DIR);
    let from = claim.join(&made.folder);
    let path = from.join("manifest.json");
    let text = match regular::read(&path, manifest::SIZE_LIMIT) {
        Ok(text) => Some(text),
        Err(ReadError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::new(&path, error).into());
        }
        Err(_) => None,
    };
    let found = made.in_manifest(text.as_deref())?;
    // Its program may have put a link in the place of a folder.
    let is_link = |folder: &Path| fs::symlink_metadata(from.join(folder)).is_ok_and(|found| found.is_symlink());
    if Path::new(&found.path).ancestors().skip(1).any(is_link) {
        return Err(CollectError::Lost { index: made.index, why: format!("{} leads through a link", short(&from)) });
    }
    let path = output_path(task.attempt, &made.output);
    let below = path.strip_prefix(STAGE_DIR).unwrap_or(&path).trim_start_matches('/');
    collected.take(made.index, &made.output, &found, &from, &claim.join(&told.folder).join(below))
}

impl Collected {
    /// Gives the files of an output of an item, of the stage in the folder `from`, second names below `into`.
    fn take(
        &mut self,
        index: u64,
        output: &str,
        made: &ManifestOutput,
        from: &Path,
        into: &Path,
    ) -> Result<(), CollectError> {
        let (from, to) = (from.join(&made.path), into.join(index.to_string()));
        for BlobFile { path, sha256, size: _ } in &made.files {
            let (source, target) =
                if path.is_empty() { (from.clone(), to.clone()) } else { (from.join(path), to.join(path)) };
            link(&source, &target).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    CollectError::Lost { index, why: format!("{} is not there", short(&source)) }
                }
                _ if File::open(&source).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) => {
                    CollectError::Denied { index, state: folders::state(&source) }
                }
                _ => StoreError::new(&target, error).into(),
            })?;
            let below = if path.is_empty() { index.to_string() } else { format!("{index}/{path}") };
            let (output, sha256) = (output.to_owned(), sha256.clone());
            self.expected.push(Expected { index, output, path: below, sha256 });
        }
        // A folder may be empty.
        if made.files.is_empty() {
            fs::create_dir_all(&to).map_err(|source| StoreError::new(&to, source))?;
        }
        Ok(())
    }

    /// Every file that was collected is what its item reported.
    pub fn check(&self, outputs: &Outputs) -> Result<(), CollectError> {
        for Expected { index, output, path, sha256 } in &self.expected {
            let files = outputs.lists.get(output).map(|list| list.files.as_slice()).unwrap_or_default();
            let found = files.binary_search_by(|file| file.path.as_bytes().cmp(path.as_bytes()));
            if found.ok().is_none_or(|at| files[at].sha256 != *sha256) {
                return Err(CollectError::Changed { index: *index, output: output.clone(), path: path.clone() });
            }
        }
        Ok(())
    }
}

fn of_item(task: &Task, folder: &Path, index: u64) -> Result<Manifest, CollectError> {
    let lost = |why: String| CollectError::Lost { index, why };
    let path = folder.join("manifest.json");
    let text = regular::read(&path, manifest::SIZE_LIMIT).map_err(|error| match error {
        ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            lost(format!("{} is not there", short(&path)))
        }
        error => lost(format!("{}: {error}", short(&path))),
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| lost(format!("{} is no manifest: {error}", short(&path))))?;
    let report = &manifest.report;
    let ours = report.run_uid == task.run_uid && report.stage == task.stage && report.outcome == Outcome::Succeeded;
    // A program can write such a file too: what it names has to be its own, and no way there a link.
    let attempt = folder.join(format!("attempts/{}", report.attempt));
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let there = [folder.join("attempts"), attempt.clone(), attempt.join("outputs")].iter().all(|path| is_folder(path));
    let named = |output: &String, path: &str| path == format!("attempts/{}/outputs/{output}", report.attempt);
    let plain = manifest.outputs.is_empty()
        || there
            && manifest.outputs.iter().all(|(name, output)| {
                named(name, &output.path)
                    && output.files.iter().all(|file| file.path.is_empty() || is_below(&file.path))
            });
    if !ours || !plain || flaw(report).is_some() {
        return Err(lost(format!("{} is no manifest of this stage", short(&path))));
    }
    Ok(manifest)
}

/// A path that does not climb.
pub fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Another name for a file; a copy where the file system has no second names. A link is no file.
fn link(source: &PathBuf, target: &Path) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    if !fs::symlink_metadata(source)?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    match fs::hard_link(source, target) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::TooManyLinks
            ) =>
        {
            fs::copy(source, target).map(|_| ())
        }
        done => done,
    }
}
