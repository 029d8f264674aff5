//! Judges how a command ended, and records what a timeout left.

use std::time::Duration;

use millrace_contract::Task;
use millrace_files::{digest, regular};
use nix::libc::SIGKILL;
use nix::sys::signal::Signal;
use serde_json::json;
use thiserror::Error;

use crate::exit;
use crate::folders::Folders;
use crate::reaper::Exit;
use crate::supervise::{Cause, Ended};

/// What a timeout left, in an attempt's folder.
pub const PARTIAL: &str = "partial.json";

#[derive(Debug, PartialEq, Eq, Error)]
pub enum EndError {
    #[error("the command ended with exit status {0}")]
    Status(i32),
    #[error("the command was ended by {}", name(*.0))]
    Signal(i32),
    #[error(
        "memory ran out: the kernel killed {kills} of the stage's processes{}{}; raise resources.limits.memory",
        limit.map_or(String::new(), |bytes| format!(" at a limit of {}", binary(bytes))), how(*exit)
    )]
    OutOfMemory { kills: u64, limit: Option<u64>, exit: Exit },
    #[error("the command ran longer than its timeout of {} s{}", limit.as_secs(), stopped(*killed, *grace))]
    Timeout { limit: Duration, grace: Duration, killed: bool },
    #[error("the pod was asked to stop while the command ran{}", stopped(*killed, *grace))]
    Terminated { grace: Duration, killed: bool },
    #[error(
        "the stage ended itself: one of its own processes sent {} to PID 1{}; let the command exit instead",
        signal.as_str(), stopped(*killed, *grace)
    )]
    OwnSignal { signal: Signal, grace: Duration, killed: bool },
}

/// Bytes as people write a limit: `60Mi`. What is no whole number of a unit takes a smaller one.
fn binary(bytes: u64) -> String {
    let unit = [(30, "Gi"), (20, "Mi"), (10, "Ki")].into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes} bytes"), |(shift, name)| format!("{}{name}", bytes >> shift))
}

/// `SIGSEGV`, or `signal 34` for one without a name.
fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}

fn how(exit: Exit) -> String {
    match exit {
        Exit::Signal(SIGKILL) => String::new(),
        Exit::Code(code) => format!("; the command then ended with exit status {code}"),
        Exit::Signal(signal) => format!("; the command was then ended by {}", name(signal)),
    }
}

fn stopped(killed: bool, grace: Duration) -> String {
    if killed {
        format!("; it did not end within {} s of SIGTERM and was killed", grace.as_secs())
    } else {
        String::new()
    }
}

/// The kernel killed some of the group's processes while the command ran.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutOfMemory {
    pub kills: u64,
    pub limit: Option<u64>,
}

/// Ok if the command exited 0 by itself. What it did after it was told to stop is never taken for success: a trainer that
/// saves its state on SIGTERM and exits 0 is not done.
pub fn judge(ended: &Ended, task: &Task, memory: OutOfMemory) -> Result<(), EndError> {
    let grace = Duration::from_secs(task.grace_seconds);
    let killed = ended.killed;
    match (ended.cause, ended.exit) {
        (Cause::Timeout, _) => {
            let limit = Duration::from_secs(task.timeout_seconds.unwrap_or_default());
            Err(EndError::Timeout { limit, grace, killed })
        }
        (Cause::Terminated, _) => Err(EndError::Terminated { grace, killed }),
        (Cause::OwnSignal(signal), _) => Err(EndError::OwnSignal { signal, grace, killed }),
        (Cause::Itself, Exit::Code(0)) => Ok(()),
        (Cause::Itself, exit) if memory.kills > 0 => {
            Err(EndError::OutOfMemory { kills: memory.kills, limit: memory.limit, exit })
        }
        (Cause::Itself, Exit::Code(code)) => Err(EndError::Status(code)),
        (Cause::Itself, Exit::Signal(signal)) => Err(EndError::Signal(signal)),
    }
}

/// The status to report. Without memory it is always 137, however the command took the loss of its child.
pub fn reported_code(ended: &Ended, error: &EndError) -> i32 {
    match error {
        EndError::OutOfMemory { .. } => exit::OUT_OF_MEMORY.into(),
        EndError::Status(_)
        | EndError::Signal(_)
        | EndError::Timeout { .. }
        | EndError::Terminated { .. }
        | EndError::OwnSignal { .. } => ended.exit.code(),
    }
}

/// Writes `partial.json` beside what a timeout left: names and sizes for people who look. It is never an input, so that
/// failing to write it does not hide the timeout. Returns what it says.
pub fn record_partial(task: &Task, folders: &Folders) -> String {
    let listed = |name: &String| {
        let found = digest::walk(&folders.attempt.join("outputs").join(name), &|| false).ok()?;
        let files: Vec<_> = found.iter().map(|entry| json!({ "path": entry.path, "size": entry.size })).collect();
        Some((name.clone(), json!({ "files": files })))
    };
    let outputs: serde_json::Map<_, _> = task.outputs.keys().filter_map(listed).collect();
    let partial = json!({ "runUid": task.run_uid, "stage": task.stage, "attempt": task.attempt, "outputs": outputs });
    let partial = partial.to_string();
    let _ = regular::write(&folders.attempt.join(PARTIAL), partial.as_bytes());
    partial
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_limit_is_told_as_people_write_it() {
        for (bytes, text) in [(62_914_560, "60Mi"), (1 << 31, "2Gi"), (1 << 10, "1Ki"), (1_000_000, "1000000 bytes")] {
            assert_eq!(binary(bytes), text);
        }
        let error = EndError::OutOfMemory { kills: 1, limit: Some(62_914_560), exit: Exit::Signal(SIGKILL) };
        assert!(error.to_string().contains("at a limit of 60Mi; raise"), "{error}");
    }

    #[test]
    fn who_ended_the_command_counts_before_how_it_ended() {
        let task: Task = serde_json::from_value(json!({
            "namespace": "n", "run": "r", "runUid": "u", "stage": "s", "attempt": 1, "graceSeconds": 3, "timeoutSeconds": 9,
            "durable": false,
        }))
        .unwrap();
        let judged = |exit, cause, kills| {
            let ended = Ended { exit, cause, killed: false, at: Instant::now(), tail: String::new() };
            judge(&ended, &task, OutOfMemory { kills, limit: None })
        };
        let killed = Exit::Signal(SIGKILL);
        assert_eq!(judged(Exit::Code(0), Cause::Itself, 0), Ok(()));
        assert_eq!(judged(Exit::Code(0), Cause::Itself, 1), Ok(()));
        assert_eq!(judged(Exit::Code(3), Cause::Itself, 0), Err(EndError::Status(3)));
        assert_eq!(judged(killed, Cause::Itself, 0), Err(EndError::Signal(SIGKILL)));
        assert!(matches!(judged(killed, Cause::Itself, 1), Err(EndError::OutOfMemory { .. })));
        assert!(matches!(judged(Exit::Code(1), Cause::Itself, 1), Err(EndError::OutOfMemory { .. })));
        assert!(matches!(judged(Exit::Code(0), Cause::Timeout, 0), Err(EndError::Timeout { .. })));
        assert!(matches!(judged(killed, Cause::Terminated, 0), Err(EndError::Terminated { .. })));
        let own = Cause::OwnSignal(Signal::SIGTERM);
        assert!(matches!(judged(Exit::Code(0), own, 0), Err(EndError::OwnSignal { .. })));
    }
}
