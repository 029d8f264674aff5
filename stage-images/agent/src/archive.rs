//! What the program prints is kept in the stage's folder of the store: as it goes, bounded, and without a say in how fast the program is.
//!
//! It lies in `attempts/<n>/log/`, in files named by the place of their first byte in all that was printed. The first is kept, and of the
//! later ones the last few. So what is left out shows by the names, and what was written is right at any moment, also if the agent is killed.
//! The program is of the same user and can spoil its own log, nobody else's: the agent holds the folder open, follows no link and opens
//! only files that it has made.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millrace_contract::Task;
use millrace_files::digest::Stop;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// So much is written at once.
const CHUNK: usize = 64 * 1024;
/// What was printed is on disk after this long, if the node is lost.
const SYNC: Duration = Duration::from_secs(10);
/// A store in which nothing moves for so long is not waited for when the program has ended. The disk of a busy node stands still for a while
/// too, and then goes on.
const STUCK: Duration = Duration::from_secs(20);

/// How much of a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a file.
    pub file: u64,
    /// Files after the first.
    pub later: usize,
}

impl Bounds {
    /// The first MiB and the last 4 to 5; of one item of many, the first 64 KiB and the last 256 to 320.
    pub fn of(task: &Task) -> Self {
        Self { file: if task.items.is_some() { 64 * 1024 } else { 1024 * 1024 }, later: 5 }
    }
}

/// Keeps what the program of an attempt prints, wherever the store is.
pub trait Scribe: Send + Sync {
    /// What the program printed next. Never waits.
    fn push(&self, bytes: &[u8]);
    /// Nothing more comes: waits for the rest to be written, while anything moves and until it is `late`. Why not all is there, if so.
    fn finish(&self, late: Stop<'_>) -> Option<String>;
}

/// The log of one attempt on a claim, and the thread that writes it.
pub struct Archive(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bounds: Bounds,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Chunk>,
    /// Bytes that wait, but for those of the first file.
    later: u64,
    /// The place of the byte that comes next.
    end: u64,
    /// Bytes that were taken to be written: shows whether the store still moves.
    taken: u64,
    /// Nothing more comes.
    closed: bool,
    /// The thread has ended.
    done: bool,
    trouble: Option<String>,
}

struct Chunk {
    /// Of its first byte.
    place: u64,
    bytes: Vec<u8>,
}

impl State {
    /// Of what comes faster than it is written nothing waits that would be taken out again: only the first file's and the last ones'.
    fn push(&mut self, mut bytes: &[u8], bounds: Bounds) {
        while !bytes.is_empty() {
            let last = match self.waiting.back_mut() {
                Some(last) if last.bytes.len() < CHUNK => last,
                _ => {
                    self.waiting.push_back(Chunk { place: self.end, bytes: Vec::new() });
                    continue;
                }
            };
            let length = bytes.len().min(CHUNK - last.bytes.len());
            last.bytes.extend_from_slice(&bytes[..length]);
            if last.place >= bounds.file {
                self.later += length as u64;
            }
            self.end += length as u64;
            bytes = &bytes[length..];
        }
        let first = self.waiting.partition_point(|chunk| chunk.place < bounds.file);
        while self.later > bounds.file * bounds.later as u64
            && let Some(lost) = self.waiting.remove(first)
        {
            self.later -= lost.bytes.len() as u64;
        }
    }

    fn take(&mut self, bounds: Bounds) -> Option<Chunk> {
        let chunk = self.waiting.pop_front()?;
        let length = chunk.bytes.len() as u64;
        if chunk.place >= bounds.file {
            self.later -= length;
        }
        self.taken += length;
        Some(chunk)
    }
}

impl Archive {
    /// Makes the folder and starts to write.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Self> {
        let files = Files::open(folder, bounds)?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), bounds });
        let archive = Self(Arc::clone(&shared));
        thread::Builder::new().name("archive".into()).spawn(move || {
            let ended = shared.write(files);
            let mut state = shared.state();
            state.trouble = ended.err().map(|error| error.to_string());
            state.waiting = VecDeque::new();
            state.done = true;
            shared.changed.notify_all();
        })?;
        Ok(archive)
    }
}

impl Scribe for Archive {
    fn push(&self, bytes: &[u8]) {
        let mut state = self.0.state();
        if state.done {
            return;
        }
        state.push(bytes, self.0.bounds);
        self.0.changed.notify_all();
    }

    fn finish(&self, late: Stop<'_>) -> Option<String> {
        let mut state = self.0.state();
        state.closed = true;
        self.0.changed.notify_all();
        let (mut taken, mut moved_at) = (state.taken, Instant::now());
        while !state.done {
            let waited = self.0.changed.wait_timeout(state, Duration::from_millis(200));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.taken != taken {
                (taken, moved_at) = (state.taken, Instant::now());
            } else if moved_at.elapsed() > STUCK {
                return Some("the store does not answer".to_owned());
            }
            if !state.done && late() {
                return Some("the store is too slow".to_owned());
            }
        }
        state.trouble.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next bytes with their place; none at the end.
    fn next(&self) -> Option<Chunk> {
        let mut state = self.state();
        loop {
            if let Some(chunk) = state.take(self.bounds) {
                return Some(chunk);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self, mut files: Files) -> io::Result<()> {
        let mut synced = Instant::now();
        while let Some(Chunk { place, bytes }) = self.next() {
            files.write(place, &bytes)?;
            if synced.elapsed() > SYNC {
                files.sync();
                synced = Instant::now();
            }
        }
        Ok(())
    }
}

/// The files of a log.
struct Files {
    folder: OwnedFd,
    bounds: Bounds,
    open: Option<(File, u64)>,
    /// Bytes in the open one.
    length: u64,
    /// Where those after the first begin.
    later: VecDeque<u64>,
    first: bool,
}

impl Files {
    fn open(folder: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::create_dir(folder)?;
        let folder = open(folder, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { folder, bounds, open: None, length: 0, later: VecDeque::new(), first: true })
    }

    /// Writes what was printed from `place` on.
    fn write(&mut self, mut place: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let goes_on = |(_, begins): &(File, u64)| begins + self.length == place && self.length < self.bounds.file;
            if !self.open.as_ref().is_some_and(goes_on) {
                self.begin(place)?;
            }
            let Some((file, _)) = &mut self.open else { return Ok(()) };
            let room = usize::try_from(self.bounds.file - self.length).unwrap_or(usize::MAX);
            let length = bytes.len().min(room);
            file.write_all(&bytes[..length])?;
            self.length += length as u64;
            place += length as u64;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// Goes on in another file.
    fn begin(&mut self, place: u64) -> io::Result<()> {
        let name = name(place);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        let make = || openat(&self.folder, name.as_str(), flags, mode);
        let made = match make() {
            // The program's: the names here are the agent's.
            Err(Errno::EEXIST) => {
                unlinkat(&self.folder, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
                make()?
            }
            made => made?,
        };
        if !std::mem::take(&mut self.first) {
            self.later.push_back(place);
        }
        while self.later.len() > self.bounds.later {
            if let Some(oldest) = self.later.pop_front() {
                let _ = unlinkat(&self.folder, self::name(oldest).as_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
        self.length = 0;
        self.open = Some((File::from(made), place));
        Ok(())
    }

    /// That it fails shows when something is written.
    fn sync(&self) {
        if let Some((file, _)) = &self.open {
            let _ = file.sync_data();
        }
    }
}

/// A file's name: where its first byte was in all that was printed.
pub fn name(place: u64) -> String {
    format!("{place:020}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Bounds = Bounds { file: 10, later: 2 };

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.iter().map(|name| name.trim_start_matches('0').to_owned()).collect()
    }

    fn files(folder: &Path) -> Files {
        Files::open(folder, SMALL).unwrap()
    }

    #[test]
    fn the_first_file_and_the_last_ones_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("log");
        let mut files = files(&folder);
        for (at, chunk) in (0_u8..47).collect::<Vec<_>>().chunks(7).enumerate() {
            files.write(at as u64 * 7, chunk).unwrap();
        }
        assert_eq!(names(&folder), ["", "30", "40"]);
        assert_eq!(fs::read(folder.join(name(0))).unwrap(), (0..10).collect::<Vec<u8>>());
        assert_eq!(fs::read(folder.join(name(40))).unwrap(), (40..47).collect::<Vec<u8>>());
    }

    #[test]
    fn what_was_lost_on_the_way_shows_by_the_names() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("log");
        let mut files = files(&folder);
        files.write(0, b"abc").unwrap();
        files.write(100, b"def").unwrap();
        files.write(103, b"ghi").unwrap();
        assert_eq!(names(&folder), ["", "100"]);
        assert_eq!(fs::read(folder.join(name(100))).unwrap(), b"defghi");
    }

    #[test]
    fn a_link_in_a_files_place_is_not_followed_and_a_moved_folder_is_still_the_agents() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("log");
        let mut files = files(&folder);
        fs::write(place.path().join("other"), "other").unwrap();
        std::os::unix::fs::symlink(place.path().join("other"), folder.join(name(0))).unwrap();
        files.write(0, b"0123456789").unwrap();
        assert_eq!(fs::read(place.path().join("other")).unwrap(), b"other");
        fs::rename(&folder, place.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(place.path(), &folder).unwrap();
        files.write(10, b"ab").unwrap();
        assert_eq!(names(&place.path().join("moved")), ["", "10"]);
    }

    #[test]
    fn a_store_that_is_slower_than_the_program_loses_only_of_the_middle() {
        let bounds = Bounds { file: 2 * CHUNK as u64, later: 3 };
        let printed: Vec<u8> = (0..40 * CHUNK).map(|at| (at / 7).to_le_bytes()[0]).collect();
        let mut state = State::default();
        for piece in printed.chunks(1000) {
            state.push(piece, bounds);
        }
        let mut kept = Vec::new();
        while let Some(Chunk { place, bytes }) = state.take(bounds) {
            let at = usize::try_from(place).unwrap();
            assert_eq!(bytes, printed[at..at + bytes.len()]);
            kept.push((at / CHUNK, bytes.len()));
        }
        let expected = [0, 1, 34, 35, 36, 37, 38, 39].map(|at| (at, CHUNK));
        assert_eq!((kept.as_slice(), state.later), (expected.as_slice(), 0));
    }

    #[test]
    fn a_store_that_is_full_stops_the_archive_and_nobody_else() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("log");
        let archive = Archive::open(&folder, SMALL).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        for _ in 0..1000 {
            archive.push(&[b'x'; 10_000]);
        }
        assert!(archive.finish(&|| false).is_some());
        archive.push(b"more");
    }

    #[test]
    fn all_that_fits_is_there_after_the_end() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("log");
        let archive = Archive::open(&folder, Bounds { file: 1000, later: 5 }).unwrap();
        for line in 0..500 {
            archive.push(format!("{line:04}\n").as_bytes());
        }
        assert_eq!(archive.finish(&|| false), None);
        let all: Vec<u8> = [0, 1000, 2000].iter().flat_map(|at| fs::read(folder.join(name(*at))).unwrap()).collect();
        let expected: String = (0..500).map(|line| format!("{line:04}\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }
}
