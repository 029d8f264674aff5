//! Runs the command: starts it, passes signals on, keeps its time, and knows when it and its output have ended.

use std::ffi::OsStr;
use std::io;
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::command::StartError;
use crate::pump::Pump;
use crate::reaper::{self, Exit};
use crate::signals::{Event, Inbox, asks_to_stop};

/// All writers are dead when the rest of the output is awaited; if nothing moves for this long, the log's reader is stuck.
const STUCK: Duration = Duration::from_secs(5);
/// As good as for ever.
const FAR: Duration = Duration::from_hours(24 * 365);

/// Who ended the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Itself,
    Timeout,
    /// The agent was asked to stop while the command ran.
    Terminated,
}

/// A command that has ended, with everything it started.
#[derive(Debug)]
pub struct Ended {
    pub exit: Exit,
    pub cause: Cause,
    /// SIGTERM was not enough.
    pub killed: bool,
    pub tail: String,
}

/// How long the command may run, and how long it may take to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub timeout: Option<Duration>,
    pub grace: Duration,
}

/// Starts the command and waits until it, every process it left behind, and their output have ended.
pub fn run(mut command: Command, program: &OsStr, limits: Limits, inbox: &Inbox) -> Result<Ended, StartError> {
    let cannot = |source| StartError::spawn(program, source);
    let (pump, main) = start(&mut command, inbox).map_err(cannot)?;
    // The command holds the pipe's writing ends.
    drop(command);
    let watched = watch(main, limits, inbox);
    reaper::clear(main);
    drain(&pump, inbox);
    let (exit, cause, killed) = watched;
    Ok(Ended { exit, cause, killed, tail: pump.tail() })
}

/// Standard output and error are one pipe, so that what the program prints stays in order.
fn start(command: &mut Command, inbox: &Inbox) -> io::Result<(Pump, Pid)> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    let main = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
    Ok((Pump::start(reader, inbox)?, main))
}

fn watch(main: Pid, limits: Limits, inbox: &Inbox) -> (Exit, Cause, bool) {
    let mut cause = Cause::Itself;
    let mut killed = false;
    let mut next = limits.timeout.map(after);
    loop {
        let wait = next.map_or(FAR, |at| at.saturating_duration_since(Instant::now()));
        let event = inbox.events.recv_timeout(wait);
        // First of all: a command that ended before the signal or the deadline came has ended by itself.
        if let Some(exit) = reaper::reap(main) {
            return (exit, cause, killed);
        }
        match event {
            Ok(Event::Signal(signal)) => {
                if asks_to_stop(signal) && cause == Cause::Itself {
                    cause = Cause::Terminated;
                    next = Some(after(limits.grace));
                }
                let _ = killpg(main, signal);
            }
            Ok(Event::ChildEnded | Event::OutputEnded) => {}
            Err(RecvTimeoutError::Timeout) if next.is_none_or(|at| Instant::now() < at) => {}
            Err(RecvTimeoutError::Timeout) if cause == Cause::Itself => {
                cause = Cause::Timeout;
                next = Some(after(limits.grace));
                let _ = killpg(main, Signal::SIGTERM);
            }
            // The sender is in the inbox itself, so the queue never closes; and the grace period is over.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                killed = true;
                next = Some(after(FAR));
                let _ = killpg(main, Signal::SIGKILL);
            }
        }
    }
}

/// A moment that may be further away than the clock can count.
fn after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now + FAR)
}

/// Waits until all of the output is copied. With a log reader that is stuck this gives up instead of hanging.
fn drain(pump: &Pump, inbox: &Inbox) {
    let mut moved = pump.moved();
    let mut moved_at = Instant::now();
    while !pump.ended() {
        match inbox.events.recv_timeout(Duration::from_millis(200)) {
            Ok(Event::OutputEnded) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Event::Signal(_) | Event::ChildEnded) | Err(RecvTimeoutError::Timeout) => {}
        }
        if pump.moved() != moved {
            (moved, moved_at) = (pump.moved(), Instant::now());
        } else if moved_at.elapsed() > STUCK {
            return;
        }
    }
}
