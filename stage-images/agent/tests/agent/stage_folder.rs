//! What a command does to the stage's folder where it should not write, and how long it takes to look through it.

use std::fs;

use millrace_contract::{Outcome, ReportReason};
use serde_json::json;

use crate::support::{Stage, write};

#[test]
fn a_timeout_goes_on_while_an_output_is_hashed() {
    let stage = Stage::new().with("timeoutSeconds", json!(1)).output("data", "artifact");
    // Hours of zeros; the file has no blocks.
    let ran = stage.sh("truncate -s 7T $MILLRACE_OUTPUT_DATA");
    assert_eq!((ran.status, ran.report.reason, ran.report.exit_code), (124, ReportReason::Timeout, Some(0)));
    assert!(ran.report.message.contains("output \"data\" was hashed"), "{}", ran.report.message);
    assert!(stage.manifest().is_none());
    assert!(stage.path("stage/attempts/1/partial.json").exists());
}

#[test]
fn what_is_in_the_manifests_place_is_neither_waited_for_nor_followed() {
    for script in [
        "mkfifo $S/manifest.json",
        "ln -s /etc/passwd $S/manifest.json",
        "truncate -s 1T $S/manifest.json",
        "echo '{}' > $S/manifest.json",
    ] {
        let mut stage = Stage::new();
        let first = stage.sh(&format!("S=$MILLRACE_OUT/../../..; {script}"));
        assert_eq!((first.status, first.report.reason), (65, ReportReason::BadResult), "{script}");
        assert!(first.report.message.contains("no manifest of this stage"), "{}", first.report.message);
        stage.task["attempt"] = json!(2);
        assert_eq!(stage.sh("true").report.reason, ReportReason::Completed, "{script}");
    }
}

#[test]
fn pipes_in_the_places_of_the_agents_own_files_do_not_hold_it_up() {
    let stage = Stage::new();
    let ran = stage.sh("mkfifo $MILLRACE_OUT/../manifest.json");
    assert_eq!(ran.report.outcome, Outcome::Succeeded, "{}", ran.report.message);
    let stage = Stage::new().with("timeoutSeconds", json!(1));
    let ran = stage.sh("mkfifo $MILLRACE_OUT/../partial.json; sleep 60");
    assert_eq!(ran.report.reason, ReportReason::Timeout);
    assert!(fs::read_to_string(stage.path("stage/attempts/1/partial.json")).is_ok());
}

#[test]
fn a_forged_manifest_with_what_no_report_may_have_is_not_reported() {
    let mut stage = Stage::new();
    let deep: serde_json::Value =
        serde_json::from_str(&format!("{}{}", "[".repeat(17), "]".repeat(17))).unwrap_or_default();
    let report = json!({
        "millrace": "v1", "runUid": stage.task["runUid"], "stage": "train", "attempt": 1, "outcome": "Succeeded",
        "reason": "Completed", "results": { "deep": deep },
    });
    write(&stage.path("stage/manifest.json"), json!({ "report": report, "outputs": {} }).to_string().as_bytes());
    stage.task["attempt"] = json!(2);
    let ran = stage.sh("true");
    assert_eq!((ran.report.reason, ran.report.results.len()), (ReportReason::Completed, 0));
}

#[test]
fn folders_above_an_output_that_are_links_are_refused() {
    let elsewhere = tempfile::tempdir();
    let elsewhere = elsewhere.as_ref().map(|folder| folder.path().display().to_string()).unwrap_or_default();
    for (script, named) in [
        (
            format!("cd $MILLRACE_OUT/..; mv outputs real; ln -s {elsewhere} outputs; echo 1 > outputs/data"),
            "attempts/1/outputs",
        ),
        (
            format!(
                "cd $MILLRACE_OUT/../..; mkdir -p {elsewhere}/1/outputs; mv 1 real; ln -s {elsewhere}/1 1; echo 1 > 1/outputs/data"
            ),
            "attempts/1,",
        ),
    ] {
        let stage = Stage::new().output("data", "artifact");
        let ran = stage.sh(&script);
        assert_eq!((ran.status, ran.report.reason), (65, ReportReason::BadResult), "{script}: {:?}", ran.report);
        assert!(ran.report.message.contains(named) && ran.report.message.contains("link"), "{}", ran.report.message);
        assert!(stage.manifest().is_none());
    }
}

#[test]
fn an_emptied_stage_folder_is_the_commands_doing_and_not_the_claims() {
    for stage in [Stage::new(), Stage::new().output("data", "artifact")] {
        let ran = stage.sh(&format!("rm -rf {}/*", stage.path("stage").display()));
        assert_eq!((ran.status, ran.report.reason), (65, ReportReason::BadResult), "{}", ran.report.message);
        assert!(ran.report.message.contains("the command removed"), "{}", ran.report.message);
        assert!(!ran.report.message.contains("fsGroup"), "{}", ran.report.message);
    }
}

#[test]
fn a_path_too_long_to_read_leaves_room_for_the_cause() {
    let stage = Stage::new().output("data", "artifact");
    let script = "mkdir $MILLRACE_OUTPUT_DATA; cd $MILLRACE_OUTPUT_DATA; name=$(printf 'd%0199d' 0)
        i=0; while [ $i -lt 60 ]; do mkdir $name && cd -P $name || exit 9; i=$((i+1)); done";
    let ran = stage.run(&["bash", "-c", script]);
    assert_eq!((ran.status, ran.report.reason), (65, ReportReason::OutputMissing), "{}", ran.report.message);
    let message = ran.report.message;
    assert!(
        message.contains("output \"data\"") && message.contains("File name too long") && message.len() < 400,
        "{message}"
    );
    // The temporary folder's own removal would meet the same.
    let removed = std::process::Command::new("rm").arg("-rf").arg(stage.path("stage")).status();
    assert!(removed.is_ok_and(|status| status.success()));
}
