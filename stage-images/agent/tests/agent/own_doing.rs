//! What a command can do to its own agent: it may fail by it, it may not lie by it.

use std::fs;
use std::process::{Child, Command, Stdio};

use millrace_contract::{Outcome, ReportReason};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{self, Stage, eventually};

/// Says that all is well, in the termination message.
const FORGE: &str = r#"forge() { echo '{"millrace":"v1","runUid":"","stage":"zz","attempt":0,"outcome":"Succeeded",
    "reason":"CannotStart","metrics":{"accuracy":99.0}}' > "$LOG"; }"#;

/// The agent with the path of its termination message in `LOG`, as every program in a pod knows it.
fn knowing(stage: &Stage, script: &str) -> support::Ran {
    let script = format!("{FORGE}\n{script}");
    let output = stage.command(&["sh", "-c", &script]).env("LOG", stage.report_path()).output().unwrap();
    stage.ended(output)
}

#[test]
fn what_a_command_writes_into_the_termination_message_is_replaced() {
    let ran = knowing(&Stage::new(), "forge; exit 3");
    assert_eq!((ran.status, ran.report.outcome, ran.report.exit_code), (3, Outcome::Failed, Some(3)));
    assert_eq!((ran.report.stage.as_str(), ran.report.metrics.len()), ("train", 0));
}

#[test]
fn an_agent_that_may_open_no_more_files_reports_all_the_same() {
    let ran = knowing(&Stage::new(), "forge; sleep 1; prlimit --pid $PPID --nofile=0:0; exit 3");
    assert_eq!((ran.status, ran.report.outcome, ran.report.exit_code), (3, Outcome::Failed, Some(3)));
    assert_eq!(ran.report.stage, "train");
}

#[test]
fn an_agent_that_cannot_write_its_report_never_exits_as_the_command_did() {
    let stage = Stage::new();
    // No file of the agent may grow.
    let log = stage.report_path();
    let script = format!("LOG={}; {FORGE}\nforge; prlimit --pid 1 --fsize=0:0; exit 143", log.display());
    let output = contained(&stage, &script).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to write the termination message"));
}

#[test]
fn without_a_termination_message_the_command_does_not_run() {
    let stage = Stage::new();
    let mut command = stage.command(&["sh", "-c", "echo ran"]);
    let output = command.env("MILLRACE_TERMINATION_LOG", stage.path("no/such/folder/log")).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(74), b"".as_slice()));
}

/// The agent as PID 1 of a namespace of its own, as in a container. Needs root.
fn contained(stage: &Stage, script: &str) -> Child {
    assert!(support::is_root(), "this test makes a PID namespace: run it as root");
    let agent = stage.command(&["sh", "-c", script]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(agent.get_program()).args(agent.get_args());
    for (name, value) in agent.get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_stage_that_stops_its_own_agent_has_failed() {
    for (script, code) in [
        ("kill -TERM 1; sleep 20; exit 5", 143),
        ("trap 'exit 0' TERM; kill -TERM 1; while :; do sleep 0.05; done", 0),
        ("trap 'exit 5' TERM; (setsid sh -c 'kill -INT 1') & while :; do sleep 0.05; done", 130),
    ] {
        let stage = Stage::new().with("graceSeconds", json!(20));
        let ran = stage.ended(contained(&stage, script).wait_with_output().unwrap());
        assert_eq!((ran.report.reason, ran.report.exit_code), (ReportReason::Error, Some(code)), "{script}");
        assert!(ran.report.message.contains("the stage ended itself"), "{}", ran.report.message);
        assert!(stage.manifest().is_none());
    }
}

#[test]
fn a_stage_that_is_stopped_from_outside_its_container_is_terminated() {
    let stage = Stage::new().with("graceSeconds", json!(20));
    let child = contained(&stage, "touch $MILLRACE_OUT/ready; while :; do sleep 0.05; done");
    eventually("the command runs", || stage.path("stage/attempts/1/out/ready").exists());
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    let ran = stage.ended(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.report.reason), (143, ReportReason::Terminated), "{}", ran.report.message);
}
