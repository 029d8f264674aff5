//! Waiting for a pod: bounded, with a deadline, first come first served.

use std::sync::atomic::Ordering;

use millrace_routes::Outcome;
use serde_json::{Value, json};

use crate::client::{Client, get, request};
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, revision, until};

fn capped(pod: &Pod, cap: u32) -> Value {
    let mut revision = revision("a", pod.address.port(), 1);
    revision["concurrency"] = json!(cap);
    revision
}

async fn one_at_a_time(pod: &Pod, queue: &Value) -> Site {
    Site::start(&[capped(pod, 1)], &json!({"a": [endpoint(pod.address, true)]}), &json!({"queue": queue}), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_503_and_what_waits_is_served_in_turn() {
    let pod = Pod::any("a").await;
    let site = one_at_a_time(&pod, &json!({"max": 2})).await;
    let port = site.port;
    let mut waiting = Vec::new();
    for n in 1..=3 {
        waiting.push(tokio::spawn(async move { get(port, "/hang").await }));
        until("it is here", || async { site.stats("a").await.in_flight == n }).await;
    }
    until("it is at the pod", || async { pod.requests() == 1 }).await;
    assert_eq!(site.stats("a").await.queued, 2);
    let refused = site.get("/hang").await;
    assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(refused.text, "{\"error\":\"too many requests wait for this model\"}\n");
    for request in waiting {
        until("it is its turn", || async {
            pod.seen.go.notify_waiters();
            request.is_finished()
        })
        .await;
        assert_eq!(request.await.unwrap().status, 200);
    }
    assert_eq!(pod.seen.most_at_once.load(Ordering::SeqCst), 1);
    assert_eq!(site.outcome("a", Outcome::Overflow).await, 1);
    assert_eq!(site.outcome("a", Outcome::Success).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_too_long_is_answered_504() {
    let pod = Pod::any("a").await;
    let site = one_at_a_time(&pod, &json!({"timeoutMs": 200})).await;
    let port = site.port;
    let first = tokio::spawn(async move { get(port, "/hang").await });
    until("it is at the pod", || async { pod.requests() == 1 }).await;
    assert_eq!(site.get("/").await.status, 504);
    assert_eq!(site.stats("a").await.queued, 0);
    pod.seen.go.notify_one();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(site.outcome("a", Outcome::Timeout).await, 1);
    assert_eq!(pod.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_holds_under_load_and_nothing_is_lost() {
    let first = Pod::any("first").await;
    let second = first.beside("second", 2).await;
    let endpoints = json!({"a": [endpoint(first.address, true), endpoint(second.address, true)]});
    let site = Site::start(&[capped(&first, 3)], &endpoints, &json!({}), None).await;
    let port = site.port;
    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(tokio::spawn(async move {
            let mut client = Client::open(port).await;
            for _ in 0..50 {
                assert_eq!(client.get("/slow/1", &[]).await.status, 200);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let most = |pod: &Pod| pod.seen.most_at_once.load(Ordering::SeqCst);
    assert_eq!((most(&first), most(&second)), (3, 3));
    assert_eq!(site.outcome("a", Outcome::Success).await, 1600);
    let stats = site.stats("a").await;
    assert_eq!((stats.in_flight, stats.queued), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_counted_apart_and_leaves_its_place() {
    let pod = Pod::any("a").await;
    let site = one_at_a_time(&pod, &json!({})).await;
    let mut at_pod = Client::open(site.port).await;
    let mut in_queue = Client::open(site.port).await;
    let first = tokio::spawn(async move { at_pod.ask(request("GET", "/hang", &[], "")).await.is_ok() });
    until("it is at the pod", || async { pod.requests() == 1 }).await;
    let second = tokio::spawn(async move { in_queue.ask(request("GET", "/", &[], "")).await.is_ok() });
    until("it waits", || async { site.stats("a").await.queued == 1 }).await;
    second.abort();
    until("it left the queue", || async { site.stats("a").await.queued == 0 }).await;
    first.abort();
    until("the pod saw it leave", || async { pod.seen.broken_off.load(Ordering::SeqCst) == 1 }).await;
    until("both are counted", || async { site.outcome("a", Outcome::ClientLeft).await == 2 }).await;
    assert_eq!(site.get("/").await.text, "a");
    assert_eq!(site.stats("a").await.outcomes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_revision_that_leaves_the_routes_goes_to_its_successor() {
    let (old, new) = (Pod::any("old").await, Pod::any("new").await);
    let site = one_at_a_time(&old, &json!({})).await;
    let port = site.port;
    let first = tokio::spawn(async move { get(port, "/hang").await });
    until("it is at the pod", || async { old.requests() == 1 }).await;
    let second = tokio::spawn(async move { get(port, "/").await });
    until("it waits", || async { site.stats("a").await.queued == 1 }).await;
    site.endpoints(&json!({"a": [endpoint(old.address, true)], "b": [endpoint(new.address, true)]}));
    site.routes(&document(port, &[revision("b", new.address.port(), 1)], &json!({}))).await;
    assert_eq!(second.await.unwrap().text, "new");
    old.seen.go.notify_one();
    assert_eq!(first.await.unwrap().text, "old");
}
