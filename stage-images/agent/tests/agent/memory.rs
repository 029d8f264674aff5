//! Memory that runs out, in a real control group of a test's own. Needs root, as the cluster's tests do.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use millrace_contract::{Outcome, ReportReason};

use crate::support::{self, Ran, Stage};

/// A group with 32 MiB, gone when the test is over.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        assert!(support::is_root(), "this test makes a control group: run it as root");
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
        let first = groups.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path.to_owned()));
        let (parent, limit) = match &first {
            Some(path) => (PathBuf::from(format!("/sys/fs/cgroup/memory{path}")), "memory.limit_in_bytes"),
            // Below the root of version 2 every group may have members and children that have the controller.
            None => (PathBuf::from("/sys/fs/cgroup"), "memory.max"),
        };
        let group = parent.join(format!("millrace-agent-test-{name}-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        fs::write(group.join(limit), "33554432").unwrap();
        Self(group)
    }

    fn sh(&self, stage: &Stage, script: &str) -> Ran {
        let agent = stage.command(&["sh", "-c", script]);
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > $0/cgroup.procs && exec \"$@\""]).arg(&self.0).arg(agent.get_program());
        command.args(agent.get_args()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in agent.get_envs() {
            command.env(name, value.unwrap());
        }
        stage.ended(command.output().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_command_that_the_kernel_killed_is_out_of_memory() {
    let ran = Group::new("main").sh(&Stage::new(), "echo started; exec tail /dev/zero");
    assert_eq!((ran.status, ran.report.exit_code), (137, Some(137)), "{}", ran.report.message);
    assert_eq!(ran.report.reason, ReportReason::OOMKilled);
    assert!(ran.report.message.contains("at a limit of 32Mi"), "{}", ran.report.message);
    assert_eq!(ran.report.tail, "started");
}

#[test]
fn a_command_that_failed_because_its_child_was_killed_is_out_of_memory() {
    let ran = Group::new("child").sh(&Stage::new(), "tail /dev/zero; exit 3");
    assert_eq!((ran.report.reason, ran.report.exit_code), (ReportReason::OOMKilled, Some(137)));
    assert!(ran.report.message.contains("exit status 3"), "{}", ran.report.message);
}

#[test]
fn a_command_that_copes_with_the_loss_of_its_child_succeeds() {
    let ran = Group::new("copes").sh(&Stage::new(), "tail /dev/zero; echo went on");
    assert_eq!(ran.report.outcome, Outcome::Succeeded, "{}", ran.report.message);
}

#[test]
fn a_command_that_killed_itself_is_not_out_of_memory() {
    let ran = Group::new("itself").sh(&Stage::new(), "kill -KILL $$");
    assert_eq!((ran.report.reason, ran.report.exit_code), (ReportReason::Error, Some(137)));
}
