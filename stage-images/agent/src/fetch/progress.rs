//! What the log of the init container says while a model comes: how far it is, every ten seconds.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(10);

/// A time that comes again and again.
pub struct Every {
    pause: Duration,
    last: Cell<Instant>,
}

impl Every {
    pub fn new(pause: Duration) -> Self {
        Self { pause, last: Cell::new(Instant::now()) }
    }

    /// Whether it has come, since it did so last.
    pub fn is_over(&self) -> bool {
        let over = self.last.get().elapsed() >= self.pause;
        if over {
            self.last.set(Instant::now());
        }
        over
    }
}

/// A model that is compared.
pub struct Comparing {
    what: String,
    began: Instant,
    every: Every,
}

impl Comparing {
    pub fn new(what: &str, size: Option<u64>) -> Self {
        let what = format!("compares {what}{}", told(size));
        say(&what);
        Self { what, began: Instant::now(), every: Every::new(EVERY) }
    }

    /// Says that it goes on, if it is time to. It gives nothing up: always false.
    pub fn look(&self) -> bool {
        if self.every.is_over() {
            say(&format!("{}: for {} s", self.what, self.began.elapsed().as_secs()));
        }
        false
    }
}

/// One model on its way to a path.
pub struct Progress {
    what: String,
    to: PathBuf,
    size: Option<u64>,
    began: Instant,
    every: Every,
}

impl Progress {
    pub fn new(what: &str, to: &Path, size: Option<u64>) -> Self {
        say(&format!("fetches {what}{}", told(size)));
        Self { what: what.to_owned(), to: to.to_owned(), size, began: Instant::now(), every: Every::new(EVERY) }
    }

    /// Says how far it is, if it is time to. It gives nothing up: always false.
    pub fn look(&self) -> bool {
        if self.every.is_over() {
            let there = size_of(&self.to);
            let rate = there / self.began.elapsed().as_secs().max(1);
            say(&format!("fetches {}: {}{}, {} in a second", self.what, amount(there), of(self.size), amount(rate)));
        }
        false
    }
}

fn told(size: Option<u64>) -> String {
    size.map_or_else(String::new, |size| format!(", {}", amount(size)))
}

/// What stands behind a part of it.
pub fn of(size: Option<u64>) -> String {
    size.map_or_else(String::new, |size| format!(" of {}", amount(size)))
}

/// A line of the log.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "millrace-agent: {line}");
}

/// Bytes of the files at a path, as far as they can be seen.
pub fn size_of(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
}

/// Bytes for people, such as `12.3 GiB`.
pub fn amount(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_once_and_again() {
        let every = Every::new(Duration::from_millis(20));
        assert!(!every.is_over());
        std::thread::sleep(Duration::from_millis(25));
        assert!(every.is_over() && !every.is_over());
    }

    #[test]
    fn bytes_are_told_in_units_that_people_read() {
        let told = [0, 1023, 1024, 12 << 20, (3 << 30) / 2, 5 << 40].map(amount);
        assert_eq!(told, ["0 bytes", "1023 bytes", "1.0 KiB", "12.0 MiB", "1.5 GiB", "5.0 TiB"]);
    }
}
