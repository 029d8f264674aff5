//! Events on disk until the table has them.
//!
//! ```text
//! <spool>/id                            whose position the table keeps; it is made once
//! <spool>/00000000000000000007.jsonl    a segment: events, a line each
//! <spool>/lock                          held by the program that uses the folder
//! <spool>/work/                         files on their way to the table
//! ```
//! The folder outlives the container, so what is written there is not lost with it. It need not outlive the node: nothing is flushed to the disk.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::table;

const ENDING: &str = ".jsonl";
/// From here on the next segment is begun. As many bytes go into one commit, if that many wait.
pub const SEGMENT_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("parameter spool: failed to use {}; mount a folder that can be written there", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("parameter spool: another program uses {}; give each its own folder", path.display())]
    Used { path: PathBuf },
    #[error("the spool is full: {used} of {limit} bytes wait for the table, and {more} more came")]
    Full { used: u64, limit: u64, more: u64 },
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    number: u64,
    bytes: u64,
}

/// The segment that grows.
struct Open {
    segment: Segment,
    file: File,
    since: Instant,
}

pub struct Spool {
    folder: PathBuf,
    id: String,
    /// It is held as long as this is.
    _lock: File,
    limit: u64,
    every: Duration,
    last: u64,
    open: Option<Open>,
    closed: VecDeque<Segment>,
}

/// Segments that go into one commit.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    pub files: Vec<PathBuf>,
    /// The number of the last one: the position that is reached with them.
    pub last: u64,
}

impl Spool {
    /// Takes a folder, with what waits there.
    pub fn open(folder: &Path, limit: u64, every: Duration) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Folder { path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::Used { path: folder.into() },
            TryLockError::Error(source) => failed(source),
        })?;
        let mut closed = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let bytes = entry.metadata().map_err(failed)?.len();
            closed.extend(number(&entry.file_name().to_string_lossy()).map(|number| Segment { number, bytes }));
        }
        closed.sort_unstable_by_key(|segment| segment.number);
        let last = closed.last().map_or(0, |segment| segment.number);
        let id = id(folder).map_err(failed)?;
        let (folder, closed) = (folder.to_path_buf(), closed.into());
        Ok(Self { folder, id, _lock: lock, limit, every, last, open: None, closed })
    }

    /// Under which name the table keeps the position.
    pub fn source(&self) -> String {
        format!("payload-log/{}", self.id)
    }

    /// Another name, where the table knows no more how far this one was.
    pub fn rename(&mut self) -> Result<(), SpoolError> {
        self.id = new_id(&self.folder).map_err(|source| SpoolError::Folder { path: self.folder.clone(), source })?;
        Ok(())
    }

    /// Takes the lines of a request. True if somebody should look when the segment is to be closed.
    pub fn push(&mut self, lines: &[u8]) -> Result<bool, SpoolError> {
        let more = lines.len() as u64;
        let used = self.bytes();
        if used + more > self.limit {
            return Err(SpoolError::Full { used, limit: self.limit, more });
        }
        // A small spool is not full before anything of it may go.
        let largest = SEGMENT_BYTES.min(self.limit / 4);
        if self.open.as_ref().is_some_and(|open| open.segment.bytes + more > largest) {
            self.close();
        }
        let path = self.path(self.open.as_ref().map_or(self.last + 1, |open| open.segment.number));
        let failed = |source| SpoolError::Write { path: path.clone(), source };
        let first = self.open.is_none();
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(failed)?;
                self.last += 1;
                let segment = Segment { number: self.last, bytes: 0 };
                none.insert(Open { segment, file, since: Instant::now() })
            }
        };
        if let Err(source) = open.file.write_all(lines) {
            // Whoever sent them is told that they are not taken. If they cannot be taken back, none comes behind them.
            if open.file.set_len(open.segment.bytes).is_err() {
                self.close();
            }
            return Err(failed(source));
        }
        open.segment.bytes += more;
        let full = open.segment.bytes >= largest;
        if full {
            self.close();
        }
        Ok(first || full)
    }

    /// When the segment that grows is to be closed.
    pub fn due(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since + self.every)
    }

    pub fn close(&mut self) {
        self.closed.extend(self.open.take().map(|open| open.segment));
    }

    /// The segments of the next commit, in the order of their numbers.
    pub fn waiting(&mut self) -> Option<Waiting> {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.close();
        }
        let mut bytes = 0;
        let fit = |segment: &&Segment| {
            bytes += segment.bytes;
            bytes <= SEGMENT_BYTES
        };
        let count = self.closed.iter().take_while(fit).count().max(1);
        let mut taken = self.closed.iter().take(count);
        let files = taken.clone().map(|segment| self.path(segment.number)).collect();
        taken.next_back().map(|segment| Waiting { files, last: segment.number })
    }

    /// The table has all up to this one. Numbers go on behind it, also where nothing waits any more.
    pub fn reached(&mut self, position: u64) {
        while let Some(segment) = self.closed.pop_front_if(|segment| segment.number <= position) {
            // One that stays is known by its number after the next start.
            let _ = std::fs::remove_file(self.path(segment.number));
        }
        self.last = self.last.max(position);
    }

    pub fn bytes(&self) -> u64 {
        let open = self.open.iter().map(|open| &open.segment);
        open.chain(&self.closed).map(|segment| segment.bytes).sum()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}{ENDING}"))
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(ENDING).filter(|digits| digits.len() == 20)?.parse().ok()
}

fn id(folder: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(folder.join("id")) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => new_id(folder),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => new_id(folder),
        Err(error) => Err(error),
    }
}

/// It is whole or not there, whenever the program is killed.
fn new_id(folder: &Path) -> std::io::Result<String> {
    let (id, made) = (table::random(), folder.join("id.new"));
    std::fs::write(&made, &id)?;
    std::fs::rename(made, folder.join("id"))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    fn open(folder: &Path) -> Spool {
        Spool::open(folder, LIMIT, Duration::from_hours(1)).unwrap()
    }

    #[test]
    fn what_was_taken_is_there_after_a_restart_under_the_same_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        spool.reached(6);
        assert!(spool.push(b"a\n").unwrap() && !spool.push(b"b\n").unwrap());
        assert!(matches!(Spool::open(folder.path(), LIMIT, Duration::ZERO), Err(SpoolError::Used { .. })));
        let source = spool.source();
        drop(spool);
        let mut again = open(folder.path());
        assert_eq!((again.source(), again.bytes()), (source, 4));
        let waiting = again.waiting().unwrap();
        assert_eq!(waiting, Waiting { files: vec![folder.path().join("00000000000000000007.jsonl")], last: 7 });
        assert_eq!(std::fs::read(&waiting.files[0]).unwrap(), b"a\nb\n");
        // A new one comes behind it.
        again.push(b"c\n").unwrap();
        again.close();
        assert_eq!(again.waiting().unwrap().last, 8);
        again.reached(7);
        assert_eq!((again.waiting().unwrap().files.len(), again.bytes()), (1, 2));
        again.reached(8);
        assert_eq!((again.waiting(), again.bytes()), (None, 0));
        assert!(!waiting.files[0].exists());
    }

    #[test]
    fn a_segment_is_closed_when_it_is_old_or_large() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        spool.push(b"a\n").unwrap();
        assert_eq!(spool.waiting(), None);
        spool.every = Duration::ZERO;
        assert_eq!(spool.waiting().unwrap().last, 1);
        spool.every = Duration::from_hours(1);
        // A quarter of what the spool may have.
        assert!(spool.push(&[b'x'; 1 << 18]).unwrap());
        assert_eq!(spool.waiting().unwrap().last, 2);
    }

    #[test]
    fn more_than_the_limit_is_refused_until_something_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        for _ in 0..4 {
            spool.push(&[b'x'; 1 << 18]).unwrap();
        }
        let error = spool.push(b"a\n").unwrap_err().to_string();
        assert_eq!(error, "the spool is full: 1048576 of 1048576 bytes wait for the table, and 2 more came");
        spool.reached(1);
        spool.push(b"a\n").unwrap();
    }

    #[test]
    fn segments_of_many_megabytes_go_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), u64::MAX, Duration::ZERO).unwrap();
        for bytes in [SEGMENT_BYTES + 1, SEGMENT_BYTES, 1, SEGMENT_BYTES - 1] {
            spool.last += 1;
            spool.closed.push_back(Segment { number: spool.last, bytes });
        }
        for last in [1, 2, 4] {
            assert_eq!(spool.waiting().unwrap().last, last);
            spool.reached(last);
        }
        assert_eq!(spool.waiting(), None);
    }
}
