//! `millrace-agent`: PID 1 of every stage's container. It checks the inputs, runs the command, copies its output byte
//! for byte, collects what it made and reports. It speaks to no network and needs no Kubernetes permission.

mod attempt;
mod cgroup;
mod checkpoints;
mod collect;
mod command;
mod deadline;
mod deliver;
mod ending;
mod exit;
mod facts;
mod failure;
mod folders;
mod inputs;
mod item;
mod list;
mod manifest;
mod model;
mod names;
mod outputs;
mod place;
mod pump;
mod reaper;
mod report;
mod signals;
mod supervise;
mod sync;
mod tail;
mod task;
mod usage;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::prctl;

const USAGE: &str =
    "usage: millrace-agent run -- COMMAND [ARGUMENT…]   run one attempt of a stage (the task is in MILLRACE_TASK)
       millrace-agent collect                     put together what the items of a stage made (as above)
       millrace-agent copy FOLDER                 copy this program to FOLDER/millrace-agent";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((name, rest)) if name == "run" => run(rest),
        Some((name, [])) if name == "collect" => run(&[]),
        Some((name, [folder])) if name == "copy" => match deliver::copy_self(Path::new(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), exit::CANNOT_WRITE),
        },
        Some((name, [])) if name == "--version" => {
            let _ = writeln!(std::io::stdout(), "millrace-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => fail(USAGE, exit::USAGE),
    }
}

fn run(rest: &[OsString]) -> ExitCode {
    // The environment holds the task and whatever secrets the stage has: other processes of this user may not read it
    // from /proc/1/environ, nor attach to this process.
    if let Err(error) = prctl::set_dumpable(false) {
        return fail(&format!("failed to set PR_SET_DUMPABLE: {error}"), exit::CANNOT_WRITE);
    }
    // Orphans come here to be reaped also where this is not PID 1 (a shared process namespace, a test, a local run).
    if let Err(error) = prctl::set_child_subreaper(true) {
        return fail(&format!("failed to set PR_SET_CHILD_SUBREAPER: {error}"), exit::CANNOT_WRITE);
    }
    let command = match rest.split_first() {
        Some((dashes, command)) if dashes == "--" => command,
        None => &[],
        Some(_) => return fail(USAGE, exit::USAGE),
    };
    let done = attempt::run(command);
    // The logs are the program's own. Only when it never ran is there a line of ours, so that they are not empty.
    if let Some(line) = &done.line {
        let _ = writeln!(std::io::stderr(), "millrace-agent: {line}");
    }
    ExitCode::from(done.exit)
}

fn fail(line: &str, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "millrace-agent: {line}");
    ExitCode::from(status)
}
