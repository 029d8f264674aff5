//! Stages and models whose store speaks as Google Cloud Storage or as Azure Blob Storage does: each test runs over both.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use millrace_contract::{ArtifactHead, CODE_ENV, FilePart, Manifest, Outcome, REPORT_LIMIT, ReportReason, SweepReport};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::clouds::{ACCOUNT, Cloud, KEY, Kind};
use crate::support::s3::PREFIX;
use crate::support::{self, AGENT, Ran, Stage, eventually, write};

const RUN: &str = "teams/a/runs/penguins-1-0d7c2b1e";
const FOLDER: &str = "teams/a/runs/penguins-1-0d7c2b1e/train";
const MIB: usize = 1024 * 1024;

/// Each of these over both.
macro_rules! of_both {
    ($($name:ident,)*) => {
        mod gcs {
            $(#[test] fn $name() { super::$name(&mut super::Cloud::start(super::Kind::Gcs)); })*
        }
        mod azure {
            $(#[test] fn $name() { super::$name(&mut super::Cloud::start(super::Kind::Azure)); })*
        }
    };
}

of_both! {
    outputs_of_one_pod_are_inputs_of_another,
    of_attempts_at_the_same_time_one_wins_and_a_later_one_reports_it,
    a_manifest_whose_outputs_are_gone_moves_aside_and_the_command_runs,
    a_missing_or_damaged_input_is_lost_before_the_command_runs,
    a_store_that_refuses_or_does_not_answer_is_told_of_before_the_command_runs,
    items_are_put_together_within_the_store,
    an_init_container_fetches_a_model_and_compares_it,
    a_large_file_goes_up_and_down_in_pieces,
    another_pod_goes_on_from_the_newest_complete_checkpoint,
    of_a_file_that_ends_while_it_is_sent_nothing_counts,
    what_a_program_prints_is_kept_and_read,
    an_artifact_is_sent_file_by_file,
    an_object_or_a_folder_is_brought_and_not_brought_again,
    what_a_timeout_left_is_listed_beside_its_attempt,
    a_model_in_a_public_bucket_is_fetched_without_credentials,
    code_is_kept_and_brought,
    a_sweep_takes_out_what_nobody_needs_and_nothing_else,
}

/// The stage `train` in the store. Each value is a pod: nothing of its disk is another's.
fn pod(cloud: &Cloud, attempt: u32) -> Stage {
    Stage::new().with("durable", json!(false)).with("attempt", json!(attempt)).with("folder", cloud.source(FOLDER))
}

fn sh(cloud: &Cloud, stage: &Stage, script: &str) -> Ran {
    let mut command = stage.command(&["sh", "-c", script]);
    stage.ended(cloud.credentials(&mut command).output().unwrap())
}

fn manifest(cloud: &Cloud) -> Manifest {
    serde_json::from_slice(&cloud.read(&format!("{FOLDER}/manifest.json")).unwrap()).unwrap()
}

/// A later stage that reads an output.
fn reads(cloud: &Cloud, mut stage: Stage, made: &Manifest, output: &str) -> Stage {
    let (record, place) = (&made.report.outputs[output], &made.outputs[output].path);
    stage.task["folder"]["key"] = json!(format!("{RUN}/next"));
    stage.task["stage"] = json!("next");
    stage.task["inputs"][output] = json!({
        "path": format!("/millrace/inputs/{output}"), "digest": record.digest, "size": record.size,
        "source": cloud.source(&format!("{FOLDER}/{place}")),
    });
    stage
}

/// The agent as somebody asks it for something in the store.
fn asked(cloud: &Cloud, arguments: &[&str], env: (&str, &Value), stdin: &[u8]) -> Output {
    let mut command = Command::new(AGENT);
    command.args(arguments).env(env.0, env.1.to_string());
    let command = cloud.credentials(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who has it already reads nothing.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn outputs_of_one_pod_are_inputs_of_another(cloud: &mut Cloud) {
    let stage = pod(cloud, 1).output("data", "artifact").output("folder", "artifact").output("none", "artifact");
    let first = sh(
        cloud,
        &stage,
        "printf rows > $MILLRACE_OUTPUT_DATA
         mkdir -p \"$MILLRACE_OUTPUT_FOLDER/a b\" $MILLRACE_OUTPUT_NONE; cd $MILLRACE_OUTPUT_FOLDER
         printf 1 > 'a b/ü#%41~.csv'; : > empty; printf 2 > 'q?x=1&y+z.csv'
         echo '{\"loss\": 0.5}' > $MILLRACE_OUT/metrics.json",
    );
    assert_eq!((first.report.reason, first.status), (ReportReason::Completed, 0), "{}", first.report.message);
    let made = manifest(cloud);
    assert_eq!(made.report, first.report);
    let mut next = pod(cloud, 1);
    for output in ["data", "folder", "none"] {
        next = reads(cloud, next, &made, output);
    }
    let script = "cat $MILLRACE_INPUT_DATA; cd $MILLRACE_INPUT_FOLDER; cat 'a b/ü#%41~.csv' 'q?x=1&y+z.csv'
        find . -type f | wc -l; ls -A $MILLRACE_INPUT_NONE | wc -l";
    let ran = sh(cloud, &next, script);
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "rows123\n0\n");
}

fn of_attempts_at_the_same_time_one_wins_and_a_later_one_reports_it(cloud: &mut Cloud) {
    let pods: Vec<Stage> = (1..=4).map(|attempt| pod(cloud, attempt).output("data", "artifact")).collect();
    let script = "while [ ! -e $MILLRACE_OUT/../../../go ]; do sleep 0.01; done; printf $MILLRACE_ATTEMPT > $MILLRACE_OUTPUT_DATA";
    let start = |stage: &Stage| cloud.credentials(&mut stage.command(&["sh", "-c", script])).spawn().unwrap();
    let children: Vec<_> = pods.iter().map(start).collect();
    for stage in &pods {
        let out = format!("stage/attempts/{}/out", stage.task["attempt"]);
        eventually("every program runs", || stage.path(&out).exists());
    }
    for stage in &pods {
        write(&stage.path("stage/go"), b"");
    }
    let waits = pods
        .into_iter()
        .zip(children)
        .map(|(stage, child)| thread::spawn(move || stage.ended(child.wait_with_output().unwrap()).report));
    let reports: Vec<_> = waits.collect::<Vec<_>>().into_iter().map(|wait| wait.join().unwrap()).collect();
    let winner = manifest(cloud).report.attempt;
    for report in reports {
        let expected = if report.attempt == winner { ReportReason::Completed } else { ReportReason::Recovered };
        assert_eq!((report.reason, report.winner), (expected, Some(winner)), "{}", report.message);
    }
    let later = sh(cloud, &pod(cloud, 5).output("data", "artifact"), "echo ran; exit 1");
    assert_eq!((later.report.reason, later.report.winner, later.status), (ReportReason::Recovered, Some(winner), 0));
    assert_eq!(later.stdout, b"");
    let next = reads(cloud, pod(cloud, 1), &manifest(cloud), "data");
    assert_eq!(sh(cloud, &next, "cat $MILLRACE_INPUT_DATA").stdout, winner.to_string().as_bytes());
}

fn a_manifest_whose_outputs_are_gone_moves_aside_and_the_command_runs(cloud: &mut Cloud) {
    let stage = |attempt| pod(cloud, attempt).output("data", "artifact").output("more", "artifact");
    let script = "printf 1 > $MILLRACE_OUTPUT_DATA; mkdir $MILLRACE_OUTPUT_MORE; cd $MILLRACE_OUTPUT_MORE; echo a > a; echo b > b";
    assert_eq!(sh(cloud, &stage(1), script).status, 0);
    assert_eq!(sh(cloud, &stage(2), script).report.reason, ReportReason::Recovered);
    for (attempt, output) in [(3, "data"), (4, "more")] {
        let keys = cloud.keys(&format!("{FOLDER}/outputs/{output}"));
        cloud.delete(&format!("{FOLDER}/outputs/{output}/{}", keys[0]));
        let ran = sh(cloud, &stage(attempt), script);
        assert_eq!((ran.report.reason, ran.report.winner), (ReportReason::Completed, Some(attempt)), "{output}");
        assert!(cloud.read(&format!("{FOLDER}/manifest.before-attempt-{attempt}.json")).is_some());
    }
}

fn a_missing_or_damaged_input_is_lost_before_the_command_runs(cloud: &mut Cloud) {
    assert_eq!(sh(cloud, &pod(cloud, 1).output("data", "artifact"), "printf rows > $MILLRACE_OUTPUT_DATA").status, 0);
    let made = manifest(cloud);
    let object = format!("{FOLDER}/{}", made.outputs["data"].path);
    for (change, says) in
        [(Some("rowz"), "has the digest"), (Some("row"), "3 bytes, its producer reported 4"), (None, "is missing")]
    {
        match change {
            Some(text) => cloud.put(&object, text.as_bytes()),
            None => cloud.delete(&object),
        }
        let ran = sh(cloud, &reads(cloud, pod(cloud, 1), &made, "data"), "echo ran");
        assert_eq!((ran.report.reason, ran.stdout.as_slice()), (ReportReason::InputLost, b"".as_slice()));
        let (message, place) = (&ran.report.message, format!("{}://lake/teams/a/runs/", cloud.scheme()));
        assert!(message.contains(says) && message.contains(&place), "{message}");
    }
}

fn a_store_that_refuses_or_does_not_answer_is_told_of_before_the_command_runs(cloud: &mut Cloud) {
    let refused = |cloud: &Cloud, change: &dyn Fn(&mut Value), secret: Option<&str>| {
        let mut stage = pod(cloud, 1);
        change(&mut stage.task["folder"]["store"]);
        let mut command = stage.command(&["sh", "-c", "echo ran"]);
        let command = cloud.credentials(&mut command);
        if let Some(secret) = secret {
            command.env(format!("{PREFIX}{}", cloud.secret().0), secret);
        }
        let ran = stage.ended(command.output().unwrap());
        assert_eq!((ran.stdout.as_slice(), ran.status), (b"".as_slice(), 75), "{}", ran.report.message);
        assert!(!ran.report.message.contains(KEY) && !ran.stderr.contains(KEY), "{}", ran.stderr);
        (ran.report.reason, ran.report.message)
    };
    let not_writable = |(reason, message): (ReportReason, String), says: &str| {
        assert_eq!(reason, ReportReason::StoreNotWritable, "{message}");
        assert!(message.contains(says), "{message}");
    };
    let scheme = cloud.scheme();
    let no_bucket = refused(cloud, &|store| store["bucket"] = json!("pond"), None);
    assert!(no_bucket.1.contains(&format!("{scheme}://pond/")), "{}", no_bucket.1);
    not_writable(no_bucket, "correct the bucket, or make it");
    not_writable(refused(cloud, &|_| {}, Some("")), "the store's Secret has to have ");
    // fake-gcs-server refuses nobody.
    match cloud.kind {
        Kind::Azure => not_writable(refused(cloud, &|_| {}, Some("d3Jvbmctc2VjcmV0")), "valid credentials"),
        Kind::Gcs => not_writable(refused(cloud, &|_| {}, Some("no key")), "cannot be used"),
    }
    cloud.stop();
    let (reason, message) = refused(cloud, &|_| {}, None);
    assert_eq!(reason, ReportReason::StoreUnreachable, "{message}");
    assert!(message.contains("endpoint"), "{message}");
}

fn items_are_put_together_within_the_store(cloud: &mut Cloud) {
    let items = json!({ "total": 2, "source": { "range": { "start": 10.0, "step": 5.0 } } });
    let stage = |attempt| pod(cloud, attempt).output("data", "artifact");
    for index in 0..2 {
        let mut stage = stage(1).with("items", items.clone());
        stage.task["items"]["order"] = json!({ "names": {} });
        let script = "mkdir $MILLRACE_OUTPUT_DATA; echo $MILLRACE_ITEM > \"$MILLRACE_OUTPUT_DATA/a ü#%41~\"";
        let mut command = stage.command(&["sh", "-c", script]);
        cloud.credentials(&mut command).env("MILLRACE_ITEM_INDEX", index.to_string());
        let ran = stage.ended(command.output().unwrap());
        assert_eq!(ran.status, 0, "{}", ran.report.message);
    }
    let collected = |attempt: u32| {
        let mut stage = stage(attempt).output("items", "artifact").with("items", items.clone());
        stage.task["outputs"]["items"]["items"] = json!(true);
        let mut command = Command::new(AGENT);
        command.arg("collect");
        for (name, value) in stage.command(&[]).get_envs() {
            command.env(name, value.unwrap());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        stage.ended(cloud.credentials(&mut command).output().unwrap()).report
    };
    let report = collected(2);
    assert_eq!(report.outcome, Outcome::Succeeded, "{}", report.message);
    assert_eq!(report.outputs["data"].files, 2);
    let made = manifest(cloud);
    let next = reads(cloud, reads(cloud, pod(cloud, 1), &made, "data"), &made, "items");
    let ran = sh(cloud, &next, "cd $MILLRACE_INPUT_DATA; cat 0/a* 1/a*; wc -l < $MILLRACE_INPUT_ITEMS");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "10\n15\n2\n", "{}", ran.report.message);

    cloud.delete(&format!("{FOLDER}/manifest.json"));
    let made = format!("{FOLDER}/items/1/outputs/data");
    cloud.keys(&made).iter().for_each(|key| cloud.delete(&format!("{made}/{key}")));
    let report = collected(3);
    assert_eq!(report.reason, ReportReason::InputLost, "{}", report.message);
    assert!(report.message.contains("what item 1 made"), "{}", report.message);
}

fn an_init_container_fetches_a_model_and_compares_it(cloud: &mut Cloud) {
    let script = "mkdir $MILLRACE_OUTPUT_DATA; printf net > $MILLRACE_OUTPUT_DATA/model.onnx";
    assert_eq!(sh(cloud, &pod(cloud, 1).output("data", "artifact"), script).status, 0);
    let made = manifest(cloud);
    let record = &made.report.outputs["data"];
    let key = format!("{FOLDER}/{}", made.outputs["data"].path);
    let place = tempfile::tempdir().unwrap();
    let fetch = |size: Option<u64>| {
        let to = place.path().join("models");
        let list = json!([{ "source": cloud.source(&key), "path": to, "digest": record.digest, "size": size }]);
        asked(cloud, &["fetch"], ("MILLRACE_FETCH", &list), b"")
    };
    for size in [Some(record.size), None] {
        let output = fetch(size);
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(fs::read(place.path().join("models/model.onnx")).unwrap(), b"net");
    }
    cloud.put(&format!("{key}/model.onnx"), b"not");
    let output = fetch(Some(record.size));
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("has the digest") && said.contains(&format!("{}://lake/", cloud.scheme())), "{said}");
}

fn a_model_in_a_public_bucket_is_fetched_without_credentials(cloud: &mut Cloud) {
    let (bucket, key) = cloud.put_open("models/1/model.onnx", b"net");
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("model");
    let mut source = cloud.source(&key);
    source["store"]["bucket"] = json!(bucket);
    source["store"]["anonymous"] = json!(true);
    source["store"].as_object_mut().unwrap().remove("credentials");
    let list = json!([{ "source": source, "path": to, "digest": digest(b"net"), "size": 3 }]);
    // Without the field the cloud would be asked who this is, and nobody answers on this machine.
    let output = Command::new(AGENT).arg("fetch").env("MILLRACE_FETCH", list.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(fs::read(to).unwrap(), b"net");
}

fn what_a_timeout_left_is_listed_beside_its_attempt(cloud: &mut Cloud) {
    let stage = pod(cloud, 1).output("model", "artifact").with("timeoutSeconds", json!(1));
    let ran = sh(cloud, &stage, "echo half > $MILLRACE_OUTPUT_MODEL; exec sleep 60");
    assert_eq!(ran.report.reason, ReportReason::Timeout, "{}", ran.report.message);
    let partial: Value =
        serde_json::from_slice(&cloud.read(&format!("{FOLDER}/attempts/1/partial.json")).unwrap()).unwrap();
    assert_eq!(partial["outputs"]["model"]["files"], json!([{ "path": "", "size": 5 }]));
    // It is no checkpoint.
    let next = sh(cloud, &pod(cloud, 2), "echo ${MILLRACE_RESTORE_DIR:-nothing}; exit 3");
    assert_eq!(next.stdout, b"nothing\n");
}

fn a_large_file_goes_up_and_down_in_pieces(cloud: &mut Cloud) {
    let stage = pod(cloud, 1).output("data", "artifact");
    let ran = sh(cloud, &stage, "seq -f '%099.0f' 1 620000 > $MILLRACE_OUTPUT_DATA; sha256sum < $MILLRACE_OUTPUT_DATA");
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    let made = manifest(cloud);
    assert_eq!(made.report.outputs["data"].size, 62_000_000);
    let next = reads(cloud, pod(cloud, 1), &made, "data");
    assert_eq!(sh(cloud, &next, "sha256sum < $MILLRACE_INPUT_DATA").stdout, ran.stdout);
    if cloud.kind == Kind::Gcs {
        assert_eq!(cloud.open_uploads(), 0);
    }
}

/// What a program that goes on finds.
fn restored(cloud: &Cloud, attempt: u32) -> String {
    let script = "cd ${MILLRACE_RESTORE_DIR:-/nothing} && find . -type f | sort; cat $MILLRACE_RESTORE_LATEST; exit 3";
    String::from_utf8(sh(cloud, &pod(cloud, attempt), script).stdout).unwrap()
}

fn another_pod_goes_on_from_the_newest_complete_checkpoint(cloud: &mut Cloud) {
    let two = "cd $MILLRACE_CHECKPOINT_DIR; mkdir -p step-9/deep; echo nine > 'step-9/deep/ü#.pt'; echo ten > step-10
        touch -d '2026-01-01' step-9; touch -d '2026-01-02' step-10; mkdir .step-11; echo half > .step-11/w; exit 3";
    assert_eq!(sh(cloud, &pod(cloud, 1), two).status, 3);
    assert_eq!(restored(cloud, 2), "./step-10\n./step-9/deep/ü#.pt\nten\n");
    assert_eq!(
        sh(cloud, &pod(cloud, 3), "cd $MILLRACE_CHECKPOINT_DIR; echo x > .last; mv .last last; exit 3").status,
        3
    );
    assert_eq!(restored(cloud, 4), "./last\nx\n");
    let done =
        sh(cloud, &pod(cloud, 5).output("data", "artifact"), "cp $MILLRACE_RESTORE_LATEST $MILLRACE_OUTPUT_DATA");
    assert_eq!(done.status, 0, "{}", done.report.message);
    let left = cloud.keys(FOLDER).into_iter().filter(|key| key.contains("/checkpoint/")).collect::<Vec<_>>();
    assert_eq!(left, Vec::<String>::new(), "a complete stage needs none");
}

fn of_a_file_that_ends_while_it_is_sent_nothing_counts(cloud: &mut Cloud) {
    let stage = pod(cloud, 1);
    let script = "cd $MILLRACE_CHECKPOINT_DIR; head -c 400000000 /dev/zero > .a; mv .a a
        while [ ! -e ../../../go ]; do sleep 0.05; done; echo short > .a; mv .a a; exit 3";
    let child = cloud.credentials(&mut stage.command(&["sh", "-c", script])).spawn().unwrap();
    let file = stage.path("stage/attempts/1/checkpoint/a");
    eventually("the file", || file.exists());
    if cloud.kind == Kind::Gcs {
        eventually("the first parts", || cloud.open_uploads() > 0);
    }
    fs::File::options().write(true).open(file).unwrap().set_len(1000).unwrap();
    if cloud.kind == Kind::Gcs {
        eventually("nothing of it stays", || cloud.open_uploads() == 0);
    }
    write(&stage.path("stage/go"), b"");
    assert_eq!(stage.ended(child.wait_with_output().unwrap()).status, 3);
    assert_eq!(restored(cloud, 2), "./a\nshort\n");
}

fn what_a_program_prints_is_kept_and_read(cloud: &mut Cloud) {
    let script = r"for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\000\377\r\nno line end'; exit 3";
    let first = sh(cloud, &pod(cloud, 1), script);
    assert_eq!(sh(cloud, &pod(cloud, 1), "echo again; exit 3").status, 3);
    // In several objects.
    let long = sh(cloud, &pod(cloud, 2), "seq -f '%099.0f' 1 40000; exit 3");
    let logs = asked(cloud, &["logs", "-", "train"], ("MILLRACE_READ", &json!({ "source": cloud.source(RUN) })), b"");
    let found: Vec<_> =
        support::log_parts(&logs).into_iter().map(|(part, text)| (part.attempt, part.replaced, text)).collect();
    assert!(found == [(1, Some(1), first.stdout), (1, None, b"again\n".to_vec()), (2, None, long.stdout)]);
}

/// Takes the first line.
fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (text, after) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap());
    *rest = &after[1..];
    text
}

fn an_artifact_is_sent_file_by_file(cloud: &mut Cloud) {
    let large = vec![b'x'; 12 * MIB];
    let files = [("a b/ü#%41~.csv", b"hello".as_slice()), ("empty", b""), ("large", &large)];
    for (name, bytes) in files {
        cloud.put(&format!("{RUN}/out/{name}"), bytes);
    }
    let sent = |key: &str, size: usize| {
        asked(cloud, &["send", "-"], ("MILLRACE_READ", &json!({ "source": cloud.source(key), "size": size })), b"")
    };
    let output = sent(&format!("{RUN}/out"), 5 + large.len());
    assert!(output.status.success(), "{}", errors(&output));
    let (mut rest, mut found) = (output.stdout.as_slice(), Vec::new());
    let head: ArtifactHead = serde_json::from_slice(line(&mut rest)).unwrap();
    for _ in 0..head.files {
        let part: FilePart = serde_json::from_slice(line(&mut rest)).unwrap();
        let (bytes, after) = rest.split_at(usize::try_from(part.bytes).unwrap());
        found.push((part.path, bytes.to_vec()));
        rest = after;
    }
    found.sort();
    assert!(head.folder && rest.is_empty());
    assert_eq!(found, files.map(|(path, bytes)| (path.to_owned(), bytes.to_vec())));
    assert_eq!(
        sent(&format!("{RUN}/out/empty"), 0).stdout,
        b"{\"folder\":false,\"files\":1}\n{\"path\":\"\",\"bytes\":0}\n"
    );
    assert_eq!(sent(&format!("{RUN}/none"), 0).stdout, b"{\"folder\":true,\"files\":0}\n");
    let none = sent(&format!("{RUN}/none"), 7);
    assert!(!none.status.success() && errors(&none).contains("there is no "), "{}", errors(&none));
}

fn an_object_or_a_folder_is_brought_and_not_brought_again(cloud: &mut Cloud) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let get = |below: &str, known: &str| {
        let _ = fs::remove_dir_all(folder.path().join("data"));
        let mut command = Command::new(AGENT);
        command.args(["get", "--uri", &format!("{}://lake/{below}", cloud.scheme()), "--secret", "--endpoint"]);
        command.arg(cloud.endpoint());
        if cloud.kind == Kind::Azure {
            command.args(["--account", ACCOUNT]);
        }
        command.arg("--to").arg(folder.path().join("data")).env("MILLRACE_OUT", &out).env("GET_KNOWN", known);
        let (name, value) = cloud.secret();
        let output = command.env(format!("GET_{name}"), value).output().unwrap();
        (output.status.code(), errors(&output))
    };
    cloud.put("rows/a.csv", b"a");
    cloud.put("rows/sub/b c.csv", b"b");
    cloud.put("rowsmore/a.csv", b"no");
    let done = (Some(0), String::new());
    assert_eq!(get("rows/", ""), done);
    assert_eq!(fs::read(folder.path().join("data/sub/b c.csv")).unwrap(), b"b");
    assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 2);
    let known: String = serde_json::from_slice(&fs::read(out.join("results/source_validator")).unwrap()).unwrap();
    assert_eq!(get("rows/", &known).0, Some(0));
    assert!(!folder.path().join("data").exists(), "it is as it was");
    cloud.put("rows/a.csv", b"n");
    assert_eq!(get("rows/", &known), done);
    assert_eq!(fs::read(folder.path().join("data/a.csv")).unwrap(), b"n");
    assert_eq!(get("rows/a.csv", ""), done);
    assert_eq!(fs::read(folder.path().join("data")).unwrap(), b"n");
    let (code, said) = get("none", "");
    assert!(code == Some(2) && said.contains(&format!("there is no {}://lake/none", cloud.scheme())), "{said}");
}

fn code_is_kept_and_brought(cloud: &mut Cloud) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(8);
    builder.append_data(&mut header, "say.sh", b"echo one".as_slice()).unwrap();
    let bytes = builder.into_inner().unwrap();
    let source = cloud.source("teams/a/code/4b1e/files.tar");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("files.tar");
    let task = json!({ "source": source, "path": path, "digest": digest(&bytes), "size": bytes.len() });
    for says in ["want\nkept\n", "there\n"] {
        let output = asked(cloud, &["keep"], (CODE_ENV, &task), &bytes);
        assert_eq!(String::from_utf8_lossy(&output.stdout), says, "{}", errors(&output));
    }
    let code = json!({ "digest": digest(&bytes), "size": bytes.len(), "source": source });
    let ran = sh(cloud, &pod(cloud, 1).with("code", code), "sh say.sh");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "one\n", "{}", ran.report.message);
}

fn a_sweep_takes_out_what_nobody_needs_and_nothing_else(cloud: &mut Cloud) {
    for key in ["runs/old-1/fit/a b/ü#.pt", "runs/old-1/make/x", "runs/old-12/make/x", "runs/kept-1/make/x", "readme"]
    {
        cloud.put(&format!("teams/a/{key}"), key.as_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut look = 0;
    let mut sweep = |kept: Value| {
        look += 1;
        let task = json!({ "folder": "history/shop-01234567", "kept": kept, "look": look, "now": 1_800_000_000 + look,
            "store": cloud.source("teams/a"), "artifacts": { "graceSeconds": 0, "dryRun": false } });
        let report = folder.path().join("report");
        let _ = fs::remove_file(&report);
        let mut command = Command::new(AGENT);
        command.arg("sweep").env("MILLRACE_SWEEP_0", task.to_string());
        command.env("MILLRACE_ROOT", folder.path()).env("MILLRACE_TERMINATION_LOG", &report);
        let output = cloud.credentials(&mut command).output().unwrap();
        let text = fs::read(report).unwrap();
        assert!(output.status.success() && text.len() <= REPORT_LIMIT, "{}", errors(&output));
        match serde_json::from_slice(&text).unwrap() {
            SweepReport::Done { removed, .. } => removed.files,
            SweepReport::Failed { reason, message, .. } => panic!("{reason}: {message}"),
        }
    };
    let kept = json!(["old-12", "kept-1"]);
    assert_eq!(sweep(json!(["old-1", "old-12", "kept-1"])), 0);
    // It is seen so for the first time.
    assert_eq!(sweep(kept.clone()), 0);
    assert_eq!(sweep(kept), 2);
    assert_eq!(cloud.keys("teams/a/runs"), ["kept-1/make/x", "old-12/make/x"]);
    assert!(cloud.read("teams/a/readme").is_some());
}
