//! A stage whose store is a real S3 server: what lies there, who wins, what is lost, what is refused, and who sees the credentials.

use std::fs;
use std::process::Command;
use std::time::Duration;

use millrace_contract::{Manifest, Outcome, ReportReason};
use serde_json::{Value, json};

use crate::support::s3::{self, PREFIX, SECRET, Server, credentials};
use crate::support::{self, Ran, Stage, write};

const FOLDER: &str = "teams/a/runs/penguins-1-0d7c2b1e/train";

/// The stage `train` in the store. Each value is a pod: nothing of its disk is another's.
fn pod(server: &Server, attempt: u32) -> Stage {
    Stage::new()
        .with("durable", json!(false))
        .with("attempt", json!(attempt))
        .with("folder", server.source(FOLDER))
        .output("data", "artifact")
}

fn sh(stage: &Stage, script: &str) -> Ran {
    let mut command = stage.command(&["sh", "-c", script]);
    stage.ended(credentials(&mut command).output().unwrap())
}

fn manifest(server: &Server) -> Manifest {
    serde_json::from_slice(&fs::read(server.object(&format!("{FOLDER}/manifest.json"))).unwrap()).unwrap()
}

/// An input as a later stage is told of it.
fn reads(server: &Server, mut stage: Stage, made: &Manifest, output: &str) -> Stage {
    let (record, place) = (&made.report.outputs[output], &made.outputs[output].path);
    stage.task["folder"]["key"] = json!("teams/a/runs/penguins-1-0d7c2b1e/next");
    stage.task["stage"] = json!("next");
    stage.task["inputs"][output] = json!({
        "path": format!("/millrace/inputs/{output}"), "digest": record.digest, "size": record.size,
        "source": server.source(&format!("{FOLDER}/{place}")),
    });
    stage
}

#[test]
fn outputs_of_one_pod_are_inputs_of_another() {
    let server = Server::start();
    let first = sh(
        &pod(&server, 1).output("folder", "artifact").output("none", "artifact"),
        "printf rows > $MILLRACE_OUTPUT_DATA
         mkdir -p \"$MILLRACE_OUTPUT_FOLDER/a b\" $MILLRACE_OUTPUT_NONE; cd $MILLRACE_OUTPUT_FOLDER
         printf 1 > 'a b/ü#%41~.csv'; : > empty
         echo '{\"loss\": 0.5}' > $MILLRACE_OUT/metrics.json",
    );
    assert_eq!((first.report.reason, first.status), (ReportReason::Completed, 0), "{}", first.report.message);
    let made = manifest(&server);
    assert_eq!(made.report, first.report);
    let hex = |output: &str| made.report.outputs[output].digest.strip_prefix("sha256:").unwrap().to_owned();
    let keys = server.keys(FOLDER);
    assert!(keys.contains(&format!("outputs/data/{}", hex("data"))), "{keys:?}");
    assert!(keys.contains(&format!("outputs/folder/{}/empty", hex("folder"))), "{keys:?}");
    assert!(keys.contains(&"attempts/1.json".to_owned()), "{keys:?}");

    let mut next = pod(&server, 1);
    for output in ["data", "folder", "none"] {
        next = reads(&server, next, &made, output);
    }
    let ran = sh(
        &next,
        "cat $MILLRACE_INPUT_DATA; cat \"$MILLRACE_INPUT_FOLDER/a b/ü#%41~.csv\"; ls -A $MILLRACE_INPUT_FOLDER $MILLRACE_INPUT_NONE | wc -l
         : > $MILLRACE_OUTPUT_DATA",
    );
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("rows1"), "{:?}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn the_first_complete_attempt_wins_and_a_later_one_reports_it_without_running() {
    let server = Server::start();
    let slow = pod(&server, 1);
    // The first attempt's node is lost to the cluster, but it still runs.
    let mut command = slow.command(&[
        "sh",
        "-c",
        "while [ ! -e $MILLRACE_OUT/../../../go ]; do sleep 0.01; done; printf old > $MILLRACE_OUTPUT_DATA",
    ]);
    let zombie = credentials(&mut command).spawn().unwrap();
    support::eventually("the first attempt runs", || slow.path("stage/attempts/1/out").exists());
    let second = sh(&pod(&server, 2), "printf new > $MILLRACE_OUTPUT_DATA");
    assert_eq!((second.report.reason, second.report.winner), (ReportReason::Completed, Some(2)));
    write(&slow.path("stage/go"), b"");
    let first = slow.ended(zombie.wait_with_output().unwrap()).report;
    assert_eq!((first.reason, first.winner), (ReportReason::Recovered, Some(2)));
    assert_eq!(first.outputs, second.report.outputs);

    let third = sh(&pod(&server, 3), "echo ran; exit 1");
    assert_eq!((third.report.reason, third.report.winner, third.status), (ReportReason::Recovered, Some(2), 0));
    assert_eq!(third.stdout, b"");
    // What the winner reported is what is there, also after the other has written its own.
    let next = reads(&server, pod(&server, 1), &manifest(&server), "data");
    let ran = sh(&next, "cat $MILLRACE_INPUT_DATA; : > $MILLRACE_OUTPUT_DATA");
    assert_eq!(ran.stdout, b"new");
}

#[test]
fn a_manifest_whose_outputs_are_gone_moves_aside_and_the_command_runs() {
    let server = Server::start();
    assert_eq!(sh(&pod(&server, 1), "printf 1 > $MILLRACE_OUTPUT_DATA").status, 0);
    fs::remove_dir_all(server.object(&format!("{FOLDER}/outputs"))).unwrap();
    let ran = sh(&pod(&server, 2), "printf 1 > $MILLRACE_OUTPUT_DATA");
    assert_eq!((ran.report.reason, ran.report.winner), (ReportReason::Completed, Some(2)), "{}", ran.report.message);
    assert_eq!(manifest(&server).report.attempt, 2);
    assert!(server.object(&format!("{FOLDER}/manifest.before-attempt-2.json")).exists());
}

#[test]
fn a_missing_or_damaged_input_is_lost_before_the_command_runs() {
    let server = Server::start();
    assert_eq!(sh(&pod(&server, 1), "printf rows > $MILLRACE_OUTPUT_DATA").status, 0);
    let made = manifest(&server);
    let object = server.object(&format!("{FOLDER}/{}", made.outputs["data"].path));
    for (change, says) in
        [(Some("rowz"), "has the digest"), (Some("row"), "3 bytes, its producer reported 4"), (None, "is missing")]
    {
        match change {
            Some(text) => fs::write(&object, text).unwrap(),
            None => fs::remove_file(&object).unwrap(),
        }
        let ran = sh(&reads(&server, pod(&server, 1), &made, "data"), "echo ran");
        assert_eq!((ran.report.reason, ran.stdout.as_slice()), (ReportReason::InputLost, b"".as_slice()));
        let message = &ran.report.message;
        assert!(message.contains(says) && message.contains("s3://lake/teams/a/runs/"), "{message}");
    }
}

#[test]
fn a_store_that_refuses_or_does_not_answer_is_told_of_before_the_command_runs() {
    let mut server = Server::start();
    let refused = |change: &dyn Fn(&mut Value), secret: &str| {
        let mut stage = pod(&server, 1);
        change(&mut stage.task["folder"]["store"]);
        let mut command = stage.command(&["sh", "-c", "echo ran"]);
        let command = credentials(&mut command).env(format!("{PREFIX}AWS_SECRET_ACCESS_KEY"), secret);
        let ran = stage.ended(command.output().unwrap());
        assert_eq!((ran.stdout.as_slice(), ran.status), (b"".as_slice(), 75), "{}", ran.report.message);
        assert!(!ran.report.message.contains(SECRET) && !ran.stderr.contains(SECRET), "{}", ran.stderr);
        (ran.report.reason, ran.report.message)
    };
    let (reason, message) = refused(&|_| {}, "wrong");
    assert_eq!(reason, ReportReason::StoreNotWritable);
    assert!(message.contains("valid credentials"), "{message}");
    let (reason, message) = refused(&|_| {}, "");
    assert_eq!(reason, ReportReason::StoreNotWritable);
    assert!(
        message.contains("has to have AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; it has AWS_ACCESS_KEY_ID"),
        "{message}"
    );
    let (reason, message) = refused(&|store| store["bucket"] = json!("pond"), SECRET);
    assert_eq!(reason, ReportReason::StoreNotWritable);
    assert!(message.contains("NoSuchBucket") && message.contains("s3://pond/"), "{message}");
    server.stop();
    let ran = sh(&pod(&server, 1), "echo ran");
    assert_eq!((ran.report.reason, ran.stdout.as_slice()), (ReportReason::StoreUnreachable, b"".as_slice()));
    assert!(ran.report.message.contains("endpoint"), "{}", ran.report.message);
}

#[test]
fn a_server_with_an_authority_of_its_own_is_believed_once_the_secret_has_it() {
    let server = Server::start_tls();
    let run = |attempt: u32, authority: &str| {
        let stage = pod(&server, attempt);
        let mut command = stage.command(&["sh", "-c", "printf rows > $MILLRACE_OUTPUT_DATA"]);
        let command = credentials(&mut command).env(format!("{PREFIX}ca.crt"), authority);
        stage.ended(command.output().unwrap()).report
    };
    let report = run(1, "");
    assert_eq!(report.reason, ReportReason::StoreNotWritable, "{}", report.message);
    assert!(report.message.contains("ca.crt"), "{}", report.message);
    let report = run(2, &s3::authority());
    assert_eq!(report.reason, ReportReason::Completed, "{}", report.message);
}

#[test]
fn a_store_that_comes_back_gets_what_the_command_made() {
    let mut server = Server::start();
    let stage = pod(&server, 1);
    let script = "while [ ! -e $MILLRACE_OUT/../../../go ]; do sleep 0.01; done; printf rows > $MILLRACE_OUTPUT_DATA";
    let mut command = stage.command(&["sh", "-c", script]);
    let child = credentials(&mut command).spawn().unwrap();
    support::eventually("the command runs", || stage.path("stage/attempts/1/out").exists());
    server.stop();
    write(&stage.path("stage/go"), b"");
    support::eventually("the command has ended", || stage.path("stage/attempts/1/outputs/data").exists());
    std::thread::sleep(Duration::from_secs(1));
    server.again();
    let report = stage.ended(child.wait_with_output().unwrap()).report;
    assert_eq!(report.reason, ReportReason::Completed, "{}", report.message);
    assert_eq!(manifest(&server).report, report);
}

#[test]
fn a_program_sees_no_credential_of_the_store() {
    let server = Server::start();
    // The agent is the parent here; in a pod it is process 1, with the same user.
    let script = "env; cat /proc/$PPID/environ 2>&1; cat /proc/$PPID/cmdline | tr '\\0' ' '
        dd if=/proc/$PPID/mem of=/dev/null count=1 2>&1; ls -l /proc/$PPID/fd 2>&1; : > $MILLRACE_OUTPUT_DATA";
    let stage = pod(&server, 1);
    let ran = if support::is_root() {
        // Root reads everything: as the user that pods run as.
        support::own_by_nobody(&stage);
        let mut command = support::as_nobody(&stage, &["sh", "-c", script]);
        stage.ended(credentials(&mut command).output().unwrap())
    } else {
        sh(&stage, script)
    };
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(!told.contains(SECRET) && !told.contains(PREFIX), "{told}");
    assert!(told.contains("AWS_ACCESS_KEY_ID=somebody-else"), "a program keeps its own variables: {told}");
    assert!(told.matches("ermission denied").count() >= 2, "environ and mem are refused: {told}");
}

#[test]
fn items_are_put_together_within_the_store() {
    let server = Server::start();
    let items = json!({ "total": 2, "source": { "range": { "start": 10.0, "step": 5.0 } } });
    for index in 0..2 {
        let mut stage = pod(&server, 1).output("left", "artifact");
        stage.task["outputs"]["left"]["optional"] = json!(true);
        stage.task["items"] = items.clone();
        stage.task["items"]["order"] = order();
        let script = "mkdir $MILLRACE_OUTPUT_DATA; echo $MILLRACE_ITEM > $MILLRACE_OUTPUT_DATA/value
            [ $MILLRACE_ITEM_INDEX = 0 ] || printf left > $MILLRACE_OUTPUT_LEFT; printf $MILLRACE_ITEM > $MILLRACE_OUT/results/value";
        let mut command = stage.command(&["sh", "-c", script]);
        let ran =
            stage.ended(credentials(&mut command).env("MILLRACE_ITEM_INDEX", index.to_string()).output().unwrap());
        assert_eq!(ran.status, 0, "{}", ran.report.message);
    }
    let collected = |attempt: u32| {
        let mut stage = pod(&server, attempt).output("left", "artifact").output("items", "artifact");
        stage.task["outputs"]["items"]["items"] = json!(true);
        stage.task["items"] = items.clone();
        let mut command = Command::new(support::AGENT);
        command.arg("collect");
        for (name, value) in stage.command(&[]).get_envs() {
            command.env(name, value.unwrap());
        }
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        stage.ended(credentials(&mut command).output().unwrap()).report
    };
    let report = collected(2);
    assert_eq!(report.outcome, Outcome::Succeeded, "{}", report.message);
    assert_eq!((report.outputs["data"].files, report.outputs["left"].files), (2, 1));
    assert_eq!(report.outputs["items"].items, Some(2));
    let made = manifest(&server);
    let mut next = pod(&server, 1);
    for output in ["data", "left", "items"] {
        next = reads(&server, next, &made, output);
    }
    let ran = sh(
        &next,
        "cat $MILLRACE_INPUT_DATA/0/value $MILLRACE_INPUT_DATA/1/value $MILLRACE_INPUT_LEFT/1 $MILLRACE_INPUT_ITEMS; : > $MILLRACE_OUTPUT_DATA",
    );
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(told.starts_with("10\n15\nleft{\"index\":0,\"item\":10"), "{told}");

    // An item's file that is gone is told of by its index.
    fs::remove_file(server.object(&format!("{FOLDER}/manifest.json"))).unwrap();
    fs::remove_dir_all(server.object(&format!("{FOLDER}/items/1/outputs/data"))).unwrap();
    let report = collected(3);
    assert_eq!(report.reason, ReportReason::InputLost);
    assert!(report.message.contains("what item 1 made"), "{}", report.message);
}

/// Nothing is filled in.
fn order() -> Value {
    json!({ "names": {} })
}

#[test]
fn an_init_container_fetches_a_model_and_compares_it() {
    let server = Server::start();
    let script = "mkdir $MILLRACE_OUTPUT_DATA; printf net > $MILLRACE_OUTPUT_DATA/model.onnx";
    assert_eq!(sh(&pod(&server, 1), script).status, 0);
    let made = manifest(&server);
    let record = &made.report.outputs["data"];
    let key = format!("{FOLDER}/{}", made.outputs["data"].path);
    let place = tempfile::tempdir().unwrap();
    let fetch = |size: Option<u64>| {
        let list = json!([{
            "source": server.source(&key), "path": place.path().join("models"), "digest": record.digest, "size": size,
        }]);
        let mut command = Command::new(support::AGENT);
        credentials(command.arg("fetch").env("MILLRACE_FETCH", list.to_string())).output().unwrap()
    };
    // A second container finds what the first has left.
    for size in [Some(record.size), None] {
        let output = fetch(size);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read(place.path().join("models/model.onnx")).unwrap(), b"net");
    }
    fs::write(server.object(&format!("{key}/model.onnx")), "not").unwrap();
    for size in [Some(record.size), None] {
        let output = fetch(size);
        assert_eq!(output.status.code(), Some(75));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("has the digest") && said.contains("s3://lake/"), "{said}");
    }
}

#[test]
fn a_large_file_goes_up_and_down_in_pieces_with_bounded_memory() {
    let server = Server::start();
    let ran = sh(&pod(&server, 1), "head -c 300000000 /dev/zero | tr '\\0' x > $MILLRACE_OUTPUT_DATA");
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    let made = manifest(&server);
    assert_eq!(made.report.outputs["data"].size, 300_000_000);
    let next = reads(&server, pod(&server, 1), &made, "data");
    // The agent is the parent: its peak, while it fetched.
    let ran = sh(&next, "grep VmHWM /proc/$PPID/status; stat -c %s $MILLRACE_INPUT_DATA; : > $MILLRACE_OUTPUT_DATA");
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    let peak: u64 = told.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 128 * 1024, "{peak} KiB to fetch 300 MB");
    assert!(told.contains("300000000"), "{told}");
}
