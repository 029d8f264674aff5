//! Where a copy goes. It is made beside its place under another name, and gets its own only when it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

const COPY: &str = "copy";
const BEFORE: &str = "before";

/// A place for a copy. Without [`Place::put`] nothing is left of it.
#[derive(Debug)]
pub struct Place {
    to: PathBuf,
    /// A folder, in which the copy is `copy` and what it replaces `before`.
    work: PathBuf,
    force: bool,
}

impl Place {
    /// Makes sure that the copy can be made there.
    pub fn claim(to: &Path, force: bool) -> Result<Self, Error> {
        let unusable =
            || Error::said(format!("{} is no name of a file or folder: write one that is to be made", to.display()));
        let name = to.file_name().and_then(|name| name.to_str()).ok_or_else(unusable)?;
        if fs::symlink_metadata(to).is_ok() && !force {
            return Err(is_there(to));
        }
        let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let work = above.join(format!(".{name}.millrace-{}", std::process::id()));
        fs::create_dir(&work).map_err(|source| Error::Write { path: work.display().to_string(), source })?;
        Ok(Self { to: to.to_owned(), work, force })
    }

    /// Where the copy is made.
    pub fn copy(&self) -> PathBuf {
        self.work.join(COPY)
    }

    /// The whole copy gets its name.
    pub fn put(self) -> Result<(), Error> {
        let failed = |source| Error::Write { path: self.to.display().to_string(), source };
        if !self.force {
            return self.put_new();
        }
        if fs::symlink_metadata(&self.to).is_ok() {
            fs::rename(&self.to, self.work.join(BEFORE)).map_err(failed)?;
        }
        match fs::rename(self.copy(), &self.to) {
            Ok(()) => Ok(()),
            Err(error) => {
                let _ = fs::rename(self.work.join(BEFORE), &self.to);
                Err(failed(error))
            }
        }
    }

    /// What somebody else made there meanwhile is not replaced: the name is taken first, empty, which only one can do.
    fn put_new(&self) -> Result<(), Error> {
        let copy = self.copy();
        let folder = fs::symlink_metadata(&copy).is_ok_and(|found| found.is_dir());
        let taken = if folder { fs::create_dir(&self.to) } else { fs::File::create_new(&self.to).map(drop) };
        taken.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => is_there(&self.to),
            _ => Error::Write { path: self.to.display().to_string(), source: error },
        })?;
        fs::rename(&copy, &self.to).map_err(|source| {
            let _ = if folder { fs::remove_dir(&self.to) } else { fs::remove_file(&self.to) };
            Error::Write { path: self.to.display().to_string(), source }
        })
    }
}

fn is_there(to: &Path) -> Error {
    Error::said(format!("{} is there: write another name, or --force", to.display()))
}

impl Drop for Place {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                crate::output::warn(&format!("{} is left: {error}", self.work.display()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_copy_has_its_name_once_it_is_whole_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("model");
        let place = Place::claim(&to, false).unwrap();
        fs::write(place.copy(), "half").unwrap();
        drop(place);
        assert_eq!(names(folder.path()), Vec::<String>::new());
        let place = Place::claim(&to, false).unwrap();
        fs::create_dir(place.copy()).unwrap();
        place.put().unwrap();
        assert_eq!((names(folder.path()), to.is_dir()), (vec!["model".to_owned()], true));
    }

    #[test]
    fn what_appears_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("model");
        for (copied_folder, theirs_folder) in [(false, false), (true, true), (false, true), (true, false)] {
            let place = Place::claim(&to, false).unwrap();
            if copied_folder { fs::create_dir(place.copy()) } else { fs::write(place.copy(), "new") }.unwrap();
            if theirs_folder { fs::create_dir(&to) } else { fs::write(&to, "theirs") }.unwrap();
            assert!(place.put().unwrap_err().to_string().contains("--force"));
            assert_eq!((names(folder.path()), to.is_dir()), (vec!["model".to_owned()], theirs_folder));
            if theirs_folder { fs::remove_dir(&to) } else { fs::remove_file(&to) }.unwrap();
        }
        let place = Place::claim(&to, false).unwrap();
        fs::write(place.copy(), "new").unwrap();
        std::os::unix::fs::symlink("nowhere", &to).unwrap();
        assert!(place.put().unwrap_err().to_string().contains("--force"), "a link that leads nowhere is there too");
    }

    #[test]
    fn what_is_there_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("model");
        fs::create_dir(&to).unwrap();
        fs::write(to.join("old"), "old").unwrap();
        assert!(Place::claim(&to, false).unwrap_err().to_string().contains("--force"));
        let place = Place::claim(&to, true).unwrap();
        assert!(to.join("old").exists());
        fs::write(place.copy(), "new").unwrap();
        place.put().unwrap();
        assert_eq!(
            (names(folder.path()), fs::read_to_string(&to).unwrap()),
            (vec!["model".to_owned()], "new".to_owned())
        );
        for wrong in ["/", "..", "a/.."] {
            assert!(Place::claim(Path::new(wrong), true).is_err(), "{wrong}");
        }
    }
}
