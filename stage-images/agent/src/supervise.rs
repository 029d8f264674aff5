//! Runs the command: starts it, passes signals on, keeps its time, and knows when it and its output have ended.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use millrace_files::digest::Stop;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::archive::Scribe;
use crate::command::StartError;
use crate::deadline::{self, Deadline};
use crate::pump::Pump;
use crate::reaper::{self, Exit};
use crate::signals::{Event, Inbox, Source, asks_to_stop};

/// All writers are dead when the rest of the output is awaited; if nothing moves for this long, the log's reader is stuck. That of a busy
/// node stands still for a while too, and then goes on.
const STUCK: Duration = Duration::from_secs(20);
/// So long after the command's end its log may take to be kept: the report waits for it.
const LOG: Duration = Duration::from_secs(30);
/// … and so long after the grace of a command that was asked to stop. The kubelet kills fifteen seconds after that, and the report has to
/// be written too.
const LAST_LINES: Duration = Duration::from_secs(8);

/// Who ended the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Itself,
    Timeout,
    /// The agent was asked to stop while the command ran.
    Terminated,
    /// The command, or what it started, asked the agent to stop.
    OwnSignal(Signal),
}

/// A command that has ended, with everything it started.
#[derive(Debug)]
pub struct Ended {
    pub exit: Exit,
    pub cause: Cause,
    /// SIGTERM was not enough.
    pub killed: bool,
    /// When the command and all that it started had ended.
    pub at: Instant,
    pub tail: String,
}

/// How long the command may run, and how long it may take to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub deadline: Deadline,
    pub grace: Duration,
}

/// Starts the command and waits until it, every process it left behind, and their output have ended.
pub fn run(
    mut command: Command,
    program: &OsStr,
    limits: Limits,
    archive: Option<Arc<dyn Scribe>>,
    inbox: &Inbox,
) -> Result<Ended, StartError> {
    let cannot = |source| StartError::spawn(program, source);
    let (pump, main) = start(&mut command, archive.clone(), inbox).map_err(cannot)?;
    // The command holds the pipe's writing ends.
    drop(command);
    let watched = watch(main, limits, inbox);
    reaper::clear(main);
    let at = Instant::now();
    let most = limits.grace + LAST_LINES;
    let late = || at.elapsed() > LOG || inbox.asked_at().is_some_and(|asked| asked.elapsed() > most);
    drain(&pump, inbox, &late);
    if let Some(why) = archive.and_then(|archive| archive.finish(&late)) {
        unarchived(&why);
    }
    let (exit, cause, killed) = watched;
    Ok(Ended { exit, cause, killed, at, tail: pump.tail() })
}

/// Who reads the pod's log is told that the archive lacks some of it. Nothing fails by that.
pub fn unarchived(why: &str) {
    let _ = writeln!(io::stderr(), "millrace-agent: not all of this log is kept in the store: {why}");
}

/// Who reads the pod's log is told that another attempt may find no checkpoint, or an older one. Nothing fails by that.
pub fn not_restorable(why: &str) {
    let _ = writeln!(io::stderr(), "millrace-agent: not all checkpoints are kept in the store: {why}");
}

/// Who reads the pod's log is told that a checkpoint of an earlier attempt is not there. Nothing fails by that.
pub fn not_restored(why: &str) {
    let _ = writeln!(io::stderr(), "millrace-agent: a checkpoint of an earlier attempt cannot be brought: {why}");
}

/// Standard output and error are one pipe, so that what the program prints stays in order.
fn start(command: &mut Command, archive: Option<Arc<dyn Scribe>>, inbox: &Inbox) -> io::Result<(Pump, Pid)> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    let main = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
    Ok((Pump::start(reader, archive, inbox)?, main))
}

fn watch(main: Pid, limits: Limits, inbox: &Inbox) -> (Exit, Cause, bool) {
    let mut cause = Cause::Itself;
    let mut killed = false;
    let mut next = limits.deadline.at();
    loop {
        let event = match next {
            Some(at) => inbox.events.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => inbox.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        // First of all: a command that ended before the signal or the deadline came has ended by itself.
        if let Some(exit) = reaper::reap(main) {
            return (exit, cause, killed);
        }
        match event {
            Ok(Event::Signal(signal, source)) => {
                if asks_to_stop(signal) && cause == Cause::Itself {
                    cause = match source {
                        Source::Outside => Cause::Terminated,
                        Source::Inside => Cause::OwnSignal(signal),
                    };
                    next = Some(deadline::after(limits.grace));
                }
                let _ = killpg(main, signal);
            }
            Ok(Event::ChildEnded | Event::OutputEnded) => {}
            Err(RecvTimeoutError::Timeout) if next.is_none_or(|at| Instant::now() < at) => {}
            Err(RecvTimeoutError::Timeout) if cause == Cause::Itself => {
                cause = Cause::Timeout;
                next = Some(deadline::after(limits.grace));
                let _ = killpg(main, Signal::SIGTERM);
            }
            // The sender is in the inbox itself, so the queue never closes; and the grace period is over.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                killed = true;
                next = None;
                let _ = killpg(main, Signal::SIGKILL);
            }
        }
    }
}

/// Waits until all of the output is copied. With a log reader that is stuck this gives up instead of hanging.
fn drain(pump: &Pump, inbox: &Inbox, late: Stop<'_>) {
    let mut moved = pump.moved();
    let mut moved_at = Instant::now();
    while !pump.ended() {
        match inbox.events.recv_timeout(Duration::from_millis(200)) {
            Ok(Event::OutputEnded) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Event::Signal(_, _) | Event::ChildEnded) | Err(RecvTimeoutError::Timeout) => {}
        }
        if pump.moved() != moved {
            (moved, moved_at) = (pump.moved(), Instant::now());
        } else if moved_at.elapsed() > STUCK || late() {
            return;
        }
    }
}
