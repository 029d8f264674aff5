//! `millrace-agent keep`: puts an archive that comes on standard input into a store, for a person who starts a run with code. It says first whether
//! it wants the bytes: what the store has already is not sent again.
//!
//! ```text
//! agent: there                      or    want
//! person:                                 the bytes, as many as it was told
//! agent:                                  kept
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use millrace_contract::{CODE_ENV, Keep};
use millrace_files::digest::{self, Stop};

use crate::place::Place;
use crate::remote::{self, Budget};

/// Keeps what [`CODE_ENV`] names. The error is for people.
pub fn keep(place: &Place, budget: Budget, stop: Stop<'_>) -> Result<(), String> {
    let text = std::env::var(CODE_ENV).map_err(|_| format!("{CODE_ENV} is not set: kubectl millrace sets it"))?;
    let asked: Keep = serde_json::from_str(&text).map_err(|error| {
        format!("failed to read {CODE_ENV}: {error}; agent and kubectl-millrace are of different versions?")
    })?;
    let Keep { source, path, digest, size } = asked;
    let path = place.at(&path);
    let there = match &source {
        Some(source) => remote::has(source, size, &digest, stop).map_err(|error| error.to_string())?,
        None => digest::artifact(&path, stop).is_ok_and(|found| found.digest == digest),
    };
    if there {
        return say("there");
    }
    say("want")?;
    let half = half(&path);
    let written = receive(&half, size).map_err(|error| format!("failed to write {}: {error}", half.display()));
    let done = written.and_then(|()| whole(&half, &digest, stop)).and_then(|()| match &source {
        Some(source) => remote::put(source, &half, budget, stop).map_err(|error| error.to_string()),
        // Whoever was first has put the same there.
        None => fs::rename(&half, &path).map_err(|error| format!("failed to write {}: {error}", path.display())),
    });
    let _ = fs::remove_file(&half);
    done.and_then(|()| say("kept"))
}

/// Beside its place under a name of its own, so that nobody reads a half.
fn half(path: &Path) -> PathBuf {
    path.with_file_name(format!(".half-{}-{}", std::process::id(), std::env::var("HOSTNAME").unwrap_or_default()))
}

fn receive(half: &Path, size: u64) -> io::Result<()> {
    if let Some(above) = half.parent() {
        fs::create_dir_all(above)?;
    }
    let mut file = File::create(half)?;
    let came = io::copy(&mut io::stdin().lock().take(size), &mut file)?;
    if came != size {
        return Err(io::Error::other(format!("{came} of {size} bytes came")));
    }
    // Other pods read it as another user.
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()
}

fn whole(half: &Path, wanted: &str, stop: Stop<'_>) -> Result<(), String> {
    let found = digest::artifact(half, stop).map_err(|error| error.to_string())?.digest;
    if found == wanted { Ok(()) } else { Err(format!("what came has the digest {found}, and not {wanted}")) }
}

fn say(word: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}").and_then(|()| out.flush()).map_err(|error| format!("nobody listens: {error}"))
}
