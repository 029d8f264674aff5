//! `millrace-agent logs`: what programs printed, out of a run's folder of the store, for whoever asks after their pods are gone.
//!
//! The programs may have put anything there: nothing is followed, waited for, or read without a bound.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use millrace_contract::{LOG_DIR, LogPart, READ_ENV, ReadTask, WantedLog};
use millrace_files::digest::Stop;
use millrace_files::regular;

use crate::remote::KeptLogs;

/// A log has fewer files than this, and none that is larger.
pub const MOST_FILES: usize = 16;
pub const LARGEST: u64 = 1024 * 1024;
/// Lines that are not longer are whole around what is left out.
const LONGEST_LINE: usize = 64 * 1024;

/// Writes the wanted logs to standard output, in the order of `arguments`, each after a line that says whose it is.
pub fn write(folder: &Path, arguments: &[OsString]) -> io::Result<()> {
    let (item, wanted) = parse(arguments).map_err(io::Error::other)?;
    let mut out = io::stdout().lock();
    for wanted in &wanted {
        for found in find(folder, wanted, item) {
            emit(&mut out, found.part, &compose(read(&found.folder)?))?;
        }
    }
    out.flush()
}

/// As [`write`], of the run's folder in the store of objects that the environment names.
pub fn write_stored(arguments: &[OsString], stop: Stop<'_>) -> Result<(), String> {
    let (item, wanted) = parse(arguments)?;
    let logs = KeptLogs::open(&asked()?.source, stop).map_err(|error| error.to_string())?;
    let mut out = io::stdout().lock();
    for wanted in &wanted {
        for found in logs.find(wanted, item).map_err(|error| error.to_string())? {
            let text = compose(logs.read(&found).map_err(|error| error.to_string())?);
            emit(&mut out, found.part, &text).map_err(|error| error.to_string())?;
        }
    }
    out.flush().map_err(|error| error.to_string())
}

/// What the environment says is to be read.
pub fn asked() -> Result<ReadTask, String> {
    let text = std::env::var(READ_ENV).map_err(|_| format!("{READ_ENV} is not set: kubectl millrace sets it"))?;
    serde_json::from_str(&text).map_err(|error| {
        format!("failed to read {READ_ENV}: {error}; agent and kubectl-millrace are of different versions?")
    })
}

fn emit(out: &mut impl Write, part: LogPart, text: &[u8]) -> io::Result<()> {
    let head = LogPart { bytes: text.len() as u64, ..part };
    serde_json::to_writer(&mut *out, &head)?;
    out.write_all(b"\n")?;
    out.write_all(text)
}

fn parse(arguments: &[OsString]) -> Result<(Option<u64>, Vec<WantedLog>), String> {
    let mut words = arguments.iter().map(|word| word.to_str().unwrap_or_default());
    let (mut item, mut wanted) = (None, Vec::new());
    while let Some(word) = words.next() {
        if word == "--item" {
            item = Some(words.next().and_then(|text| text.parse().ok()).ok_or("--item: write the item's index")?);
        } else {
            wanted.push(word.parse()?);
        }
    }
    Ok((item, wanted))
}

/// The folder of a log.
struct Found {
    part: LogPart,
    folder: PathBuf,
}

/// The logs of a stage: of all that it was begun with, one after the other; of items by their index.
fn find(run: &Path, wanted: &WantedLog, item: Option<u64>) -> Vec<Found> {
    let mut all = Vec::new();
    for stage in begun(&folders(run), &wanted.stage).into_iter().map(|name| run.join(name)) {
        attempts(&stage, wanted, None, &mut all);
        let items = stage.join("items");
        let mut indexes: Vec<u64> = folders(&items).iter().filter_map(|name| name.parse().ok()).collect();
        indexes.sort_unstable();
        for index in indexes.into_iter().filter(|index| item.is_none_or(|item| item == *index)) {
            attempts(&items.join(index.to_string()), wanted, Some(index), &mut all);
        }
    }
    if item.is_some() {
        all.retain(|found| found.part.item == item);
    }
    all
}

/// Of the folders of a run those of the stage: `train`, and `train.1` of a stage that was begun again from nothing.
pub fn begun<'a>(folders: &'a [String], stage: &str) -> Vec<&'a String> {
    let number = |name: &str| match name.strip_prefix(stage)? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse::<u32>().ok(),
    };
    let mut found: Vec<(u32, &String)> = folders.iter().filter_map(|name| Some((number(name)?, name))).collect();
    found.sort();
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The attempts below a folder, those pods first whose place another took.
fn attempts(folder: &Path, wanted: &WantedLog, item: Option<u64>, all: &mut Vec<Found>) {
    let attempts = folder.join("attempts");
    let number = |name: &str| match name.split_once(".replaced-") {
        Some((attempt, count)) => Some((attempt.parse::<u32>().ok()?, count.parse::<u32>().ok())),
        None => Some((name.parse().ok()?, None)),
    };
    let mut found: Vec<(u32, Option<u32>, PathBuf)> = folders(&attempts)
        .iter()
        .filter_map(|name| {
            number(name).map(|(attempt, replaced)| (attempt, replaced, attempts.join(name).join(LOG_DIR)))
        })
        .filter(|(attempt, _, log)| wanted.attempt.is_none_or(|wanted| wanted == *attempt) && is_folder(log))
        .collect();
    found.sort_by_key(|(attempt, replaced, _)| (*attempt, replaced.unwrap_or(u32::MAX)));
    all.extend(found.into_iter().map(|(attempt, replaced, folder)| {
        let part = LogPart { stage: wanted.stage.clone(), item, attempt, replaced, bytes: 0 };
        Found { part, folder }
    }));
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The names of the folders in a folder. What is not there has none.
fn folders(path: &Path) -> Vec<String> {
    if !is_folder(path) {
        return Vec::new();
    }
    let names =
        fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_folder(&path.join(name))).collect()
}

/// The files of a log, with the places of their first bytes, in their order.
fn read(folder: &Path) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let names = fs::read_dir(folder)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<(u64, String)> = names.filter_map(|name| Some((name.parse().ok()?, name))).collect();
    files.sort();
    files.truncate(MOST_FILES);
    // One that its writer took away a moment ago is left out.
    let bytes = |(begins, name): (u64, String)| Some((begins, regular::read(&folder.join(name), LARGEST).ok()?));
    Ok(files.into_iter().filter_map(bytes).collect())
}

/// The whole of a log. Where some is left out a line says how much, and lines are whole around it.
fn compose(files: Vec<(u64, Vec<u8>)>) -> Vec<u8> {
    let (mut text, mut end) = (Vec::new(), 0);
    for (begins, bytes) in files {
        let length = bytes.len() as u64;
        if begins > end {
            gap(&mut text, &bytes, begins - end);
        } else {
            text.extend_from_slice(&bytes);
        }
        end = begins + length;
    }
    text
}

fn gap(text: &mut Vec<u8>, next: &[u8], missing: u64) {
    // Of a line that is longer than this a part is better than nothing.
    let cut = text.iter().rev().take(LONGEST_LINE).position(|byte| *byte == b'\n').unwrap_or_default();
    let tail = next.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    text.truncate(text.len() - cut);
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    let left_out = missing + (cut + tail) as u64;
    text.extend_from_slice(format!("[millrace: {left_out} bytes are left out here]\n").as_bytes());
    text.extend_from_slice(&next[tail..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn name(place: u64) -> String {
        format!("{place:020}")
    }

    #[test]
    fn what_is_left_out_is_told_between_whole_lines() {
        let place = tempfile::tempdir().unwrap();
        for (at, text) in [(0, "one\ntwo\nthr"), (11, "ee\nfour\n"), (100, "x\nlast\nend")] {
            make(&place.path().join(name(at)), text);
        }
        let text = String::from_utf8(compose(read(place.path()).unwrap())).unwrap();
        assert_eq!(text, "one\ntwo\nthree\nfour\n[millrace: 83 bytes are left out here]\nlast\nend");
        fs::remove_file(place.path().join(name(11))).unwrap();
        let text = String::from_utf8(compose(read(place.path()).unwrap())).unwrap();
        assert_eq!(text, "one\ntwo\n[millrace: 94 bytes are left out here]\nlast\nend");
        let long = "x".repeat(100_000);
        make(&place.path().join(name(0)), &long);
        make(&place.path().join(name(200_000)), &long);
        fs::remove_file(place.path().join(name(100))).unwrap();
        let text = String::from_utf8(compose(read(place.path()).unwrap())).unwrap();
        assert_eq!(text, format!("{long}\n[millrace: 100000 bytes are left out here]\n{long}"));
    }

    #[test]
    fn attempts_of_a_stage_come_in_order_with_those_from_before_it_was_begun_again() {
        let place = tempfile::tempdir().unwrap();
        for log in [
            "train/attempts/2",
            "train/attempts/10",
            "train.1/attempts/11",
            "train/attempts/2.replaced-1",
            "other/attempts/1",
        ] {
            make(&place.path().join(log).join("log").join(name(0)), log);
        }
        let listed = |wanted: &str| -> Vec<(u32, Option<u32>)> {
            let found = find(place.path(), &wanted.parse().unwrap(), None);
            found.into_iter().map(|found| (found.part.attempt, found.part.replaced)).collect()
        };
        assert_eq!(listed("train"), [(2, Some(1)), (2, None), (10, None), (11, None)]);
        assert_eq!(listed("train:10"), [(10, None)]);
        assert_eq!(listed("absent"), []);
    }

    #[test]
    fn items_come_by_their_index_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        for index in [0, 2, 10] {
            make(&place.path().join(format!("each/items/{index}/attempts/1/log")).join(name(0)), "x");
        }
        std::os::unix::fs::symlink(place.path().join("each/items/0"), place.path().join("each/items/3")).unwrap();
        let listed = |item| -> Vec<Option<u64>> {
            find(place.path(), &"each".parse().unwrap(), item).into_iter().map(|found| found.part.item).collect()
        };
        assert_eq!(listed(None), [Some(0), Some(2), Some(10)]);
        assert_eq!(listed(Some(2)), [Some(2)]);
        assert_eq!(listed(Some(3)), []);
    }
}
