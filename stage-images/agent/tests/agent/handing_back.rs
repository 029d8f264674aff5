//! What a command hands back: metrics, results, outputs, models; and what is refused of it.

use millrace_contract::{Outcome, ReportReason};
use serde_json::json;

use crate::support::{Stage, write};

#[test]
fn metrics_results_and_champion_come_back_as_they_were_written() {
    let ran = Stage::new().sh(r#"cd $MILLRACE_OUT
        echo '{"accuracy": 0.1, "rows": 123456789012, "tiny": 5e-324, "third": 0.3333333333333333}' > metrics.json
        echo '{"accuracy": 0.97}' > champion.json
        printf 'plain text\n' > results/text; printf '{"a": [1, 2]}' > results/json; printf '12\n' > results/number"#);
    let report = ran.report;
    assert_eq!(report.outcome, Outcome::Succeeded, "{}", report.message);
    let metrics: Vec<_> = report.metrics.into_iter().collect();
    let third = 0.333_333_333_333_333_3;
    let expected = [("accuracy", 0.1), ("rows", 123_456_789_012.0), ("third", third), ("tiny", 5e-324)];
    assert_eq!(metrics, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(report.champion["accuracy"].to_string(), "0.97");
    assert_eq!(json!(report.results), json!({ "text": "plain text", "json": { "a": [1, 2] }, "number": 12 }));
}

#[test]
fn facts_that_are_not_as_the_contract_says_are_refused_by_name() {
    for (script, named) in [
        (r#"echo '{"loss": NaN}' > metrics.json"#, "NaN"),
        (r#"echo '{"loss": Infinity}' > metrics.json"#, "Infinity"),
        (r#"echo '{"loss": 1e999}' > metrics.json"#, "metrics.json"),
        (r#"echo '{"loss": "0.1"}' > metrics.json"#, "\"loss\" is text"),
        (r#"echo '{"loss": {"train": 1}}' > metrics.json"#, "\"loss\" is an object"),
        (r"echo '[1]' > metrics.json", "a list"),
        (r"echo 'accuracy: 1' > metrics.json", "metrics.json"),
        (r#"echo '{"F1-score": 1}' > metrics.json"#, "F1-score"),
        (r#"echo '{"a": true}' > champion.json"#, "champion.json"),
        (r#"echo '{"loss": 1, "\u006coss": 2}' > metrics.json"#, "\"loss\" twice"),
        (r#"printf '{"loss": %0200d}' 0 | tr 0 '[' > metrics.json"#, "more than 128 deep"),
        ("mkfifo metrics.json", "no regular file"),
        ("ln -s /etc/passwd metrics.json", "no regular file"),
        ("echo 1 > results/Bad-Name", "Bad-Name"),
        ("mkdir results/folder", "results/folder"),
        ("ln -s /etc/passwd results/link", "results/link"),
        (r"printf '\377' > results/bytes", "UTF-8"),
    ] {
        let ran = Stage::new().sh(&format!("cd $MILLRACE_OUT; {script}"));
        assert_eq!((ran.status, ran.report.reason), (65, ReportReason::BadResult), "{script}: {}", ran.report.message);
        assert!(ran.report.message.contains(named), "{script}: {}", ran.report.message);
        assert_eq!(ran.report.exit_code, Some(0));
    }
}

#[test]
fn a_result_of_16_levels_passes_and_a_deeper_one_is_refused_with_its_depth() {
    let nested = |levels: usize| {
        let text = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        Stage::new().sh(&format!("echo '{text}' > $MILLRACE_OUT/results/deep"))
    };
    let ran = nested(16);
    assert_eq!(ran.report.outcome, Outcome::Succeeded, "{}", ran.report.message);
    assert!(ran.report.results["deep"].is_array());
    for (levels, named) in [(17, "are 17 deep"), (121, "are 121 deep"), (300, "more than 128 deep")] {
        let ran = nested(levels);
        assert_eq!((ran.status, ran.report.reason), (65, ReportReason::BadResult), "{levels}");
        let message = ran.report.message;
        assert!(
            message.contains("results/deep") && message.contains(named) && message.contains("at most 16"),
            "{message}"
        );
    }
}

#[test]
fn facts_of_exactly_the_limit_pass_and_one_byte_more_fails_with_the_figures() {
    // {"a":"xx…"} has eight bytes beside the text.
    let ran = Stage::new().sh("head -c 1016 /dev/zero | tr '\\0' x > $MILLRACE_OUT/results/a");
    assert_eq!(ran.report.outcome, Outcome::Succeeded, "{}", ran.report.message);
    let ran = Stage::new().sh("head -c 1017 /dev/zero | tr '\\0' x > $MILLRACE_OUT/results/a");
    assert_eq!((ran.status, ran.report.reason), (65, ReportReason::ResultTooLarge));
    assert!(ran.report.message.contains("1025") && ran.report.message.contains("1024"), "{}", ran.report.message);
    let ran = Stage::new().sh("head -c 9000000 /dev/zero > $MILLRACE_OUT/results/a");
    assert_eq!(ran.report.reason, ReportReason::ResultTooLarge);
    assert!(ran.report.message.contains("9000000"), "{}", ran.report.message);
    let ran = Stage::new().sh("truncate -s 1T $MILLRACE_OUT/metrics.json");
    assert_eq!(ran.report.reason, ReportReason::ResultTooLarge);
}

#[test]
fn a_missing_output_is_named_with_what_is_there_instead() {
    let stage = Stage::new().output("test-data", "artifact");
    let ran = stage.sh("echo x > $(dirname $MILLRACE_OUTPUT_TEST_DATA)/testdata");
    assert_eq!((ran.status, ran.report.reason, ran.report.exit_code), (65, ReportReason::OutputMissing, Some(0)));
    for named in ["\"test-data\"", "MILLRACE_OUTPUT_TEST_DATA", "testdata"] {
        assert!(ran.report.message.contains(named), "{}", ran.report.message);
    }
    assert!(stage.manifest().is_none());
}

#[test]
fn an_optional_output_may_be_absent() {
    let mut stage = Stage::new().output("test", "artifact").output("train", "artifact");
    stage.task["outputs"]["test"]["optional"] = json!(true);
    let ran = stage.sh("echo x > $MILLRACE_OUTPUT_TRAIN");
    assert_eq!(ran.report.outputs.keys().collect::<Vec<_>>(), ["train"]);
}

#[test]
fn files_and_folders_come_back_with_the_digests_of_the_contract() {
    let stage = Stage::new().output("file", "artifact").output("folder", "artifact");
    let ran = stage
        .sh("printf abc > $MILLRACE_OUTPUT_FILE; mkdir -p $MILLRACE_OUTPUT_FOLDER/a; cd $MILLRACE_OUTPUT_FOLDER
         printf abc > a/b; printf '' > a.x");
    let file = &ran.report.outputs["file"];
    assert_eq!(file.digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!((file.size, file.files), (3, 1));
    // By coreutils: (sha256sum of the list).
    let list = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  0  a.x\n\
                ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  3  a/b\n";
    write(&stage.path("list"), list.as_bytes());
    let sum = std::process::Command::new("sha256sum").arg(stage.path("list")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let folder = &ran.report.outputs["folder"];
    assert_eq!(folder.digest, format!("sha256:{}", sum.split_whitespace().next().unwrap()));
    assert_eq!((folder.size, folder.files), (3, 2));
    let manifest = stage.manifest().unwrap();
    assert_eq!(manifest.outputs["folder"].path, "attempts/1/outputs/folder");
    let paths: Vec<_> = manifest.outputs["folder"].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a.x", "a/b"]);
}

#[test]
fn links_pipes_and_names_with_line_ends_are_no_output() {
    for (script, named) in [
        ("ln -s /etc/passwd $MILLRACE_OUTPUT_DATA", "link"),
        ("mkdir $MILLRACE_OUTPUT_DATA; ln -s ../../../.. $MILLRACE_OUTPUT_DATA/up", "link"),
        ("mkdir $MILLRACE_OUTPUT_DATA; mkfifo $MILLRACE_OUTPUT_DATA/pipe", "named pipe"),
        ("mkdir $MILLRACE_OUTPUT_DATA; touch \"$(printf '%s/a\\nb' $MILLRACE_OUTPUT_DATA)\"", "line ends"),
        ("mkdir $MILLRACE_OUTPUT_DATA; touch \"$(printf '%s/a\\377' $MILLRACE_OUTPUT_DATA)\"", "UTF-8"),
    ] {
        let stage = Stage::new().output("data", "artifact");
        let ran = stage.sh(script);
        assert_eq!((ran.status, ran.report.reason), (65, ReportReason::OutputMissing), "{script}");
        assert!(ran.report.message.contains(named), "{script}: {}", ran.report.message);
        assert!(stage.manifest().is_none());
    }
}

const SIGNATURE: &str = r#"{"task":"classification","inputs":[{"name":"island","datatype":"BYTES","shape":[-1,1]}],
  "outputs":[{"name":"label","datatype":"BYTES","shape":[-1],"classes":["a","b"]}]}"#;

#[test]
fn a_model_comes_back_with_its_signature() {
    let stage = Stage::new().output("model", "model");
    write(&stage.path("signature.json"), SIGNATURE.as_bytes());
    let from = stage.path("signature.json");
    let ran = stage.sh(&format!(
        "mkdir $MILLRACE_OUTPUT_MODEL; cd $MILLRACE_OUTPUT_MODEL; echo x > model.onnx; cp {} .",
        from.display()
    ));
    let model = &ran.report.outputs["model"];
    assert_eq!(model.format.as_deref(), Some("onnx"), "{}", ran.report.message);
    assert_eq!(model.signature.as_ref().unwrap()["inputs"][0]["name"], "island");
    assert!(ran.report.reason == ReportReason::Completed && ran.report_bytes < 1000);
}

#[test]
fn a_model_of_another_format_may_hold_anything_and_has_a_signature_or_none() {
    let made = |script: &str| {
        let stage = Stage::new().model("model", "pytorch");
        write(&stage.path("signature.json"), SIGNATURE.as_bytes());
        let from = stage.path("signature.json").display().to_string();
        let ran = stage
            .sh(&format!("mkdir $MILLRACE_OUTPUT_MODEL; cd $MILLRACE_OUTPUT_MODEL; {}", script.replace("FROM", &from)));
        (ran.report.reason, ran.report.message.clone(), ran.report.outputs.get("model").cloned())
    };
    let (reason, message, model) = made("echo x > weights.pt");
    assert_eq!(reason, ReportReason::Completed, "{message}");
    let model = model.unwrap();
    assert_eq!((model.format.as_deref(), model.signature), (Some("pytorch"), None));
    let model = made("echo x > weights.pt; cp FROM .").2.unwrap();
    assert_eq!(model.signature.unwrap()["task"], "classification");
    let (reason, message, _) = made("echo '{' > signature.json");
    assert!(reason == ReportReason::OutputMissing && message.contains("signature.json cannot be used"), "{message}");
    let (reason, message, _) = made("cd ..; rm -r model; echo x > $MILLRACE_OUTPUT_MODEL");
    assert!(
        reason == ReportReason::OutputMissing && message.contains("with `format: pytorch` is a folder"),
        "{message}"
    );
}

#[test]
fn a_signature_that_does_not_fit_stays_in_the_artifact_and_the_manifest() {
    let stage = Stage::new().output("model", "model");
    let columns: Vec<_> = (0..500)
        .map(|index| json!({ "name": format!("column-{index}"), "datatype": "FP32", "shape": [-1, 1] }))
        .collect();
    let signature = json!({ "task": "regression", "inputs": columns, "outputs": [] });
    write(&stage.path("signature.json"), signature.to_string().as_bytes());
    let from = stage.path("signature.json");
    let ran = stage.sh(&format!(
        "mkdir $MILLRACE_OUTPUT_MODEL; cd $MILLRACE_OUTPUT_MODEL; echo x > model.onnx; cp {} .",
        from.display()
    ));
    assert_eq!((ran.report.outcome, &ran.report.outputs["model"].signature), (Outcome::Succeeded, &None));
    assert_eq!(stage.manifest().unwrap().report.outputs["model"].signature, Some(signature));
}

#[test]
fn a_folder_that_is_no_model_is_refused_with_what_it_lacks() {
    for (script, named) in [
        ("echo x > $MILLRACE_OUTPUT_MODEL", "is a file"),
        ("mkdir $MILLRACE_OUTPUT_MODEL; echo x > $MILLRACE_OUTPUT_MODEL/signature.json", "no model.onnx"),
        ("mkdir $MILLRACE_OUTPUT_MODEL; echo x > $MILLRACE_OUTPUT_MODEL/model.onnx", "no signature.json"),
        (
            "mkdir $MILLRACE_OUTPUT_MODEL; cd $MILLRACE_OUTPUT_MODEL; echo x > model.onnx; echo '{' > signature.json",
            "signature.json",
        ),
        (
            "mkdir $MILLRACE_OUTPUT_MODEL; cd $MILLRACE_OUTPUT_MODEL; echo x > model.onnx; echo '{\"task\":\"t\",\"inputs\":[{\"name\":\"a\"}],\"outputs\":[]}' > signature.json",
            "inputs[0]",
        ),
        (
            "mkdir $MILLRACE_OUTPUT_MODEL; cd $MILLRACE_OUTPUT_MODEL; echo x > model.onnx; \
             printf '{\"task\":\"t\",\"inputs\":[],\"outputs\":[],\"x\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}' > signature.json",
            "are 17 deep",
        ),
    ] {
        let stage = Stage::new().output("model", "model");
        let ran = stage.sh(script);
        assert_eq!((ran.status, ran.report.reason), (65, ReportReason::OutputMissing), "{script}");
        assert!(ran.report.message.contains(named), "{script}: {}", ran.report.message);
    }
}

#[test]
fn more_outputs_than_a_report_holds_fail_instead_of_being_left_out() {
    let mut stage = Stage::new();
    for index in 0..40 {
        stage = stage.output(&format!("output-{index}"), "artifact");
    }
    let ran = stage.sh("for i in $(seq 0 39); do echo x > $MILLRACE_OUT/../outputs/output-$i; done");
    assert_eq!((ran.status, ran.report.reason), (65, ReportReason::ResultTooLarge));
    assert!(ran.report.message.contains("40 outputs"), "{}", ran.report.message);
    assert!(stage.manifest().is_none());
}

#[test]
fn a_command_may_remove_the_folder_for_facts() {
    let ran = Stage::new().sh("rm -r $MILLRACE_OUT");
    assert_eq!(ran.report.outcome, Outcome::Succeeded, "{}", ran.report.message);
}

#[test]
fn a_script_runs_with_its_interpreter_and_arguments() {
    let stage =
        Stage::new().with("script", json!("#!/bin/sh -e\nfalse | true\necho \"$# $1\"\nfalse\necho not reached\n"));
    let ran = stage.run(&["one argument", "two"]);
    assert_eq!((ran.stdout.as_slice(), ran.status), (b"2 one argument\n".as_slice(), 1));
    let stage = Stage::new().with("script", json!("#!/usr/bin/env -S sed -n 3p\n\nthird line\n"));
    assert_eq!(stage.run(&[]).stdout, b"third line\n");
}

#[test]
fn a_script_without_interpreter_or_with_one_that_is_missing_says_so() {
    let ran = Stage::new().with("script", json!("echo hello")).run(&[]);
    assert_eq!((ran.status, ran.report.reason), (126, ReportReason::CannotStart));
    assert!(
        ran.report.message.contains("\"echo hello\"") && ran.report.message.contains("#!/bin/sh"),
        "{}",
        ran.report.message
    );
    let ran = Stage::new().with("script", json!("#!/no/such/python\nprint(1)")).run(&[]);
    assert_eq!((ran.status, ran.report.reason), (127, ReportReason::CannotStart));
    assert!(ran.report.message.contains("/no/such/python"), "{}", ran.report.message);
}

#[test]
fn the_environment_is_the_contracts() {
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let stage = Stage::new().input("test-data", "abc", digest).output("model", "artifact").with("attempt", json!(3));
    write(&stage.path("stage/attempts/1/checkpoint/step-10"), b"x");
    write(&stage.path("stage/attempts/2/checkpoint/.half-written"), b"x");
    let script =
        "env | grep -E '^(MILLRACE_|HOME=)' | sort; [ ! -e $MILLRACE_OUTPUT_MODEL ] && echo x > $MILLRACE_OUTPUT_MODEL";
    let output = stage
        .command(&["sh", "-c", script])
        // What the test runner itself was given.
        .env_remove("MILLRACE_CLUSTER_HOST")
        .env_remove("MILLRACE_CACHE")
        .env("HOME", "/")
        .env("MILLRACE_RESTORE_DIR", "stale")
        .output()
        .unwrap();
    let ran = stage.ended(output);
    let root = stage.root.path().display();
    let expected = format!(
        "HOME=/tmp\nMILLRACE_ATTEMPT=3\nMILLRACE_CHECKPOINT_DIR={root}/stage/attempts/3/checkpoint\n\
         MILLRACE_INPUT_TEST_DATA={root}/inputs/test-data\nMILLRACE_NAMESPACE=default\nMILLRACE_OUT={root}/stage/attempts/3/out\n\
         MILLRACE_OUTPUT_MODEL={root}/stage/attempts/3/outputs/model\nMILLRACE_RESTORE_DIR={root}/stage/attempts/1/checkpoint\n\
         MILLRACE_RESTORE_LATEST={root}/stage/attempts/1/checkpoint/step-10\n\
         MILLRACE_RUN=penguins-1\nMILLRACE_STAGE=train\n"
    );
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), expected);
    assert_eq!(ran.status, 0);
}
