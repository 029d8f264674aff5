//! Callers that are many, slow, silent or half gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use millrace_router::Limits;
use millrace_routes::Outcome;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::{Client, body, get, open_http2, request};
use crate::pod::Pod;
use crate::site::{Site, limits, until};

const SOON: Duration = Duration::from_millis(200);

async fn dial(port: u16, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the other side ends.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Until all who hang at the pod have their answer.
async fn let_go<T>(pod: &Pod, hanging: &[JoinHandle<T>]) {
    until("all have an answer", || async {
        pod.seen.go.notify_one();
        hanging.iter().all(JoinHandle::is_finished)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_refused_and_idle_ones_make_room() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { connections: 3, ..limits() }).await;
    let mut busy = Vec::new();
    for _ in 0..3 {
        let port = site.port;
        busy.push(tokio::spawn(async move {
            let mut client = Client::open(port).await;
            let answer = client.get("/hang", &[]).await;
            (answer.text, client)
        }));
    }
    until("all are at the pod", || async { pod.requests() == 3 }).await;
    let refused = rest(TcpStream::connect(("127.0.0.1", site.port)).await.unwrap()).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.ends_with("connections\"}\n"), "{refused}");
    let length: usize =
        refused.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert_eq!(refused.split("\r\n\r\n").nth(1).unwrap().len(), length);
    assert!(site.metrics().await.contains("millrace_router_connections_refused_total 1\n"));

    let mut kept = Vec::new();
    let_go(&pod, &busy).await;
    for one in busy {
        let (text, client) = one.await.unwrap();
        assert_eq!(text, "a");
        kept.push(client);
    }
    // As soon as one of the three has been idle for long enough, it is closed and another one is served.
    until("there is room", || async {
        let Ok(mut client) = Client::try_open(site.port).await else { return false };
        client.ask(request("GET", "/", &[], "")).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let metrics = site.metrics().await;
    assert!(!metrics.contains("millrace_router_connections_evicted_total 0\n"), "{metrics}");
    assert!(metrics.contains("millrace_router_connections_max 3\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beside_others_on_a_connection_count_too() {
    let pod = Pod::any("a").await;
    // A connection of HTTP/2 counts as four.
    let site = Site::limited(&pod, Limits { connections: 5, ..limits() }).await;
    let client = open_http2(site.port).await;
    let ask = |path: &str| {
        let (mut client, request) = (client.clone(), Request::get(format!("http://m{path}")).body(body("")).unwrap());
        tokio::spawn(async move { client.send_request(request).await.unwrap() })
    };
    let held = [ask("/hang"), ask("/hang")];
    until("both are at the pod", || async { pod.requests() == 2 }).await;
    assert_eq!(ask("/").await.unwrap().status(), 503);
    let_go(&pod, &held).await;
    for one in held {
        assert_eq!(one.await.unwrap().into_body().collect().await.unwrap().to_bytes(), "a");
    }
    assert_eq!(ask("/").await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_a_deadline_from_its_first_byte_and_an_idle_connection_does_not() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { head: SOON, ..limits() }).await;
    let mut kept = Client::open(site.port).await;
    assert_eq!(kept.get("/", &[]).await.text, "a");
    let mut slow = dial(site.port, "GET / HTTP/1.1\r\nhost: m\r\nx-slow: ").await;
    // Each byte does not begin a new deadline.
    let (mut reading, mut writing) = slow.split();
    let trickle = async {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        () = trickle => panic!("it was closed without a word"),
        read = reading.read_exact(&mut answer) => drop(read.unwrap()),
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(kept.get("/", &[]).await.text, "a");
    assert_eq!(pod.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_idle_for_long_is_closed_before_and_after_a_request() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { idle: SOON, ..limits() }).await;
    assert_eq!(rest(dial(site.port, "").await).await, "");
    let answer = rest(dial(site.port, "GET / HTTP/1.1\r\nhost: m\r\n\r\n").await).await;
    assert!(answer.ends_with("\r\n\r\na"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_preface_of_http2_ends() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { head: SOON, ..limits() }).await;
    assert_eq!(rest(dial(site.port, "PRI * HTTP/2.0\r\n").await).await, "");
    until("it is gone", || async { site.metrics().await.contains("millrace_router_connections 0\n") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_caller_that_answers_no_ping_is_gone_and_one_that_does_stays() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { ping: SOON, ..limits() }).await;
    let mut client = open_http2(site.port).await;
    // The preface, and settings that say nothing.
    let silent = dial(site.port, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    rest(silent).await;
    let request = Request::get("http://m/").body(body("")).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_falls_silent_is_answered_408_and_the_pod_is_let_go() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { body: SOON, ..limits() }).await;
    let answer = rest(dial(site.port, "POST /json HTTP/1.1\r\nhost: m\r\ncontent-length: 10\r\n\r\nhello").await).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("did not come in time"), "{answer}");
    until("the pod is let go", || async { pod.seen.now.load(Ordering::SeqCst) == 0 }).await;
    assert_eq!(site.outcome("a", Outcome::Refused).await, 1);
    // An answer that has begun can only be broken off.
    let answer = rest(dial(site.port, "POST /echo HTTP/1.1\r\nhost: m\r\ncontent-length: 10\r\n\r\nhello").await).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    // A pod that takes its time is none of the caller's faults.
    assert_eq!(Client::open(site.port).await.post("/slow/600", "whole").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_its_answer_is_let_go() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { write: SOON, ..limits() }).await;
    let length = 256 << 20;
    let mut stream =
        dial(site.port, &format!("POST /echo HTTP/1.1\r\nhost: m\r\ncontent-length: {length}\r\n\r\n")).await;
    let piece = vec![b'x'; 1 << 20];
    while stream.write_all(&piece).await.is_ok() {}
    until("it is counted", || async { site.outcome("a", Outcome::ClientLeft).await == 1 }).await;
    until("it is gone", || async { site.metrics().await.contains("millrace_router_connections 0\n") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_shuts_its_sending_side_gets_its_answer() {
    let pod = Pod::any("a").await;
    // And then the end of the connection, without waiting for this.
    let site = Site::limited(&pod, Limits { half_closed: Duration::from_hours(1), ..limits() }).await;
    let whole = |text: &'static str| async move {
        let mut stream = dial(site.port, text).await;
        stream.shutdown().await.unwrap();
        rest(stream).await
    };
    let answer = whole("GET /slow/300 HTTP/1.1\r\nhost: m\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\na"), "{answer}");
    let answer = whole("POST /json HTTP/1.1\r\nhost: m\r\ncontent-length: 5\r\n\r\nhello").await;
    assert!(answer.ends_with(r#""outputs":hello}"#), "{answer}");
    // Two requests behind each other have two answers.
    let answer = whole("GET /slow/50 HTTP/1.1\r\nhost: m\r\n\r\nGET /status/201 HTTP/1.1\r\nhost: m\r\n\r\n").await;
    assert!(answer.contains("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 201 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_left_is_found_out_though_it_looks_half_closed() {
    let pod = Pod::any("a").await;
    let site = Site::limited(&pod, Limits { half_closed: SOON, ..Limits::default() }).await;
    drop(dial(site.port, "GET /hang HTTP/1.1\r\nhost: m\r\n\r\n").await);
    until("the pod is let go", || async { pod.seen.broken_off.load(Ordering::SeqCst) == 1 }).await;
    until("it is counted", || async { site.outcome("a", Outcome::ClientLeft).await == 1 }).await;
    // One whose answer has begun is told by what it is sent.
    let mut events = dial(site.port, "GET /events HTTP/1.1\r\nhost: m\r\n\r\n").await;
    let mut first = [0; 12];
    events.read_exact(&mut first).await.unwrap();
    drop(events);
    until("it is counted", || async {
        pod.seen.go.notify_one();
        site.outcome("a", Outcome::ClientLeft).await == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_headers_as_are_taken_reach_the_pod() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    // With the host, or a length, 96: hyper, which the pods speak, takes 100.
    let headers: Vec<(String, String)> = (0..95).map(|i| (format!("x-{i}"), "1".to_owned())).collect();
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut client = Client::open(site.port).await;
    assert_eq!(client.get("/headers", &headers).await.status, 200);
    let mut http2 = open_http2(site.port).await;
    let mut over_http2 = Request::post("http://m/headers");
    for (name, value) in &headers {
        over_http2 = over_http2.header(*name, *value);
    }
    assert_eq!(http2.send_request(over_http2.body(body("text")).unwrap()).await.unwrap().status(), 200);
    headers.push(("x-more", "1"));
    let answer = Client::open(site.port).await.get("/headers", &headers).await;
    assert_eq!((answer.status.as_u16(), answer.text.contains("96 header lines")), (431, true));
    assert_eq!(pod.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_any_line_of_connection_names_stays_with_the_connection() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let head = "GET /headers HTTP/1.1\r\nhost: m\r\nconnection: x-one\r\nconnection: close, x-two\r\nx-one: 1\r\nx-two: 1\r\nx-kept: 1\r\n\r\n";
    let answer = rest(dial(site.port, head).await).await;
    assert!(answer.contains("x-kept") && !answer.contains("x-one") && !answer.contains("x-two"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_sockets_are_kept_alive_so_that_vanished_ones_are_found() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let stream = dial(site.port, "GET / HTTP/1.1\r\n").await;
    let (local, caller) = (site.port, stream.local_addr().unwrap().port());
    until("the timer runs", || async {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // The columns: number, local and remote address, state, queues, and which timer runs (02: keepalive).
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
            columns[1].ends_with(&format!(":{local:04X}"))
                && columns[2].ends_with(&format!(":{caller:04X}"))
                && columns[5].starts_with("02:")
        })
    })
    .await;
    assert_eq!(get(site.port, "/").await.text, "a");
}
