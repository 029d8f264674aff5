//! Reviews as an apiserver sends them, over TLS.

#![allow(clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use millrace_core::config::Config;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::{PATH, Reviewer, Webhook};
use crate::store::{Feeds, Stores};

const A: [&str; 2] =
    [include_str!("../../../router/tests/certs/a.crt"), include_str!("../../../router/tests/certs/a.key")];
const B: [&str; 2] =
    [include_str!("../../../router/tests/certs/b.crt"), include_str!("../../../router/tests/certs/b.key")];

fn mount(folder: &Path, [chain, key]: [&str; 2]) {
    std::fs::write(folder.join("tls.crt"), chain).unwrap();
    std::fs::write(folder.join("tls.key"), key).unwrap();
}

fn reviewer() -> Reviewer {
    Reviewer::new(Arc::new(Stores::default()), Arc::new(Feeds::default()), Config::default())
}

fn review(operation: &str, kind: &str, object: &Value, old: &Value) -> Value {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": { "group": "millrace.dev", "version": "v1alpha1", "kind": kind }, "operation": operation,
        "namespace": "n", "name": "x", "object": object, "oldObject": old, "dryRun": false,
        "userInfo": { "username": "me" }
    } })
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "millrace.dev/v1alpha1", "kind": kind, "metadata": { "name": "x", "namespace": "n" }, "spec": spec })
}

fn answered(review: &Value) -> Value {
    let answer = reviewer().answer(review.to_string().as_bytes()).expect("it is a review");
    serde_json::from_slice::<Value>(&answer).unwrap()["response"].clone()
}

/// A stage that waits for one that is not there.
fn wrong() -> Value {
    json!({ "stages": { "a": { "needs": ["b"], "container": { "image": "i", "command": ["c"] } } } })
}

fn right() -> Value {
    json!({ "stages": { "a": { "uses": "comes-later" } } })
}

#[test]
fn what_is_wrong_is_refused_in_the_words_of_the_condition() {
    let refused = answered(&review("CREATE", "MLPipeline", &object("MLPipeline", &wrong()), &Value::Null));
    assert_eq!((&refused["uid"], &refused["allowed"]), (&json!("u-1"), &json!(false)));
    assert_eq!(refused["status"]["reason"], "Invalid");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("spec.stages.a.needs[0]: there is no stage `b`"), "{message}");
    let circle = json!({ "nodes": { "main": { "switch": { "steps": [{ "name": "a", "node": "main" }] } } } });
    let refused = answered(&review("CREATE", "InferenceGraph", &object("InferenceGraph", &circle), &Value::Null));
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("spec.nodes.main.switch.steps[a].node: a request would go round"), "{message}");
    let inline = object("MLPipelineRun", &json!({ "pipeline": wrong() }));
    let refused = answered(&review("CREATE", "MLPipelineRun", &inline, &Value::Null));
    assert!(
        refused["status"]["message"].as_str().unwrap().starts_with("spec.pipeline.stages.a.needs[0]: "),
        "{refused}"
    );
    let deployment =
        object("ModelDeployment", &json!({ "model": { "name": "m" }, "scale": { "toZeroAfter": "1ms", "min": 0 } }));
    let refused = answered(&review("UPDATE", "ModelDeployment", &deployment, &object("ModelDeployment", &json!({}))));
    assert!(refused["status"]["message"].as_str().unwrap().starts_with("spec.scale.toZeroAfter: "), "{refused}");
}

#[test]
fn what_is_right_or_was_there_or_cannot_be_read_is_admitted() {
    let bad = object("MLPipeline", &wrong());
    let mut labeled = bad.clone();
    labeled["metadata"]["labels"] = json!({ "a": "b" });
    let mut deleted = bad.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let cases = [
        review("CREATE", "MLPipeline", &object("MLPipeline", &right()), &Value::Null),
        review("UPDATE", "MLPipeline", &labeled, &bad),
        review("UPDATE", "MLPipeline", &deleted, &object("MLPipeline", &right())),
        review("CREATE", "MLPipeline", &object("MLPipeline", &json!({ "stages": 3 })), &Value::Null),
        review("CREATE", "ModelVersion", &bad, &Value::Null),
        review("DELETE", "MLPipeline", &Value::Null, &bad),
        // What cancels a run is never held up by what the run runs.
        review(
            "UPDATE",
            "MLPipelineRun",
            &object("MLPipelineRun", &json!({ "pipeline": wrong(), "cancel": "Now" })),
            &object("MLPipelineRun", &json!({ "pipeline": wrong() })),
        ),
    ];
    for case in cases {
        assert_eq!(answered(&case), json!({ "uid": "u-1", "allowed": true }), "{case}");
    }
}

#[test]
fn a_fault_that_was_there_already_is_a_warning() {
    let mut edited = wrong();
    edited["concurrency"] = json!({ "policy": "Queue" });
    let review = review("UPDATE", "MLPipeline", &object("MLPipeline", &edited), &object("MLPipeline", &wrong()));
    let answer = answered(&review);
    assert_eq!(answer["allowed"], true, "{answer}");
    assert!(answer["warnings"][0].as_str().unwrap().contains("there is no stage `b`"), "{answer}");
}

#[test]
fn warnings_are_lines_that_a_header_takes() {
    let text = format!("{{{{ params.x }}}}\n{}", "y".repeat(900));
    let stages: serde_json::Map<String, Value> =
        (0..20).map(|n| (format!("s{n}"), json!({ "container": { "image": "i", "command": [text] } }))).collect();
    let spec = json!({ "stages": stages });
    let answer = answered(&review("CREATE", "MLPipeline", &object("MLPipeline", &spec), &Value::Null));
    assert_eq!(answer["allowed"], true);
    let warnings: Vec<&str> = answer["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(warnings.len(), 9);
    assert!(warnings.iter().all(|line| line.chars().count() <= 240 && !line.contains('\n')), "{warnings:?}");
    assert!(warnings[8].contains("and 12 more"), "{warnings:?}");
}

#[test]
fn hostile_reviews_get_no_answer() {
    let numbers = format!("[{}0]", "0,".repeat(1_000_000));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for params in [numbers, deep] {
        let review = review("CREATE", "MLPipelineRun", &json!("OBJECT"), &Value::Null).to_string();
        let object =
            format!(r#"{{"metadata":{{}},"spec":{{"pipeline":{{"stages":{{}}}},"params":{{"x":{params}}}}}}}"#);
        let answer = reviewer().answer(review.replace("\"OBJECT\"", &object).as_bytes());
        let allowed =
            answer.map(|answer| serde_json::from_slice::<Value>(&answer).unwrap()["response"]["allowed"].clone());
        assert!(allowed.is_none() || allowed == Some(json!(true)), "{allowed:?}");
    }
    for text in ["", "{}", "[]", "null", "{\"request\":{}}", "\u{0}"] {
        assert!(reviewer().answer(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn a_template_is_judged_by_itself() {
    let template = object("StageTemplate", &json!({ "container": { "image": "i", "command": ["$[[ nope ]]"] } }));
    assert_eq!(answered(&review("CREATE", "StageTemplate", &template, &Value::Null))["allowed"], false);
}

type Answered = (StatusCode, Bytes);

/// One request over a connection of its own, by a client that trusts this certificate.
async fn ask(port: u16, trusted: &str, path: &str, body: Vec<u8>) -> std::io::Result<Answered> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let stream = connector.connect(ServerName::try_from("model.example").unwrap(), stream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::post(path).header("host", "model.example").body(Full::new(Bytes::from(body))).unwrap();
    let answer = sender.send_request(request).await.map_err(std::io::Error::other)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(std::io::Error::other)?;
    Ok((status, body.to_bytes()))
}

/// Until the certificate is in force.
async fn until_answered(port: u16, trusted: &str, body: &[u8]) -> Answered {
    for _ in 0..200 {
        if let Ok(answer) = ask(port, trusted, PATH, body.to_vec()).await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no answer with this certificate");
}

#[tokio::test]
async fn it_answers_over_tls_takes_another_certificate_and_lets_go_of_what_is_too_large() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    mount(folder.path(), A);
    tokio::spawn(Webhook::new(folder.path().to_owned(), reviewer()).serve(listener));
    let body = review("CREATE", "MLPipeline", &object("MLPipeline", &wrong()), &Value::Null).to_string().into_bytes();
    let (status, answer) = until_answered(port, A[0], &body).await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(false)));
    assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));

    assert_eq!(ask(port, A[0], "/", body.clone()).await.unwrap().0, StatusCode::NOT_FOUND);
    assert_eq!(ask(port, A[0], PATH, b"no review".to_vec()).await.unwrap().0, StatusCode::BAD_REQUEST);
    // It may be told so, or find the connection closed while it still sends.
    let large = ask(port, A[0], PATH, vec![b' '; 5 * 1024 * 1024]).await;
    assert!(large.is_err() || large.unwrap().0 == StatusCode::PAYLOAD_TOO_LARGE);

    // A broken pair changes nothing; a right one comes into force.
    mount(folder.path(), [B[0], A[1]]);
    tokio::time::sleep(super::CERTIFICATE_AGE + Duration::from_millis(500)).await;
    assert_eq!(ask(port, A[0], PATH, body.clone()).await.unwrap().0, StatusCode::OK);
    mount(folder.path(), B);
    assert_eq!(until_answered(port, B[0], &body).await.0, StatusCode::OK);
    assert!(ask(port, A[0], PATH, body).await.is_err(), "the old one is not shown any more");
}
