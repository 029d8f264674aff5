//! The cache of models on a claim, with agents as processes and a real S3 server: who fetches, who waits, what is healed, and what goes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::pipe::Pipe;
use crate::support::s3::{Server, credentials};
use crate::support::{self, AGENT, eventually};

const MIB: usize = 1024 * 1024;

/// A model in the bucket.
struct Model {
    key: String,
    digest: String,
    size: usize,
    /// Nobody has said how many bytes it has.
    unsaid: bool,
}

impl Model {
    /// Two files, of which the second is small.
    fn put(server: &Server, name: &str, size: usize) -> Self {
        let key = format!("models/{name}");
        let weights: Vec<u8> = (0..size).map(|at| (at * 31 + at / 251 + name.len()).to_le_bytes()[0]).collect();
        let files = [("layers/weights", weights), ("signature.json", name.as_bytes().to_vec())];
        let mut lines = String::new();
        for (path, bytes) in &files {
            let to = server.object(&format!("{key}/{path}"));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
            writeln!(lines, "{:x}  {}  {path}", Sha256::digest(bytes), bytes.len()).unwrap();
        }
        let size = files.iter().map(|(_, bytes)| bytes.len()).sum();
        Self { key, digest: format!("sha256:{:x}", Sha256::digest(lines)), size, unsaid: false }
    }

    fn hex(&self) -> &str {
        self.digest.strip_prefix("sha256:").unwrap()
    }
}

/// A claim of a namespace, and how its models are reached.
struct Claim {
    root: TempDir,
    store: Value,
    max_bytes: Option<usize>,
}

impl Claim {
    fn of(server: &Server) -> Self {
        Self { root: tempfile::tempdir().unwrap(), store: server.store(), max_bytes: None }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join("models").join(below)
    }

    fn entry(&self, model: &Model) -> PathBuf {
        self.path("models").join(model.hex())
    }

    fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The init container of a pod, not started.
    fn agent(&self, pod: &str, model: &Model) -> Command {
        let mut cache = json!({ "claim": "models", "keepSeconds": 86400 });
        if let Some(most) = self.max_bytes {
            cache["maxBytes"] = json!(most);
        }
        let fetch = json!([{
            "source": { "store": self.store, "key": model.key }, "path": format!("/millrace/models/models/{}", model.hex()),
            "digest": model.digest, "size": (!model.unsaid).then_some(model.size), "cache": cache,
        }]);
        let said = self.root.path().join(format!("said-{pod}"));
        fs::write(&said, "").unwrap();
        let mut command = Command::new(AGENT);
        command
            .arg("fetch")
            .env("MILLRACE_FETCH", fetch.to_string())
            .env("MILLRACE_ROOT", self.root.path())
            .env("MILLRACE_TERMINATION_LOG", said)
            .env("HOSTNAME", pod)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        credentials(&mut command);
        command
    }

    fn start(&self, pod: &str, model: &Model) -> Child {
        self.agent(pod, model).spawn().unwrap()
    }

    fn fetch(&self, pod: &str, model: &Model) -> Ended {
        self.ended(pod, self.agent(pod, model).output().unwrap())
    }

    fn ended(&self, pod: &str, output: Output) -> Ended {
        let said = fs::read_to_string(self.root.path().join(format!("said-{pod}"))).unwrap();
        Ended { well: output.status.success(), log: String::from_utf8(output.stderr).unwrap(), said }
    }

    /// What the operator says of the claim.
    fn needs(&self, models: &[&Model]) {
        let digests: Vec<&str> = models.iter().map(|model| model.digest.as_str()).collect();
        let text = json!({ "claims": { "models": digests, "other": [] } }).to_string();
        support::write(&self.root.path().join("needed/models.json"), text.as_bytes());
    }

    /// Nobody has asked for it for an hour.
    fn idle(&self, model: &Model, hours: u64) {
        long_ago(&self.path("used").join(model.hex()), Duration::from_secs(hours * 3600));
    }

    fn whole(&self, model: &Model) -> bool {
        let of = |path: &str| fs::read(self.entry(model).join(path)).map(|bytes| bytes.len()).unwrap_or_default();
        of("layers/weights") + of("signature.json") == model.size
    }
}

struct Ended {
    well: bool,
    log: String,
    /// What the kubelet is told.
    said: String,
}

impl Ended {
    fn fetched(&self) -> bool {
        self.log.contains("is fetched into the claim \"models\"")
    }
}

fn long_ago(path: &Path, ago: Duration) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            long_ago(&entry.unwrap().path(), ago);
        }
    }
    File::open(path).unwrap().set_modified(SystemTime::now() - ago).unwrap();
}

#[test]
fn a_model_is_fetched_once_and_later_pods_need_no_store() {
    let mut server = Server::start();
    let (claim, model) = (Claim::of(&server), Model::put(&server, "a", 3 * MIB));
    let first = claim.fetch("pod-1", &model);
    assert!(first.well && first.fetched(), "{}", first.log);
    assert!(claim.whole(&model) && claim.names("fetching").is_empty());
    let mode = |path: &str| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(claim.entry(&model).join(path)).unwrap().permissions())
    };
    let own =
        |path: PathBuf| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!([own(claim.path("locks/room")), own(claim.path("used").join(model.hex()))], [0o664; 2]);
    assert_eq!([own(claim.path("fetching")), own(claim.entry(&model))], [0o775; 2]);
    assert_eq!((mode("layers/weights") & 0o777, mode("layers") & 0o777), (0o444, 0o775));
    server.stop();
    let second = claim.fetch("pod-2", &model);
    assert!(second.well && !second.fetched() && second.log.contains("is in the claim \"models\""), "{}", second.log);
}

#[test]
fn pods_that_begin_together_fetch_once() {
    let server = Server::start();
    let pipe = Pipe::to(server.port);
    let model = Model::put(&server, "a", 24 * MIB);
    let mut claim = Claim::of(&server);
    claim.store["endpoint"] = json!(format!("http://127.0.0.1:{}", pipe.port));
    pipe.let_through(4 * MIB as u64);
    let pods: Vec<(String, Child)> =
        (0..4).map(|i| (format!("pod-{i}"), claim.start(&format!("pod-{i}"), &model))).collect();
    // Half of a model is in no place where a server could find it.
    eventually("some of it came", || pipe.came() > 3 * MIB as u64);
    assert_eq!((claim.names("models").len(), claim.names("fetching").len()), (0, 1));
    pipe.open();
    let ended: Vec<Ended> =
        pods.into_iter().map(|(pod, child)| claim.ended(&pod, child.wait_with_output().unwrap())).collect();
    let logs: String = ended.iter().map(|pod| pod.log.as_str()).collect();
    assert!(ended.iter().all(|pod| pod.well), "{logs}");
    assert_eq!(ended.iter().filter(|pod| pod.fetched()).count(), 1, "{logs}");
    assert!(logs.contains("waits for another pod that fetches it"), "{logs}");
    let came = pipe.came();
    assert!(came < 25 * MIB as u64, "{came} bytes came for {} of the model", model.size);
}

#[test]
fn who_waits_takes_over_when_the_pod_that_fetches_is_killed() {
    let server = Server::start();
    let pipe = Pipe::to(server.port);
    let model = Model::put(&server, "a", 12 * MIB);
    let mut claim = Claim::of(&server);
    claim.store["endpoint"] = json!(format!("http://127.0.0.1:{}", pipe.port));
    pipe.let_through(3 * MIB as u64);
    let mut first = claim.start("pod-1", &model);
    eventually("some of it came", || pipe.came() > 2 * MIB as u64);
    let mut second = claim.start("pod-2", &model);
    std::thread::sleep(Duration::from_millis(600));
    assert!(second.try_wait().unwrap().is_none());
    first.kill().unwrap();
    first.wait().unwrap();
    pipe.open();
    let second = claim.ended("pod-2", second.wait_with_output().unwrap());
    assert!(second.well && second.fetched() && claim.whole(&model), "{}", second.log);
    // What the dead one left may be of one that lives, where locks are of a node. It goes when it has been silent for a while.
    let left = claim.names("fetching");
    assert_eq!(left, [format!("{}.pod-1", model.hex())]);
    long_ago(&claim.path("fetching").join(&left[0]), Duration::from_mins(30));
    // What is not the cache's stays, and has no lock.
    fs::write(claim.path("fetching/notes.txt"), "").unwrap();
    assert!(claim.fetch("pod-3", &model).well);
    assert_eq!(claim.names("fetching"), ["notes.txt"]);
    assert!(!claim.path("locks/notes").exists());
}

#[test]
fn a_container_that_was_killed_leaves_nothing_to_the_next_one_of_its_pod() {
    let server = Server::start();
    let pipe = Pipe::to(server.port);
    let model = Model::put(&server, "a", 12 * MIB);
    let mut claim = Claim::of(&server);
    claim.store["endpoint"] = json!(format!("http://127.0.0.1:{}", pipe.port));
    pipe.let_through(3 * MIB as u64);
    let mut killed = claim.start("pod-1", &model);
    eventually("some of it came", || pipe.came() > 2 * MIB as u64);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!((claim.names("models").len(), claim.names("fetching").len()), (0, 1));
    pipe.open();
    let again = claim.fetch("pod-1", &model);
    assert!(again.well && claim.whole(&model), "{}", again.log);
    assert!(claim.names("fetching").is_empty());
}

#[test]
fn what_was_damaged_is_fetched_anew_and_not_served() {
    let mut server = Server::start();
    let (claim, model) = (Claim::of(&server), Model::put(&server, "a", MIB));
    assert!(claim.fetch("pod-1", &model).well);
    let weights = claim.entry(&model).join("layers/weights");
    let good = fs::read(&weights).unwrap();
    let damage = |bytes: &[u8]| {
        fs::remove_file(&weights).unwrap();
        fs::write(&weights, bytes).unwrap();
    };
    // As many bytes, and others; fewer; a file more; a link.
    let mut other = good.clone();
    other[4711] ^= 1;
    let changes: [&dyn Fn(); 4] = [
        &|| damage(&other),
        &|| damage(&good[1..]),
        &|| fs::write(claim.entry(&model).join("more"), "").unwrap(),
        &|| std::os::unix::fs::symlink("/etc/passwd", claim.entry(&model).join("link")).unwrap(),
    ];
    for change in changes {
        change();
        let healed = claim.fetch("pod-2", &model);
        assert!(healed.well && healed.fetched() && healed.log.contains("it is fetched anew"), "{}", healed.log);
        assert_eq!(fs::read(&weights).unwrap(), good);
        assert!(claim.names("gone").is_empty());
    }
    // A server that came before its model has an empty folder there.
    fs::remove_dir_all(claim.entry(&model)).unwrap();
    fs::create_dir(claim.entry(&model)).unwrap();
    assert!(claim.fetch("pod-3", &model).fetched());
    damage(&other);
    server.stop();
    let failed = claim.start("pod-4", &model);
    eventually("it is out of the way", || !claim.entry(&model).exists());
    kill(failed);
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_model_that_is_damaged_in_its_bucket_does_not_get_into_the_cache() {
    let server = Server::start();
    let (claim, mut model) = (Claim::of(&server), Model::put(&server, "a", MIB));
    model.digest = format!("sha256:{}", "0".repeat(64));
    let failed = claim.fetch("pod-1", &model);
    assert!(!failed.well);
    assert!(failed.said.contains("s3://lake/models/a has the digest sha256:"), "{}", failed.said);
    assert!(claim.names("models").is_empty() && claim.names("fetching").is_empty());
}

#[test]
fn what_nothing_needs_goes_to_make_room_and_what_a_revision_serves_stays() {
    let server = Server::start();
    let mut claim = Claim::of(&server);
    let [a, b, c, d] = ["a", "bb", "ccc", "dddd"].map(|name| Model::put(&server, name, MIB));
    claim.max_bytes = Some(2 * MIB + 1000);
    claim.needs(&[&a]);
    for model in [&a, &b] {
        assert!(claim.fetch("pod-1", model).well);
    }
    claim.idle(&a, 5);
    // It was asked for a moment ago.
    let full = claim.fetch("pod-2", &c);
    assert!(!full.well && full.said.contains("the claim \"models\" has no room"), "{}", full.said);
    for words in ["spec.model.cache.maxSize is 2.0 MiB", "2 models with 2.0 MiB must stay", "raise maxSize"] {
        assert!(full.said.contains(words), "{}", full.said);
    }
    assert!(claim.names("fetching").is_empty());
    claim.idle(&b, 1);
    let made = claim.fetch("pod-2", &c);
    assert!(made.well && made.log.contains(b.hex()), "{}", made.log);
    assert!(claim.whole(&a) && claim.whole(&c) && !claim.entry(&b).exists());
    assert_eq!(claim.names("used").len(), 2);
    // Where nobody says what is needed, everything may be.
    fs::remove_file(claim.root.path().join("needed/models.json")).unwrap();
    claim.idle(&c, 5);
    assert!(!claim.fetch("pod-3", &d).well);
    assert!(claim.whole(&a) && claim.whole(&c));
}

#[test]
fn one_that_a_pod_has_in_hand_stays() {
    let server = Server::start();
    let mut claim = Claim::of(&server);
    let [a, b] = ["a", "bb"].map(|name| Model::put(&server, name, MIB));
    claim.max_bytes = Some(MIB + 1000);
    claim.needs(&[]);
    assert!(claim.fetch("pod-1", &a).well);
    claim.idle(&a, 5);
    // As a pod that compares it.
    let reader = File::options().write(true).open(claim.path("locks").join(a.hex())).unwrap();
    reader.lock_shared().unwrap();
    let full = claim.fetch("pod-2", &b);
    assert!(!full.well && claim.whole(&a), "{}", full.log);
    drop(reader);
    assert!(claim.fetch("pod-2", &b).well && !claim.entry(&a).exists());
}

#[test]
fn what_nobody_asks_for_goes_though_there_is_room() {
    let server = Server::start();
    let claim = Claim::of(&server);
    let [a, b, c] = ["a", "bb", "ccc"].map(|name| Model::put(&server, name, 1000));
    claim.needs(&[&b]);
    for model in [&a, &b, &c] {
        assert!(claim.fetch("pod-1", model).well);
    }
    for (model, hours) in [(&a, 30), (&b, 30), (&c, 20)] {
        claim.idle(model, hours);
    }
    let ended = claim.fetch("pod-2", &c);
    assert!(ended.well && !ended.fetched(), "{}", ended.log);
    assert!(!claim.entry(&a).exists() && claim.whole(&b) && claim.whole(&c), "{}", ended.log);
}

/// A file system of so many bytes, over the claim. Needs root, as the tests of memory do.
struct Small(PathBuf);

impl Small {
    fn over(claim: &Claim, bytes: usize) -> Self {
        assert!(support::is_root(), "this test mounts a file system: run it as root");
        let path = claim.path("");
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&path).status().unwrap();
        assert!(mounted.success());
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_claim_that_is_full_is_told_with_sizes_and_heals_when_there_is_room() {
    let server = Server::start();
    let claim = Claim::of(&server);
    let disk = Small::over(&claim, 4 * MIB);
    let [a, b] = ["a", "bb"].map(|name| Model::put(&server, name, 3 * MIB));
    claim.needs(&[&a]);
    assert!(claim.fetch("pod-1", &a).well);
    let full = claim.fetch("pod-2", &b);
    assert!(
        !full.well && full.said.contains("the claim \"models\" has no room for the model: it has 3.0 MiB"),
        "{}",
        full.said
    );
    assert!(full.said.contains("of 4.0 MiB are free") && full.said.contains("enlarge the claim"), "{}", full.said);
    claim.needs(&[&b]);
    claim.idle(&a, 1);
    let made = claim.fetch("pod-2", &b);
    assert!(made.well && claim.whole(&b) && !claim.entry(&a).exists(), "{}", made.log);
    drop(disk);
}

#[test]
fn a_claim_that_cannot_be_written_is_told_by_its_name() {
    let server = Server::start();
    let (claim, model) = (Claim::of(&server), Model::put(&server, "a", 1000));
    // A file where a folder should be: a mode would not stop root.
    fs::write(claim.path("").to_str().unwrap().trim_end_matches('/'), "").unwrap();
    let failed = claim.fetch("pod-1", &model);
    assert!(!failed.well && failed.said.contains("the claim \"models\" cannot be used for models"), "{}", failed.said);
}

#[test]
fn pods_that_find_a_damaged_model_do_not_hold_each_other_up() {
    let server = Server::start();
    let (claim, model) = (Claim::of(&server), Model::put(&server, "a", MIB));
    assert!(claim.fetch("pod-0", &model).well);
    // To compare it takes seconds, and no room.
    let weights = claim.entry(&model).join("layers/weights");
    fs::remove_file(&weights).unwrap();
    File::create(&weights).unwrap().set_len(2 << 30).unwrap();
    let pods = ["pod-1", "pod-2", "pod-3"].map(|pod| (pod, claim.start(pod, &model)));
    let ended = pods.map(|(pod, child)| claim.ended(pod, child.wait_with_output().unwrap()));
    let logs: String = ended.iter().map(|pod| pod.log.as_str()).collect();
    assert!(ended.iter().all(|pod| pod.well) && claim.whole(&model), "{logs}");
    assert_eq!(ended.iter().filter(|pod| pod.fetched()).count(), 1, "{logs}");
    assert!(logs.matches("it is fetched anew").count() <= 3, "each compares it once: {logs}");
}

#[test]
fn a_version_that_has_its_size_wrong_takes_nothing_from_others() {
    let server = Server::start();
    let (claim, mut model) = (Claim::of(&server), Model::put(&server, "a", MIB));
    assert!(claim.fetch("pod-1", &model).well);
    let right = model.size;
    model.size += 1;
    let failed = claim.fetch("pod-2", &model);
    let told = format!("the version says it has {} bytes, it has {right}", model.size);
    assert!(!failed.well && failed.said.contains(&told), "{}", failed.said);
    model.size = right;
    assert!(claim.whole(&model));
    assert!(!claim.fetch("pod-3", &model).fetched());
}

#[test]
fn a_model_whose_size_nobody_said_makes_as_much_room_as_it_takes() {
    let server = Server::start();
    let mut claim = Claim::of(&server);
    let [a, mut b, mut c] = ["a", "bb", "ccc"].map(|name| Model::put(&server, name, MIB));
    (b.unsaid, c.unsaid) = (true, true);
    claim.max_bytes = Some(MIB * 3 / 2);
    claim.needs(&[]);
    assert!(claim.fetch("pod-1", &a).well);
    claim.idle(&a, 5);
    let came = claim.fetch("pod-2", &b);
    assert!(came.well && came.fetched() && claim.whole(&b) && !claim.entry(&a).exists(), "{}", came.log);
    let noted = claim.path("used").join(b.hex());
    assert_eq!(fs::read_to_string(&noted).unwrap(), b.size.to_string());
    // A hit asks nothing of the bucket, and notes what is there.
    fs::remove_file(&noted).unwrap();
    fs::remove_dir_all(server.object(&b.key)).unwrap();
    let hit = claim.fetch("pod-3", &b);
    assert!(hit.well && !hit.fetched(), "{}", hit.log);
    assert_eq!(fs::read_to_string(&noted).unwrap(), b.size.to_string());
    claim.needs(&[&b]);
    let full = claim.fetch("pod-4", &c);
    assert!(!full.well && full.said.contains("it has 1.0 MiB, spec.model.cache.maxSize is 1.5 MiB"), "{}", full.said);
}

#[test]
fn what_is_needed_is_read_when_it_is_decided_what_goes() {
    let server = Server::start();
    let mut claim = Claim::of(&server);
    let [a, b] = ["a", "bb"].map(|name| Model::put(&server, name, MIB));
    claim.max_bytes = Some(MIB + 1000);
    claim.needs(&[]);
    assert!(claim.fetch("pod-1", &a).well);
    claim.idle(&a, 5);
    // It waits, and meanwhile the operator says that a revision serves the other one.
    let other = File::create(claim.path("locks").join(b.hex())).unwrap();
    other.lock().unwrap();
    let mut waits = claim.start("pod-2", &b);
    std::thread::sleep(Duration::from_millis(700));
    assert!(waits.try_wait().unwrap().is_none());
    claim.needs(&[&a]);
    drop(other);
    let full = claim.ended("pod-2", waits.wait_with_output().unwrap());
    assert!(!full.well && full.said.contains("has no room") && claim.whole(&a), "{}", full.log);
}

#[test]
fn what_is_there_is_served_though_the_claim_is_full() {
    let server = Server::start();
    let claim = Claim::of(&server);
    let disk = Small::over(&claim, 4 * MIB);
    let model = Model::put(&server, "a", MIB);
    assert!(claim.fetch("pod-1", &model).well);
    fs::remove_file(claim.path("used").join(model.hex())).unwrap();
    let full = fs::write(claim.path("filler"), vec![0; 4 * MIB]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let hit = claim.fetch("pod-2", &model);
    assert!(hit.well && !hit.fetched() && hit.log.contains("it may go earlier than it should"), "{}", hit.log);
    assert!(hit.log.contains("enlarge the claim") && !hit.log.contains("access mode"), "{}", hit.log);
    drop(disk);
}
