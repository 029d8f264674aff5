//! A stage that runs once for each item, and what is collected of it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use millrace_contract::{ArtifactKind, ReportReason};
use serde_json::{Value, json};

use crate::support::{self, Ran, Stage};

/// Of `"a b"\n{"x":2}\n`.
const LIST: &str = "\"a b\"\n{\"x\":2}\n";
const DIGEST: &str = "sha256:eafd92c3cd4217882557ed4102e10f111589147bbd0b276823becde969960868";

fn source() -> Value {
    json!({ "file": { "digest": DIGEST, "size": LIST.len() } })
}

fn with_list(stage: Stage) -> Stage {
    fs::create_dir_all(stage.path("items")).unwrap();
    fs::write(stage.path("items/list"), LIST).unwrap();
    stage
}

/// The pod of an item: its stage's folder is the item's.
fn item(source: Value, order: Value) -> Stage {
    let items = json!({ "total": 2, "source": source, "order": order });
    with_list(Stage::new().output("part", "artifact")).with("items", items)
}

fn run(stage: &Stage, index: &str, arguments: &[&str]) -> Ran {
    stage.ended(stage.command(arguments).env("MILLRACE_ITEM_INDEX", index).output().unwrap())
}

fn names() -> Value {
    json!({ "names": { "run": { "name": "r" }, "params": { "lr": 2 } }, "env": { "LR": "$[[ params.lr ]]/$[[ index ]]" } })
}

#[test]
fn a_program_gets_its_item_in_its_arguments_and_in_its_environment() {
    let stage = item(source(), names());
    let words = [
        "sh",
        "-c",
        "echo \"$0|$1|$LR|$MILLRACE_ITEM|$MILLRACE_ITEM_INDEX\"; echo x > $[[ outputs.part ]]",
        "$[[ index ]]",
        "$[[ item ]]",
    ];
    let ran = run(&stage, "0", &words);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "0|a b|2/0|a b|0\n", "{}", ran.stderr);
    assert_eq!(ran.report.reason, ReportReason::Completed);
    let ran = run(
        &item(source(), names()),
        "1",
        &["sh", "-c", "echo $MILLRACE_ITEM; echo $[[ item.x + 1 ]]; touch $MILLRACE_OUTPUT_PART"],
    );
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "{\"x\":2}\n3\n");
    let script = item(json!({ "range": { "start": 0.5, "step": 0.25 } }), names())
        .with("script", json!("#!/bin/sh\necho $[[ item ]]; touch $MILLRACE_OUTPUT_PART"));
    assert_eq!(String::from_utf8_lossy(&run(&script, "1", &[]).stdout), "0.75\n");
}

#[test]
fn the_job_is_told_which_failure_is_not_worth_another_attempt() {
    let when = "exitCode != params.bad && reason != 'OutputMissing' && attempt < 3";
    let retry = json!({ "when": when, "names": { "run": {}, "params": { "bad": 4 } } });
    let stage = |attempt: u32| {
        let order = json!({ "names": { "run": {}, "params": {} }, "retry": retry });
        item(json!({ "range": { "start": 0, "step": 1 } }), order).with("attempt", json!(attempt))
    };
    let ends = |attempt: u32, text: &str| {
        let ran = run(&stage(attempt), "0", &["sh", "-c", text]);
        (ran.status, ran.report.exit_code)
    };
    assert_eq!(ends(1, "exit 3"), (3, Some(3)));
    assert_eq!(ends(1, "exit 4"), (79, Some(4)));
    assert_eq!(ends(3, "exit 3"), (79, Some(3)));
    assert_eq!(ends(1, "true").0, 79, "an output is missing");
    assert_eq!(ends(1, "exit 79"), (1, Some(79)), "that it does not say itself");
    assert_eq!(ends(1, "exit 137"), (1, Some(137)), "nor that the whole pod had no memory");
    assert_eq!(ends(1, "touch $MILLRACE_OUTPUT_PART"), (0, Some(0)));
    let plain = item(json!({ "range": { "start": 0, "step": 1 } }), names());
    assert_eq!(run(&plain, "0", &["sh", "-c", "exit 79"]).status, 79);
}

#[test]
fn what_the_items_text_holds_is_no_expression_and_no_other_word() {
    let list = "\"$[[ params.lr ]] $(id) ; x\"\n";
    let stage = item(source(), names());
    fs::write(stage.path("items/list"), list).unwrap();
    let digest = format!("sha256:{}", sha256(list));
    let stage = stage.with(
        "items",
        json!({ "total": 1, "source": { "file": { "digest": digest, "size": list.len() } }, "order": names() }),
    );
    let ran = run(&stage, "0", &["sh", "-c", "echo \"$0\"; touch $MILLRACE_OUTPUT_PART", "$[[ item ]]"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "$[[ params.lr ]] $(id) ; x\n");
}

#[test]
fn an_item_that_cannot_be_told_fails_before_the_program_and_says_why() {
    let cases: [(&str, &str, &dyn Fn(&Stage), ReportReason, &str); 5] = [
        ("", "x", &|_| {}, ReportReason::CannotStart, "belongs to no Indexed Job"),
        ("2", "x", &|_| {}, ReportReason::InputLost, "lists 2 items"),
        ("0", "$[[ item.y ]]", &|_| {}, ReportReason::CannotStart, "item 0"),
        (
            "0",
            "x",
            &|stage| fs::write(stage.path("items/list"), "\"a c\"\n{\"x\":2}\n").unwrap(),
            ReportReason::InputLost,
            "has the digest",
        ),
        ("0", "x", &|stage| fs::remove_file(stage.path("items/list")).unwrap(), ReportReason::InputLost, "is missing"),
    ];
    for (index, word, change, reason, words) in cases {
        let stage = item(source(), names());
        change(&stage);
        let ran = run(&stage, index, &["sh", "-c", "echo ran", word]);
        assert_eq!((ran.report.reason, ran.stdout.len()), (reason, 0), "{}", ran.report.message);
        assert!(ran.report.message.contains(words) && ran.stderr.contains(words), "{}", ran.report.message);
    }
}

#[test]
fn an_item_that_is_tried_again_by_its_job_counts_its_attempts_on() {
    let stage = item(source(), names());
    let mut command = stage.command(&["sh", "-c", "echo $MILLRACE_ATTEMPT; touch $MILLRACE_OUTPUT_PART"]);
    let again = [("MILLRACE_ITEM_INDEX", "0"), ("MILLRACE_ITEM_FAILURES", "2"), ("MILLRACE_ITEM_DISRUPTIONS", "")];
    let ran = stage.ended(command.envs(again).output().unwrap());
    assert_eq!((ran.stdout.as_slice(), ran.report.attempt, ran.report.winner), (b"3\n".as_slice(), 3, Some(3)));
    assert!(stage.path("stage/attempts/3/outputs/part").exists());
}

/// Both items done, and the pod that collects them.
fn collected() -> Stage {
    let stage = Stage::new().output("part", "artifact").with("items", json!({ "total": 2, "source": source() }));
    let mut stage = with_list(stage);
    stage.task["outputs"]["items"] = json!({ "type": "artifact", "items": true });
    stage.task["attempt"] = json!(2);
    for (index, program) in [
        ("0", "echo zero > $MILLRACE_OUTPUT_PART; echo '{\"f1\": 0.5}' > $MILLRACE_OUT/metrics.json"),
        (
            "1",
            "mkdir -p $MILLRACE_OUTPUT_PART/deep; echo one > $MILLRACE_OUTPUT_PART/deep/file; echo n > $MILLRACE_OUT/results/r",
        ),
    ] {
        let done = item(source(), names());
        assert_eq!(run(&done, index, &["sh", "-c", program]).status, 0);
        fs::create_dir_all(stage.path("stage/items")).unwrap();
        fs::rename(done.path("stage"), stage.path("stage/items").join(index)).unwrap();
    }
    stage
}

fn collect(stage: &Stage) -> Ran {
    let mut command = stage.command(&[]);
    let mut collect = std::process::Command::new(support::AGENT);
    collect.arg("collect");
    for (name, value) in command.get_envs() {
        collect.env(name, value.unwrap());
    }
    command.stdin(std::process::Stdio::null());
    stage.ended(collect.output().unwrap())
}

#[test]
fn what_the_items_made_is_put_together_without_a_copy() {
    let stage = collected();
    let ran = collect(&stage);
    assert_eq!(ran.report.reason, ReportReason::Completed, "{}", ran.report.message);
    let part = &ran.report.outputs["part"];
    assert_eq!((part.kind, part.files, part.size), (ArtifactKind::Artifact, 2, 9));
    assert_eq!(ran.report.outputs["items"].items, Some(2));
    let outputs = stage.path("stage/attempts/2/outputs");
    assert_eq!(fs::read_to_string(outputs.join("part/0")).unwrap(), "zero\n");
    assert_eq!(fs::read_to_string(outputs.join("part/1/deep/file")).unwrap(), "one\n");
    let (here, there) = (outputs.join("part/0"), stage.path("stage/items/0/attempts/1/outputs/part"));
    assert_eq!(fs::metadata(here).unwrap().ino(), fs::metadata(there).unwrap().ino());
    let lines = fs::read_to_string(outputs.join("items")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            json!({ "index": 0, "item": "a b", "results": {}, "metrics": { "f1": 0.5 } }),
            json!({ "index": 1, "item": { "x": 2 }, "results": { "r": "n" }, "metrics": {} }),
        ]
    );
    assert_eq!(collect(&stage).report.reason, ReportReason::Recovered);
}

#[test]
fn a_list_of_what_became_of_the_items_is_kept_as_it_is() {
    let told = json!({ "store": "pvc://artifacts/", "folder": "runs/o/fan" });
    let items = json!({ "total": 2, "source": source(), "told": told });
    let mut stage = with_list(Stage::new().with("items", items));
    stage.task["outputs"] = json!({ "items": { "type": "artifact", "items": true } });
    let ran = collect(&stage);
    assert_eq!(ran.report.reason, ReportReason::Completed, "{}", ran.report.message);
    assert_eq!((ran.report.outputs["items"].items, ran.report.outputs["items"].digest.as_str()), (Some(2), DIGEST));
    assert_eq!(fs::read_to_string(stage.path("stage/attempts/1/outputs/items")).unwrap(), LIST);
}

/// A claim with two runs, each with a stage that made something, and the pod that keeps what they made.
fn of_runs() -> Stage {
    let mut stage = Stage::new();
    let claim = stage.path("claim");
    fs::create_dir_all(claim.join("runs/o")).unwrap();
    fs::rename(stage.path("stage"), claim.join("runs/o/fan")).unwrap();
    std::os::unix::fs::symlink("claim/runs/o/fan", stage.path("stage")).unwrap();
    let mut list = String::new();
    for (index, program) in [
        (0, "echo zero > $MILLRACE_OUTPUT_MADE"),
        (1, "mkdir -p $MILLRACE_OUTPUT_MADE/deep; echo one > $MILLRACE_OUTPUT_MADE/deep/file"),
    ] {
        let made = Stage::new().output("made", "artifact");
        let ran = made.sh(program);
        let record = &ran.report.outputs["made"];
        let folder = format!("runs/r-{index}/fit");
        fs::create_dir_all(claim.join(&folder)).unwrap();
        fs::rename(made.path("stage"), claim.join(&folder)).unwrap();
        let uri = format!("pvc://artifacts/{folder}/attempts/1/outputs/made");
        let output = json!({ "uri": uri, "digest": record.digest });
        list.push_str(&json!({ "index": index, "outputs": { "part": output } }).to_string());
        list.push('\n');
    }
    fs::create_dir_all(stage.path("items")).unwrap();
    fs::write(stage.path("items/list"), &list).unwrap();
    let source = json!({ "file": { "digest": format!("sha256:{}", sha256(&list)), "size": list.len() } });
    let told = json!({ "store": "pvc://artifacts/", "folder": "runs/o/fan" });
    stage.task["items"] = json!({ "total": 2, "source": source, "told": told });
    stage.task["outputs"] = json!({ "part": { "type": "artifact" }, "items": { "type": "artifact", "items": true } });
    stage
}

#[test]
fn what_runs_of_items_made_gets_second_names_and_their_list_is_kept() {
    let stage = of_runs();
    let ran = collect(&stage);
    assert_eq!(ran.report.reason, ReportReason::Completed, "{}", ran.report.message);
    let part = &ran.report.outputs["part"];
    assert_eq!((part.kind, part.files, part.size), (ArtifactKind::Artifact, 2, 9));
    let outputs = stage.path("stage/attempts/1/outputs");
    assert_eq!(fs::read_to_string(outputs.join("part/1/deep/file")).unwrap(), "one\n");
    let (here, there) = (outputs.join("part/0"), stage.path("claim/runs/r-0/fit/attempts/1/outputs/made"));
    assert_eq!(fs::metadata(here).unwrap().ino(), fs::metadata(there).unwrap().ino());
    assert_eq!(fs::read_to_string(outputs.join("items")).unwrap(), "{\"index\":0}\n{\"index\":1}\n", "no addresses");
}

#[test]
fn what_runs_of_items_made_and_is_lost_or_changed_is_told_with_the_item() {
    let cases: [(&str, &dyn Fn(&Stage)); 5] = [
        ("leads through a link", &|stage| {
            let attempts = stage.path("claim/runs/r-0/fit/attempts");
            fs::rename(&attempts, stage.path("claim/runs/elsewhere")).unwrap();
            std::os::unix::fs::symlink("../../elsewhere", attempts).unwrap();
        }),
        ("item 1 ", &|stage| fs::remove_file(stage.path("claim/runs/r-1/fit/manifest.json")).unwrap()),
        ("item 0", &|stage| fs::write(stage.path("claim/runs/r-0/fit/attempts/1/outputs/made"), "ZERO\n").unwrap()),
        ("item 0 ", &|stage| fs::remove_file(stage.path("claim/runs/r-0/fit/attempts/1/outputs/made")).unwrap()),
        ("item 1 ", &|stage| {
            let path = stage.path("claim/runs/r-1/fit/manifest.json");
            let text = fs::read_to_string(&path).unwrap().replace("deep/file", "../../../../../../r-0/secret");
            fs::write(path, text).unwrap();
        }),
    ];
    all_lost(of_runs, &cases);
}

/// Each change of what was made ends the pod that collects it with these words, and nothing is kept.
fn all_lost(made: impl Fn() -> Stage, cases: &[(&str, &dyn Fn(&Stage))]) {
    for (words, change) in cases {
        let stage = made();
        change(&stage);
        let ran = collect(&stage);
        assert_eq!(ran.report.reason, ReportReason::InputLost, "{}", ran.report.message);
        assert!(
            ran.report.message.contains(words) && ran.report.message.contains("retryFrom"),
            "{}",
            ran.report.message
        );
        assert!(!stage.path("stage/manifest.json").exists());
    }
}

#[test]
fn what_is_lost_or_changed_after_its_item_is_told_with_the_item() {
    let cases: [(&str, &dyn Fn(&Stage)); 4] = [
        ("item 1 ", &|stage| fs::remove_file(stage.path("stage/items/1/manifest.json")).unwrap()),
        ("item 0", &|stage| fs::write(stage.path("stage/items/0/attempts/1/outputs/part"), "ZERO\n").unwrap()),
        ("item 0 ", &|stage| fs::remove_file(stage.path("stage/items/0/attempts/1/outputs/part")).unwrap()),
        ("item 0 ", &|stage| {
            let path = stage.path("stage/items/0/manifest.json");
            let text =
                fs::read_to_string(&path).unwrap().replace("attempts/1/outputs/part", "../../../../../etc/passwd");
            fs::write(path, text).unwrap();
        }),
    ];
    all_lost(collected, &cases);
}

#[test]
fn an_output_that_a_later_stage_runs_over_has_to_be_a_list() {
    let stage = || {
        let mut stage = Stage::new();
        stage.task["outputs"]["list"] = json!({ "type": "artifact", "items": true });
        stage
    };
    let ran = stage().sh("printf '1\\n\"b\"\\n' > $MILLRACE_OUTPUT_LIST");
    assert_eq!(ran.report.outputs["list"].items, Some(2));
    let ran = stage().sh("printf '1\\nb\\n' > $MILLRACE_OUTPUT_LIST");
    assert_eq!(ran.report.reason, ReportReason::OutputMissing);
    assert!(ran.report.message.contains("\"list\"") && ran.report.message.contains("line 2"), "{}", ran.report.message);
}

fn sha256(text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let found = millrace_files::digest::artifact(file.path(), &|| false).unwrap();
    found.digest.trim_start_matches("sha256:").to_owned()
}

#[test]
fn an_item_of_another_job_begins_behind_what_is_there_and_finds_its_last_checkpoint() {
    let mut stage = item(source(), names());
    let program = "echo $MILLRACE_ATTEMPT > $MILLRACE_CHECKPOINT_DIR/at; exit 3";
    let mut first = stage.command(&["sh", "-c", program]);
    let ran =
        stage.ended(first.envs([("MILLRACE_ITEM_INDEX", "0"), ("MILLRACE_ITEM_FAILURES", "2")]).output().unwrap());
    assert_eq!((ran.status, ran.report.attempt), (3, 3));
    stage.task["attempt"] = json!(2);
    let ran = run(&stage, "0", &["sh", "-c", "cat $MILLRACE_RESTORE_DIR/at; touch $MILLRACE_OUTPUT_PART"]);
    assert_eq!((ran.stdout.as_slice(), ran.report.winner), (b"3\n".as_slice(), Some(4)));
}

#[test]
fn an_item_that_the_infrastructure_ends_over_and_over_fails() {
    let stage = item(source(), names());
    let mut command = stage.command(&["sh", "-c", "echo ran"]);
    let ran = stage
        .ended(command.envs([("MILLRACE_ITEM_INDEX", "0"), ("MILLRACE_ITEM_DISRUPTIONS", "11")]).output().unwrap());
    assert!(ran.report.message.contains("11 times") && ran.stdout.is_empty(), "{}", ran.report.message);
}
