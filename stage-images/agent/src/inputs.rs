//! Compares each input with what its producer reported, before the command starts: with a damaged input the stage fails
//! instead of training on it.

use std::io::ErrorKind;
use std::path::PathBuf;

use millrace_contract::{Task, TaskInput};
use millrace_files::digest::{self, DigestError, Stop};
use thiserror::Error;

use crate::folders;
use crate::place::Place;
use crate::remote::{self, Budget, RemoteError};

#[derive(Debug, Error)]
pub enum InputError {
    #[error("input {name:?} is missing: {path} does not exist, its producer reported {expected} ({size} bytes)")]
    Missing { name: String, path: PathBuf, expected: String, size: u64 },
    #[error("input {name:?} is damaged: {path} has {found} bytes, its producer reported {expected}")]
    Size { name: String, path: PathBuf, found: u64, expected: u64 },
    #[error("input {name:?} is damaged: {path} has the digest {found}, its producer reported {expected}")]
    Digest { name: String, path: PathBuf, found: String, expected: String },
    #[error("input {name:?} cannot be used: {source}")]
    Unreadable { name: String, source: DigestError },
    #[error(
        "input {name:?} may not be read: {state}. Let its producer write what others may read (umask 022), or run both as the same user"
    )]
    Denied { name: String, state: String },
    #[error("input {name:?}: {source}")]
    Remote { name: String, source: RemoteError },
    #[error("stopped while input {0:?} was checked")]
    Stopped(String),
}

/// Every input that lies in a store of objects is brought to the pod's disk.
pub fn bring(task: &Task, place: &Place, budget: Budget, stop: Stop<'_>) -> Result<(), InputError> {
    task.inputs.iter().try_for_each(|(name, input)| bring_one(name, input, place, budget, stop))
}

/// One input is brought, if it lies in a store of objects.
pub fn bring_one(
    name: &str,
    input: &TaskInput,
    place: &Place,
    budget: Budget,
    stop: Stop<'_>,
) -> Result<(), InputError> {
    let Some(source) = &input.source else { return Ok(()) };
    let (name, size) = (name.to_owned(), input.size);
    remote::bring(source, &place.at(&input.path), Some(size), budget, stop).map_err(|error| match error {
        RemoteError::NotFound { uri } => {
            InputError::Missing { name, path: uri.into(), expected: input.digest.clone(), size }
        }
        RemoteError::Stopped => InputError::Stopped(name),
        source => InputError::Remote { name, source },
    })
}

/// What one may not read is not lost: its producer would write it in the same way again.
fn unusable(name: String, source: DigestError) -> InputError {
    match source {
        DigestError::Read { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            InputError::Denied { name, state: folders::state(&path) }
        }
        source => InputError::Unreadable { name, source },
    }
}

/// Every input is there and is what its producer reported.
pub fn verify(task: &Task, place: &Place, stop: Stop<'_>) -> Result<(), InputError> {
    task.inputs.iter().try_for_each(|(name, input)| one(name, input, place, stop))
}

/// One input is there and is what its producer reported.
pub fn one(name: &str, input: &TaskInput, place: &Place, stop: Stop<'_>) -> Result<(), InputError> {
    let name = || name.to_owned();
    let path = place.at(&input.path);
    // Nobody can look at a copy in a pod that is gone.
    let shown = || input.source.as_ref().map_or_else(|| path.clone(), |source| source.uri().into());
    let failed = |error| match error {
        DigestError::Missing(path) => {
            InputError::Missing { name: name(), path, expected: input.digest.clone(), size: input.size }
        }
        DigestError::Stopped(_) => InputError::Stopped(name()),
        source => unusable(name(), source),
    };
    // Sizes first: they are cheap, and tell most of what can be wrong.
    let found: u64 = digest::walk(&path, stop).map_err(failed)?.iter().map(|entry| entry.size).sum();
    if found != input.size {
        return Err(InputError::Size { name: name(), path: shown(), found, expected: input.size });
    }
    let found = digest::artifact(&path, stop).map_err(failed)?.digest;
    if found != input.digest {
        return Err(InputError::Digest { name: name(), path: shown(), found, expected: input.digest.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn what_may_not_be_read_is_not_lost() {
        let read = |kind: ErrorKind| DigestError::Read { path: "/tmp".into(), source: Error::from(kind) };
        let denied = unusable("rows".to_owned(), read(ErrorKind::PermissionDenied));
        assert!(
            matches!(denied, InputError::Denied { .. }) && denied.to_string().contains("/tmp has owner 0:0"),
            "{denied}"
        );
        assert!(matches!(unusable("rows".to_owned(), read(ErrorKind::Other)), InputError::Unreadable { .. }));
    }
}
