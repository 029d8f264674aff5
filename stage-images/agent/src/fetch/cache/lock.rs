//! Locks of the file system, which end with the process that holds them, on whatever node it was.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::libc::O_NOFOLLOW;

pub struct Lock(File);

impl Lock {
    /// The file is there from the first pod on, and stays: one that was taken away could be locked twice.
    pub fn open(path: &Path) -> io::Result<Self> {
        // For writing: file servers give the lock of one alone to no other.
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o664).custom_flags(O_NOFOLLOW).open(path);
        file.map(Self)
    }

    pub fn try_exclusive(&self) -> io::Result<bool> {
        had(self.0.try_lock())
    }

    pub fn try_shared(&self) -> io::Result<bool> {
        had(self.0.try_lock_shared())
    }

    pub fn release(&self) {
        let _ = self.0.unlock();
    }

    /// The time as the file system has it: clocks of nodes differ.
    pub fn time(&self) -> io::Result<SystemTime> {
        self.0.write_all_at(b".", 0)?;
        self.0.metadata()?.modified()
    }
}

/// Where there are no locks nobody is waited for.
fn had(locked: Result<(), TryLockError>) -> io::Result<bool> {
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => {
            let code = error.raw_os_error().map(Errno::from_raw);
            match code {
                Some(Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(true),
                _ => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_or_many_that_share() {
        let folder = tempfile::tempdir().unwrap();
        let lock = || Lock::open(&folder.path().join("a")).unwrap();
        let (one, two, three) = (lock(), lock(), lock());
        assert!(one.try_shared().unwrap() && two.try_shared().unwrap());
        assert!(!three.try_exclusive().unwrap());
        one.release();
        drop(two);
        assert!(three.try_exclusive().unwrap());
        assert!(!one.try_shared().unwrap());
    }

    #[test]
    fn a_file_system_without_locks_holds_nobody_up() {
        let refused = |code: Errno| had(Err(TryLockError::Error(io::Error::from_raw_os_error(code as i32))));
        assert!(refused(Errno::ENOLCK).unwrap() && refused(Errno::EOPNOTSUPP).unwrap());
        assert!(refused(Errno::EIO).is_err());
    }
}
