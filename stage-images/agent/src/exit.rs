//! The agent's own exit statuses. A command that fails keeps its status; these are for what the agent finds.

use millrace_contract::ReportReason;

/// The task or the arguments are not as they should be (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// The command ended well, but what it left is not what it should be (`EX_DATAERR`).
pub const BAD_DATA: u8 = 65;
/// The report, or the copy of the agent, could not be written (`EX_IOERR`).
pub const CANNOT_WRITE: u8 = 74;
/// Nothing is wrong with the command; another attempt may succeed (`EX_TEMPFAIL`).
pub const TRY_AGAIN: u8 = 75;
/// As `timeout(1)`.
pub const TIMEOUT: u8 = 124;
/// As shells: found, but cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// As shells: not found.
pub const NOT_FOUND: u8 = 127;
/// 128 + SIGKILL.
pub const OUT_OF_MEMORY: u8 = 137;
/// 128 + SIGTERM.
pub const TERMINATED: u8 = 143;

/// The agent's exit status for a failed attempt, given the command's own status where it has one.
///
/// It is never 0: a pod that exits 0 has to have a report that says `Succeeded`.
pub fn status(reason: ReportReason, command: Option<i32>) -> u8 {
    let own = command.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    match reason {
        ReportReason::Completed | ReportReason::Recovered => 0,
        ReportReason::Error => own.unwrap_or(1),
        ReportReason::CannotStart => own.unwrap_or(NOT_EXECUTABLE),
        ReportReason::OOMKilled => OUT_OF_MEMORY,
        ReportReason::Timeout => TIMEOUT,
        ReportReason::Terminated => TERMINATED,
        ReportReason::OutputMissing | ReportReason::ResultTooLarge | ReportReason::BadResult => BAD_DATA,
        ReportReason::InputLost
        | ReportReason::StoreNotWritable
        | ReportReason::StoreNotReadable
        | ReportReason::StoreUnreachable => TRY_AGAIN,
    }
}
