//! A claim. Programs of stages wrote what lies there, so no link is followed, not even one that appears meanwhile: every folder is held open,
//! and what is in it is named from there.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use millrace_contract::{SWEEP_FOLDERS, SWEEP_HISTORY_DIR, SWEEP_RECORDS, SWEEP_RUNS_DIR};
use millrace_files::regular::{self, ReadError};
use nix::libc::{O_DIRECTORY, O_NOFOLLOW, O_PATH};

use super::{Cleared, Shelf, SweepError};
use crate::folders::StoreError;
use crate::manifest::SIZE_LIMIT;
use crate::place::Place;

/// Folders in folders: nobody makes more of them, and each is a file that is open.
const DEEPEST: usize = 200;

pub struct Claim {
    runs: PathBuf,
    history: PathBuf,
}

impl Claim {
    pub fn open(place: &Place) -> Self {
        Self { runs: place.at(SWEEP_RUNS_DIR), history: place.at(SWEEP_HISTORY_DIR) }
    }
}

/// A file whose name says what is in it, or that only this pod writes: whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), SweepError> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let file = regular::write(&new, bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    written.map_err(|source| SweepError::new("StoreNotWritable", StoreError::new(path, source)))
}

impl Shelf for Claim {
    fn record(&self, name: &str, lines: &[u8]) -> Result<(), SweepError> {
        write(&self.history.join(SWEEP_RECORDS).join(name), lines)
    }

    fn folders(&self) -> Result<Option<Vec<u8>>, SweepError> {
        let path = self.history.join(SWEEP_FOLDERS);
        match regular::read(&path, SIZE_LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SweepError::new("StoreNotReadable", format!("{}: {error}", path.display()))),
        }
    }

    fn note(&self, folders: &[u8]) -> Result<(), SweepError> {
        write(&self.history.join(SWEEP_FOLDERS), folders)
    }

    fn clear(&self, folder: &str, keep: &dyn Fn(&str) -> bool, dry_run: bool) -> Result<Cleared, SweepError> {
        let mut walk = Walk { keep, dry_run, shown: &self.runs, cleared: Cleared::default() };
        let runs = opened(&self.runs).map_err(|source| StoreError::new(&self.runs, source));
        let done = runs.and_then(|runs| walk.folder(&runs, OsStr::new(folder), folder, 0));
        let gone = walk.went(done);
        Ok(Cleared { gone: gone && !dry_run, ..walk.cleared })
    }
}

struct Walk<'a> {
    keep: &'a dyn Fn(&str) -> bool,
    dry_run: bool,
    shown: &'a Path,
    cleared: Cleared,
}

impl Walk<'_> {
    /// Whether something went. The first that did not is told, and does not keep the rest.
    fn went(&mut self, done: Result<bool, StoreError>) -> bool {
        done.unwrap_or_else(|error| {
            self.cleared.stays.get_or_insert_with(|| error.to_string());
            false
        })
    }

    /// Takes out what is in a folder, and the folder where nothing stays. Whether it went.
    fn folder(&mut self, above: &File, name: &OsStr, path: &str, depth: usize) -> Result<bool, StoreError> {
        let shown = self.shown.join(path);
        let failed = |source: io::Error| StoreError::new(&shown, source);
        let here = at(above, name);
        let folder = match opened(&here) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            // A program may have taken its own rights away.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !self.dry_run => {
                let found = OpenOptions::new().read(true).custom_flags(O_PATH | O_DIRECTORY | O_NOFOLLOW).open(&here);
                let found = found.map_err(failed)?;
                fs::set_permissions(of(&found), fs::Permissions::from_mode(0o700)).map_err(failed)?;
                opened(&here).map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        if depth >= DEEPEST {
            return Err(failed(io::Error::other(format!("more than {DEEPEST} folders lie in each other"))));
        }
        let mut empty = true;
        for entry in fs::read_dir(of(&folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            // A name that is no text is needed with the folder that it lies in.
            let path = format!("{path}/{}", name.to_string_lossy());
            let done = match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.folder(&folder, &name, &path, depth + 1),
                Ok(_) if (self.keep)(&path) => Ok(false),
                Ok(_) => self.file(&at(&folder, &name), &folder).map_err(failed),
                Err(error) => Err(failed(error)),
            };
            empty &= self.went(done);
        }
        if empty && !self.dry_run {
            match fs::remove_dir(&here) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done.map_err(failed)?,
            }
        }
        Ok(empty)
    }

    fn file(&mut self, here: &Path, folder: &File) -> io::Result<bool> {
        let found = match fs::symlink_metadata(here) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            found => found?,
        };
        if found.is_dir() {
            // It was none a moment ago.
            return Ok(false);
        }
        if !self.dry_run {
            match fs::remove_file(here) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    fs::set_permissions(of(folder), fs::Permissions::from_mode(0o700))?;
                    fs::remove_file(here)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        self.cleared.files += 1;
        self.cleared.bytes += found.len();
        Ok(true)
    }
}

/// A folder, and nothing that leads to one.
fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_DIRECTORY | O_NOFOLLOW).open(path)
}

/// The path of a folder that is open.
fn of(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn at(folder: &File, name: &OsStr) -> PathBuf {
    of(folder).join(name)
}
