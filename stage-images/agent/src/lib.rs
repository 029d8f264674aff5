//! The agent of a stage: it checks the inputs, runs the command, copies its output byte for byte, collects what it made and
//! reports. It speaks to no network but a store's, and with `get` an address's, and needs no Kubernetes permission.
//!
//! In a pod it is the program `millrace-agent`, PID 1. `kubectl millrace run --local` has it in its own program.

mod archive;
mod attempt;
mod cgroup;
mod checkpoints;
mod code;
mod collect;
mod command;
mod deadline;
mod deliver;
mod elsewhere;
mod ending;
mod exit;
mod facts;
mod failure;
mod fetch;
mod folders;
mod get;
mod inputs;
mod item;
mod keep;
mod list;
mod logs;
mod manifest;
mod model;
mod names;
mod outputs;
mod place;
mod pump;
mod reaper;
mod remote;
mod report;
mod send;
mod signals;
mod snapshot;
mod supervise;
mod sweep;
mod sync;
mod tail;
mod task;
mod usage;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use millrace_contract::GET_FINAL;
use nix::sys::prctl;

const USAGE: &str =
    "usage: millrace-agent run -- COMMAND [ARGUMENT…]   run one attempt of a stage (the task is in MILLRACE_TASK)
       millrace-agent collect                     put together what the items of a stage made (as above)
       millrace-agent fetch                       bring artifacts from stores and compare them (which ones is in MILLRACE_FETCH)
       millrace-agent get --uri URI --to PATH …    bring what lies at an address (credentials are in GET_…)
       millrace-agent keep                        put an archive of code into a store (which one is in MILLRACE_CODE)
       millrace-agent copy FOLDER                 copy this program to FOLDER/millrace-agent
       millrace-agent logs FOLDER [--item N] STAGE[:ATTEMPT]…   write the logs that are kept in a run's folder
       millrace-agent send PATH                   write the files of an artifact
                                                  (logs and send: - is what MILLRACE_READ names in a store of objects)
       millrace-agent sweep                       record runs in a store and take out what nobody needs (what is in MILLRACE_SWEEP_0 …)
       millrace-agent history [FOLDER] MOST       write the newest records of runs (of which store is in MILLRACE_SWEEP_0)
       millrace-agent wait                        do nothing until it is asked to stop";

/// What the program `millrace-agent` does with these arguments. The process is the agent's from here on.
#[must_use]
pub fn act(arguments: &[OsString]) -> ExitCode {
    match arguments.split_first() {
        Some((name, rest)) if name == "run" => run(rest),
        Some((name, [])) if name == "collect" => run(&[]),
        Some((name, [])) if name == "fetch" => {
            stoppable(|stop| fetch::fetch(&place::Place::from_env(), budget(), stop))
        }
        Some((name, rest)) if name == "get" => bring(rest),
        Some((name, [])) if name == "keep" => stoppable(|stop| keep::keep(&place::Place::from_env(), budget(), stop)),
        Some((name, [folder])) if name == "copy" => match deliver::copy_self(Path::new(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), exit::CANNOT_WRITE),
        },
        Some((name, [folder, wanted @ ..])) if name == "logs" && folder == "-" => {
            stoppable(|stop| logs::write_stored(wanted, stop))
        }
        Some((name, [folder, wanted @ ..])) if name == "logs" => read(logs::write(Path::new(folder), wanted)),
        Some((name, [path])) if name == "send" && path == "-" => stoppable(|stop| send::write_stored(budget(), stop)),
        Some((name, [path])) if name == "send" => read(send::write(Path::new(path))),
        Some((name, [])) if name == "sweep" => stoppable(sweep::sweep),
        Some((name, [rest @ .., most])) if name == "history" && rest.len() < 2 => match number(most) {
            Some(most) => stoppable(|stop| sweep::history(rest.first().map(Path::new), most, stop)),
            None => fail(USAGE, exit::USAGE),
        },
        Some((name, [])) if name == "wait" => read(signals::wait()),
        Some((name, [])) if name == "--version" => {
            let _ = writeln!(std::io::stdout(), "millrace-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => fail(USAGE, exit::USAGE),
    }
}

/// The environment holds the task and whatever secrets the stage and its store have: other processes of this user may not read it
/// from /proc/1/environ, nor attach to this process.
fn hide() -> Result<(), ExitCode> {
    prctl::set_dumpable(false)
        .map_err(|error| fail(&format!("failed to set PR_SET_DUMPABLE: {error}"), exit::CANNOT_WRITE))
}

fn bring(arguments: &[OsString]) -> ExitCode {
    if let Err(failed) = hide() {
        return failed;
    }
    match get::run(arguments) {
        Ok(said) => {
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        // A reader of a status sees the line that begins with `error`.
        Err(error) => fail(&format!("error: {error}"), if error.last { GET_FINAL } else { 1 }),
    }
}

fn budget() -> remote::Budget {
    remote::Budget::of(cgroup::Cgroup::find().memory_limit())
}

/// Work of the agent alone, which has credentials and ends when it is asked to.
fn stoppable(work: impl FnOnce(&dyn Fn() -> bool) -> Result<(), String>) -> ExitCode {
    if let Err(failed) = hide() {
        return failed;
    }
    let inbox = signals::Inbox::open().map_err(|error| format!("failed to prepare for signals: {error}"));
    match inbox.and_then(|inbox| work(&|| inbox.asked_to_stop())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, exit::TRY_AGAIN),
    }
}

fn number(text: &std::ffi::OsStr) -> Option<usize> {
    text.to_str()?.parse().ok()
}

fn run(rest: &[OsString]) -> ExitCode {
    if let Err(failed) = hide() {
        return failed;
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

/// The end of a command that only reads.
fn read<E: std::fmt::Display>(ended: Result<(), E>) -> ExitCode {
    ended.map_or_else(|error| fail(&error.to_string(), exit::CANNOT_WRITE), |()| ExitCode::SUCCESS)
}

fn fail(line: &str, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "millrace-agent: {line}");
    ExitCode::from(status)
}
