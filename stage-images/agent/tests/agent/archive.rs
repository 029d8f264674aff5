//! What the program printed is in the stage's folder of the store after the attempt, however it ended.

use std::fs;
use std::process::{Command, Stdio};

use millrace_contract::{LogPart, Outcome, ReportReason};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{self, AGENT, Stage, eventually, log_parts};

/// The logs as `millrace-agent logs` writes them, of a run's folder in which the stage's is called `train`.
fn logs(stage: &Stage, arguments: &[&str]) -> Vec<(LogPart, Vec<u8>)> {
    let run = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(stage.path("stage")).arg(run.path().join("train")).status();
    assert!(copied.unwrap().success());
    log_parts(&Command::new(AGENT).arg("logs").arg(run.path()).args(arguments).output().unwrap())
}

fn only(stage: &Stage) -> String {
    support::only(logs(stage, &["train"]))
}

#[test]
fn both_streams_are_kept_in_order_byte_for_byte_whatever_the_end() {
    let stage = Stage::new();
    let ran =
        stage.sh(r"for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\000\377\r\nno line end'; exit 3");
    assert_eq!(ran.status, 3);
    assert_eq!(logs(&stage, &["train"])[0].1, ran.stdout);
    assert!(ran.stdout.ends_with(b"\x00\xff\r\nno line end"));

    let stage = Stage::new().with("timeoutSeconds", json!(1));
    let ran = stage.sh("echo begun; exec sleep 60");
    assert_eq!((ran.report.reason, only(&stage).as_str()), (ReportReason::Timeout, "begun\n"));
}

#[test]
fn a_pod_that_is_deleted_leaves_what_its_program_said_last() {
    let stage = Stage::new();
    let child = stage.start(&["sh", "-c", "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.05; done"]);
    eventually("the first line", || fs::read(first_file(&stage)).is_ok_and(|text| text == b"begun\n"));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let ran = stage.ended(child.wait_with_output().unwrap());
    let text = only(&stage);
    // A shell may say of its `sleep` that it was ended.
    assert!(text.starts_with("begun\n") && text.ends_with("\nsaved\n"), "{text}");
    assert_eq!((ran.report.reason, ran.stdout), (ReportReason::Terminated, text.into_bytes()));
}

fn first_file(stage: &Stage) -> std::path::PathBuf {
    stage.path(&format!("stage/attempts/1/log/{:020}", 0))
}

#[test]
fn an_agent_that_is_killed_leaves_what_was_printed_so_far() {
    let stage = Stage::new();
    let mut child = stage
        .command(&["sh", "-c", "seq 1 50000; echo last; exec sleep 60 >/dev/null 2>&1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the last line", || logs(&stage, &["train"]).first().is_some_and(|(_, text)| text.ends_with(b"last\n")));
    child.kill().unwrap();
    child.wait().unwrap();
    let text = only(&stage);
    let expected: String = (1..=50000).map(|n| format!("{n}\n")).collect();
    assert_eq!(text, expected + "last\n");
}

#[test]
fn of_a_long_log_the_first_and_the_last_part_are_kept() {
    let stage = Stage::new();
    // 100-byte lines, 30 MB.
    let ran = stage.sh("seq -f '%099.0f' 1 300000");
    assert_eq!(ran.report.outcome, Outcome::Succeeded);
    let text = only(&stage);
    let lines: Vec<&str> = text.lines().collect();
    assert!(text.len() > 4_000_000 && text.len() < 7_000_000, "{}", text.len());
    assert_eq!((lines[0].trim_start_matches('0'), lines[lines.len() - 1].trim_start_matches('0')), ("1", "300000"));
    let told: Vec<&&str> = lines.iter().filter(|line| line.starts_with("[millrace: ")).collect();
    assert!(!told.is_empty());
    let left_out: usize = told.iter().filter_map(|line| line.split(' ').nth(1)?.parse::<usize>().ok()).sum();
    let said: usize = told.iter().map(|line| line.len() + 1).sum();
    assert_eq!(text.len() - said + left_out, 30_000_000);
    let size: u64 = fs::read_dir(stage.path("stage/attempts/1/log"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 6 * 1024 * 1024, "{size}");
}

#[test]
fn every_attempt_has_its_log_and_one_is_picked() {
    let mut stage = Stage::new();
    for attempt in [1, 2] {
        stage.task["attempt"] = json!(attempt);
        assert_eq!(stage.sh("echo attempt $MILLRACE_ATTEMPT; exit 1").status, 1);
    }
    let said = |arguments: &[&str]| -> Vec<(u32, String)> {
        logs(&stage, arguments)
            .into_iter()
            .map(|(part, text)| (part.attempt, String::from_utf8(text).unwrap()))
            .collect()
    };
    assert_eq!(said(&["train"]), [(1, "attempt 1\n".to_owned()), (2, "attempt 2\n".to_owned())]);
    assert_eq!(said(&["train:2"]), [(2, "attempt 2\n".to_owned())]);
    assert_eq!(said(&["train:7"]), []);
}

#[test]
fn without_a_store_nothing_is_kept() {
    let stage = Stage::new().with("durable", json!(false));
    assert_eq!(stage.sh("echo hello").stdout, b"hello\n");
    assert!(!stage.path("stage/attempts/1/log").exists());
}

#[test]
fn a_program_that_removes_its_log_is_told_of_it_and_does_not_fail() {
    let stage = Stage::new();
    let ran = stage.sh("echo one; sleep 0.3; rm -rf $MILLRACE_OUT/../log; seq 1 400000; echo two");
    assert_eq!(ran.report.outcome, Outcome::Succeeded, "{}", ran.report.message);
    assert!(ran.stdout.ends_with(b"two\n"));
    assert!(ran.stderr.contains("not all of this log is kept in the store"), "{}", ran.stderr);
}

#[test]
fn what_is_no_log_is_refused_and_an_artifact_is_sent_file_by_file() {
    let stage = Stage::new();
    let asked = |arguments: &[&str]| Command::new(AGENT).args(arguments).output().unwrap();
    let folder = stage.path("stage").display().to_string();
    assert!(!asked(&["logs", &folder, "../x"]).status.success());
    for (name, text) in [("a/b.txt", "hello"), ("c", "")] {
        support::write(&stage.path("stage/out").join(name), text.as_bytes());
    }
    let sent = asked(&["send", &format!("{folder}/out")]);
    let expected =
        "{\"folder\":true,\"files\":2}\n{\"path\":\"a/b.txt\",\"bytes\":5}\nhello{\"path\":\"c\",\"bytes\":0}\n";
    assert_eq!(String::from_utf8(sent.stdout).unwrap(), expected);
    std::os::unix::fs::symlink("/etc/passwd", stage.path("stage/out/link")).unwrap();
    let refused = asked(&["send", &format!("{folder}/out")]);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is a link"));
}
