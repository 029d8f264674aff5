//! `millrace-agent`: PID 1 of every stage's container.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    millrace_agent::act(&arguments)
}
