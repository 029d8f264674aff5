//! The command of a stage: its program, arguments and environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millrace_contract::{ITEM_RETRIES_ENV, STORE_ENV, TASK_ENV, Task, env_name, output_path};
use thiserror::Error;

use crate::exit;
use crate::folders::{Folders, StoreError};
use crate::place::{Place, REPORT_ENV, ROOT_ENV};

#[derive(Debug, Error)]
pub enum StartError {
    #[error("there is neither a command nor a script: write `command` or `script` in the stage's container")]
    Nothing,
    #[error(
        "the script begins with {0:?}: its first line has to name an interpreter, such as `#!/bin/sh` or `#!/usr/bin/env python3`"
    )]
    NoInterpreter(String),
    #[error("failed to start {program:?}: {hint} ({source})")]
    Spawn { program: OsString, hint: &'static str, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StartError {
    /// As a shell would exit.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Nothing => exit::USAGE.into(),
            Self::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => exit::NOT_FOUND.into(),
            Self::NoInterpreter(_) | Self::Spawn { .. } | Self::Store(_) => exit::NOT_EXECUTABLE.into(),
        }
    }

    pub fn spawn(program: &OsStr, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::NotFound if Path::new(program).is_absolute() && Path::new(program).exists() => {
                "the file is there, but not the interpreter or loader that it names"
            }
            io::ErrorKind::NotFound => {
                "the image has no such program; write another `command`, or use an image that has it"
            }
            io::ErrorKind::PermissionDenied => {
                "this user may not execute it; set its mode in the image, or name its interpreter"
            }
            io::ErrorKind::ArgumentListTooLong => "arguments and environment are too long together; hand over a file",
            _ => "it is not a program that this machine runs",
        };
        Self::Spawn { program: program.to_owned(), hint, source }
    }
}

/// The program with its arguments: what stands after `--`, or the script with them.
pub fn words(script: Option<&str>, arguments: &[OsString], folders: &Folders) -> Result<Vec<OsString>, StartError> {
    let Some(script) = script else {
        return if arguments.is_empty() { Err(StartError::Nothing) } else { Ok(arguments.to_vec()) };
    };
    let mut words = interpreter(script)?;
    words.push(write_script(script, &folders.attempt)?.into());
    words.extend_from_slice(arguments);
    Ok(words)
}

/// What the kernel makes of a first line: the interpreter, and at most one argument. The agent does it itself, so that
/// a store mounted `noexec` can hold the script and a missing interpreter is named in the error.
fn interpreter(script: &str) -> Result<Vec<OsString>, StartError> {
    let first = script.lines().next().unwrap_or_default();
    let line = first.strip_prefix("#!").map(str::trim).filter(|line| line.starts_with('/'));
    let Some(line) = line else { return Err(StartError::NoInterpreter(first.chars().take(80).collect())) };
    let mut words = line.splitn(2, [' ', '\t']);
    Ok(words.by_ref().take(2).map(|word| OsString::from(word.trim())).collect())
}

fn write_script(script: &str, attempt: &Path) -> Result<PathBuf, StoreError> {
    let path = attempt.join("script");
    let written = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path).and_then(|mut file| {
        file.write_all(script.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o755))
    });
    written.map(|()| path.clone()).map_err(|source| StoreError::new(&path, source))
}

/// The command, ready to be started: in its own process group, with the contract's environment and no standard input.
///
/// `env` is what was filled in for an item, over what the pod has.
pub fn build(
    words: &[OsString],
    env: &BTreeMap<String, String>,
    task: &Task,
    place: &Place,
    folders: &Folders,
) -> Result<Command, StartError> {
    let (program, arguments) = words.split_first().ok_or(StartError::Nothing)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    for own in [TASK_ENV, ROOT_ENV, REPORT_ENV].into_iter().chain(ITEM_RETRIES_ENV) {
        command.env_remove(own);
    }
    // With the stores' credentials: of this process nobody else can read them.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(STORE_ENV.as_bytes())) {
        command.env_remove(name);
    }
    command.envs(env);
    for (name, input) in &task.inputs {
        command.env(format!("MILLRACE_INPUT_{}", env_name(name)), place.at(&input.path));
    }
    for (name, address) in &task.handed {
        command.env(format!("MILLRACE_INPUT_{}", env_name(name)), address);
    }
    for name in task.outputs.keys() {
        command.env(format!("MILLRACE_OUTPUT_{}", env_name(name)), place.at(output_path(task.attempt, name)));
    }
    command
        .env("MILLRACE_OUT", &folders.out)
        .env("MILLRACE_CHECKPOINT_DIR", &folders.checkpoint)
        .env("MILLRACE_RUN", &task.run)
        .env("MILLRACE_STAGE", &task.stage)
        .env("MILLRACE_NAMESPACE", &task.namespace)
        .env("MILLRACE_ATTEMPT", task.attempt.to_string());
    match &folders.restore {
        Some(restore) => {
            command.env("MILLRACE_RESTORE_DIR", &restore.folder).env("MILLRACE_RESTORE_LATEST", &restore.latest)
        }
        None => command.env_remove("MILLRACE_RESTORE_DIR").env_remove("MILLRACE_RESTORE_LATEST"),
    };
    // Container runtimes set `/` for a user that the image does not know: nobody can write there.
    if std::env::var_os("HOME").is_none_or(|home| home.is_empty() || home == "/") {
        command.env("HOME", "/tmp");
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_line_has_at_most_one_argument() {
        let words = |script: &str| interpreter(script).map(|words| words.join(OsStr::new("|"))).ok();
        assert_eq!(words("#!/bin/sh\necho"), Some("/bin/sh".into()));
        assert_eq!(words("#! /usr/bin/env python3\r\n"), Some("/usr/bin/env|python3".into()));
        assert_eq!(words("#!/bin/bash -e -u\n"), Some("/bin/bash|-e -u".into()));
        assert_eq!(words("echo hello"), None);
        assert_eq!(words("#!python3\n"), None);
        assert_eq!(words(""), None);
    }
}
