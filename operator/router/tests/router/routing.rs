//! Which revision and which pod a request goes to, and as what it gets there.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use millrace_routes::Outcome;
use serde_json::json;

use crate::client::{Client, request};
use crate::pod::{Pod, rude};
use crate::site::{Site, endpoint, revision, until};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_split_by_weight_and_a_header_rule_comes_first() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let site = Site::start(
        &[revision("a", a.address.port(), 90), revision("b", b.address.port(), 10)],
        &json!({"a": [endpoint(a.address, true)], "b": [endpoint(b.address, true)]}),
        &json!({"headers": [{"header": "x-model", "value": "next", "revision": "b"}], "sticky": {"header": "x-user"}}),
        None,
    )
    .await;
    let mut client = Client::open(site.port).await;
    let mut second = 0;
    for _ in 0..2000 {
        second += usize::from(client.get("/", &[]).await.text == "b");
    }
    // 200 expected; six standard deviations are 80.
    assert!((120..=280).contains(&second), "{second}");
    assert_eq!(site.outcome("a", Outcome::Success).await, 2000 - second as u64);
    for _ in 0..20 {
        assert_eq!(client.get("/", &[("x-model", "next")]).await.text, "b");
    }
    let mut places = BTreeMap::new();
    for user in (0..100).chain(0..100) {
        let place = client.get("/", &[("x-user", &format!("user-{user}"))]).await.text;
        assert_eq!(places.entry(user).or_insert_with(|| place.clone()), &place);
    }
    assert!(places.values().any(|p| p == "b") && places.values().any(|p| p == "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spread_over_pods_and_a_busy_pod_gets_fewer() {
    let first = Pod::any("first").await;
    let second = first.beside("second", 2).await;
    let site = Site::of(&[&first, &second], &json!({})).await;
    let mut busy = Vec::new();
    for _ in 0..10 {
        let port = site.port;
        busy.push(tokio::spawn(async move { crate::client::get(port, "/hang").await.status }));
    }
    let waiting = |pod: &Pod| pod.seen.now.load(Ordering::SeqCst);
    until("all hang", || async { waiting(&first) + waiting(&second) == 10 }).await;
    // With two pods both are looked at each time: neither gets more than one more than the other.
    assert_eq!((waiting(&first), waiting(&second)), (5, 5));
    for _ in 0..10 {
        first.seen.go.notify_one();
        second.seen.go.notify_one();
        tokio::task::yield_now().await;
    }
    first.seen.go.notify_waiters();
    second.seen.go.notify_waiters();
    for request in busy {
        until("it is let go", || async {
            first.seen.go.notify_waiters();
            second.seen.go.notify_waiters();
            request.is_finished()
        })
        .await;
        assert_eq!(request.await.unwrap(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_takes_no_connection_is_passed_over() {
    let good = Pod::any("good").await;
    let dead = good.beside("dead", 2).await;
    let site = Site::of(&[&good, &dead], &json!({})).await;
    drop(dead);
    // Nothing listens there any more.
    until("it is gone", || async { tokio::net::TcpStream::connect(("127.0.0.2", good.address.port())).await.is_err() })
        .await;
    let mut client = Client::open(site.port).await;
    for _ in 0..200 {
        assert_eq!(client.get("/", &[]).await.text, "good");
    }
    assert!(site.stats("a").await.retries > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_which_a_byte_went_upstream_is_not_sent_again() {
    let (address, seen) = rude().await;
    let site =
        Site::start(&[revision("a", address.port(), 1)], &json!({"a": [endpoint(address, true)]}), &json!({}), None)
            .await;
    let answer = site.get("/").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.text, "{\"error\":\"the model's pod closed the connection without an answer\"}\n");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!(site.outcome("a", Outcome::Broken).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_connection_stay_and_the_caller_is_named() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut client = Client::open(site.port).await;
    let headers =
        [("connection", "x-hop"), ("x-hop", "1"), ("x-end", "2"), ("x-forwarded-for", "10.0.0.9"), ("te", "trailers")];
    let answer = client.ask(request("GET", "/headers?a=%20b", &headers, "")).await.unwrap();
    let seen: BTreeMap<String, String> = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(seen["x-end"], "2");
    assert_eq!(seen["x-forwarded-for"], "10.0.0.9, 127.0.0.1");
    assert_eq!(seen["x-forwarded-proto"], "http");
    assert_eq!(seen["host"], "model.example");
    assert_eq!(seen["te"], "trailers");
    assert_eq!(seen[":target"], "/headers?a=%20b");
    assert_eq!(seen[":version"], "HTTP/1.1");
    assert!(!seen.contains_key("x-hop") && !seen.contains_key("connection"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_pods_are_used_again() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut client = Client::open(site.port).await;
    for _ in 0..100 {
        assert_eq!(client.post("/echo", "hello").await.text, "hello");
    }
    assert_eq!(pod.requests(), 100);
    assert!(pod.seen.connections.load(Ordering::SeqCst) <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_count_is_in_the_metrics() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    site.get("/").await;
    site.get("/status/500").await;
    until("both are counted", || async { site.outcome("a", Outcome::ServerError).await == 1 }).await;
    let text = site.metrics().await;
    for line in [
        r#"millrace_router_requests_total{model="m",revision="a",outcome="Success"} 1"#,
        r#"millrace_router_requests_total{model="m",revision="a",outcome="ServerError"} 1"#,
        r#"millrace_router_in_flight{model="m",revision="a"} 0"#,
        r#"millrace_router_pods{model="m",revision="a"} 1"#,
        r#"millrace_router_request_duration_seconds_count{model="m",revision="a"} 2"#,
        r#"millrace_router_request_duration_seconds_bucket{le="+Inf",model="m",revision="a"} 2"#,
        r#"millrace_router_shadow_total{model="m",revision="a",result="agreed"} 0"#,
        r#"millrace_router_start_seconds_count{model="m",revision="a",span="load"} 0"#,
        "millrace_router_routes_loaded_total 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let stats = site.stats("a").await;
    assert_eq!((stats.duration.count(), stats.first_byte.count(), stats.in_flight, stats.pods), (2, 2, 0, 1));
    assert!(stats.demand_us > 0 && stats.duration.quantile(0.99).is_some());
}
