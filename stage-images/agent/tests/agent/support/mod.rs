//! Runs the built agent as a process, with `/millrace` in a temporary folder. One [`Stage`] is one stage's folder of a store;
//! each run of it is an attempt.

pub mod clouds;
pub mod pipe;
pub mod s3;
pub mod web;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use millrace_contract::{LogPart, Manifest, REPORT_LIMIT, Report};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const AGENT: &str = env!("CARGO_BIN_EXE_millrace-agent");

/// A stage's folder, its inputs, and the task of the next attempt.
pub struct Stage {
    pub root: TempDir,
    pub task: Value,
}

/// An attempt that has ended.
pub struct Ran {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub report: Report,
    pub report_bytes: usize,
}

impl Stage {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("stage")).unwrap();
        fs::create_dir_all(root.path().join("inputs")).unwrap();
        let task = json!({
            "namespace": "default", "run": "penguins-1", "runUid": "0d7c2b1e-0000-4000-8000-000000000000", "stage": "train",
            "attempt": 1, "graceSeconds": 1, "durable": true,
        });
        Self { root, task }
    }

    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.task[field] = value;
        self
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// The agent, not started, for `arguments` after `--`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(AGENT);
        command
            .args(["run", "--"])
            .args(arguments)
            .env("MILLRACE_TASK", self.task.to_string())
            .env("MILLRACE_ROOT", self.root.path())
            .env("MILLRACE_TERMINATION_LOG", self.report_path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        command
    }

    /// One report a task's attempt.
    pub fn report_path(&self) -> PathBuf {
        self.path(&format!("report-{}", self.task["attempt"]))
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.ended(self.command(arguments).output().unwrap())
    }

    pub fn sh(&self, script: &str) -> Ran {
        self.run(&["sh", "-c", script])
    }

    /// Checks what holds for every attempt: the report is there, is JSON, and is within the limit.
    pub fn ended(&self, output: Output) -> Ran {
        let text = fs::read(self.report_path()).expect("the attempt has a report");
        assert!(text.len() <= REPORT_LIMIT, "the report has {} bytes", text.len());
        let report: Report = serde_json::from_slice(&text).expect("the report is JSON");
        assert_eq!(report.millrace, "v1");
        let status = output.status.code().expect("the agent ends by itself");
        let succeeded = report.outcome == millrace_contract::Outcome::Succeeded;
        assert_eq!(status == 0, succeeded, "exit status and report agree: {report:?}");
        Ran {
            status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            report,
            report_bytes: text.len(),
        }
    }

    /// An input below `/millrace/inputs`, as the contract names it.
    pub fn input(mut self, name: &str, content: &str, digest: &str) -> Self {
        fs::write(self.path("inputs").join(name), content).unwrap();
        self.task["inputs"][name] =
            json!({ "path": format!("/millrace/inputs/{name}"), "digest": digest, "size": content.len() });
        self
    }

    pub fn output(mut self, name: &str, kind: &str) -> Self {
        self.task["outputs"][name] = json!({ "type": kind });
        self
    }

    /// An output that is a model of another format than ONNX.
    pub fn model(mut self, name: &str, format: &str) -> Self {
        self.task["outputs"][name] = json!({ "type": "model", "format": format });
        self
    }

    pub fn manifest(&self) -> Option<Manifest> {
        let text = fs::read(self.path("stage/manifest.json")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }
}

/// Waits until something is so; a test that waits in vain fails.
/// What `millrace-agent logs` wrote: a line of JSON before the bytes of each part.
pub fn log_parts(output: &Output) -> Vec<(LogPart, Vec<u8>)> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut rest, mut parts) = (output.stdout.as_slice(), Vec::new());
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let part: LogPart = serde_json::from_slice(&rest[..end]).unwrap();
        let (text, after) = rest[end + 1..].split_at(usize::try_from(part.bytes).unwrap());
        parts.push((part, text.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    parts
}

/// The text, where there is one part.
pub fn only(mut parts: Vec<(LogPart, Vec<u8>)>) -> String {
    assert_eq!(parts.len(), 1, "{parts:?}");
    String::from_utf8(parts.remove(0).1).unwrap()
}

pub fn eventually(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < end, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Whether this process may change users and make control groups.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

const NOBODY: u32 = 65532;

/// The stage's folder belongs to the user that pods run as.
pub fn own_by_nobody(stage: &Stage) {
    for folder in ["stage", "inputs"] {
        chown(stage.path(folder), Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// The agent as the user that pods run as; needs root.
pub fn as_nobody(stage: &Stage, arguments: &[&str]) -> Command {
    // The build folder may be root's alone: the agent is run from a place that everybody reaches.
    fs::set_permissions(stage.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let bin = stage.path("bin");
    fs::create_dir(&bin).unwrap();
    assert!(Command::new(AGENT).arg("copy").arg(&bin).status().unwrap().success());
    // As the kubelet's: made for the container, writable by it.
    fs::write(stage.report_path(), "").unwrap();
    chown(stage.report_path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new(bin.join("millrace-agent"));
    command.args(["run", "--"]).args(arguments).uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in stage.command(arguments).get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}
