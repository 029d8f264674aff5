//! The cache's folders on the claim; what they are is in the contract (`model_cache`).

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millrace_contract::{MODEL_CACHE_DIR, MODEL_CACHE_MODELS};
use millrace_files::digest::is_digest;
use nix::fcntl::AT_FDCWD;
use nix::libc::O_NOFOLLOW;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;

use super::CacheError;
use super::lock::Lock;
use super::room::Kept;
use crate::fetch::progress::size_of;
use crate::place::Place;
use crate::sync;

const USED: &str = "used";
const LOCKS: &str = "locks";
const FETCHING: &str = "fetching";
const GONE: &str = "gone";
/// The lock of who decides what goes.
pub const ROOM: &str = "room";
/// A pod that has written nothing for so long writes no more. To bring one large file to disk takes minutes in which nothing else is written.
const SILENT: Duration = Duration::from_mins(20);
/// Pods of other users in the group keep the cache in order too.
const FOLDER_MODE: u32 = 0o775;

pub struct Shelf {
    root: PathBuf,
    claim: String,
    /// Tells the halves of pods apart.
    pod: String,
}

impl Shelf {
    pub fn open(place: &Place, claim: &str) -> Result<Self, CacheError> {
        let pod = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty() && !name.contains('/'));
        let pod = pod.unwrap_or_else(|| format!("process-{}", std::process::id()));
        let shelf = Self { root: place.at(MODEL_CACHE_DIR), claim: claim.to_owned(), pod };
        for folder in [MODEL_CACHE_MODELS, USED, LOCKS, FETCHING, GONE] {
            let path = shelf.root.join(folder);
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&path).map_err(shelf.failed(&path))?;
            open_to_group(&path);
        }
        Ok(shelf)
    }

    /// An error of this claim.
    pub fn failed(&self, path: &Path) -> impl Fn(io::Error) -> CacheError {
        let (claim, path) = (self.claim.clone(), path.display().to_string());
        move |source| CacheError::Claim { claim: claim.clone(), path: path.clone(), source }
    }

    pub fn done<T>(&self, result: io::Result<T>) -> Result<T, CacheError> {
        result.map_err(self.failed(&self.root))
    }

    pub fn model(&self, name: &str) -> PathBuf {
        self.root.join(MODEL_CACHE_MODELS).join(name)
    }

    /// What has its name, told apart from what had it before: that it has another number alone would not do, numbers are used again.
    pub fn state(&self, name: &str) -> Option<(u64, i64, i64)> {
        fs::symlink_metadata(self.model(name)).ok().map(|found| (found.ino(), found.ctime(), found.ctime_nsec()))
    }

    /// Where this pod brings a model.
    pub fn half(&self, name: &str) -> PathBuf {
        self.root.join(FETCHING).join(format!("{name}.{}", self.pod))
    }

    pub fn lock(&self, name: &str) -> Result<Lock, CacheError> {
        let path = self.root.join(LOCKS).join(name);
        Lock::open(&path).map_err(self.failed(&path))
    }

    /// A pod has asked for it now. It takes no room, where it was asked for before. Where nobody has said its bytes, they are those that are there.
    pub fn asked(&self, name: &str, size: Option<u64>) -> Result<(), CacheError> {
        match touch(&self.root.join(USED).join(name)) {
            Ok(()) => Ok(()),
            Err(_) => self.used(name, size.unwrap_or_else(|| size_of(&self.model(name)))),
        }
    }

    /// A pod has asked for it now, and these are its bytes. Written in place: in a claim that is full there may be no room for it anew.
    pub fn used(&self, name: &str, size: u64) -> Result<(), CacheError> {
        let path = self.root.join(USED).join(name);
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o664)
            .custom_flags(O_NOFOLLOW)
            .open(&path);
        let text = size.to_string();
        let written = open.and_then(|file| {
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)
        });
        written.map_err(self.failed(&path))
    }

    /// Bytes that pods have brought of a model.
    pub fn coming(&self, name: &str) -> u64 {
        self.halves(name).iter().map(|path| size_of(path)).max().unwrap_or_default()
    }

    fn halves(&self, name: &str) -> Vec<PathBuf> {
        let begins = format!("{name}.");
        let of = |path: &PathBuf| path.file_name().is_some_and(|own| own.to_string_lossy().starts_with(&begins));
        listed(&self.root.join(FETCHING)).into_iter().filter(of).collect()
    }

    pub fn drop_half(&self, name: &str) {
        let _ = remove(&self.half(name));
    }

    /// Its pod lives.
    pub fn keep_half(&self, name: &str) {
        let _ = touch(&self.half(name));
    }

    /// Takes out what pods that are dead have left of a model. Its lock is held, but a file system may have locks of its node only.
    pub fn clear_halves(&self, name: &str, now: SystemTime) -> Result<(), CacheError> {
        self.drop_half(name);
        for path in self.halves(name).iter().filter(|path| is_silent(path, now)) {
            remove(path).map_err(self.failed(path))?;
        }
        Ok(())
    }

    /// What dead pods have left of all models.
    pub fn clear_left(&self, now: SystemTime) -> Result<(), CacheError> {
        for path in listed(&self.root.join(FETCHING)) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let name = name.split('.').next().unwrap_or_default();
            // What else lies there is not the cache's.
            if !is_digest(&format!("sha256:{name}")) {
                continue;
            }
            let lock = self.lock(name)?;
            if self.done(lock.try_exclusive())? && is_silent(&path, now) {
                remove(&path).map_err(self.failed(&path))?;
            }
        }
        for path in listed(&self.root.join(GONE)) {
            remove(&path).map_err(self.failed(&path))?;
        }
        Ok(())
    }

    /// Gives a model that is whole its name.
    pub fn put(&self, name: &str, size: u64) -> Result<(), CacheError> {
        let (half, to) = (self.half(name), self.model(name));
        open_all_to_group(&half);
        // Before it has its name: what nobody has asked for could go at once.
        self.used(name, size)?;
        // The kubelet makes an empty folder where a server's container came before its model.
        let _ = fs::remove_dir(&to);
        match fs::rename(&half, &to) {
            // Without locks somebody else may have been first, with the same.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                self.drop_half(name);
            }
            done => done.map_err(self.failed(&to))?,
        }
        let models = self.root.join(MODEL_CACHE_MODELS);
        sync::folder(&models).map_err(|error| self.failed(&models)(error.source))
    }

    /// Takes a model out, whatever is there of it. Nobody sees a half: first it loses its name.
    pub fn take_out(&self, name: &str) -> io::Result<()> {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let gone = self.root.join(GONE).join(format!("{name}.{}.{time}", self.pod));
        match fs::rename(self.model(name), &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        let _ = fs::remove_file(self.root.join(USED).join(name));
        // It is out of the way. What is left of it, where a server still has a file open or another pod tidies too, goes later.
        let _ = remove(&gone);
        Ok(())
    }

    /// What is there. Where nobody says what is needed, everything is.
    pub fn kept(&self, now: SystemTime, needed: Option<&[String]>) -> Result<Vec<Kept>, CacheError> {
        let folder = self.root.join(MODEL_CACHE_MODELS);
        let entries = fs::read_dir(&folder).map_err(self.failed(&folder))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.map(|name| self.kept_as(name, now, needed)).collect())
    }

    pub fn kept_as(&self, name: String, now: SystemTime, needed: Option<&[String]>) -> Kept {
        let (model, used) = (self.model(&name), self.root.join(USED).join(&name));
        let size = fs::read_to_string(&used).ok().and_then(|text| text.trim().parse().ok());
        let asked = fs::metadata(&used).or_else(|_| fs::symlink_metadata(&model)).and_then(|found| found.modified());
        Kept {
            size: size.unwrap_or_else(|| size_of(&model)),
            // What comes from a time to come was asked for now.
            idle: asked.ok().and_then(|asked| now.duration_since(asked).ok()).unwrap_or_default(),
            needed: needed.is_none_or(|needed| needed.contains(&name)),
            name,
        }
    }

    /// Bytes that are free for this user; `None` where the file system does not say it.
    pub fn free(&self) -> Option<u64> {
        let found = statvfs(&self.root).ok().filter(|found| found.blocks() > 0)?;
        Some(found.blocks_available() * found.fragment_size())
    }

    /// Bytes that there are.
    pub fn whole_size(&self) -> Option<u64> {
        let found = statvfs(&self.root).ok().filter(|found| found.blocks() > 0)?;
        Some(found.blocks() * found.fragment_size())
    }
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// A file, or a folder with all that is in it; no link is followed.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        // Another pod tidies as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Nothing in it was written in a while.
fn is_silent(path: &Path, now: SystemTime) -> bool {
    let quiet = fs::symlink_metadata(path)
        .and_then(|found| found.modified())
        .is_ok_and(|written| now.duration_since(written).is_ok_and(|silence| silence >= SILENT));
    quiet && listed(path).iter().all(|below| is_silent(below, now))
}

/// Written now, as the file system has the time.
fn touch(path: &Path) -> io::Result<()> {
    let now = &TimeSpec::UTIME_NOW;
    Ok(utimensat(AT_FDCWD, path, now, now, UtimensatFlags::NoFollowSymlink)?)
}

fn open_to_group(folder: &Path) {
    if let Ok(found) = fs::metadata(folder) {
        // Whoever made it has done so, or somebody else owns it.
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(found.permissions().mode() | FOLDER_MODE));
    }
}

fn open_all_to_group(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        open_to_group(path);
        for below in listed(path) {
            open_all_to_group(&below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_not_silent() {
        let folder = tempfile::tempdir().unwrap();
        let half = folder.path().join("half");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("weights"), "abc").unwrap();
        let ago = SystemTime::now() - SILENT - Duration::from_mins(1);
        for path in [half.join("weights"), half.clone()] {
            fs::File::open(path).unwrap().set_modified(ago).unwrap();
        }
        assert!(is_silent(&half, SystemTime::now()));
        touch(&half).unwrap();
        assert!(!is_silent(&half, SystemTime::now()));
    }
}
