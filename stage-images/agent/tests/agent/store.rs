//! Inputs, manifests and stores: what is there from before, what is damaged, and who wins.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use millrace_contract::{Outcome, ReportReason};
use serde_json::json;

use crate::support::{self, Stage, is_root, write};

const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn an_input_that_is_what_its_producer_reported_is_handed_over() {
    let ran = Stage::new().input("data", "abc", ABC).sh("cat $MILLRACE_INPUT_DATA");
    assert_eq!((ran.stdout.as_slice(), ran.status), (b"abc".as_slice(), 0));
}

#[test]
fn a_missing_or_damaged_input_is_lost_before_the_command_runs() {
    let damaged = |change: &dyn Fn(&Stage)| {
        let stage = Stage::new().input("data", "abc", ABC);
        change(&stage);
        let ran = stage.sh("echo ran");
        assert_eq!((ran.status, ran.report.reason, ran.report.exit_code), (75, ReportReason::InputLost, None));
        assert_eq!(ran.stdout, b"");
        assert!(ran.report.message.contains("input \"data\""), "{}", ran.report.message);
        assert!(ran.stderr.contains("input \"data\""), "{}", ran.stderr);
        ran.report.message
    };
    assert!(damaged(&|stage| fs::remove_file(stage.path("inputs/data")).unwrap()).contains("missing"));
    let message = damaged(&|stage| write(&stage.path("inputs/data"), b"abcd"));
    assert!(message.contains("4 bytes") && message.contains('3'), "{message}");
    let message = damaged(&|stage| write(&stage.path("inputs/data"), b"abd"));
    assert!(message.contains(ABC) && message.contains("has the digest sha256:a52d159f"), "{message}");
    let message = damaged(&|stage| {
        fs::remove_file(stage.path("inputs/data")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", stage.path("inputs/data")).unwrap();
    });
    assert!(message.contains("link"), "{message}");
}

#[test]
fn a_later_attempt_reports_the_complete_one_without_running() {
    let mut stage = Stage::new().output("data", "artifact");
    let first = stage.sh("echo 1 > $MILLRACE_OUTPUT_DATA; echo '{\"loss\": 0.1}' > $MILLRACE_OUT/metrics.json; echo r > $MILLRACE_OUT/results/r");
    stage.task["attempt"] = json!(2);
    let second = stage.sh("echo ran; exit 1");
    assert_eq!((second.status, second.stdout.as_slice()), (0, b"".as_slice()));
    let report = second.report;
    assert_eq!((report.reason, report.attempt, report.winner), (ReportReason::Recovered, 2, Some(1)));
    assert_eq!(report.exit_code, None);
    assert_eq!(
        (report.outputs, report.metrics, report.results),
        (first.report.outputs, first.report.metrics, first.report.results)
    );
    assert!(!stage.path("stage/attempts/2").exists());
}

#[test]
fn a_manifest_whose_outputs_are_lost_moves_aside_and_the_command_runs() {
    for change in
        ["rm -r $S/attempts/1/outputs", "printf 2 > $S/attempts/1/outputs/data", "echo broken > $S/manifest.json"]
    {
        let mut stage = Stage::new().output("data", "artifact");
        assert_eq!(stage.sh("printf 1 > $MILLRACE_OUTPUT_DATA").status, 0);
        let changed =
            std::process::Command::new("sh").args(["-c", change]).env("S", stage.path("stage")).status().unwrap();
        assert!(changed.success());
        stage.task["attempt"] = json!(2);
        let ran = stage.sh("printf 1 > $MILLRACE_OUTPUT_DATA");
        assert_eq!((ran.report.reason, ran.report.winner), (ReportReason::Completed, Some(2)), "{change}");
        assert_eq!(stage.manifest().unwrap().report.attempt, 2);
        assert!(stage.path("stage/manifest.before-attempt-2.json").exists());
    }
}

#[test]
fn another_runs_manifest_is_not_reported() {
    let mut stage = Stage::new();
    assert_eq!(stage.sh("true").status, 0);
    stage.task["runUid"] = json!("0d7c2b1e-ffff-4000-8000-000000000000");
    assert_eq!(stage.sh("exit 5").status, 5);
}

#[test]
fn of_attempts_that_race_one_wins_and_all_report_it() {
    let mut stage = Stage::new().output("data", "artifact");
    let count = 6;
    // They all wait for the same moment, then finish at once.
    let script =
        "while [ ! -e $MILLRACE_OUT/../../../go ]; do sleep 0.01; done; echo $MILLRACE_ATTEMPT > $MILLRACE_OUTPUT_DATA";
    let mut children = Vec::new();
    for attempt in 1..=count {
        stage.task["attempt"] = json!(attempt);
        children.push(stage.start(&["sh", "-c", script]));
    }
    for attempt in 1..=count {
        support::eventually("all attempts run", || stage.path(&format!("stage/attempts/{attempt}/out")).exists());
    }
    write(&stage.path("stage/go"), b"");
    let mut winners = std::collections::BTreeMap::new();
    for (child, attempt) in children.into_iter().zip(1..) {
        stage.task["attempt"] = json!(attempt);
        let report = stage.ended(child.wait_with_output().unwrap()).report;
        assert_eq!(report.outcome, Outcome::Succeeded, "{}", report.message);
        let won = report.winner == Some(attempt);
        assert_eq!(report.reason, if won { ReportReason::Completed } else { ReportReason::Recovered });
        winners.insert(report.winner, report.outputs["data"].digest.clone());
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let (winner, digest) = winners.into_iter().next().unwrap();
    let manifest = stage.manifest().unwrap();
    assert_eq!((Some(manifest.report.attempt), &manifest.outputs["data"].digest), (winner, &digest));
}

#[test]
fn a_second_pod_of_the_same_attempt_begins_with_empty_folders() {
    let stage = Stage::new().output("data", "artifact");
    assert_eq!(stage.sh("echo half > $MILLRACE_OUTPUT_DATA; echo 1 > $MILLRACE_OUT/results/old; exit 1").status, 1);
    let ran = stage.sh("[ -e $MILLRACE_OUTPUT_DATA ] && exit 9; echo whole > $MILLRACE_OUTPUT_DATA");
    assert_eq!((ran.status, ran.report.results.len()), (0, 0));
    assert!(stage.path("stage/attempts/1.replaced-1/outputs/data").exists());
}

#[test]
fn without_a_durable_store_the_manifest_is_made_all_the_same() {
    let stage = Stage::new().with("durable", json!(false)).output("data", "artifact");
    assert_eq!(stage.sh("echo 1 > $MILLRACE_OUTPUT_DATA").report.reason, ReportReason::Completed);
    assert!(stage.manifest().is_some());
}

#[test]
fn a_store_that_cannot_be_written_says_who_may_and_what_to_change() {
    let stage = Stage::new();
    fs::set_permissions(stage.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(stage.path("stage"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = stage.command(&["sh", "-c", "echo ran"]);
    if is_root() {
        // Root writes everywhere: as the user that pods run as, with the report in a folder of its own.
        command = support::as_nobody(&stage, &["sh", "-c", "echo ran"]);
    } else {
        fs::set_permissions(stage.path("stage"), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let ran = stage.ended(command.output().unwrap());
    assert_eq!(
        (ran.status, ran.report.reason, ran.stdout.as_slice()),
        (75, ReportReason::StoreNotWritable, b"".as_slice())
    );
    for named in ["fsGroup", "mode 0755", "owner 0:0", "runs as 65532:65532"] {
        assert!(!is_root() || ran.report.message.contains(named), "{}", ran.report.message);
    }
    assert!(ran.report.message.contains("fsGroup"), "{}", ran.report.message);
}

#[test]
fn the_agent_copies_itself_executable() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert!(std::process::Command::new(support::AGENT).arg("copy").arg(folder.path()).status().unwrap().success());
    }
    let copy = folder.path().join("millrace-agent");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read(&copy).unwrap(), fs::read(support::AGENT).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let output = std::process::Command::new(support::AGENT).args(["copy", "/no/such/folder"]).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/no/such/folder"));
}
