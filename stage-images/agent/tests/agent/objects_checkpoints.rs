//! Checkpoints of stages whose store is a real S3 server: what an attempt left is there for the next, whole or not at all.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::time::{Duration, Instant};

use millrace_contract::ReportReason;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::s3::{self, Server, credentials};
use crate::support::{Ran, Stage, eventually, write};

const FOLDER: &str = "teams/a/runs/penguins-1-0d7c2b1e/train";
/// Where the program goes on, and what it finds there.
const WHERE: &str = "echo $MILLRACE_RESTORE_DIR; echo $MILLRACE_RESTORE_LATEST; cd $MILLRACE_RESTORE_DIR && find . -type f | sort; exit 3";

/// Nothing of a pod's disk is another's.
fn pod(server: &Server, attempt: u32) -> Stage {
    Stage::new()
        .with("durable", json!(false))
        .with("attempt", json!(attempt))
        .with("folder", server.source(FOLDER))
        .with("graceSeconds", json!(5))
}

fn start(stage: &Stage, script: &str) -> Child {
    credentials(stage.command(&["sh", "-c", script]).process_group(0)).spawn().unwrap()
}

fn sh(stage: &Stage, script: &str) -> Ran {
    stage.ended(start(stage, script).wait_with_output().unwrap())
}

/// What a program says of its pod's disk.
fn told(stage: &Stage, script: &str) -> Vec<String> {
    let ran = sh(stage, script);
    let root = stage.root.path().display().to_string();
    String::from_utf8_lossy(&ran.stdout).replace(&root, "").lines().map(str::to_owned).collect()
}

fn kept(server: &Server) -> Vec<String> {
    server.keys(FOLDER).into_iter().filter(|key| key.contains("/checkpoint/")).collect()
}

/// The names that count, of all pods.
fn counted(server: &Server) -> Vec<String> {
    let indexes = kept(server).into_iter().filter(|key| key.ends_with("/index.json"));
    let read = |key: String| fs::read(server.object(&format!("{FOLDER}/{key}"))).ok();
    let parsed = indexes.filter_map(read).filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    let names = |index: Value| index["checkpoints"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    parsed.flat_map(names).collect()
}

#[test]
fn another_pod_goes_on_from_the_newest_complete_checkpoint() {
    let server = Server::start();
    let two = "cd $MILLRACE_CHECKPOINT_DIR; mkdir -p step-9/deep step-10; echo nine > 'step-9/deep/ü#.pt'; echo ten > step-10/w
        touch -d '2026-01-01' step-9; touch -d '2026-01-02' step-10; mkdir .step-11; echo half > .step-11/w; exit 3";
    assert_eq!(sh(&pod(&server, 1), two).status, 3);
    let first = "/stage/attempts/1/checkpoint";
    let expected = [first, &format!("{first}/step-10"), "./step-10/w", "./step-9/deep/ü#.pt"];
    assert_eq!(told(&pod(&server, 2), WHERE), expected);
    // One that has none of its own does not hide the earlier one's.
    assert_eq!(told(&pod(&server, 3), WHERE), expected);
    assert_eq!(sh(&pod(&server, 4), "cd $MILLRACE_CHECKPOINT_DIR; echo x > .last; mv .last last; exit 3").status, 3);
    assert_eq!(counted(&server), ["last"], "those of earlier attempts are not needed any more");
    // Another pod of the same attempt, whose node was lost.
    let aside = "/stage/attempts/4.replaced-1/checkpoint";
    assert_eq!(told(&pod(&server, 4), WHERE), [aside, &format!("{aside}/last"), "./last"]);
    assert_eq!(told(&pod(&server, 6), "cat $MILLRACE_RESTORE_LATEST; exit 3"), ["x"]);
}

#[test]
fn what_was_there_when_an_agent_was_killed_is_there_and_a_half_is_not() {
    let server = Server::start();
    let stage = pod(&server, 1);
    let script = "cd $MILLRACE_CHECKPOINT_DIR; head -c 8000000 /dev/urandom > .a; mv .a a; sha256sum < a > ../../../sum
        while [ ! -e ../../../go ]; do sleep 0.05; done; head -c 300000000 /dev/zero > .b; mv .b b; echo > ../../../moved; sleep 60";
    let mut child = start(&stage, script);
    eventually("the checkpoint", || counted(&server) == ["a"]);
    write(&stage.path("stage/go"), b"");
    eventually("the next one", || stage.path("stage/moved").exists());
    killpg(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let sum = fs::read_to_string(stage.path("stage/sum")).unwrap();
    let found = told(&pod(&server, 2), "sha256sum < $MILLRACE_RESTORE_DIR/a; exit 3");
    assert_eq!(found, [sum.trim_end()]);
    // The large one is there as a whole, or not at all.
    let sizes = told(&pod(&server, 2), "stat -c '%n %s' $MILLRACE_RESTORE_DIR/b 2> /dev/null || echo none; exit 3");
    assert!(sizes[0] == "none" || sizes[0].ends_with(" 300000000"), "{sizes:?}");
}

#[test]
fn a_program_that_is_asked_to_stop_has_time_for_its_last_checkpoint() {
    let server = Server::start();
    let stage = pod(&server, 1);
    let script = "cd $MILLRACE_CHECKPOINT_DIR; trap 'echo last > .l; mv .l last; exit 1' TERM; echo > ../../../begun; while :; do sleep 0.05; done";
    let child = start(&stage, script);
    eventually("the program", || stage.path("stage/begun").exists());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let ran = stage.ended(child.wait_with_output().unwrap());
    assert_eq!(
        (ran.report.reason, ran.stderr.contains("not all")),
        (ReportReason::Terminated, false),
        "{}",
        ran.stderr
    );
    assert_eq!(told(&pod(&server, 2), "cat $MILLRACE_RESTORE_LATEST; exit 3"), ["last"]);
}

#[test]
fn a_store_that_does_not_answer_keeps_no_report_back() {
    let mut server = Server::start();
    let stage = pod(&server, 1).with("graceSeconds", json!(1));
    let script = "cd $MILLRACE_CHECKPOINT_DIR; echo first > a; echo > ../../../begun; while [ ! -e ../../../go ]; do sleep 0.05; done; echo second > b; exec sleep 60";
    let child = start(&stage, script);
    eventually("the first one", || counted(&server) == ["a"]);
    server.stop();
    write(&stage.path("stage/go"), b"");
    eventually("the second one", || stage.path("stage/attempts/1/checkpoint/b").exists());
    let asked = Instant::now();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let ran = stage.ended(child.wait_with_output().unwrap());
    // The kubelet kills after the grace of one second and fifteen more.
    assert!(asked.elapsed() < Duration::from_secs(14), "{:?}", asked.elapsed());
    assert_eq!(ran.report.reason, ReportReason::Terminated);
    assert!(ran.stderr.contains("not all checkpoints are kept in the store"), "{}", ran.stderr);
    server.again();
    assert_eq!(told(&pod(&server, 2), "cat $MILLRACE_RESTORE_DIR/*; exit 3"), ["first"]);
}

#[test]
fn old_checkpoints_go_with_their_program_and_all_of_them_once_the_stage_is_complete() {
    let server = Server::start();
    let stage = pod(&server, 1);
    let script = "cd $MILLRACE_CHECKPOINT_DIR; for i in 1 2 3 4 5 6; do echo $i > .s; mv .s step-$i; rm -f step-$((i - 2)); sleep 0.7; done; exit 3";
    assert_eq!(sh(&stage, script).status, 3);
    assert_eq!(counted(&server), ["step-5", "step-6"]);
    assert_eq!(kept(&server).len(), 3, "two files and the index: {:?}", kept(&server));
    let next = pod(&server, 2).output("data", "artifact");
    let ran = sh(
        &next,
        "cp $MILLRACE_RESTORE_LATEST $MILLRACE_CHECKPOINT_DIR/mine; sleep 2.5; cp $MILLRACE_RESTORE_LATEST $MILLRACE_OUTPUT_DATA",
    );
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    assert_eq!(kept(&server), Vec::<String>::new());
    assert_eq!(fs::read_to_string(next.path("stage/attempts/2/outputs/data")).unwrap(), "6\n");
    assert_eq!(told(&pod(&server, 3).output("data", "artifact"), "echo ran"), Vec::<String>::new(), "it is complete");
}

#[test]
fn a_checkpoint_whose_files_are_gone_is_no_place_to_go_on_from() {
    let server = Server::start();
    assert_eq!(sh(&pod(&server, 1), "echo x > $MILLRACE_CHECKPOINT_DIR/a; exit 3").status, 3);
    let file = kept(&server).into_iter().find(|key| !key.ends_with("index.json")).unwrap();
    fs::remove_file(server.object(&format!("{FOLDER}/{file}"))).unwrap();
    assert_eq!(told(&pod(&server, 2), "echo ${MILLRACE_RESTORE_DIR:-nothing}; exit 3"), ["nothing"]);
}

#[test]
fn an_older_checkpoint_is_better_than_one_that_is_shorter_than_it_was() {
    let server = Server::start();
    let two = "cd $MILLRACE_CHECKPOINT_DIR; echo older > a; echo newer > b; touch -d '2026-01-01' a; touch -d '2026-01-02' b; exit 3";
    assert_eq!(sh(&pod(&server, 1), two).status, 3);
    let object = |text: &str| {
        let mut paths = kept(&server).into_iter().map(|key| server.object(&format!("{FOLDER}/{key}")));
        paths.find(|path| fs::read_to_string(path).is_ok_and(|found| found == text)).unwrap()
    };
    fs::write(object("newer\n"), "new").unwrap();
    let ran = sh(&pod(&server, 2), "cat $MILLRACE_RESTORE_DIR/*; exit 3");
    assert_eq!((ran.status, ran.stdout.as_slice()), (3, b"older\n".as_slice()), "{}", ran.report.message);
    assert!(ran.stderr.contains("cannot be brought"), "{}", ran.stderr);
    fs::write(object("older\n"), "").unwrap();
    let ran = sh(&pod(&server, 2), "echo ${MILLRACE_RESTORE_DIR:-nothing}; exit 3");
    assert_eq!((ran.status, ran.stdout.as_slice()), (3, b"nothing\n".as_slice()), "{}", ran.report.message);
    assert!(ran.stderr.contains("the program begins anew"), "{}", ran.stderr);
}

#[test]
fn of_a_file_that_ends_while_it_is_sent_nothing_stays_in_the_store() {
    let server = Server::start();
    let stage = pod(&server, 1);
    let script = "cd $MILLRACE_CHECKPOINT_DIR; head -c 600000000 /dev/zero > .a; mv .a a
        while [ ! -e ../../../go ]; do sleep 0.05; done; echo short > .a; mv .a a; exit 3";
    let child = start(&stage, script);
    // Where the server has the parts of an upload that has not ended.
    let parts = || server.keys(".sgwtmp/multipart");
    eventually("the first parts", || !parts().is_empty());
    let file = fs::File::options().write(true).open(stage.path("stage/attempts/1/checkpoint/a")).unwrap();
    file.set_len(1000).unwrap();
    eventually("no part any more", || parts().is_empty());
    write(&stage.path("stage/go"), b"");
    assert_eq!(stage.ended(child.wait_with_output().unwrap()).status, 3);
    assert_eq!(told(&pod(&server, 2), "cat $MILLRACE_RESTORE_LATEST; exit 3"), ["short"]);
}

#[test]
fn a_link_in_the_place_of_the_folder_brings_nothing_of_the_agents_into_the_store() {
    let server = Server::start();
    let stage = pod(&server, 1);
    // Of itself the agent could read what no other process may.
    let script = "cd $MILLRACE_CHECKPOINT_DIR/..; mkdir checkpoint/a; mv checkpoint away; ln -s away checkpoint; sleep 2
        rm checkpoint; mv away checkpoint; i=0
        while [ $i -lt 300 ]; do i=$((i + 1)); rmdir checkpoint/a; ln -s /proc/self checkpoint/a; sleep 0.003; rm checkpoint/a; mkdir checkpoint/a; sleep 0.003; done; exit 3";
    assert_eq!(sh(&stage, script).status, 3);
    for key in server.keys("") {
        let text = fs::read(server.object(&key)).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(s3::SECRET), "{key}");
    }
}

#[test]
fn items_go_on_from_their_own_whichever_job_their_pods_were_of() {
    let server = Server::start();
    let item = |index: u64, attempt: u32, script: &str| {
        let mut stage = pod(&server, attempt);
        let range = json!({ "range": { "start": 0.0, "step": 1.0 } });
        stage.task["items"] = json!({ "total": 2, "source": range, "order": { "names": {} } });
        let mut command = stage.command(&["sh", "-c", script]);
        credentials(&mut command).env("MILLRACE_ITEM_INDEX", index.to_string());
        let ran = stage.ended(command.output().unwrap());
        String::from_utf8(ran.stdout).unwrap()
    };
    for (index, attempt) in [(0, 1), (0, 3), (1, 1)] {
        item(index, attempt, "echo $MILLRACE_ITEM $MILLRACE_ATTEMPT > $MILLRACE_CHECKPOINT_DIR/a; exit 3");
    }
    let show = "cat ${MILLRACE_RESTORE_LATEST:-/dev/null}; exit 3";
    assert_eq!((item(0, 2, show).as_str(), item(1, 2, show).as_str()), ("0 3\n", "1 1\n"));
}

#[test]
fn an_index_that_leads_elsewhere_is_none() {
    let server = Server::start();
    for (name, path) in [("../../../../x", ""), ("a", "../../x"), ("a", "/etc/x")] {
        let files = json!([{ "path": path, "size": 1, "modified": 0 }]);
        let index = json!({ "checkpoints": { name: { "number": 0, "folder": !path.is_empty(), "modified": 0, "files": files } } });
        write(&server.object(&format!("{FOLDER}/attempts/1/checkpoint/0001/index.json")), index.to_string().as_bytes());
        let stage = pod(&server, 2);
        assert_eq!(told(&stage, "echo ${MILLRACE_RESTORE_DIR:-nothing}; exit 3"), ["nothing"], "{name} {path}");
        assert!(!stage.path("x").exists());
    }
}
