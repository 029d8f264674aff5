//! Reads the task and refuses what would let a name climb out of its folder.

use std::ffi::OsStr;

use millrace_contract::{ItemSource, TASK_ENV, Task};
use millrace_files::digest::is_digest;
use thiserror::Error;

/// Kubernetes names have at most 253 characters; a longer one would not fit into the report.
const NAME_LIMIT: usize = 253;

#[derive(Debug, Error)]
pub enum TaskError {
    #[error(
        "{TASK_ENV} is not set: this program runs as PID 1 of a pod that the Millrace operator creates; it is not run by hand"
    )]
    Absent,
    #[error("{TASK_ENV} is not UTF-8: write the task as JSON")]
    NotText,
    #[error("failed to read {TASK_ENV} as a task: {0}; agent and operator are of different versions?")]
    NotATask(#[source] serde_json::Error),
    #[error("{TASK_ENV}: {field} is {found:?}: write {remedy}")]
    BadField { field: String, found: String, remedy: &'static str },
}

/// The task that `MILLRACE_TASK` holds.
pub fn parse(value: Option<&OsStr>) -> Result<Task, TaskError> {
    let text = value.ok_or(TaskError::Absent)?.to_str().ok_or(TaskError::NotText)?;
    let task: Task = serde_json::from_str(text).map_err(TaskError::NotATask)?;
    check(&task)?;
    Ok(task)
}

fn check(task: &Task) -> Result<(), TaskError> {
    let Task {
        namespace,
        run,
        run_uid,
        stage,
        attempt,
        script: _,
        inputs,
        outputs,
        handed: _,
        code: _,
        timeout_seconds: _,
        grace_seconds: _,
        durable: _,
        folder: _,
        items,
    } = task;
    for (field, value) in [("namespace", namespace), ("run", run), ("runUid", run_uid), ("stage", stage)] {
        if value.is_empty() || value.len() > NAME_LIMIT || value.chars().any(char::is_control) {
            return Err(bad(field, value, "a name of 1 to 253 printable characters"));
        }
    }
    if *attempt == 0 {
        return Err(bad("attempt", "0", "1 for the first attempt"));
    }
    for (field, name) in inputs.keys().map(|name| ("inputs", name)).chain(outputs.keys().map(|name| ("outputs", name)))
    {
        if !is_artifact_name(name) {
            return Err(bad(&format!("{field}.{name}"), name, "a name of a-z, 0-9, - and _ that begins with a letter"));
        }
    }
    if let Some(ItemSource::File { digest, .. }) = items.as_ref().map(|items| &items.source)
        && !is_digest(digest)
    {
        return Err(bad("items.source.file.digest", digest, "sha256: and 64 hexadecimal digits"));
    }
    for (name, input) in inputs {
        if !is_digest(&input.digest) {
            return Err(bad(&format!("inputs.{name}.digest"), &input.digest, "sha256: and 64 hexadecimal digits"));
        }
        if !input.path.starts_with('/') {
            return Err(bad(&format!("inputs.{name}.path"), &input.path, "an absolute path"));
        }
    }
    Ok(())
}

fn bad(field: &str, found: &str, remedy: &'static str) -> TaskError {
    TaskError::BadField { field: field.to_owned(), found: found.chars().take(80).collect(), remedy }
}

fn is_artifact_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut serde_json::Value)) -> Result<Task, TaskError> {
        let mut task = serde_json::json!({
            "namespace": "default", "run": "r", "runUid": "u", "stage": "s", "attempt": 1, "graceSeconds": 1,
            "durable": true,
        });
        change(&mut task);
        parse(Some(OsStr::new(&task.to_string())))
    }

    #[test]
    fn a_plain_task_is_read() {
        assert_eq!(with(|_| {}).unwrap().attempt, 1);
    }

    #[test]
    fn names_that_climb_and_unknown_fields_are_refused_by_name() {
        for (field, value, named) in [
            ("outputs", serde_json::json!({"../x": {"type": "model"}}), "outputs.../x"),
            ("inputs", serde_json::json!({"a/b": {"path": "/x", "digest": "sha256:0", "size": 1}}), "inputs.a/b"),
            ("inputs", serde_json::json!({"a": {"path": "/x", "digest": "md5:0", "size": 1}}), "inputs.a.digest"),
            ("attempt", serde_json::json!(0), "attempt"),
            ("stage", serde_json::json!("x".repeat(300)), "stage"),
            ("surprise", serde_json::json!(1), "surprise"),
        ] {
            let error = with(|task| task[field] = value.clone()).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
