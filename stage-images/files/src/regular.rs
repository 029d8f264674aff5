//! Files where a program may have put anything: a link, a named pipe that nobody writes to, a file of a terabyte. None of them
//! is followed, waited for, or read whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("it is no regular file")]
    NotRegular,
    #[error("it has {size} bytes, and at most {limit} are read")]
    TooLarge { size: u64, limit: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            other => Self::other(other),
        }
    }
}

/// Opens a regular file for reading, and nothing else.
pub fn open(path: &Path) -> Result<File, ReadError> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        // A link; a socket.
        Some(ELOOP | ENXIO) => ReadError::NotRegular,
        _ => error.into(),
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(ReadError::NotRegular) }
}

/// The bytes of a regular file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let file = open(path)?;
    let size = file.metadata()?.len();
    if size > limit {
        return Err(ReadError::TooLarge { size, limit });
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file of our own, in the place of whatever has its name.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "abc").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
        fs::create_dir(at("folder")).unwrap();
        assert_eq!(read(&at("file"), 3).unwrap(), b"abc");
        assert!(matches!(read(&at("file"), 2), Err(ReadError::TooLarge { size: 3, limit: 2 })));
        for name in ["link", "pipe", "socket", "folder"] {
            assert!(matches!(read(&at(name), 3), Err(ReadError::NotRegular)), "{name}");
        }
        assert!(matches!(read(&at("absent"), 3), Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_file_of_our_own_replaces_a_pipe_and_never_follows_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("other"), "other").unwrap();
        std::os::unix::fs::symlink(at("other"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        for name in ["link", "pipe", "new"] {
            write(&at(name), b"ours").unwrap();
            assert_eq!(read(&at(name), 4).unwrap(), b"ours", "{name}");
        }
        assert_eq!(fs::read(at("other")).unwrap(), b"other");
    }
}
