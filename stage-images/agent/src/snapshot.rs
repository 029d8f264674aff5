//! The checkpoints that are in a folder now: which files each complete one has, and whether it is still the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_files::digest::{self, DigestError, Stop};
use serde::{Deserialize, Serialize};

/// A complete checkpoint: a file or a folder, at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub folder: bool,
    /// Of the file, or of the folder itself: the newest checkpoint is found by it. Nanoseconds since 1970.
    pub modified: u64,
    /// Sorted by path; that of a single file is empty.
    pub files: Vec<SnapshotFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotFile {
    pub path: String,
    pub size: u64,
    pub modified: u64,
}

impl Snapshot {
    /// What lies at a path.
    pub fn of(path: &Path, stop: Stop<'_>) -> Result<Self, DigestError> {
        let found = digest::walk(path, stop)?;
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| DigestError::Read { path, source }
        };
        let folder = fs::symlink_metadata(path).map_err(read(path))?.is_dir();
        let file = |entry: digest::Entry| {
            let at = if entry.path.is_empty() { path.to_owned() } else { path.join(&entry.path) };
            let modified = modified(&at).map_err(read(&at))?;
            Ok(SnapshotFile { path: entry.path, size: entry.size, modified })
        };
        let files = found.into_iter().map(file).collect::<Result<_, DigestError>>()?;
        Ok(Self { folder, modified: modified(path).map_err(read(path))?, files })
    }
}

/// What was found in a folder of checkpoints.
#[derive(Debug, Default)]
pub struct Found {
    /// Every complete one, by its name.
    pub checkpoints: BTreeMap<String, Snapshot>,
    /// There may be more: one was taken away or renamed at that moment.
    pub moving: bool,
    /// Why there may be more: something cannot be looked at.
    pub trouble: Option<String>,
}

/// Every complete checkpoint of a folder. One that cannot be looked at is told with why.
pub fn all(folder: &Path, stop: Stop<'_>) -> Found {
    let mut found = Found::default();
    let failed = |error: std::io::Error| Some(format!("{} cannot be read: {error}", folder.display()));
    // A folder that cannot be read is not an empty one.
    let entries = match fs::symlink_metadata(folder) {
        Ok(of) if !of.is_dir() => {
            found.trouble = Some(format!("{} is no folder any more", folder.display()));
            return found;
        }
        of => of.and_then(|_| fs::read_dir(folder)),
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            found.trouble = failed(error);
            return found;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.trouble = failed(error);
                continue;
            }
        };
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Some(name) = name.to_str() else {
            found.trouble = Some(format!("{} has a name that is no text", entry.path().display()));
            continue;
        };
        match Snapshot::of(&entry.path(), stop) {
            Ok(snapshot) => drop(found.checkpoints.insert(name.to_owned(), snapshot)),
            Err(DigestError::Missing(_) | DigestError::Stopped(_)) => found.moving = true,
            Err(error) => found.trouble = Some(error.to_string()),
        }
    }
    found
}

fn modified(path: &Path) -> std::io::Result<u64> {
    let since = fs::symlink_metadata(path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A time as a snapshot has it.
pub fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO: Stop<'static> = &|| false;

    #[test]
    fn only_complete_checkpoints_are_seen_and_a_change_shows() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("step-1/deep")).unwrap();
        fs::write(at("step-1/deep/weights"), "abc").unwrap();
        fs::write(at("last"), "x").unwrap();
        fs::write(at(".half"), "x").unwrap();
        let Found { checkpoints: first, moving: false, trouble } = all(folder.path(), GO) else { panic!("none moves") };
        assert_eq!((first.keys().map(String::as_str).collect::<Vec<_>>(), trouble), (vec!["last", "step-1"], None));
        assert_eq!((first["step-1"].folder, first["step-1"].files[0].path.as_str()), (true, "deep/weights"));
        assert_eq!((first["last"].folder, first["last"].files[0].size), (false, 1));
        assert_eq!(all(folder.path(), GO).checkpoints, first);
        fs::write(at("step-1/deep/weights"), "abcd").unwrap();
        assert_ne!(all(folder.path(), GO).checkpoints["step-1"], first["step-1"]);
    }

    #[test]
    fn what_is_no_file_is_told_and_keeps_no_other_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("linked")).unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("linked/etc")).unwrap();
        fs::write(folder.path().join("good"), "x").unwrap();
        let Found { checkpoints, trouble, .. } = all(folder.path(), GO);
        assert_eq!(checkpoints.len(), 1);
        assert!(trouble.unwrap().contains("is a link"));
        std::os::unix::fs::symlink(folder.path(), folder.path().join("elsewhere")).unwrap();
        for (name, says) in [("elsewhere", "is no folder"), ("gone", "cannot be read")] {
            let Found { checkpoints, trouble, .. } = all(&folder.path().join(name), GO);
            assert!(checkpoints.is_empty() && trouble.unwrap().contains(says), "{name}");
        }
    }
}
