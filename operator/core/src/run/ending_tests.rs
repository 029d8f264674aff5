//! Tables of how containers end, and what is believed of their reports.

use super::super::Words;
use super::*;

const WANTED: Wanted<'static> =
    Wanted { run_uid: "uid", stage: "train", attempt: 2, items: false, outputs: &BTreeMap::new() };

fn message(reason: &str, outcome: &str, change: (&str, &str)) -> String {
    let report = serde_json::json!({
        "millrace": "v1", "runUid": "uid", "stage": "train", "attempt": 2,
        "outcome": outcome, "reason": reason, "message": "m", "tail": "last line", "exitCode": 3,
    });
    report.to_string().replace(change.0, change.1)
}

fn terminated(exit_code: i32, reason: &str, message: &str) -> Terminated {
    Terminated { exit_code, reason: reason.into(), message: message.into(), ..Terminated::default() }
}

fn kind(ending: &Ending) -> (&'static str, String) {
    match ending {
        Ending::Succeeded(report) => ("succeeded", format!("{:?}", report.reason)),
        Ending::Failed(failure) if failure.lasting => ("lasting", failure.reason.clone()),
        Ending::Failed(failure) => ("failed", failure.reason.clone()),
        Ending::Disrupted { reason, .. } => ("disrupted", reason.clone()),
    }
}

#[test]
fn a_report_says_how_its_attempt_ended() {
    for (reason, outcome, expected) in [
        ("Completed", "Succeeded", "succeeded"),
        ("Recovered", "Succeeded", "succeeded"),
        ("Error", "Failed", "failed"),
        ("OOMKilled", "Failed", "failed"),
        ("Timeout", "Failed", "failed"),
        ("OutputMissing", "Failed", "failed"),
        ("StoreNotWritable", "Failed", "failed"),
        ("InputLost", "Failed", "lasting"),
        ("Terminated", "Failed", "disrupted"),
    ] {
        let status = match (reason, outcome) {
            ("Terminated", _) => 143,
            (_, "Succeeded") => 0,
            _ => 3,
        };
        let end = terminated(status, "", &message(reason, outcome, ("", "")));
        let found = of(WANTED, &PodView::default(), &end);
        assert_eq!(kind(&found), (expected, reason.to_owned()));
    }
}

#[test]
fn a_report_that_the_exit_status_belies_counts_for_nothing() {
    for (reason, outcome, exit, expected) in [
        ("Completed", "Succeeded", 3, "Error"),
        ("Recovered", "Succeeded", 74, "NoReport"),
        ("Terminated", "Failed", 74, "NoReport"),
        ("Terminated", "Failed", 3, "Error"),
    ] {
        let end = terminated(exit, "Error", &message(reason, outcome, ("", "")));
        let found = of(WANTED, &PodView::default(), &end);
        assert_eq!(kind(&found), ("failed", expected.to_owned()), "{reason} {exit}");
        let Ending::Failed(failure) = found else { panic!("not failed") };
        assert!(failure.message.contains(&format!("exited with {exit}")), "{}", failure.message);
    }
}

#[test]
fn an_agent_without_a_task_can_only_have_failed() {
    let unread = |outcome: &str| {
        let report = serde_json::json!({
            "millrace": "v1", "runUid": "", "stage": "", "attempt": 0, "outcome": outcome, "reason": "CannotStart",
        });
        kind(&of(WANTED, &PodView::default(), &terminated(0, "Completed", &report.to_string())))
    };
    assert_eq!(unread("Failed"), ("failed", "CannotStart".to_owned()));
    assert_eq!(unread("Succeeded"), ("failed", "NoReport".to_owned()));
}

#[test]
fn a_success_with_what_no_agent_reports_is_refused_with_the_cause() {
    let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
    let output = r#"{"digest":"sha256:0","size":1,"files":1,"signature":DEEP}"#.replace("DEEP", &deep);
    let outputs = BTreeMap::from([("model".to_owned(), Output::default())]);
    let wanted = Wanted { outputs: &outputs, ..WANTED };
    for (field, value, named) in [
        ("metrics", r#"{"a\"b{x}":1}"#, "no name"),
        ("champion", r#"{"A":1}"#, "\"A\""),
        ("results", r#"{"b-c":1}"#, "\"b-c\""),
        ("results", &format!("{{\"a\":{deep}}}"), "17"),
        ("outputs", &format!("{{\"model\":{output}}}"), "signature of \"model\""),
        ("outputs", r#"{"other":{"digest":"sha256:0","size":1,"files":1}}"#, "declares no output \"other\""),
        ("winner", "3", "attempt 3"),
        ("winner", "0", "attempt 0"),
    ] {
        let with = |value: &str| {
            let text =
                message("Completed", "Succeeded", ("\"exitCode\":3", &format!("\"exitCode\":0,\"{field}\":{value}")));
            of(wanted, &PodView::default(), &terminated(0, "Completed", &text))
        };
        let found = with(value);
        assert_eq!(kind(&found), ("failed", "BadReport".to_owned()), "{field} {value}");
        let Ending::Failed(failure) = found else { panic!("not failed") };
        assert!(failure.message.contains(named), "{}", failure.message);
        let good = match field {
            "outputs" => r#"{"model":{"digest":"sha256:0","size":1,"files":1}}"#,
            "winner" => "1",
            _ => r#"{"a":1}"#,
        };
        assert_eq!(kind(&with(good)).0, "succeeded", "{field} {good}");
    }
    let found = of(WANTED, &PodView::default(), &terminated(0, "Completed", &message("Error", "Succeeded", ("", ""))));
    assert_eq!(kind(&found), ("failed", "BadReport".to_owned()));
}

#[test]
fn a_program_that_was_told_to_stop_says_who_told_it() {
    let disrupted = Some(Words { reason: "PreemptionByScheduler".into(), message: "m".into() });
    let end = terminated(143, "Error", &message("Terminated", "Failed", ("", "")));
    let found = of(WANTED, &PodView { disrupted, ..PodView::default() }, &end);
    assert_eq!(kind(&found), ("disrupted", "PreemptionByScheduler".into()));
}

#[test]
fn a_failure_keeps_the_exit_code_and_the_last_lines() {
    let end = terminated(3, "Error", &message("Error", "Failed", ("", "")));
    let Ending::Failed(failure) = of(WANTED, &PodView::default(), &end) else { panic!("not failed") };
    assert_eq!(failure.exit_code, Some(3));
    assert!(failure.message.contains("last line"), "{}", failure.message);
}

#[test]
fn the_line_that_says_what_went_wrong_stands_first() {
    let first = |reason: &str, tail: &str| {
        let tail = serde_json::json!(tail).to_string();
        let end = terminated(3, "Error", &message(reason, "Failed", ("\"last line\"", &tail)));
        let Ending::Failed(failure) = of(WANTED, &PodView::default(), &end) else { panic!("it failed") };
        failure.message
    };
    for (tail, expected) in [
        ("PASS a\nFAIL b\nerror: 1 of 2 checks failed: b", "error: 1 of 2 checks failed: b\nm\nPASS a\nFAIL b"),
        (
            "Traceback (most recent call last):\n  File x\nValueError: no\n",
            "ValueError: no\nm\nTraceback (most recent call last):\n  File x",
        ),
        ("a\nx: command not found", "x: command not found\nm\na"),
        ("thread 'main' panicked at x.rs:1:1:\nnote: see", "thread 'main' panicked at x.rs:1:1:\nm\nnote: see"),
        ("0 errors\ndone", "done\nm\n0 errors"),
        (
            "epoch 9 val_mean_absolute_error: 0.031\nx: no such file",
            "x: no such file\nm\nepoch 9 val_mean_absolute_error: 0.031",
        ),
        ("validation error 0.12\nkilled", "killed\nm\nvalidation error 0.12"),
        ("retrying, error rate 0\nkilled", "killed\nm\nretrying, error rate 0"),
        ("MeanSquaredError: 0.031\nkilled", "killed\nm\nMeanSquaredError: 0.031"),
        ("error rate: 0.1\nkilled", "killed\nm\nerror rate: 0.1"),
        ("train.py: error: no --x\nbye", "train.py: error: no --x\nm\nbye"),
        ("torch.cuda.OutOfMemoryError: 2 GiB\nbye", "torch.cuda.OutOfMemoryError: 2 GiB\nm\nbye"),
        ("2026-01-31 12:00:00,123 ERROR no disk\nbye", "2026-01-31 12:00:00,123 ERROR no disk\nm\nbye"),
        ("[2026-01-31T12:00:00Z] [ERROR] no disk\nbye", "[2026-01-31T12:00:00Z] [ERROR] no disk\nm\nbye"),
        ("ERROR:root:no disk\nbye", "ERROR:root:no disk\nm\nbye"),
        ("AssertionError\nbye", "AssertionError\nm\nbye"),
        ("one", "one\nm"),
        ("no disk\n=====\n12.5 %", "no disk\nm\n=====\n12.5 %"),
        ("no disk\n\u{fffd}ab\u{0}c", "no disk\nm\n\u{fffd}ab\u{0}c"),
        ("---\n\u{fffd}", "m\n---\n\u{fffd}"),
        (" \n", "m"),
    ] {
        assert_eq!(first("Error", tail), expected);
    }
    // The agent knows better than the program what a timeout is.
    assert_eq!(first("Timeout", "error: x"), "m\nerror: x");
}

#[test]
fn a_report_of_another_attempt_run_or_stage_counts_for_nothing() {
    for change in [("\"attempt\":2", "\"attempt\":1"), ("\"uid\"", "\"other\""), ("\"train\"", "\"x\""), ("v1", "v2")] {
        let end = terminated(0, "Completed", &message("Completed", "Succeeded", change));
        assert_eq!(kind(&of(WANTED, &PodView::default(), &end)), ("failed", "NoReport".into()), "{change:?}");
    }
}

#[test]
fn without_a_report_the_container_and_its_pod_tell() {
    let words = |reason: &str| Some(Words { reason: reason.into(), message: "m".into() });
    let evicted = PodView { words: words("Evicted"), ..PodView::default() };
    let preempted = PodView { disrupted: words("PreemptionByScheduler"), ..PodView::default() };
    let deleted = PodView { deleting: true, ..PodView::default() };
    let plain = PodView::default();
    for (pod, exit, reason, expected) in [
        (&plain, 0, "Completed", ("failed", "NoReport")),
        (&plain, 137, "OOMKilled", ("failed", "OOMKilled")),
        (&plain, 1, "Error", ("failed", "Error")),
        (&plain, 128, "StartError", ("failed", "StartError")),
        (&plain, 137, "ContainerStatusUnknown", ("disrupted", "ContainerStatusUnknown")),
        (&evicted, 137, "Error", ("disrupted", "Evicted")),
        (&evicted, 137, "OOMKilled", ("failed", "OOMKilled")),
        (&preempted, 143, "Error", ("disrupted", "PreemptionByScheduler")),
        (&deleted, 137, "Error", ("disrupted", "PodDeleted")),
    ] {
        let found = of(WANTED, pod, &terminated(exit, reason, ""));
        assert_eq!(kind(&found), (expected.0, expected.1.to_owned()), "{exit} {reason}");
    }
}

#[test]
fn every_reason_of_a_failure_that_counts_is_one_that_a_pipeline_may_ask_for() {
    use crate::pipeline::REASONS;
    let counted = [
        ReportReason::Error,
        ReportReason::CannotStart,
        ReportReason::OOMKilled,
        ReportReason::Timeout,
        ReportReason::OutputMissing,
        ReportReason::ResultTooLarge,
        ReportReason::BadResult,
        ReportReason::StoreNotWritable,
    ];
    for reason in counted {
        assert!(REASONS.contains(&format!("{reason:?}").as_str()), "{reason:?}");
    }
}
