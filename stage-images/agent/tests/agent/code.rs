//! The folder that a stage runs in: `keep` puts its archive into a folder or a real bucket, and the agent of a stage unpacks it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use millrace_contract::{CODE_ENV, ReportReason};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::s3::{Server, credentials};
use crate::support::{self, AGENT, Ran, Stage};

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// An archive with a script and a file.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text, mode) in [("bin/say.sh", "#!/bin/sh\ncat words.txt\n", 0o755), ("words.txt", "one\n", 0o644)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn keep(asked: &Value, bytes: &[u8]) -> Output {
    let mut command = Command::new(AGENT);
    command.arg("keep").env(CODE_ENV, asked.to_string());
    let command = credentials(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who has it already reads nothing.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A stage with code, mounted unless it has a source.
fn run(stage: Stage, digest: &str, size: usize, source: Option<Value>) -> Ran {
    let mut code = json!({ "digest": digest, "size": size });
    if let Some(source) = source {
        code["source"] = source;
    }
    let stage = stage.with("code", code);
    let script = "pwd; ./bin/say.sh; echo $MILLRACE_CODE_DIR; echo x > words.txt || echo read-only; echo y > beside && cat beside";
    let mut command = stage.command(&["sh", "-c", script]);
    stage.ended(credentials(&mut command).output().unwrap())
}

/// Where the archive of a stage is mounted.
fn mounted(stage: &Stage, bytes: &[u8]) {
    let folder = stage.path("code/archive");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("files.tar"), bytes).unwrap();
}

#[test]
fn an_archive_is_kept_once_and_whole_or_not_at_all() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), archive());
    let path = folder.path().join("a/files.tar");
    let asked = json!({ "path": path, "digest": digest(&bytes), "size": bytes.len() });
    let names = || fs::read_dir(path.parent().unwrap()).unwrap().count();
    let damaged = keep(&asked, &vec![1; bytes.len()]);
    assert!(!damaged.status.success() && names() == 0, "{damaged:?}");
    let half = keep(&asked, &bytes[..10]);
    assert!(!half.status.success() && names() == 0, "{half:?}");
    assert_eq!(said(&keep(&asked, &bytes)), (0, "want\nkept\n".into()));
    assert_eq!(said(&keep(&asked, &bytes)), (0, "there\n".into()));
    assert_eq!((fs::read(&path).unwrap(), names()), (bytes.clone(), 1));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "somebody changed it").unwrap();
    assert_eq!(said(&keep(&asked, &bytes)), (0, "want\nkept\n".into()));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_program_runs_where_its_code_is() {
    let (stage, bytes) = (Stage::new(), archive());
    mounted(&stage, &bytes);
    let work = stage.path("code/work").canonicalize().unwrap_or_else(|_| stage.path("code/work"));
    let ran = run(stage, &digest(&bytes), bytes.len(), None);
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(ran.status, 0, "{} {out}", ran.report.message);
    let work = work.display();
    // Root writes whatever the mode says.
    let changed = if support::is_root() { "" } else { "read-only\n" };
    assert_eq!(out, format!("{work}\none\n{work}\n{changed}y\n"));
}

#[test]
fn code_that_is_gone_or_damaged_runs_nothing() {
    let bytes = archive();
    let gone = run(Stage::new(), &digest(&bytes), bytes.len(), None);
    assert_eq!(gone.report.reason, ReportReason::InputLost, "{}", gone.report.message);
    assert!(gone.report.message.contains("kubectl millrace run --code"), "{}", gone.report.message);
    let stage = Stage::new();
    mounted(&stage, b"something else");
    let damaged = run(stage, &digest(&bytes), bytes.len(), None);
    assert!(damaged.report.message.contains("damaged") && damaged.stdout.is_empty(), "{}", damaged.report.message);
    let stage = Stage::new();
    mounted(&stage, b"no archive");
    let odd = run(stage, &digest(b"no archive"), 10, None);
    assert_eq!(odd.report.reason, ReportReason::InputLost, "{}", odd.report.message);
}

#[test]
fn code_in_a_bucket_is_kept_and_brought() {
    let (server, bytes) = (Server::start(), archive());
    let source = server.source("teams/a/code/4b1e/files.tar");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("files.tar");
    let asked = json!({ "source": source, "path": path, "digest": digest(&bytes), "size": bytes.len() });
    assert_eq!(said(&keep(&asked, &bytes)), (0, "want\nkept\n".into()));
    assert_eq!(said(&keep(&asked, &bytes)), (0, "there\n".into()));
    assert_eq!(fs::read(server.object("teams/a/code/4b1e/files.tar")).unwrap(), bytes);
    assert!(!Path::new(&path).exists() && fs::read_dir(folder.path()).unwrap().count() == 0);
    // As many bytes, and others.
    let mut damaged = bytes.clone();
    damaged[700] ^= 1;
    fs::write(server.object("teams/a/code/4b1e/files.tar"), damaged).unwrap();
    assert_eq!(said(&keep(&asked, &bytes)), (0, "want\nkept\n".into()));
    assert_eq!(fs::read(server.object("teams/a/code/4b1e/files.tar")).unwrap(), bytes);
    let ran = run(Stage::new(), &digest(&bytes), bytes.len(), Some(source));
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("\none\n"));
    let absent = run(Stage::new(), &digest(&bytes), bytes.len(), Some(server.source("teams/a/code/none")));
    assert_eq!(absent.report.reason, ReportReason::InputLost, "{}", absent.report.message);
}
