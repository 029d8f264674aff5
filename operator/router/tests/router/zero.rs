//! Models at zero: the first request wakes them and is held.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use millrace_router::{ScaleError, Scaler};
use millrace_routes::Outcome;
use serde_json::{Value, json};

use crate::client::{Client, get};
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, free_port, revision, until, write};

/// Starts a pod as a Deployment does: an address first, then the server, and no word from the kubelet.
struct Starter {
    folder: PathBuf,
    address: SocketAddr,
    pod: Arc<Mutex<Option<Pod>>>,
    woken: AtomicUsize,
    /// Wakes that fail first.
    failures: usize,
}

impl Scaler for Starter {
    fn wake<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        assert_eq!(deployment, "m-a");
        let before = self.woken.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if before < self.failures {
                return Err(ScaleError { deployment: deployment.to_owned(), source: "the apiserver is away".into() });
            }
            let (folder, address, pod) = (self.folder.clone(), self.address, self.pod.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(30)).await;
                write(&folder, "endpoints.json", &json!({"a": [endpoint(address, false)]}));
                tokio::time::sleep(Duration::from_millis(300)).await;
                *pod.lock().unwrap() = Some(Pod::start("a", address).await);
            });
            Ok(())
        })
    }
}

fn at_zero(port: u16) -> Value {
    let mut revision = revision("a", port, 1);
    revision["deployment"] = json!("m-a");
    revision["readyPath"] = json!("/v2/health/ready");
    revision
}

async fn site(failures: usize, queue: &Value) -> (Site, Arc<Starter>) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let path = folder.path().to_owned();
    let starter =
        Arc::new(Starter { folder: path, address, pod: Arc::default(), woken: AtomicUsize::new(0), failures });
    let with = json!({"queue": queue, "limits": {"bodyBytes": 10}});
    let site = Site::start_in(folder, &[at_zero(address.port())], &json!({}), &with, Some(starter.clone())).await;
    (site, starter)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_wakes_the_model_and_is_held_until_the_pod_answers() {
    let (site, starter) = site(0, &json!({})).await;
    let port = site.port;
    let others: Vec<_> = (0..5).map(|_| tokio::spawn(async move { get(port, "/").await })).collect();
    let first = site.get("/").await;
    assert_eq!((first.status.as_u16(), first.text.as_str()), (200, "a"));
    let timing = first.headers["server-timing"].to_str().unwrap();
    let names: Vec<&str> = timing.split(", ").map(|span| span.split_once(";dur=").unwrap().0).collect();
    assert_eq!(names, ["queue", "scale", "schedule", "load", "first-byte"], "{timing}");
    for other in others {
        assert_eq!(other.await.unwrap().text, "a");
    }
    assert_eq!(starter.woken.load(Ordering::SeqCst), 1);
    let text = site.metrics().await;
    for line in [
        r#"start_seconds_count{model="m",revision="a",span="load"} 1"#,
        // One that comes when the pod answers already is not held.
        r#"queue_wait_seconds_count{model="m",revision="a"} "#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let warm = site.get("/").await;
    assert_eq!((warm.status.as_u16(), warm.headers.get("server-timing")), (200, None));
    assert_eq!(site.outcome("a", Outcome::Success).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_says_it_is_too_long_wakes_nobody() {
    let (site, starter) = site(0, &json!({})).await;
    assert_eq!(Client::open(site.port).await.post("/echo", "0123456789a").await.status, 413);
    assert_eq!((starter.woken.load(Ordering::SeqCst), site.outcome("a", Outcome::Refused).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apiserver_that_is_away_is_asked_again() {
    let (site, starter) = site(1, &json!({})).await;
    assert_eq!(site.get("/").await.text, "a");
    assert_eq!(starter.woken.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_goes_down_while_a_request_comes_is_woken_again() {
    let (site, starter) = site(0, &json!({})).await;
    assert_eq!(site.get("/").await.text, "a");
    // The pod has ended, and the cluster has not said so yet.
    starter.pod.lock().unwrap().take();
    let (port, address) = (site.port, starter.address);
    until("it is gone", || async { tokio::net::TcpStream::connect(address).await.is_err() }).await;
    let held = tokio::spawn(async move { get(port, "/").await });
    until("it is held", || async { site.stats("a").await.queued == 1 }).await;
    site.endpoints(&json!({}));
    assert_eq!(held.await.unwrap().text, "a");
    assert_eq!(starter.woken.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_a_model_that_does_not_start_is_answered_in_its_time() {
    let (site, starter) = site(usize::MAX, &json!({"timeoutMs": 300, "max": 1})).await;
    let port = site.port;
    let held = tokio::spawn(async move { get(port, "/").await });
    until("it is held", || async { site.stats("a").await.queued == 1 }).await;
    assert_eq!(site.get("/").await.status, 503);
    assert_eq!(held.await.unwrap().status, 504);
    assert!(starter.woken.load(Ordering::SeqCst) >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_ready_and_is_not_any_more_gets_no_request() {
    let pod = Pod::any("a").await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let queue = json!({"queue": {"timeoutMs": 400}});
    let ready = json!({"a": [endpoint(pod.address, true)]});
    let site = Site::start_in(folder, &[at_zero(pod.address.port())], &ready, &queue, None).await;
    assert_eq!(site.get("/").await.text, "a");
    site.endpoints(&json!({"a": [endpoint(pod.address, false)]}));
    until("it is not ready", || async { site.stats("a").await.pods == 0 }).await;
    assert_eq!(site.get("/").await.status, 504);
    site.endpoints(&ready);
    until("it is ready", || async { site.stats("a").await.pods == 1 }).await;
    assert_eq!(site.get("/").await.text, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_graph_wakes_its_model_and_waits_for_it() {
    let (site, starter) = site(0, &json!({})).await;
    let port = free_port();
    let mut document = document(site.port, &[at_zero(starter.address.port())], &json!({}));
    let step = json!({"name": "only", "to": {"model": {"name": "m", "path": "/json"}}});
    let graph = json!({"root": "main", "timeoutMs": 60_000, "bodyBytes": 100, "nodes": {"main": {"sequence": [step]}}});
    document["models"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "g", "port": port, "revisions": [], "graph": graph}));
    site.routes(&document).await;
    let answer = Client::open(port).await.post("/", "[1]").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, r#"{"model_version":"a","outputs":[1]}"#));
    assert!(answer.headers["server-timing"].to_str().unwrap().contains("scale;dur="), "{:?}", answer.headers);
    assert_eq!(starter.woken.load(Ordering::SeqCst), 1);
}
