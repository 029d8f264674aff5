//! How an attempt ends: statuses, signals, time, memory.

use std::time::{Duration, Instant};

use millrace_contract::{Outcome, ReportReason};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{self, Stage, eventually};

#[test]
fn an_exit_status_and_a_signal_are_reported_as_shells_count_them() {
    for (script, code) in
        [("exit 1", 1), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -SEGV $$", 139), ("kill -34 $$", 162)]
    {
        let ran = Stage::new().sh(script);
        assert_eq!((ran.status, ran.report.exit_code), (code, Some(code)), "{script}");
        assert_eq!((ran.report.outcome, ran.report.reason), (Outcome::Failed, ReportReason::Error));
    }
}

#[test]
fn a_program_that_is_not_there_or_not_executable_is_named() {
    let stage = Stage::new();
    let ran = stage.run(&["/no/such/program"]);
    assert_eq!((ran.status, ran.report.reason), (127, ReportReason::CannotStart));
    assert!(ran.report.message.contains("/no/such/program"), "{}", ran.report.message);
    assert!(ran.stderr.contains("/no/such/program"), "the logs are not empty: {}", ran.stderr);
    support::write(&stage.path("program"), b"text");
    let ran = Stage::new().run(&[stage.path("program").to_str().unwrap()]);
    assert_eq!((ran.status, ran.report.reason), (126, ReportReason::CannotStart));
    let ran = Stage::new().run(&[]);
    assert_eq!((ran.status, ran.report.reason), (64, ReportReason::CannotStart));
}

#[test]
fn a_task_that_is_not_one_exits_64_and_says_what_is_wrong() {
    let stage = Stage::new();
    for (task, named) in [("{}", "namespace"), ("not json", "MILLRACE_TASK")] {
        let output = stage.command(&["true"]).env("MILLRACE_TASK", task).output().unwrap();
        let ran = stage.ended(output);
        assert_eq!((ran.status, ran.report.reason), (64, ReportReason::CannotStart));
        assert!(ran.report.message.contains(named) && ran.stderr.contains(named), "{}", ran.report.message);
    }
}

#[test]
fn a_timeout_ends_a_command_that_listens_with_sigterm() {
    let stage =
        Stage::new().with("timeoutSeconds", json!(1)).with("graceSeconds", json!(20)).output("model", "artifact");
    let began = Instant::now();
    let ran =
        stage.sh("trap 'echo saved; exit 0' TERM; echo half > $MILLRACE_OUTPUT_MODEL; while :; do sleep 0.05; done");
    assert!(began.elapsed() < Duration::from_secs(15), "the grace period was not waited for: {:?}", began.elapsed());
    assert!(ran.stdout.ends_with(b"saved\n"), "{:?}", ran.stdout);
    assert_eq!((ran.status, ran.report.reason), (124, ReportReason::Timeout));
    assert_eq!(ran.report.exit_code, Some(0));
    assert!(stage.manifest().is_none(), "half an output is never complete");
    let partial = std::fs::read_to_string(stage.path("stage/attempts/1/partial.json")).unwrap();
    let partial: serde_json::Value = serde_json::from_str(&partial).unwrap();
    assert_eq!(partial["outputs"]["model"]["files"], json!([{ "path": "", "size": 5 }]));
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let stage = Stage::new().with("timeoutSeconds", json!(1));
    let ran = stage.sh("trap '' TERM; echo deaf; while :; do sleep 0.05; done");
    assert_eq!((ran.status, ran.report.reason, ran.report.exit_code), (124, ReportReason::Timeout, Some(137)));
    assert!(
        ran.report.message.contains("timeout of 1 s") && ran.report.message.contains("killed"),
        "{}",
        ran.report.message
    );
    assert!(ran.report.usage.wall_seconds >= 2.0, "{:?}", ran.report.usage);
}

#[test]
fn sigterm_is_passed_on_and_ends_as_terminated_even_if_the_command_exits_0() {
    let stage = Stage::new().with("graceSeconds", json!(20));
    let mut child =
        stage.start(&["sh", "-c", "trap 'exit 0' TERM; touch $MILLRACE_OUT/ready; while :; do sleep 0.05; done"]);
    eventually("the command runs", || stage.path("stage/attempts/1/out/ready").exists());
    kill(pid(&child), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    let ran = stage.ended(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.report.reason), (143, ReportReason::Terminated));
    assert!(stage.manifest().is_none());
}

#[test]
fn sigterm_after_the_command_has_ended_does_not_undo_its_success() {
    let stage = Stage::new().output("model", "artifact");
    // Nobody reads yet: the command can end, but the agent is still busy with what it printed.
    let mut child = stage.start(&[
        "sh",
        "-c",
        "echo whole > $MILLRACE_OUTPUT_MODEL; head -c 120000 /dev/zero; echo $$ > $MILLRACE_OUT/results/pid",
    ]);
    let result = stage.path("stage/attempts/1/out/results/pid");
    eventually("the command ends", || {
        let pid = std::fs::read_to_string(&result).unwrap_or_default();
        pid.ends_with('\n') && !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()
    });
    kill(pid(&child), Signal::SIGTERM).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
    let ran = stage.ended(child.wait_with_output().unwrap());
    assert_eq!((ran.stdout.len(), ran.report.reason), (120_000, ReportReason::Completed));
    assert!(stage.manifest().is_some());
}

#[test]
fn other_signals_reach_the_command() {
    let stage = Stage::new();
    let script = "trap 'echo usr1; exit 0' USR1; touch $MILLRACE_OUT/ready; while :; do sleep 0.05; done";
    let child = stage.start(&["sh", "-c", script]);
    eventually("the command runs", || stage.path("stage/attempts/1/out/ready").exists());
    kill(pid(&child), Signal::SIGUSR1).unwrap();
    let ran = stage.ended(child.wait_with_output().unwrap());
    // The shell may say before it that its `sleep`, of the same group, was ended.
    assert!(ran.stdout.ends_with(b"usr1\n"), "{:?}", ran.stdout);
    assert_eq!(ran.report.outcome, Outcome::Succeeded);
}

#[test]
fn a_command_gets_signals_unblocked_and_as_the_system_sets_them() {
    let ran = Stage::new().sh("grep -E '^Sig(Blk|Ign)' /proc/self/status");
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
    let ignored = text.split("SigIgn:\t").nth(1).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap();
    // 32 and 33 are the C library's own.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{text}");
}

#[test]
fn usage_counts_the_command_and_its_children() {
    let ran = Stage::new().sh("sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'");
    let usage = ran.report.usage;
    assert!(usage.cpu_seconds > 0.01 && usage.cpu_seconds < 60.0, "{usage:?}");
    assert!(usage.peak_memory_bytes > 100_000 && usage.wall_seconds > 0.01, "{usage:?}");
}

#[test]
fn other_processes_of_the_same_user_cannot_read_the_agents_environment() {
    let stage = Stage::new();
    let mut command = stage.command(&["sh", "-c", "cat /proc/$PPID/environ >/dev/null; echo $?"]);
    if support::is_root() {
        // Root may read everything.
        support::own_by_nobody(&stage);
        command = support::as_nobody(&stage, &["sh", "-c", "cat /proc/$PPID/environ >/dev/null; echo $?"]);
    }
    let ran = stage.ended(command.output().unwrap());
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.ends_with("1\n"), "{text}");
}

fn pid(child: &std::process::Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}
