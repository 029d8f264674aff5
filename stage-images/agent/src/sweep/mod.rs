//! `millrace-agent sweep`: keeps a pipeline's store in order. It writes the records of runs that have ended, and takes out artifacts that nobody
//! has needed for a while.

mod claim;
mod decide;
mod history;

use std::fmt::Display;
use std::fs;
use std::io::Write;

use millrace_contract::{REPORT_LIMIT, Removed, SWEEP_ENV, SweepReport, SweepTask};

use self::claim::Claim;
use self::decide::{Decided, Folders};
use crate::place::Place;
use crate::remote::RemoteShelf;

pub use history::write as history;

/// Hex characters in the name of a file with records.
const NAME: usize = 16;
/// Folders that a report names.
const FIRST: usize = 5;
/// The longest message of a report.
const MESSAGE: usize = 1500;
/// A message is not cut any shorter than this.
const SHORTEST: usize = 100;

/// Why the store is not in order: one word, and what to do.
#[derive(Debug)]
pub struct SweepError {
    reason: &'static str,
    message: String,
}

impl SweepError {
    pub fn new(reason: &'static str, message: impl Display) -> Self {
        Self { reason, message: message.to_string() }
    }
}

/// Files that went, or would have gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    pub files: u64,
    pub bytes: u64,
    /// The folder is there no more.
    pub gone: bool,
    /// Why something that was to go is there yet.
    pub stays: Option<String>,
}

/// What a store can do for a sweep.
pub trait Shelf {
    /// Writes records, of a name that follows from them.
    fn record(&self, name: &str, lines: &[u8]) -> Result<(), SweepError>;
    /// What is known of the folders of runs.
    fn folders(&self) -> Result<Option<Vec<u8>>, SweepError>;
    fn note(&self, folders: &[u8]) -> Result<(), SweepError>;
    /// Takes out the files of a run's folder, but those that are to be kept; `keep` is asked with their paths below the folder of the runs.
    fn clear(&self, folder: &str, keep: &dyn Fn(&str) -> bool, dry_run: bool) -> Result<Cleared, SweepError>;
}

/// Does what the environment tells, and reports. An error is what is wrong with that.
pub fn sweep(stop: &dyn Fn() -> bool) -> Result<(), String> {
    let place = Place::from_env();
    let task = task()?;
    let mut recorded = Vec::new();
    let done = match &task.store {
        None => carry_out(&Claim::open(&place), &task, &mut recorded),
        Some(store) => {
            RemoteShelf::open(store, &task.folder, stop).and_then(|shelf| carry_out(&shelf, &task, &mut recorded))
        }
    };
    let report = match done {
        Ok(report) => report,
        // Another pod goes on.
        Err(error) if stop() => return Err(error.message),
        Err(SweepError { reason, message }) => {
            let message: String = message.chars().take(MESSAGE).collect();
            let _ = writeln!(std::io::stderr(), "{reason}: {message}");
            SweepReport::Failed { reason: reason.to_owned(), message, recorded }
        }
    };
    let text = fitting(report);
    fs::write(place.report(), text).map_err(|error| format!("failed to write the report: {error}"))
}

/// The task, out of all its parts.
fn task() -> Result<SweepTask, String> {
    let parts = (0..).map_while(|part| std::env::var(format!("{SWEEP_ENV}{part}")).ok());
    serde_json::from_str(&parts.collect::<String>())
        .map_err(|error| format!("{SWEEP_ENV}0 and so on hold no task: {error}"))
}

fn carry_out(shelf: &dyn Shelf, task: &SweepTask, recorded: &mut Vec<String>) -> Result<SweepReport, SweepError> {
    // First what lasts.
    record(shelf, task)?;
    recorded.extend(task.records.iter().map(|record| record.key.clone()));
    let before = shelf.folders()?;
    let mut known: Folders = match &before {
        // Who cannot read what is known takes nothing out.
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| {
            let hint = "move it aside, and what was written before stays in the store";
            SweepError::new(
                "StoreNotReadable",
                format!("folders.json of the pipeline's history is no list of folders ({error}): {hint}"),
            )
        })?,
        None => Folders::default(),
    };
    let decided = decide::decide(&mut known, task);
    let Taken { removed, not_removed, failed } = clear(shelf, task, &mut known, &decided);
    let bytes = serde_json::to_vec(&known).map_err(|error| SweepError::new("Bug", error))?;
    if before.as_ref() != Some(&bytes) {
        shelf.note(&bytes)?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let kept = task.kept.len() as u64;
    Ok(SweepReport::Done {
        recorded: recorded.clone(),
        kept,
        // Without a word about artifacts nobody knows whether something is needed.
        left: if task.artifacts.is_some() { (known.folders.len() as u64).saturating_sub(kept) } else { 0 },
        // What could not be taken out is tried again as soon as there is to be a pod.
        next: if not_removed.is_some() { Some(0) } else { decided.next },
        removed,
        dry_run: is_dry_run(task),
        not_removed: not_removed.map(|why| why.chars().take(MESSAGE).collect()),
    })
}

fn record(shelf: &dyn Shelf, task: &SweepTask) -> Result<(), SweepError> {
    if task.records.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = task.records.iter().map(|record| record.key.as_str()).collect();
    let digest = millrace_core::names::sha256_hex(keys.join(" ").as_bytes());
    let lines: String = task.records.iter().map(|record| format!("{}\n", record.line)).collect();
    shelf.record(&format!("{}.jsonl", &digest[..NAME]), lines.as_bytes())?;
    let _ = writeln!(std::io::stdout(), "{} runs are recorded", keys.len());
    Ok(())
}

fn is_dry_run(task: &SweepTask) -> bool {
    task.artifacts.as_ref().is_none_or(|artifacts| artifacts.dry_run)
}

/// What came of it.
#[derive(Default)]
struct Taken {
    removed: Removed,
    /// Why something that was to go is there yet.
    not_removed: Option<String>,
    /// The store itself does not answer as it should.
    failed: Option<SweepError>,
}

/// Takes out what was decided. One folder that cannot be cleared does not keep the others; the first error is told.
fn clear(shelf: &dyn Shelf, task: &SweepTask, known: &mut Folders, decided: &Decided) -> Taken {
    let dry_run = is_dry_run(task);
    let mut taken = Taken::default();
    for folder in &decided.clear {
        let held = known.folders.get(folder).map(|known| known.held.clone()).unwrap_or_default();
        match shelf.clear(folder, &|file| decide::is_held(&held, file), dry_run) {
            Ok(Cleared { files, bytes, gone, stays }) => {
                let verb = if dry_run { "would be" } else { "are" };
                let _ = writeln!(std::io::stdout(), "{folder}: {files} files ({bytes} bytes) {verb} taken out");
                if files > 0 {
                    let removed = &mut taken.removed;
                    removed.runs += 1;
                    removed.files += files;
                    removed.bytes += bytes;
                    removed.first.extend((removed.first.len() < FIRST).then(|| folder.clone()));
                }
                if let Some(why) = stays {
                    let _ = writeln!(std::io::stderr(), "{folder}: {why}");
                    taken.not_removed.get_or_insert(why);
                    continue;
                }
                if dry_run {
                    continue;
                }
                if gone {
                    known.folders.remove(folder);
                } else if let Some(known) = known.folders.get_mut(folder) {
                    // Where nothing is held, somebody writes in it yet.
                    known.cleared = !held.is_empty();
                }
            }
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{folder}: {}", error.message);
                taken.failed.get_or_insert(error);
            }
        }
    }
    taken
}

/// As JSON within the limit. What is left out of a report of success is only names.
fn fitting(mut report: SweepReport) -> String {
    let size = |report: &SweepReport| serde_json::to_string(report).unwrap_or_default();
    while size(&report).len() > REPORT_LIMIT {
        match &mut report {
            SweepReport::Done { not_removed: Some(message), .. } | SweepReport::Failed { message, .. }
                if message.len() > SHORTEST =>
            {
                message.truncate(message.floor_char_boundary(message.len() / 2));
            }
            SweepReport::Done { removed, .. } if !removed.first.is_empty() => drop(removed.first.pop()),
            // It is recorded twice then, which is one time too many and no loss.
            SweepReport::Done { recorded, .. } | SweepReport::Failed { recorded, .. } => drop(recorded.pop()),
        }
    }
    size(&report)
}
