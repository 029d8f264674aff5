//! A mounted Secret or ConfigMap, as the kubelet lays one out.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Entries by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The folder may be swapped while it is read.
const TRIES: usize = 3;

/// All entries; none where the object is not there. `None` if it is not mounted into this pod.
pub fn read(folder: &Path) -> io::Result<Option<Files>> {
    let mut read = once(folder);
    for _ in 1..TRIES {
        match &read {
            Err(error) if error.kind() == ErrorKind::NotFound => read = once(folder),
            _ => break,
        }
    }
    read
}

fn once(folder: &Path) -> io::Result<Option<Files>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    // The kubelet swaps this link: a certificate and its key must be of one state.
    let state = match std::fs::canonicalize(folder.join("..data")) {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::NotFound => folder.to_owned(),
        Err(error) => return Err(error),
    };
    let mut files = Files::new();
    for entry in std::fs::read_dir(state)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with("..") && entry.path().is_file() {
            files.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(Some(files))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_state_of_the_kubelets_is_read_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path().join("keys");
        assert_eq!(read(&mount).unwrap(), None);
        std::fs::create_dir_all(mount.join("..1")).unwrap();
        std::fs::create_dir_all(mount.join("..2")).unwrap();
        std::fs::write(mount.join("..1/a"), "old").unwrap();
        std::fs::write(mount.join("..2/b"), "new").unwrap();
        for (state, name, text) in [("..1", "a", "old"), ("..2", "b", "new")] {
            let next = mount.join("..data_tmp");
            symlink(state, &next).unwrap();
            std::fs::rename(next, mount.join("..data")).unwrap();
            let expected = Files::from([(name.to_owned(), text.as_bytes().to_vec())]);
            assert_eq!(read(&mount).unwrap(), Some(expected));
        }
    }

    #[test]
    fn one_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(Files::new()));
    }
}
