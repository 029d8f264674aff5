//! Processes: an agent is started, what it prints becomes lines and a log, and it is ended with all that it started.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread;

use millrace_contract::AGENT_PROGRAM;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent;
use super::pod::Process;

/// Bytes of a line that are held at most.
const LONGEST_LINE: u64 = 64 * 1024;

/// What the run waits for.
#[derive(Debug)]
pub enum Event {
    /// A line of a program.
    Line { stage: String, attempt: u32, text: String },
    /// A process has ended, and its output with it.
    Ended { uid: String, exit: ExitStatus },
    /// A person wants the run to stop.
    Stop,
    /// A person typed a line; none where there is nobody any more.
    Typed(Option<String>),
}

/// Whose output it is.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Of the pod.
    pub uid: String,
    /// The stage, with the item if it is one: `train[7]`.
    pub name: String,
    pub attempt: u32,
    pub log: PathBuf,
    /// Lines are wanted, not only the log.
    pub shown: bool,
}

/// Starts an agent and returns its number. A group of its own: what a person types into the terminal reaches this program alone.
///
/// It is to be called by the thread that lives as long as the program: the agent ends with it.
pub fn start(process: &Process, path: Option<&str>, writer: Writer, events: SyncSender<Event>) -> io::Result<i32> {
    let folder = writer.log.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let log = OpenOptions::new().create(true).append(true).open(&writer.log)?;
    let (reader, pipe) = io::pipe()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(agent::WORD).args(own_program(&process.args)?).stdin(Stdio::null()).process_group(0);
    command.stdout(pipe.try_clone()?).stderr(pipe);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.envs(process.env.iter().map(|(name, value)| (name, value)));
    let child = command.spawn()?;
    // It holds the writing ends.
    drop(command);
    let id = i32::try_from(child.id()).map_err(io::Error::other)?;
    thread::Builder::new().name("output".into()).spawn(move || follow(child, reader, log, &writer, &events))?;
    Ok(id)
}

/// The agent is this program, also where it is what a stage runs.
fn own_program(args: &[String]) -> io::Result<Vec<String>> {
    let mut words = Vec::with_capacity(args.len() + 1);
    for (at, word) in args.iter().enumerate() {
        if at == 2 && word == AGENT_PROGRAM && args.first().is_some_and(|first| first == "run") {
            words.extend([std::env::current_exe()?.display().to_string(), agent::WORD.to_owned()]);
        } else {
            words.push(word.clone());
        }
    }
    Ok(words)
}

fn follow(mut child: Child, pipe: PipeReader, mut log: File, writer: &Writer, events: &SyncSender<Event>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    // A line without an end is told in parts.
    while (&mut pipe).take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let _ = log.write_all(&line);
        if writer.shown {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            let _ = events.send(Event::Line { stage: writer.name.clone(), attempt: writer.attempt, text });
        }
        line.clear();
    }
    let exit = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0x7f00));
    let _ = events.send(Event::Ended { uid: writer.uid.clone(), exit });
}

/// Asks an agent to stop: its program has its grace period.
pub fn terminate(id: i32) {
    let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
}

/// Kills an agent and all that it started: orphans are its children too.
pub fn destroy(id: i32) {
    let mut all = vec![id];
    let parents = parents();
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        all.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(child, _)| *child));
        at += 1;
    }
    for id in all {
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
}

/// The parent of every process.
fn parents() -> BTreeMap<i32, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter_map(|id| {
        let stat = fs::read(format!("/proc/{id}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
        Some((id, std::str::from_utf8(&stat[after..]).ok()?.split_whitespace().nth(1)?.parse().ok()?))
    })
    .collect()
}
