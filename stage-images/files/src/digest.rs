//! Digests of files and folders, as `docs/stage-contract.md` says, in bounded memory.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use millrace_contract::BlobFile;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{regular, short};

/// Large enough that system calls do not count beside hashing.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, Error)]
pub enum DigestError {
    #[error("{} does not exist", short(.0))]
    Missing(PathBuf),
    #[error("{} is a {found}: only files and folders make an artifact; copy what it stands for", short(path))]
    NotAFile { path: PathBuf, found: &'static str },
    #[error("{:?} has a name that no manifest can hold: use UTF-8 without line ends", short(path))]
    Name { path: PathBuf },
    #[error("failed to read {}: {source}", short(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("stopped while reading {}", short(.0))]
    Stopped(PathBuf),
}

/// Asked again and again during long work: whether to give it up.
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// A file of an artifact that is not hashed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the artifact; empty if the artifact is a single file.
    pub path: String,
    pub size: u64,
}

/// What an artifact is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// `sha256:<hex>`
    pub digest: String,
    /// Bytes of all files together.
    pub size: u64,
    /// Sorted by path, bytewise.
    pub files: Vec<BlobFile>,
}

impl Artifact {
    /// Whether it is a folder with nothing but a file of this name, whose own digest this is: that is what people publish beside a file.
    #[must_use]
    pub fn is_file(&self, name: &str, digest: &str) -> bool {
        match self.files.as_slice() {
            [only] => only.path == name && digest.strip_prefix("sha256:") == Some(only.sha256.as_str()),
            _ => false,
        }
    }
}

/// Whether a text has the form of a digest.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The files of an artifact, sorted by path, bytewise. Nothing is read but folders.
pub fn walk(root: &Path, stop: Stop<'_>) -> Result<Vec<Entry>, DigestError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => DigestError::Missing(path),
            _ => DigestError::Read { path, source },
        }
    };
    let mut found = Vec::new();
    let mut open = vec![(root.to_owned(), String::new())];
    while let Some((path, relative)) = open.pop() {
        if stop() {
            return Err(DigestError::Stopped(path));
        }
        let metadata = fs::symlink_metadata(&path).map_err(read(&path))?;
        let kind = metadata.file_type();
        if kind.is_file() {
            found.push(Entry { path: relative, size: metadata.len() });
        } else if kind.is_dir() {
            for entry in fs::read_dir(&path).map_err(read(&path))? {
                let child = entry.map_err(read(&path))?.path();
                let name = child.file_name().and_then(|name| name.to_str()).filter(|name| !name.contains(['\n', '\r']));
                let Some(name) = name else { return Err(DigestError::Name { path: child }) };
                let below = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
                open.push((child, below));
            }
        } else {
            return Err(DigestError::NotAFile { path, found: special_name(kind) });
        }
    }
    found.sort_by(|left, right| left.path.as_bytes().cmp(right.path.as_bytes()));
    Ok(found)
}

fn special_name(kind: fs::FileType) -> &'static str {
    if kind.is_symlink() {
        "link"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else {
        "device"
    }
}

/// Hashes an artifact. Stops early, with an error, once `stop` says so.
pub fn artifact(root: &Path, stop: Stop<'_>) -> Result<Artifact, DigestError> {
    let is_folder = fs::symlink_metadata(root).is_ok_and(|metadata| metadata.is_dir());
    let mut files = Vec::new();
    for Entry { path, size: _ } in walk(root, stop)? {
        let place = if path.is_empty() { root.to_owned() } else { root.join(&path) };
        let (sha256, size) = file(&place, stop)?;
        files.push(BlobFile { path, sha256, size });
    }
    let digest = match files.as_slice() {
        [only] if !is_folder => format!("sha256:{}", only.sha256),
        _ => of_folder(&files),
    };
    Ok(Artifact { digest, size: files.iter().map(|file| file.size).sum(), files })
}

/// The digest of a folder with these files, which are sorted by path, bytewise.
#[must_use]
pub fn of_folder(files: &[BlobFile]) -> String {
    let mut whole = Sha256::new();
    for BlobFile { path, sha256, size } in files {
        whole.update(format!("{sha256}  {size}  {path}\n"));
    }
    format!("sha256:{}", hex(&whole.finalize()))
}

fn file(path: &Path, stop: Stop<'_>) -> Result<(String, u64), DigestError> {
    let failed = |source| DigestError::Read { path: path.to_owned(), source };
    let mut open = regular::open(path).map_err(|error| failed(error.into()))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut size = 0;
    loop {
        if stop() {
            return Err(DigestError::Stopped(path.to_owned()));
        }
        match open.read(&mut chunk) {
            Ok(0) => return Ok((hex(&hash.finalize()), size)),
            Ok(length) => {
                hash.update(&chunk[..length]);
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO: Stop<'static> = &|| false;

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "abc").unwrap();
        let found = artifact(&folder.path().join("a"), GO).unwrap();
        assert_eq!(found.digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((found.size, found.files.len()), (3, 1));
        assert_eq!(found.files[0].path, "");
    }

    #[test]
    fn a_folder_has_the_digest_of_its_sorted_list() {
        let folder = tempfile::tempdir().unwrap();
        // Bytewise, `a.x` comes before `a/b`, although the folder `a` comes before the file `a.x`.
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), "abc").unwrap();
        fs::write(folder.path().join("a.x"), "").unwrap();
        let found = artifact(folder.path(), GO).unwrap();
        let list = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  0  a.x\n\
                    ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  3  a/b\n";
        assert_eq!(found.digest, format!("sha256:{}", hex(&Sha256::digest(list))));
    }

    #[test]
    fn a_folder_with_one_file_goes_by_the_name_and_the_digest_of_that() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.onnx"), "abc").unwrap();
        let of_file = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let found = artifact(folder.path(), GO).unwrap();
        assert_ne!(found.digest, of_file);
        assert!(found.is_file("model.onnx", of_file) && !found.is_file("model.onnx", &of_file.replace("ba", "ab")));
        assert!(!found.is_file("model.gguf", of_file));
        fs::write(folder.path().join("more"), "").unwrap();
        assert!(!artifact(folder.path(), GO).unwrap().is_file("model.onnx", of_file));
    }

    #[test]
    fn the_form_of_a_digest_is_the_prefix_and_64_digits_in_lower_case() {
        let digest = |hex: &str| is_digest(&format!("sha256:{hex}"));
        assert!(digest(&"0123456789abcdef".repeat(4)));
        assert!(!is_digest(&"a".repeat(64)));
        for wrong in ["", &"a".repeat(63), &"a".repeat(65), &"A".repeat(64), &"g".repeat(64), &"ä".repeat(32)] {
            assert!(!digest(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_folder_of_one_file_differs_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "abc").unwrap();
        let (file, all) = (artifact(&folder.path().join("a"), GO).unwrap(), artifact(folder.path(), GO).unwrap());
        assert_ne!(file.digest, all.digest);
    }

    #[test]
    fn links_pipes_and_names_with_line_ends_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |make: &dyn Fn(&Path)| {
            let place = folder.path().join("case");
            fs::create_dir(&place).unwrap();
            make(&place);
            let error = artifact(&place, GO).unwrap_err().to_string();
            fs::remove_dir_all(&place).unwrap();
            error
        };
        assert!(refused(&|at| std::os::unix::fs::symlink("/etc/passwd", at.join("l")).unwrap()).contains("is a link"));
        assert!(refused(&|at| fs::write(at.join("a\nb"), "").unwrap()).contains("line ends"));
        let pipe = |at: &Path| nix::unistd::mkfifo(&at.join("p"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(refused(&pipe).contains("is a named pipe"));
        let socket = |at: &Path| drop(std::os::unix::net::UnixListener::bind(at.join("s")).unwrap());
        assert!(refused(&socket).contains("is a socket"));
    }
}
