//! Several models in one server, loaded and unloaded while it serves.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{Answer, Server, eventually, infer_path, lookup, model_dir, tabular};

/// A repository with the models "lookup" in two versions, "tabular" and "broken".
fn repository() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (from, to) in [("lookup", "lookup/1"), ("lookup", "lookup/2"), ("tabular", "tabular")] {
        copy(from, &root.path().join(to));
    }
    fs::create_dir(root.path().join("broken")).unwrap();
    fs::write(root.path().join("broken/model.onnx"), "no model").unwrap();
    root
}

fn copy(model: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::copy(model_dir(model).join("model.onnx"), to.join("model.onnx")).unwrap();
}

fn with_repository(root: &tempfile::TempDir, flags: &[&str]) -> Server {
    let all = [&["--model-repository", root.path().to_str().unwrap()], flags].concat();
    Server::ready("fixed", &all)
}

fn manage(server: &Server, name: &str, verb: &str) -> Answer {
    server.caller().post(&format!("/v2/repository/models/{name}/{verb}"), "{}")
}

fn states(server: &Server) -> Vec<(String, String, String)> {
    let listed = server.caller().post("/v2/repository/index", "").json();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    let state = |entry: &Value| (text(entry, "name"), text(entry, "version"), text(entry, "state"));
    listed.as_array().unwrap().iter().map(state).collect()
}

#[test]
fn models_are_loaded_and_unloaded_while_the_server_serves() {
    let root = repository();
    let server = with_repository(&root, &[]);
    let mut caller = server.caller();
    let state = |name: &str, version: &str, state: &str| (name.to_owned(), version.to_owned(), state.to_owned());
    let unloaded = [
        state("broken", "1", "UNAVAILABLE"),
        state("lookup", "2", "UNAVAILABLE"),
        state("m", "3", "READY"),
        state("tabular", "1", "UNAVAILABLE"),
    ];
    assert_eq!(states(&server), unloaded);
    let path = "/v2/models/lookup/infer";
    assert_eq!(caller.post(path, &lookup(&[1])).status, 404);
    assert_eq!(manage(&server, "lookup", "load").status, 200);
    assert_eq!(manage(&server, "tabular", "load").status, 200);
    let answer = caller.post(path, &lookup(&[1])).json();
    assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!("lookup"), &json!("2")));
    assert_eq!(caller.post("/v2/models/tabular/infer", &tabular()).status, 200);
    assert_eq!(caller.get("/v1/models").json(), json!({"models": ["lookup", "m", "tabular"]}));
    assert_eq!(states(&server)[1], state("lookup", "2", "READY"));
    let served = r#"{name="lookup",version="2",execution_provider="CPUExecutionProvider"}"#;
    server.wait_for_metric(&format!("millrace_server_model_info{served}"), 1.0);
    // A version that comes in is served once the model is loaded again.
    copy("lookup", &root.path().join("lookup/11"));
    assert_eq!(manage(&server, "lookup", "load").status, 200);
    assert_eq!(caller.post(path, &lookup(&[1])).json()["model_version"], "11");
    assert_eq!(manage(&server, "lookup", "unload").status, 200);
    assert_eq!(manage(&server, "lookup", "unload").status, 200);
    assert_eq!(caller.post(path, &lookup(&[1])).status, 404);
    assert_eq!(states(&server)[1], state("lookup", "11", "UNAVAILABLE"));
    assert_eq!(caller.get("/v2/health/ready").status, 200);
}

#[test]
fn what_cannot_be_loaded_or_unloaded_is_refused_and_changes_nothing() {
    let root = repository();
    let server = with_repository(&root, &["--max-models", "2"]);
    for (name, verb, status, words) in [
        ("broken", "load", 400, "is not a model that ONNX Runtime can load"),
        ("other", "load", 404, "the repository has no model \"other\""),
        ("..", "load", 404, "the repository has no model \"..\""),
        ("%2Fetc", "load", 404, "the repository has no model \"/etc\""),
        ("m", "unload", 409, "it stays"),
        ("other", "unload", 404, "the repository has no model"),
    ] {
        let answer = manage(&server, name, verb);
        assert_eq!(answer.status, status, "{name} {verb}");
        assert!(answer.error().contains(words), "{}", answer.error());
    }
    assert_eq!(manage(&server, "lookup", "load").status, 200);
    let full = manage(&server, "tabular", "load");
    let words = "this server has 2 models, as many as it may: unload one, or raise --max-models";
    assert_eq!((full.status, full.error().as_str()), (409, words));
    // A model that fails to load again goes on serving.
    fs::write(root.path().join("lookup/2/model.onnx"), "broken").unwrap();
    assert_eq!(manage(&server, "lookup", "load").status, 400);
    assert_eq!(server.caller().post("/v2/models/lookup/infer", &lookup(&[1])).status, 200);
}

#[test]
fn without_a_repository_nobody_loads_or_unloads() {
    let server = Server::ready("lookup", &[]);
    let answer = server.caller().post("/v2/repository/index", "");
    assert_eq!(answer.status, 404);
    for verb in ["load", "unload"] {
        assert_eq!(manage(&server, "m", verb).status, 404);
    }
    assert_eq!(server.caller().post(infer_path(), &lookup(&[1])).status, 200);
}

#[test]
fn a_server_may_begin_with_models_of_the_repository() {
    let root = repository();
    let server = with_repository(&root, &["--load", "lookup,tabular"]);
    assert_eq!(server.caller().get("/v1/models").json(), json!({"models": ["lookup", "m", "tabular"]}));
    let flags = ["--model-repository", root.path().to_str().unwrap(), "--load", "lookup,broken"];
    let (status, stderr) = Server::fails(&model_dir("fixed"), &flags);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("broken"), "{stderr}");
}

#[test]
fn not_one_request_fails_while_a_model_is_loaded_again() {
    let root = repository();
    let server = with_repository(&root, &["--load", "lookup"]);
    let answered = |server: &Server| server.metric("millrace_server_requests_total{code=\"2xx\"}");
    let stopped = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut caller, stopped) = (server.caller(), Arc::clone(&stopped));
            std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let answer = caller.post("/v2/models/lookup/infer", &lookup(&[3]));
                    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let before = answered(&server);
        assert_eq!(manage(&server, "lookup", "load").status, 200);
        eventually("more requests are answered", || answered(&server) > before + 10.0);
    }
    stopped.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap();
    }
}
