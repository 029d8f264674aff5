//! What earlier attempts left for the next one. A checkpoint is complete when its name does not begin with a dot: a program writes under such a
//! name and renames what it wrote, so that one that was killed in between leaves nothing that could be taken for a checkpoint.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millrace_contract::{STAGE_DIR, checkpoint_dir};

use crate::place::Place;

/// From where an attempt goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// The checkpoints of the latest attempt that has a complete one.
    pub folder: PathBuf,
    /// The newest complete one in it.
    pub latest: PathBuf,
}

/// The checkpoints of the latest attempt before `attempt` that has a complete one.
pub fn last(place: &Place, attempt: u32) -> Option<Restore> {
    let own = place.at(checkpoint_dir(attempt));
    let mut earlier: Vec<_> =
        folders(place).into_iter().filter(|(age, folder)| age.0 <= attempt && *folder != own).collect();
    earlier.sort_unstable();
    earlier.into_iter().rev().find_map(|(_, folder)| {
        let complete = entries(&folder).into_iter().filter(is_complete);
        let latest = complete.max_by_key(|entry| (modified(entry), entry.file_name()))?.path();
        Some(Restore { folder, latest })
    })
}

/// Removes all of them: the stage is complete, and nothing goes on from there. What cannot be removed harms nobody.
pub fn clear(place: &Place) {
    for (_, folder) in folders(place) {
        let _ = fs::remove_dir_all(folder);
    }
}

/// The order of attempts, and of the pods of one: those whose folder was set aside came before the one that has the name.
type Age = (u32, u32);

/// Every folder of checkpoints. None behind a link: that is not in the store.
fn folders(place: &Place) -> Vec<(Age, PathBuf)> {
    let attempts = entries(&place.at(STAGE_DIR).join("attempts"));
    let found = attempts.into_iter().filter_map(|entry| Some((age(entry.file_name().to_str()?)?, entry.path())));
    found
        .filter(|(_, attempt)| is_folder(attempt))
        .map(|(age, attempt)| (age, attempt.join("checkpoint")))
        .filter(|(_, f)| is_folder(f))
        .collect()
}

/// `3` or `3.replaced-1`.
fn age(name: &str) -> Option<Age> {
    match name.split_once(".replaced-") {
        None => Some((name.parse().ok()?, u32::MAX)),
        Some((attempt, count)) => Some((attempt.parse().ok()?, count.parse().ok()?)),
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn entries(folder: &Path) -> Vec<DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten().collect()
}

fn is_complete(entry: &DirEntry) -> bool {
    !entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn modified(entry: &DirEntry) -> Option<SystemTime> {
    entry.metadata().ok()?.modified().ok()
}
