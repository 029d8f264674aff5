//! The agent in this program: a stage's attempt is this program again, started with a word that nobody types. So there is one program to
//! install, and an agent of the same version.

use std::ffi::OsString;
use std::process::ExitCode;

/// The first word of such a start.
pub const WORD: &str = "__agent";

/// Becomes the agent.
#[cfg(target_os = "linux")]
pub fn act(arguments: &[OsString]) -> ExitCode {
    // Whoever kills the program that runs the pipeline ends its stages too.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM);
    millrace_agent::act(arguments)
}

#[cfg(not(target_os = "linux"))]
pub fn act(_: &[OsString]) -> ExitCode {
    crate::output::warn("error: the agent needs Linux");
    ExitCode::from(2)
}
