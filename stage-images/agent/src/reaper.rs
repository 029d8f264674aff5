//! What is left of a command when it has ended: every process that it started, whichever group or session it fled to,
//! becomes our child when its parent dies. They are killed as the kernel kills a container's when PID 1 ends, but before the
//! outputs are hashed, so that nobody writes to an output whose digest is already reported.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpid};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

/// A process that does not die from SIGKILL within this time waits in the kernel (a dead disk); it is left there.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// The signal's number: a real-time signal has no other name.
    Signal(i32),
}

impl Exit {
    /// As shells count: 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Reaps every child that has ended, orphans too. How `main` ended, if it was among them.
pub fn reap(main: Pid) -> Option<Exit> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == main.as_raw() => {
                ended = status.exit_status().map(Exit::Code).or(status.terminating_signal().map(Exit::Signal));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// Kills and reaps what the group and all adopted orphans still are.
pub fn clear(group: Pid) {
    let _ = killpg(group, Signal::SIGKILL);
    let end = Instant::now() + PATIENCE;
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return,
            Ok(None) if Instant::now() > end => return,
            Ok(None) => {
                for child in children() {
                    let _ = kill(child, Signal::SIGKILL);
                }
                thread::sleep(Duration::from_millis(2));
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Processes whose parent is this one.
fn children() -> Vec<Pid> {
    let own = getpid();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.map(Pid::from_raw).filter(|pid| parent(*pid) == Some(own)).collect()
}

/// The fourth field of `/proc/<pid>/stat`; the second one is a name in brackets that may hold anything.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    rest.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}
