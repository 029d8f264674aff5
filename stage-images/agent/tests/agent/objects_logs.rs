//! Logs of stages whose store is a real S3 server: bounded, there however the attempt ends, and read and copied from there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use millrace_contract::{ArtifactHead, FilePart, LogPart, ReportReason};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::s3::{PREFIX, SECRET, Server, credentials};
use crate::support::{self, AGENT, Ran, Stage, eventually, log_parts, write};

const RUN: &str = "teams/a/runs/penguins-1-0d7c2b1e";
const MIB: usize = 1024 * 1024;

fn pod(server: &Server, attempt: u32) -> Stage {
    let folder = server.source(&format!("{RUN}/train"));
    Stage::new().with("durable", json!(false)).with("attempt", json!(attempt)).with("folder", folder)
}

fn start(stage: &Stage, script: &str) -> Child {
    // Of its own group, so that a test can kill all of it at once.
    credentials(stage.command(&["sh", "-c", script]).process_group(0)).spawn().unwrap()
}

fn sh(stage: &Stage, script: &str) -> Ran {
    stage.ended(start(stage, script).wait_with_output().unwrap())
}

/// The agent as it reads a store for somebody.
fn asked(arguments: &[&str], task: &Value) -> Output {
    let mut command = Command::new(AGENT);
    command.args(arguments).env("MILLRACE_READ", task.to_string()).stdin(Stdio::null());
    credentials(&mut command).output().unwrap()
}

fn logs(server: &Server, arguments: &[&str]) -> Vec<(LogPart, Vec<u8>)> {
    let words = [&["logs", "-"], arguments].concat();
    log_parts(&asked(&words, &json!({ "source": server.source(RUN) })))
}

fn only(server: &Server) -> String {
    support::only(logs(server, &["train"]))
}

/// The objects of all logs, with their sizes.
fn sizes(server: &Server) -> Vec<(String, u64)> {
    let keys = server.keys(RUN).into_iter().filter(|key| key.contains("/log/"));
    keys.map(|key| (key.clone(), fs::metadata(server.object(&format!("{RUN}/{key}"))).unwrap().len())).collect()
}

#[test]
fn both_streams_are_kept_in_order_byte_for_byte_whatever_the_end() {
    let server = Server::start();
    let script = r"for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\000\377\r\nno line end'; exit 3";
    let ran = sh(&pod(&server, 1), script);
    assert_eq!(ran.status, 3);
    assert_eq!(logs(&server, &["train"])[0].1, ran.stdout);
    assert!(ran.stdout.ends_with(b"\x00\xff\r\nno line end"));
    let ran = sh(&pod(&server, 2).with("timeoutSeconds", json!(1)), "echo begun; exec sleep 60");
    assert_eq!(ran.report.reason, ReportReason::Timeout);
    assert_eq!(logs(&server, &["train:2"])[0].1, b"begun\n");
    // Nothing was printed, and that is known.
    assert_eq!(sh(&pod(&server, 3), "true").status, 0);
    let (part, text) = logs(&server, &["train:3"]).remove(0);
    assert_eq!((part.attempt, part.replaced, text.as_slice()), (3, None, b"".as_slice()));
    assert_eq!(logs(&server, &["train:4"]), []);
    let attempts: Vec<u32> = logs(&server, &["train"]).into_iter().map(|(part, _)| part.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
}

#[test]
fn a_pod_that_is_deleted_leaves_what_its_program_said_last() {
    let server = Server::start();
    let stage = pod(&server, 1);
    let child = start(&stage, "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.05; done");
    eventually("the first line", || only_if_there(&server).is_some_and(|text| text == b"begun\n"));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let ran = stage.ended(child.wait_with_output().unwrap());
    let text = only(&server);
    assert!(text.starts_with("begun\n") && text.ends_with("\nsaved\n"), "{text}");
    assert_eq!((ran.report.reason, ran.stdout), (ReportReason::Terminated, text.into_bytes()));
}

fn only_if_there(server: &Server) -> Option<Vec<u8>> {
    let (key, _) = sizes(server).into_iter().next()?;
    fs::read(server.object(&format!("{RUN}/{key}"))).ok()
}

#[test]
fn an_agent_that_is_killed_leaves_what_was_printed_and_another_pod_of_the_attempt_has_its_own() {
    let server = Server::start();
    let stage = pod(&server, 1);
    let mut child = start(&stage, "seq 1 1000; sleep 60");
    let expected: String = (1..=1000).map(|line| format!("{line}\n")).collect();
    eventually("all that was printed", || only_if_there(&server).is_some_and(|text| text == expected.as_bytes()));
    killpg(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert_eq!(only(&server), expected);

    assert_eq!(sh(&pod(&server, 1), "echo again").status, 0);
    let said: Vec<(Option<u32>, Vec<u8>)> =
        logs(&server, &["train"]).into_iter().map(|(part, text)| (part.replaced, text)).collect();
    assert_eq!(said, [(Some(1), expected.into_bytes()), (None, b"again\n".to_vec())]);
}

#[test]
fn of_a_huge_log_the_ends_are_kept_in_bounded_memory() {
    let server = Server::start();
    let stage = pod(&server, 1);
    // 100 MB, as fast as it goes; then the agent's peak, which is the parent's.
    let script = "seq -f '%099.0f' 1 1000000; grep VmHWM /proc/$PPID/status >&2";
    let mut child = start(&stage, script);
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut out, &mut bytes).unwrap();
        bytes
    });
    assert!(child.wait().unwrap().success());
    let printed = reader.join().unwrap();
    let kept = String::from_utf8(logs(&server, &["train"]).remove(0).1).unwrap();
    assert!((4 * MIB..7 * MIB).contains(&kept.len()), "{}", kept.len());
    assert!(
        printed.starts_with(&kept.as_bytes()[..MIB / 2]) && printed.ends_with(&kept.as_bytes()[kept.len() - 3 * MIB..])
    );
    let left_out: usize = kept
        .lines()
        .filter_map(|line| line.strip_prefix("[millrace: ")?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    let whole: usize = kept.lines().filter(|line| !line.starts_with('[')).map(|line| line.len() + 1).sum();
    assert_eq!(left_out + whole, printed.len(), "what is left out is told");
    // Of objects nothing but what is promised stays.
    let sizes = sizes(&server);
    assert!(sizes.len() <= 6 && sizes.iter().all(|(_, size)| *size <= MIB as u64), "{sizes:?}");
    let told = kept.lines().last().unwrap().to_owned();
    let peak: u64 = told.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 64 * 1024, "{peak} KiB");
}

#[test]
fn a_store_that_goes_away_fails_no_stage_and_its_log_is_whole_when_it_comes_back() {
    let mut server = Server::start();
    let stage = pod(&server, 1);
    let script =
        "echo one; while [ ! -e $MILLRACE_OUT/../../../go ]; do sleep 0.05; done; echo two; sleep 3; echo three";
    let child = start(&stage, script);
    eventually("the first line", || only_if_there(&server).is_some());
    server.stop();
    write(&stage.path("stage/go"), b"");
    std::thread::sleep(Duration::from_secs(2));
    server.again();
    let ran = stage.ended(child.wait_with_output().unwrap());
    assert_eq!(ran.status, 0, "{}", ran.report.message);
    assert_eq!((only(&server).as_str(), ran.stderr.as_str()), ("one\ntwo\nthree\n", ""));
}

#[test]
fn items_have_their_own_and_a_program_cannot_spoil_its_log() {
    let server = Server::start();
    for index in [0, 2, 10] {
        let mut stage = pod(&server, 1);
        stage.task["items"] =
            json!({ "total": 11, "source": { "range": { "start": 0.0, "step": 1.0 } }, "order": { "names": {} } });
        let script = "echo item $MILLRACE_ITEM; rm -rf $MILLRACE_OUT/../log; env | grep -c MILLRACE_STORE";
        let mut command = stage.command(&["sh", "-c", script]);
        credentials(&mut command).env("MILLRACE_ITEM_INDEX", index.to_string());
        stage.ended(command.output().unwrap());
    }
    let said = |arguments: &[&str]| -> Vec<(Option<u64>, String)> {
        let told = |(part, text): (LogPart, Vec<u8>)| (part.item, String::from_utf8(text).unwrap());
        logs(&server, arguments).into_iter().map(told).collect()
    };
    let of = |index: u64| (Some(index), format!("item {index}\n0\n"));
    assert_eq!(said(&["train"]), [of(0), of(2), of(10)]);
    assert_eq!(said(&["--item", "2", "train"]), [of(2)]);
    assert_eq!(said(&["--item", "3", "train"]), []);
}

#[test]
fn an_artifact_is_sent_file_by_file_and_what_cannot_be_read_says_why() {
    let server = Server::start();
    let large = vec![b'x'; 12 * MIB];
    for (name, bytes) in [("a b/ü#%41~.csv", b"hello".as_slice()), ("empty", b""), ("large", &large)] {
        // As the store has it: what is odd in a name is written by its number.
        let name = name.replace('%', "%25").replace('#', "%23").replace('~', "%7E");
        write(&server.object(&format!("{RUN}/out/{name}")), bytes);
    }
    let sent = |key: &str, size: Value| asked(&["send", "-"], &json!({ "source": server.source(key), "size": size }));
    let output = sent(&format!("{RUN}/out"), json!(5 + large.len()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut rest, mut found) = (output.stdout.as_slice(), Vec::new());
    let line = |rest: &mut &[u8]| {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let text = rest[..end].to_vec();
        *rest = &rest[end + 1..];
        text
    };
    let head: ArtifactHead = serde_json::from_slice(&line(&mut rest)).unwrap();
    for _ in 0..head.files {
        let part: FilePart = serde_json::from_slice(&line(&mut rest)).unwrap();
        let (bytes, after) = rest.split_at(usize::try_from(part.bytes).unwrap());
        found.push((part.path, bytes.to_vec()));
        rest = after;
    }
    found.sort();
    let expected = [("a b/ü#%41~.csv", b"hello".to_vec()), ("empty", vec![]), ("large", large)];
    assert!(head.folder && rest.is_empty());
    assert_eq!(found, expected.map(|(path, bytes)| (path.to_owned(), bytes)));

    let one = sent(&format!("{RUN}/out/empty"), json!(0));
    assert_eq!(one.stdout, b"{\"folder\":false,\"files\":1}\n{\"path\":\"\",\"bytes\":0}\n");
    // An empty folder leaves nothing in a store of objects.
    assert_eq!(sent(&format!("{RUN}/none"), json!(0)).stdout, b"{\"folder\":true,\"files\":0}\n");
    for (key, size, says) in
        [(format!("{RUN}/none"), json!(7), "there is no s3://lake/"), (String::from("x"), json!(1), "there is no")]
    {
        let refused = sent(&key, size);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && refused.stdout.is_empty() && said.contains(says), "{said}");
        assert!(!said.contains(SECRET) && !said.contains(PREFIX), "{said}");
    }
    let silent = Command::new(AGENT).args(["send", "-"]).output().unwrap();
    assert!(String::from_utf8_lossy(&silent.stderr).contains("MILLRACE_READ is not set"));
    assert!(!asked(&["logs", "-", "../x"], &json!({ "source": server.source(RUN) })).status.success());
}
