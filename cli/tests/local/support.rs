//! A folder with pipelines, in which the program runs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Place {
    folder: TempDir,
}

/// The program, ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub errors: String,
}

impl Ran {
    /// `-o json`.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended with {}\n{}\n{}", self.code, self.out, self.errors)
    }
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, below: &str) -> String {
        let path = self.path(below);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes `p.yaml` with the pipeline `p` of these stages; `more` are other fields of its spec.
    pub fn pipeline(&self, stages: &Value, more: &Value) {
        let mut spec = json!({ "store": { "pvc": { "claimName": "c" } }, "stages": stages });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let object = json!({ "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipeline", "metadata": { "name": "p" }, "spec": spec });
        self.write("p.yaml", &object.to_string());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-millrace"));
        command.args(["run", "--local"]).args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("MILLRACE_PROGRAMS").env("USER", "ada");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    /// Runs `p.yaml` and returns what `-o json` says.
    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["-f", "p.yaml", "-o", "json"], arguments].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        ran.json()
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), errors: text(output.stderr) }
}

/// A program that was started, at its end.
pub fn end(mut child: Child) -> Ran {
    let (mut out, mut errors) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    Ran { code: child.wait().unwrap().code().unwrap(), out, errors }
}

/// A stage that is a script of a shell; `more` are other fields of the stage.
pub fn script(text: &str, more: &Value) -> Value {
    let mut stage = json!({ "container": { "image": "debian", "script": format!("#!/bin/sh\nset -eu\n{text}\n") } });
    stage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage
}

/// Waits until something is so; a test that waits in vain fails.
pub fn eventually(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !so() {
        assert!(Instant::now() < end, "in vain waited for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process runs.
pub fn is_alive(id: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(id.trim()).join("stat")).unwrap_or_default();
    // One that nobody has waited for is dead too.
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}
