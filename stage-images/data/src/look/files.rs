//! What lies on a mounted claim: a file, or all files below a folder. Nothing is read but names, sizes and times.

use std::io::ErrorKind;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::{Fault, Seen, amount};

pub(super) fn look(path: &Path) -> Result<Seen, Fault> {
    let unreadable = |error: &std::io::Error| {
        Fault::lasting(
            "Unreadable",
            format!("{}: {error}; user and group 65532 must be able to read it", path.display()),
        )
    };
    let mut print = Fingerprint::default();
    match add(path, path, &mut print) {
        Ok(()) if print.count > 0 => Ok(Seen::new(print.version(), amount(print.count, "file", print.bytes))),
        Ok(()) => Ok(Seen::nothing()),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Adds a file, or all files below a folder but those whose name or folder begins with `.` or `_`. What goes away meanwhile is not there.
fn add(root: &Path, path: &Path, print: &mut Fingerprint) -> std::io::Result<()> {
    let mut folders = vec![path.to_path_buf()];
    while let Some(path) = folders.pop() {
        let Some(there) = if_there(std::fs::metadata(&path))? else { continue };
        if !there.is_dir() {
            let changed = there.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let changed = changed.and_then(|age| u64::try_from(age.as_nanos()).ok()).unwrap_or_default();
            let name = path.strip_prefix(root).unwrap_or(&path);
            print.add(name.as_os_str().as_encoded_bytes(), there.len(), changed);
            continue;
        }
        // A folder that is a link may lead back to where it lies.
        if path != root && std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink()) {
            continue;
        }
        let Some(entries) = if_there(std::fs::read_dir(&path))? else { continue };
        for entry in entries {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".")
                && !entry.file_name().as_encoded_bytes().starts_with(b"_")
            {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

fn if_there<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A digest of many files that does not depend on their order and needs no memory for each of them.
#[derive(Default)]
pub(super) struct Fingerprint {
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// The sum of the digests of all of them.
    sum: [u64; 4],
}

impl Fingerprint {
    pub(super) fn add(&mut self, name: &[u8], size: u64, changed: u64) {
        let mut hash = Sha256::new();
        hash.update(size.to_le_bytes());
        hash.update(changed.to_le_bytes());
        hash.update(name);
        for (sum, part) in self.sum.iter_mut().zip(hash.finalize().chunks_exact(8)) {
            let part = part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(part);
        }
        self.count += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    pub(super) fn version(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.count.to_le_bytes());
        for sum in self.sum {
            hash.update(sum.to_le_bytes());
        }
        format!("files:{:x}", hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(path: &Path) -> Option<String> {
        look(path).unwrap().version
    }

    #[test]
    fn whatever_happens_to_a_file_is_another_version_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("in");
        assert_eq!(version(&root), None, "nothing is there yet");
        std::fs::create_dir_all(root.join("day")).unwrap();
        assert_eq!(version(&root), None, "an empty folder has no data");
        std::fs::write(root.join("day/a.csv"), "1").unwrap();
        let one = version(&root).unwrap();
        assert_eq!(version(&root).unwrap(), one);
        for hidden in [".a.csv.tmp", "_SUCCESS"] {
            std::fs::write(root.join(hidden), "x").unwrap();
        }
        assert_eq!(version(&root).unwrap(), one);
        std::fs::write(root.join("b.csv"), "2").unwrap();
        let two = version(&root).unwrap();
        assert_ne!(two, one);
        std::fs::rename(root.join("b.csv"), root.join("c.csv")).unwrap();
        assert_ne!(version(&root).unwrap(), two);
        std::fs::remove_file(root.join("c.csv")).unwrap();
        assert_eq!(version(&root).unwrap(), one);
        std::fs::write(root.join("day/a.csv"), "22").unwrap();
        assert_ne!(version(&root).unwrap(), one);
        assert_eq!(look(&root).unwrap().found, "1 file, 2 bytes");
        assert!(version(&root.join("day/a.csv")).is_some(), "a file by itself");
    }

    #[test]
    fn a_folder_that_leads_back_to_itself_is_no_end_of_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "1").unwrap();
        let before = version(folder.path());
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert_eq!(version(folder.path()), before);
    }

    #[test]
    fn the_order_of_files_does_not_matter_but_whose_size_it_is_does() {
        let print = |files: &[(&str, u64)]| {
            let mut print = Fingerprint::default();
            for (name, size) in files {
                print.add(name.as_bytes(), *size, 7);
            }
            print.version()
        };
        assert_eq!(print(&[("a", 1), ("b", 2)]), print(&[("b", 2), ("a", 1)]));
        assert_ne!(print(&[("a", 1), ("b", 2)]), print(&[("a", 2), ("b", 1)]));
    }
}
