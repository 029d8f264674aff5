//! What a sweep writes and takes out, on a real folder and in a real S3 server: the built agent as a process, with the task that the operator
//! would give it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_contract::{REPORT_LIMIT, Removed, SweepReport};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::s3::{Server, credentials};

const AGENT: &str = env!("CARGO_BIN_EXE_millrace-agent");
const HISTORY: &str = "history/shop-01234567";
/// Every sweep of a test is told more than the one before.
static LOOKS: AtomicU64 = AtomicU64::new(1);

/// A store with runs in it.
trait Store {
    fn of(&self) -> Value;
    fn path(&self, key: &str) -> PathBuf;
    fn arguments(&self) -> Vec<String>;
    fn root(&self) -> &Path;
}

struct Folder(TempDir);

impl Store for Folder {
    fn of(&self) -> Value {
        Value::Null
    }

    fn path(&self, key: &str) -> PathBuf {
        // As the pod has it mounted.
        match key.strip_prefix(HISTORY) {
            Some(below) => self.root().join("sweep/history").join(below.trim_start_matches('/')),
            None => self.root().join("sweep").join(key),
        }
    }

    fn arguments(&self) -> Vec<String> {
        vec!["history".to_owned(), self.path(&format!("{HISTORY}/runs")).display().to_string()]
    }

    fn root(&self) -> &Path {
        self.0.path()
    }
}

struct Bucket {
    server: Server,
    root: TempDir,
}

impl Store for Bucket {
    fn of(&self) -> Value {
        self.server.source("teams/a")
    }

    fn path(&self, key: &str) -> PathBuf {
        self.server.object(&format!("teams/a/{key}"))
    }

    fn arguments(&self) -> Vec<String> {
        vec!["history".to_owned()]
    }

    fn root(&self) -> &Path {
        self.root.path()
    }
}

fn folder() -> Folder {
    let folder = Folder(tempfile::tempdir().unwrap());
    fs::create_dir_all(folder.path("runs")).unwrap();
    folder
}

fn bucket() -> Bucket {
    Bucket { server: Server::start(), root: tempfile::tempdir().unwrap() }
}

fn put(store: &dyn Store, key: &str) {
    let path = store.path(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, key).unwrap();
}

fn there(store: &dyn Store, key: &str) -> bool {
    store.path(key).exists()
}

fn agent(store: &dyn Store, arguments: &[String], task: &Value) -> (bool, String) {
    let text = task.to_string();
    let (first, second) = text.split_at(text.len() / 2);
    let mut command = Command::new(AGENT);
    command
        .args(arguments)
        .env("MILLRACE_ROOT", store.root())
        .env("MILLRACE_TERMINATION_LOG", store.root().join("report"));
    if arguments[0] == "sweep" {
        command.env("MILLRACE_SWEEP_0", first).env("MILLRACE_SWEEP_1", second);
    } else {
        command.env("MILLRACE_SWEEP_0", text);
    }
    let output = credentials(&mut command).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// A sweep of a pipeline whose runs these are.
fn sweep(store: &dyn Store, kept: &[&str], more: &Value) -> SweepReport {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let look = LOOKS.fetch_add(1, Ordering::Relaxed);
    let mut task = json!({ "folder": HISTORY, "kept": kept, "look": look, "now": time });
    if !store.of().is_null() {
        task["store"] = store.of();
    }
    for (name, value) in more.as_object().into_iter().flatten() {
        task[name] = value.clone();
    }
    let _ = fs::remove_file(store.root().join("report"));
    let (well, said) = agent(store, &["sweep".to_owned()], &task);
    let text = fs::read_to_string(store.root().join("report")).unwrap();
    assert!(well && text.len() <= REPORT_LIMIT, "{said}");
    serde_json::from_str(&text).unwrap()
}

fn done(report: SweepReport) -> (u64, Option<u64>, Removed) {
    match report {
        SweepReport::Done { left, next, removed, .. } => (left, next, removed),
        SweepReport::Failed { reason, message, .. } => panic!("{reason}: {message}"),
    }
}

fn now(dry_run: bool) -> Value {
    json!({ "artifacts": { "graceSeconds": 0, "dryRun": dry_run } })
}

fn with(mut value: Value, field: &str, more: Value) -> Value {
    value[field] = more;
    value
}

/// What holds for every store.
fn what_nobody_needs_goes_and_nothing_else(store: &dyn Store, model: &str) {
    for key in [
        "runs/old-1/fit/manifest.json",
        &format!("runs/old-1/fit/{model}/model.onnx"),
        &format!("runs/old-1/fit/{model}/signature.json"),
        "runs/old-1/fit/attempts/2/log/0",
        "runs/old-1/fit/attempts/2/checkpoint/a b/ü#.pt",
        "runs/old-1/make/manifest.json",
        "runs/old-1/make/outputs/data/cd",
        // A name that only begins the same.
        "runs/old-12/make/manifest.json",
        "runs/kept-1/make/manifest.json",
        // Another pipeline's, of which this one knows nothing.
        "runs/other-1/make/manifest.json",
        "history/other-1/folders.json",
        "readme",
    ] {
        put(store, key);
    }
    let held = json!([format!("old-1/fit/{model}"), "other-1/make/outputs/x"]);
    assert_eq!(done(sweep(store, &["old-1", "old-12", "kept-1"], &now(false))).0, 0);
    // The run is gone. It is seen so for the first time, and nothing goes whatever the grace period is.
    let marked = sweep(store, &["old-12", "kept-1"], &with(now(false), "held", held.clone()));
    assert_eq!(done(marked), (1, Some(0), Removed::default()));
    let later = json!({ "artifacts": { "graceSeconds": 3600 }, "held": held });
    let (left, next, removed) = done(sweep(store, &["old-12", "kept-1"], &later));
    assert_eq!((left, removed), (1, Removed::default()));
    assert!(next.is_some_and(|next| (3500..=3600).contains(&next)), "{next:?}");

    let gone = [
        "runs/old-1/fit/attempts/2/log/0",
        "runs/old-1/fit/attempts/2/checkpoint/a b/ü#.pt",
        "runs/old-1/make/manifest.json",
        "runs/old-1/make/outputs/data/cd",
    ];
    let dry = done(sweep(store, &["old-12", "kept-1"], &with(now(true), "held", held.clone())));
    assert_eq!((dry.0, dry.2.runs, dry.2.files, dry.2.first.clone()), (1, 1, 4, vec!["old-1".to_owned()]));
    assert!(gone.iter().all(|key| there(store, key)), "a dry run takes nothing out");
    let real = done(sweep(store, &["old-12", "kept-1"], &with(now(false), "held", held.clone())));
    assert_eq!((real.0, real.1, &real.2), (1, None, &dry.2), "what was told is what goes");
    assert!(gone.iter().all(|key| !there(store, key)));
    for key in [
        "runs/old-1/fit/manifest.json",
        &format!("runs/old-1/fit/{model}/model.onnx"),
        &format!("runs/old-1/fit/{model}/signature.json"),
        "runs/old-12/make/manifest.json",
        "runs/kept-1/make/manifest.json",
        "runs/other-1/make/manifest.json",
        "history/other-1/folders.json",
        "readme",
    ] {
        assert!(there(store, key), "{key}");
    }
    // There is nothing more to do there until the ModelVersion goes: then it has its time too.
    let again = done(sweep(store, &["old-12", "kept-1"], &with(now(false), "held", held)));
    assert_eq!(again, (1, None, Removed::default()));
    assert_eq!(done(sweep(store, &["old-12", "kept-1"], &now(false))), (1, Some(0), Removed::default()));
    let (left, _, removed) = done(sweep(store, &["old-12", "kept-1"], &now(false)));
    assert_eq!((left, removed.files), (0, 3));
    assert!(!there(store, "runs/old-1/fit/manifest.json"));
    assert!(there(store, "runs/old-12/make/manifest.json") && there(store, "runs/other-1/make/manifest.json"));
}

#[test]
fn on_a_claim_what_nobody_needs_goes_and_nothing_else() {
    let store = folder();
    what_nobody_needs_goes_and_nothing_else(&store, "attempts/2/outputs/m");
    assert!(!there(&store, "runs/old-1"), "no empty folder stays");
}

#[test]
fn in_a_bucket_what_nobody_needs_goes_and_nothing_else() {
    what_nobody_needs_goes_and_nothing_else(&bucket(), "outputs/m/9f2c");
}

fn records(lines: &[(&str, &str, u32)]) -> Value {
    let line = |uid: &str, minute: u32| {
        json!({ "uid": uid, "completionTime": format!("2026-01-01T00:{minute:02}:00Z") }).to_string()
    };
    lines.iter().map(|(key, uid, minute)| json!({ "key": key, "line": line(uid, *minute) })).collect()
}

fn runs_are_recorded(store: &dyn Store) {
    let recorded = |report: SweepReport| match report {
        SweepReport::Done { recorded, .. } => recorded,
        SweepReport::Failed { reason, message, .. } => panic!("{reason}: {message}"),
    };
    let shown = |most: &str| {
        let mut task = json!({ "folder": HISTORY });
        if !store.of().is_null() {
            task["store"] = store.of();
        }
        let (well, text) = agent(store, &[store.arguments(), vec![most.to_owned()]].concat(), &task);
        assert!(well);
        let uid = |line: &str| serde_json::from_str::<Value>(line).unwrap()["uid"].as_str().unwrap().to_owned();
        text.lines().map(uid).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown("5"), "");
    let first = json!({ "records": records(&[("k1", "a", 1), ("k2", "b", 2)]) });
    assert_eq!(recorded(sweep(store, &[], &first)), ["k1", "k2"]);
    // The answer was lost, and it is done again.
    assert_eq!(recorded(sweep(store, &[], &first)), ["k1", "k2"]);
    assert_eq!(
        recorded(sweep(store, &[], &json!({ "records": records(&[("k3", "c", 3), ("k4", "a", 4)]) }))),
        ["k3", "k4"]
    );
    assert_eq!(shown("5"), "a c b", "once each, by the last end");
    assert_eq!(shown("2"), "a c");
    assert_eq!(fs::read_dir(store.path(&format!("{HISTORY}/runs"))).unwrap().count(), 2);
}

#[test]
fn on_a_claim_runs_are_recorded_and_the_newest_shown() {
    runs_are_recorded(&folder());
}

#[test]
fn in_a_bucket_runs_are_recorded_and_the_newest_shown() {
    runs_are_recorded(&bucket());
}

#[test]
fn no_link_is_followed_and_what_a_program_locked_goes_too() {
    let store = folder();
    put(&store, "runs/kept-1/make/precious");
    put(&store, "runs/old-1/make/locked/file");
    symlink(store.path("runs/kept-1"), store.path("runs/old-1/link")).unwrap();
    symlink(store.path("runs/kept-1/make/precious"), store.path("runs/old-1/make/file")).unwrap();
    fs::set_permissions(store.path("runs/old-1/make/locked"), fs::Permissions::from_mode(0o000)).unwrap();
    // A folder of a run that is a link: nobody but Millrace makes folders there.
    symlink(store.path("runs/kept-1"), store.path("runs/old-2")).unwrap();
    sweep(&store, &["kept-1", "old-1"], &now(false));
    sweep(&store, &["kept-1"], &now(false));
    let (left, _, removed) = done(sweep(&store, &["kept-1"], &now(false)));
    assert_eq!((left, removed.files), (0, 3));
    assert!(there(&store, "runs/kept-1/make/precious") && !there(&store, "runs/old-1"));

    sweep(&store, &["kept-1", "old-2"], &now(false));
    sweep(&store, &["kept-1"], &now(false));
    let told = sweep(&store, &["kept-1"], &now(false));
    let SweepReport::Done { left: 1, next: Some(0), not_removed: Some(why), .. } = &told else { panic!("{told:?}") };
    assert!(why.contains("old-2"), "{why}");
    assert!(there(&store, "runs/kept-1/make/precious"));
}

#[test]
fn a_pod_that_comes_after_one_that_was_evicted_is_no_second_look() {
    let store = folder();
    put(&store, "runs/old-1/make/x");
    sweep(&store, &["old-1"], &now(false));
    let same = with(now(false), "look", json!(1_000_000));
    for _ in 0..3 {
        assert_eq!(done(sweep(&store, &[], &same)), (1, Some(0), Removed::default()));
        assert!(there(&store, "runs/old-1/make/x"));
    }
    let next = with(now(false), "look", json!(1_000_001));
    assert_eq!(done(sweep(&store, &[], &next)).2.files, 1);
}

#[test]
fn what_cannot_be_taken_out_is_told_and_keeps_nothing_else() {
    let store = folder();
    // Deeper than anybody needs, and beside it what goes.
    put(&store, &format!("runs/deep-1/{}x", "d/".repeat(210)));
    put(&store, "runs/deep-1/z/file");
    put(&store, "runs/old-1/make/x");
    // A folder whose name is no text, in what is needed and beside it.
    for parent in ["runs/old-1/make/outputs/m", "runs/old-1/make"] {
        let odd = store.path(parent).join(OsStr::from_bytes(b"odd-\xff"));
        fs::create_dir_all(&odd).unwrap();
        fs::write(odd.join(OsStr::from_bytes(b"\xfe")), "odd").unwrap();
    }
    sweep(&store, &["deep-1", "old-1"], &now(false));
    let held = with(now(false), "held", json!(["old-1/make/outputs/m"]));
    sweep(&store, &[], &held);
    let more = with(held, "records", records(&[("k1", "a", 1)]));
    let told = sweep(&store, &[], &more);
    let SweepReport::Done { recorded, left, next, removed, not_removed: Some(why), .. } = &told else {
        panic!("{told:?}")
    };
    assert!(why.contains("folders lie in each other"), "{why}");
    assert_eq!((recorded.len(), *left, *next, removed.files), (1, 2, Some(0), 3));
    assert!(!there(&store, "runs/deep-1/z") && there(&store, "runs/deep-1/d"));
    assert_eq!(fs::read_dir(store.path("runs/old-1/make")).unwrap().count(), 1, "only what is needed");
    assert_eq!(fs::read_dir(store.path("runs/old-1/make/outputs/m")).unwrap().count(), 1);
    // It is tried again, and goes once it can.
    fs::rename(store.path("runs/deep-1/d/d"), store.path("aside")).unwrap();
    assert_eq!(done(sweep(&store, &[], &with(now(false), "held", json!(["old-1/make/outputs/m"])))).0, 1);
    assert!(!there(&store, "runs/deep-1"));
}

#[test]
fn who_cannot_read_what_is_known_takes_nothing_out_but_records() {
    let store = folder();
    put(&store, "runs/old-1/make/x");
    sweep(&store, &["old-1"], &now(false));
    sweep(&store, &[], &now(false));
    let notes = store.path(&format!("{HISTORY}/folders.json"));
    let text = fs::read_to_string(&notes).unwrap();
    fs::write(&notes, "{").unwrap();
    let more = with(now(false), "records", records(&[("k1", "a", 1)]));
    let SweepReport::Failed { reason, recorded, .. } = sweep(&store, &[], &more) else { panic!("it cannot be read") };
    assert_eq!((reason.as_str(), recorded), ("StoreNotReadable", vec!["k1".to_owned()]));
    assert!(there(&store, "runs/old-1/make/x"));
    fs::write(&notes, text).unwrap();
    assert_eq!(done(sweep(&store, &[], &now(false))).2.files, 1);
}

#[test]
fn a_bucket_that_refuses_says_so_in_one_word() {
    let store = bucket();
    let mut wrong = store.of();
    wrong["store"]["bucket"] = json!("pond");
    let report = sweep(&store, &[], &json!({ "store": wrong, "records": records(&[("k1", "a", 1)]) }));
    let SweepReport::Failed { reason, message, recorded } = report else { panic!("there is no such bucket") };
    assert_eq!((reason.as_str(), recorded.len()), ("StoreNotWritable", 0));
    assert!(message.contains("NoSuchBucket"), "{message}");
}

#[test]
fn a_thousand_files_go_in_one_sweep() {
    let store = bucket();
    for n in 0..1000 {
        put(&store, &format!("runs/old-1/make/outputs/data/cd/part-{n}"));
    }
    sweep(&store, &["old-1"], &now(false));
    sweep(&store, &[], &now(false));
    assert_eq!(done(sweep(&store, &[], &now(false))).2.files, 1000);
    assert_eq!(store.server.keys("teams/a/runs"), [] as [&str; 0]);
}

#[test]
fn two_hundred_records_fit_a_report() {
    let store = folder();
    let keys: Vec<String> = (0..200).map(|n| format!("{n:08x}")).collect();
    let all: Vec<(&str, &str, u32)> = keys.iter().map(|key| (key.as_str(), key.as_str(), 1)).collect();
    let SweepReport::Done { recorded, .. } = sweep(&store, &[], &json!({ "records": records(&all) })) else {
        panic!("it failed")
    };
    assert_eq!(recorded.len(), 200);
}
