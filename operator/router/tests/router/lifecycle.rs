//! Routes that change and a router that ends, under load: nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::client::{Client, get, request};
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, revision, until};

/// Clients that keep asking, each over one connection.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(port: u16, count: usize) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = Client::open(port).await;
            let (stop, answered) = (stop.clone(), answered.clone());
            clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.ask(request("GET", "/", &[], "")).await.expect("a connection was dropped");
                    assert_eq!(answer.status, 200, "{}", answer.text);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        Self { stop, answered, clients }
    }

    /// Waits for so many more answers.
    async fn more(&self, count: usize) {
        let before = self.answered.load(Ordering::SeqCst);
        until("more answers", || async { self.answered.load(Ordering::SeqCst) >= before + count }).await;
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        self.answered.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_pods_change_under_load_and_no_request_or_connection_is_lost() {
    let first = Pod::any("first").await;
    let second = first.beside("second", 2).await;
    let other = Pod::any("other").await;
    let (a, b) = (first.address.port(), other.address.port());
    let both = json!({"a": [endpoint(first.address, true), endpoint(second.address, true)], "b": [endpoint(other.address, true)]});
    let site = Site::start(&[revision("a", a, 1)], &both, &json!({}), None).await;
    let load = Load::start(site.port, 8).await;
    for round in 0..6 {
        load.more(50).await;
        let weight = round * 20;
        site.routes(&document(site.port, &[revision("a", a, 100 - weight), revision("b", b, weight)], &json!({})))
            .await;
        load.more(50).await;
        // A pod goes from the endpoints before it ends, and comes back.
        site.endpoints(&json!({"a": [endpoint(first.address, true)], "b": [endpoint(other.address, true)]}));
        until("it is gone", || async { site.stats("a").await.pods == 1 }).await;
        site.endpoints(&both);
    }
    // The old revision leaves; then it is the other's turn.
    site.routes(&document(site.port, &[revision("b", b, 1)], &json!({}))).await;
    load.more(100).await;
    let seen_before = first.requests();
    load.more(100).await;
    assert_eq!(first.requests(), seen_before);
    assert!(other.requests() > 0 && second.requests() > 0);
    assert!(load.end().await > 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_ends_finishes_what_is_in_hand_and_sends_clients_elsewhere() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let (port, admin) = (site.port, site.admin());
    let held = tokio::spawn(async move { get(port, "/hang").await });
    until("it is at the pod", || async { pod.requests() == 1 }).await;
    let mut kept = Client::open(port).await;
    assert_eq!(kept.get("/", &[]).await.headers.get("connection"), None);
    let ending = tokio::spawn(site.router.end(Duration::from_secs(2), Duration::from_mins(1)));
    until("it is not ready", || async { get(admin, "/readyz").await.status == 503 }).await;
    // Whoever still comes is served, and told to go.
    assert_eq!(kept.get("/", &[]).await.headers["connection"], "close");
    assert_eq!(get(port, "/").await.text, "a");
    assert_eq!(get(admin, "/livez").await.status, 200);
    until("nobody new is taken", || async { Client::try_open(port).await.is_err() }).await;
    assert!(!ending.is_finished());
    pod.seen.go.notify_one();
    assert_eq!(held.await.unwrap().text, "a");
    assert_eq!(ending.await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_say_whose_they_are_and_which_routes_are_in_force() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let stats = site.all_stats().await;
    assert_eq!((stats.pod.as_str(), stats.models["m"].generation), ("router-1", 0));
    let revisions = [revision("a", pod.address.port(), 0), revision("b", pod.address.port(), 0)];
    site.routes(&document(site.port, &revisions, &json!({"generation": 7}))).await;
    let stats = site.all_stats().await;
    assert_eq!((stats.models["m"].generation, stats.models["m"].revisions["a"].pods), (7, 1));
    assert_eq!(site.get("/").await.status, 503, "no revision has a weight");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_cut_off_after_its_time() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let port = site.port;
    let held = tokio::spawn(async move { Client::open(port).await.ask(request("GET", "/hang", &[], "")).await });
    until("it is at the pod", || async { pod.requests() == 1 }).await;
    assert_eq!(site.router.end(Duration::ZERO, Duration::from_millis(100)).await, 1);
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_leaves_gives_its_port_back_and_one_that_comes_gets_its_own() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    assert_eq!(site.get("/").await.text, "a");
    let mut next = document(site.port, &[revision("a", pod.address.port(), 1)], &json!({}));
    next["models"][0]["name"] = json!("n");
    site.routes(&next).await;
    until("the new model has the port", || async {
        get(site.admin(), "/metrics").await.text.contains(r#"millrace_router_pods{model="n",revision="a"} 1"#)
            && Client::try_open(site.port).await.is_ok()
    })
    .await;
    assert_eq!(site.get("/").await.text, "a");
    site.routes(&json!({"models": []})).await;
    until("the port is closed", || async { Client::try_open(site.port).await.is_err() }).await;
}
