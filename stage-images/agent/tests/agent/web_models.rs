//! Models that lie on a web server: into the pod, and into the cache of a claim.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::web::{Web, say};
use crate::support::{AGENT, eventually};

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// What is mounted into a pod with the agent's init container.
struct Pod {
    root: TempDir,
    fetch: Value,
}

impl Pod {
    /// Of a model with this digest, whose server looks for `model.onnx`.
    fn new(uri: &str, digest: &str) -> Self {
        let source = json!({ "uri": uri, "file": "model.onnx", "credentials": "MILLRACE_STORE_KEYS_" });
        let root = tempfile::tempdir().unwrap();
        // An empty volume is mounted there.
        fs::create_dir_all(root.path().join("mnt/models")).unwrap();
        Self { root, fetch: json!({ "source": source, "path": "/millrace/mnt/models", "digest": digest }) }
    }

    fn cached(mut self) -> Self {
        let hex = self.fetch["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        self.fetch["path"] = json!(format!("/millrace/models/models/{hex}"));
        self.fetch["cache"] = json!({ "claim": "models", "keepSeconds": 86400, "maxBytes": 1_000_000 });
        self
    }

    fn start(&self) -> Child {
        fs::write(self.root.path().join("said"), "").unwrap();
        Command::new(AGENT)
            .arg("fetch")
            .env("MILLRACE_FETCH", json!([self.fetch]).to_string())
            .env("MILLRACE_ROOT", self.root.path())
            .env("MILLRACE_TERMINATION_LOG", self.root.path().join("said"))
            .env("MILLRACE_STORE_KEYS_HTTP_AUTHORIZATION", "Bearer t0ken")
            .env("HOSTNAME", "pod-1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn fetch(&self) -> Ended {
        self.ended(self.start())
    }

    fn ended(&self, child: Child) -> Ended {
        let output = child.wait_with_output().unwrap();
        let said = fs::read_to_string(self.root.path().join("said")).unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("t0ken") && !log.contains("t0ken"), "{log}");
        Ended { well: output.status.success(), log, said }
    }

    fn at(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }
}

struct Ended {
    well: bool,
    log: String,
    said: String,
}

/// Gives the bytes to who has the token. The first connection breaks in the middle.
fn server(body: Vec<u8>) -> Web {
    Web::serve(move |asked, number, stream| {
        if asked.header("authorization") != Some("bearer t0ken") {
            return say(stream, "401 Unauthorized", &[], 0, b"");
        }
        if asked.path != "/penguins.onnx" {
            return say(stream, "404 Not Found", &[], 0, b"");
        }
        let first = asked.first();
        let last = if number == 0 { body.len() / 2 } else { body.len() };
        let range = format!("Content-Range: bytes {first}-{}/{}", body.len() - 1, body.len());
        let (status, headers) = match first {
            0 => ("200 OK", vec!["ETag: \"v1\""]),
            _ => ("206 Partial Content", vec!["ETag: \"v1\"", range.as_str()]),
        };
        say(stream, status, &headers, body.len() - first, &body[first..last]);
    })
}

#[test]
fn a_file_becomes_the_folder_of_a_server_and_is_known_by_its_own_digest() {
    let body = vec![7; 300_000];
    let web = server(body.clone());
    let pod = Pod::new(&format!("{}/penguins.onnx", web.address), &digest(&body));
    // What a container before this one left.
    fs::write(pod.at("mnt/models/rest"), "").unwrap();
    let ended = pod.fetch();
    assert!(ended.well, "{}{}", ended.log, ended.said);
    let there: Vec<_> = fs::read_dir(pod.at("mnt/models")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["model.onnx"]);
    assert_eq!(fs::read(pod.at("mnt/models/model.onnx")).unwrap(), body);
    assert_eq!(web.asked()[1].header("range"), Some("bytes=150000-"), "it went on where it broke");
}

#[test]
fn what_is_something_else_or_is_not_there_is_told() {
    let web = server(vec![7; 1000]);
    let other = Pod::new(&format!("{}/penguins.onnx", web.address), &digest(b"other")).fetch();
    assert!(!other.well);
    assert!(other.said.contains("the model is damaged: ") && other.said.contains(&digest(b"other")), "{}", other.said);
    let none = Pod::new(&format!("{}/gone.onnx", web.address), &digest(b"")).fetch();
    assert!(!none.well && none.said.contains("404 Not Found; nothing is there"), "{}", none.said);
    let mut pod = Pod::new(&format!("{}/penguins.onnx", web.address), &digest(b""));
    pod.fetch["source"]["credentials"] = Value::Null;
    let closed = pod.fetch();
    assert!(closed.said.contains("401") && closed.said.contains("HTTP_AUTHORIZATION"), "{}", closed.said);
}

#[test]
fn a_cache_keeps_it_and_knows_how_large_it_is() {
    let body = vec![7; 300_000];
    let web = server(body.clone());
    let pod = Pod::new(&format!("{}/penguins.onnx", web.address), &digest(&body)).cached();
    let first = pod.fetch();
    assert!(first.well && first.log.contains("is fetched into the claim \"models\""), "{}{}", first.log, first.said);
    let hex = digest(&body).trim_start_matches("sha256:").to_owned();
    assert_eq!(fs::read(pod.at(&format!("models/models/{hex}/model.onnx"))).unwrap(), body);
    let asked = web.asked().len();
    let second = pod.fetch();
    assert!(second.well && second.log.contains("is in the claim \"models\""), "{}", second.log);
    assert_eq!(web.asked().len(), asked, "nobody was asked");
    let large = server(vec![8; 1_200_000]);
    let mut pod = Pod::new(&format!("{}/penguins.onnx", large.address), &digest(&[8; 1_200_000])).cached();
    pod.fetch["cache"]["maxBytes"] = json!(1_000_000);
    let full = pod.fetch();
    assert!(!full.well && full.said.contains("has no room for the model"), "{}", full.said);
    assert_eq!(large.asked().len(), 1, "it was asked how large it is");
}

#[test]
fn a_server_that_does_not_say_how_large_a_file_is_or_is_busy_at_first_costs_no_room() {
    let body = vec![7; 300_000];
    let served = body.clone();
    let web = Web::serve(move |_, number, stream| {
        use std::io::Write;
        if number == 0 {
            return say(stream, "503 Service Unavailable", &[], 0, b"");
        }
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").and_then(|()| stream.write_all(&served));
    });
    let pod = Pod::new(&format!("{}/penguins.onnx", web.address), &digest(&body)).cached();
    let ended = pod.fetch();
    assert!(ended.well, "{}{}", ended.log, ended.said);
    let hex = digest(&body).trim_start_matches("sha256:").to_owned();
    assert_eq!(fs::read_to_string(pod.at(&format!("models/used/{hex}"))).unwrap().trim(), "300000");
    let mut small = Pod::new(&format!("{}/penguins.onnx", web.address), &digest(&body)).cached();
    small.fetch["cache"]["maxBytes"] = json!(200_000);
    let full = small.fetch();
    assert!(!full.well && full.said.contains("has no room for the model"), "{}", full.said);
    assert!(!small.at(&format!("models/models/{hex}")).exists());
    assert_eq!(fs::read_dir(small.at("models/fetching")).unwrap().count(), 0);
}

#[test]
fn it_stops_in_the_middle_when_it_is_asked_to() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let web = Web::serve(move |_, _, stream| {
        say(stream, "200 OK", &[], 1000, b"beginning");
        // The connection stays, and nothing comes.
        let _ = receiver.lock().unwrap().recv();
    });
    let pod = Pod::new(&format!("{}/penguins.onnx", web.address), &digest(b""));
    let child = pod.start();
    eventually("some of it came", || fs::metadata(pod.at("mnt/models/model.onnx")).is_ok_and(|file| file.len() > 0));
    let id = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = pod.ended(child);
    assert!(!ended.well && ended.said.contains("stopped"), "{}", ended.said);
    drop(sender);
}
