//! `millrace-agent history`: writes the newest records, the newest first, one in a line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use millrace_contract::{SWEEP_ENV, SweepTask};
use millrace_files::regular;
use serde::Deserialize;

use crate::manifest::SIZE_LIMIT;
use crate::remote;

/// Bytes of what is shown: a container's log is kept whole up to 10 MiB. What is older is left out.
const BYTES: usize = 8 * 1024 * 1024;

/// What of a record is looked at here. Times are of one form, so that they are in order as texts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    uid: String,
    #[serde(default)]
    completion_time: String,
}

/// The records that are the newest.
struct Newest {
    most: usize,
    lines: BTreeMap<(String, String), String>,
    bytes: usize,
}

impl Newest {
    /// A line that is no record is none of ours.
    fn take(&mut self, text: &str) {
        for line in text.lines() {
            let Ok(Head { uid, completion_time }) = serde_json::from_str(line) else { continue };
            self.bytes += line.len();
            let same = self.lines.insert((completion_time, uid), line.to_owned());
            self.bytes -= same.map_or(0, |same| same.len());
            // A run that was begun again is remembered by its last end, so a few more are needed than are shown.
            while self.lines.len() > self.most.saturating_mul(2) || self.bytes > BYTES {
                let Some((_, oldest)) = self.lines.pop_first() else { break };
                self.bytes -= oldest.len();
            }
        }
    }

    fn shown(&self) -> impl Iterator<Item = &String> {
        let mut seen = BTreeSet::new();
        let newest = self.lines.iter().rev().filter(move |((_, uid), _)| seen.insert(uid.clone()));
        newest.map(|(_, line)| line).take(self.most)
    }
}

/// Writes at most so many records, of a folder or of the store that the environment names.
pub fn write(folder: Option<&Path>, most: usize, stop: &dyn Fn() -> bool) -> Result<(), String> {
    let mut newest = Newest { most, lines: BTreeMap::new(), bytes: 0 };
    match folder {
        Some(folder) => of_folder(folder, &mut newest)?,
        None => {
            let text = std::env::var(format!("{SWEEP_ENV}0")).unwrap_or_default();
            let task: SweepTask =
                serde_json::from_str(&text).map_err(|error| format!("{SWEEP_ENV}0 names no store: {error}"))?;
            let store = task.store.ok_or("no store is named")?;
            remote::records(&store, &task.folder, stop, &mut |text| newest.take(text))
                .map_err(|error| error.to_string())?;
        }
    }
    let mut out = io::stdout().lock();
    newest
        .shown()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())
}

fn of_folder(folder: &Path, newest: &mut Newest) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        // Nothing is recorded yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| failed(&error))?,
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(&error))?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let bytes = regular::read(&path, SIZE_LIMIT).map_err(|error| failed(&error))?;
            newest.take(&String::from_utf8_lossy(&bytes));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_runs_are_shown_once_each_by_their_last_end() {
        let line =
            |uid: &str, minute: u32| format!(r#"{{"uid":"{uid}","completionTime":"2026-01-01T00:{minute:02}:00Z"}}"#);
        let mut newest = Newest { most: 2, lines: BTreeMap::new(), bytes: 0 };
        newest.take(&[line("a", 1), "no record".into(), line("b", 2), line("c", 0)].join("\n"));
        newest.take(&[line("a", 3), line("b", 2)].join("\n"));
        assert_eq!(newest.shown().cloned().collect::<Vec<_>>(), [line("a", 3), line("b", 2)]);
    }

    #[test]
    fn the_oldest_are_left_out_where_all_would_be_too_much() {
        let line = |minute: u32| {
            let why = "x".repeat(BYTES / 3);
            format!(r#"{{"uid":"{minute}","completionTime":"2026-01-01T00:{minute:02}:00Z","why":"{why}"}}"#)
        };
        let mut newest = Newest { most: 100, lines: BTreeMap::new(), bytes: 0 };
        for minute in [3, 1, 2, 4, 4] {
            newest.take(&line(minute));
        }
        assert!(newest.shown().eq([&line(4), &line(3)]));
        assert_eq!(newest.bytes, line(3).len() + line(4).len());
    }
}
