//! The folder that a stage's program runs in: an archive is unpacked there. It was made by `kubectl millrace run --code`, but whoever can write to the
//! store can put anything there, so that nothing in it leads out of the folder and it takes no more room than it says.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use millrace_contract::{CODE_ARCHIVE, CODE_DIR, TaskCode};
use millrace_files::digest::{self, DigestError, Stop};
use tar::{Archive, EntryType};
use thiserror::Error;

use crate::place::Place;
use crate::remote::{self, Budget, RemoteError};

#[derive(Debug, Error)]
pub enum CodeError {
    #[error("the code {digest} is not in the store: start the run again with kubectl millrace run --code")]
    Missing { digest: String },
    #[error(
        "the code in the store is damaged: its digest is {found}, and should be {expected}: start the run again with kubectl millrace run --code"
    )]
    Damaged { found: String, expected: String },
    #[error("the code cannot be used: {0}")]
    Bad(String),
    #[error("failed to unpack the code to {path}: {source}")]
    Unpack { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Remote(RemoteError),
    #[error("stopped while the code was brought")]
    Stopped,
}

/// Brings and unpacks the code, and says where it is.
pub fn unpack(code: &TaskCode, place: &Place, budget: Budget, stop: Stop<'_>) -> Result<PathBuf, CodeError> {
    let missing = || CodeError::Missing { digest: code.digest.clone() };
    let (archive, to) = (place.at(CODE_ARCHIVE), place.at(CODE_DIR));
    if let Some(source) = &code.source {
        remote::bring(source, &archive, Some(code.size), budget, stop).map_err(|error| match error {
            RemoteError::NotFound { .. } => missing(),
            RemoteError::Stopped => CodeError::Stopped,
            error => CodeError::Remote(error),
        })?;
    }
    let found = digest::artifact(&archive, stop).map_err(|error| match error {
        DigestError::Missing(_) => missing(),
        DigestError::Stopped(_) => CodeError::Stopped,
        error => CodeError::Bad(error.to_string()),
    })?;
    if found.digest != code.digest {
        return Err(CodeError::Damaged { found: found.digest, expected: code.digest.clone() });
    }
    let file = File::open(&archive).map_err(|source| CodeError::Unpack { path: archive.clone(), source })?;
    into(file, &to, stop)?;
    Ok(to)
}

/// Files are read-only: a program that changes its own code would not be found again. What it writes beside them ends with the pod.
fn into(archive: impl io::Read, to: &Path, stop: Stop<'_>) -> Result<(), CodeError> {
    let unreadable = |error: io::Error| CodeError::Bad(error.to_string());
    fs::create_dir_all(to).map_err(|source| CodeError::Unpack { path: to.to_owned(), source })?;
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        if stop() {
            return Err(CodeError::Stopped);
        }
        let name = entry.path().map_err(unreadable)?.into_owned();
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.as_os_str().is_empty() || entry.header().entry_type() != EntryType::Regular {
            return Err(CodeError::Bad(format!("{} is no file below the folder", name.display())));
        }
        let executable = entry.header().mode().map_err(unreadable)? & 0o100 != 0;
        let path = to.join(&name);
        let failed = |source| CodeError::Unpack { path: path.clone(), source };
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(failed)?;
        }
        let mode = if executable { 0o555 } else { 0o444 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(failed)?;
        io::copy(&mut entry, &mut file).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tar::{Builder, Header};

    use super::*;

    fn archive(entries: &[(&str, EntryType, u32)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, mode) in entries {
            let mut header = Header::new_gnu();
            // As somebody who means harm writes it: the builder refuses such names.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(if *kind == EntryType::Regular { 2 } else { 0 });
            if *kind == EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, if *kind == EntryType::Regular { &b"ok"[..] } else { &[] }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_are_there_as_they_were_but_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        let all = archive(&[("a/run.sh", EntryType::Regular, 0o755), ("b.py", EntryType::Regular, 0o644)]);
        into(all.as_slice(), folder.path(), &|| false).unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a/run.sh"), mode("b.py")), (0o555, 0o444));
        assert_eq!(fs::read(folder.path().join("a/run.sh")).unwrap(), b"ok");
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        for (name, kind) in [
            ("../out", EntryType::Regular),
            ("/tmp/out", EntryType::Regular),
            ("a/../../out", EntryType::Regular),
            ("link", EntryType::Symlink),
            ("hard", EntryType::Link),
            ("device", EntryType::Char),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("work");
            let found = into(archive(&[(name, kind, 0o644)]).as_slice(), &to, &|| false);
            assert!(matches!(found, Err(CodeError::Bad(_))), "{name}: {found:?}");
            assert!(!folder.path().join("out").exists(), "{name}");
        }
        let twice = archive(&[("a", EntryType::Regular, 0o644), ("a", EntryType::Regular, 0o644)]);
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(into(twice.as_slice(), folder.path(), &|| false), Err(CodeError::Unpack { .. })));
    }
}
