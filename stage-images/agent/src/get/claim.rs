//! A file or a folder of a claim, which is mounted read-only.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use millrace_files::digest::{self, DigestError};
use millrace_files::regular;

use super::asked::Asked;
use super::{Brought, GetError};

/// Copies what lies there. Links are refused: they may lead out of what is asked for.
pub fn copy(asked: &Asked) -> Result<Brought, GetError> {
    let from = asked.from.as_deref().ok_or_else(|| GetError::last("--from is needed for pvc://"))?;
    // The address may have been put together of parameters.
    let climbs = from.components().any(|part| matches!(part, Component::ParentDir));
    let linked = from.canonicalize().is_ok_and(|real| !real.components().eq(from.components()));
    if climbs || linked {
        let message = format!("{}: its path has \"..\" or a link in it: write the path as it is", asked.uri);
        return Err(GetError::last(message));
    }
    let files = digest::walk(from, &|| false).map_err(|error| match error {
        DigestError::Missing(_) => GetError::last(format!("there is no {}", asked.uri)),
        error => GetError::last(format!("{}: {error}", asked.uri)),
    })?;
    if from.is_dir() {
        fs::create_dir_all(&asked.to).map_err(|error| GetError::disk(&asked.to, &error))?;
    }
    for entry in files {
        let (of, to) = if entry.path.is_empty() {
            (from.to_owned(), asked.to.clone())
        } else {
            (from.join(&entry.path), asked.to.join(&entry.path))
        };
        if let Some(above) = to.parent() {
            fs::create_dir_all(above).map_err(|error| GetError::disk(above, &error))?;
        }
        let read = regular::open(&of).map_err(|error| GetError::last(format!("{}: {error}", of.display())))?;
        if one(read, &to).map_err(|error| GetError::disk(&to, &error))? != entry.size {
            return Err(GetError::passing(format!("{}: {} was written while it was read", asked.uri, entry.path)));
        }
    }
    Ok(Brought::New { version: None, validator: None })
}

fn one(mut from: impl Read, to: &Path) -> io::Result<u64> {
    let mut file = File::create(to)?;
    io::copy(&mut from, &mut file)
}
