//! What is too long, and documents that are not right.

use futures::SinkExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::{Bytes, Frame};
use millrace_routes::Outcome;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, request};
use crate::pod::Pod;
use crate::site::{Site, document, revision};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_whether_its_length_is_said_or_not() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({"limits": {"bodyBytes": 10}})).await;
    let mut client = Client::open(site.port).await;
    assert_eq!(client.post("/echo", "0123456789").await.text, "0123456789");
    assert_eq!(Client::open(site.port).await.post("/echo", "0123456789a").await.status, 413);
    assert_eq!(pod.requests(), 1);

    let (mut sender, receiver) = futures::channel::mpsc::channel(1);
    let upload = Request::post("/json").header("host", "m").body(StreamBody::new(receiver).boxed()).unwrap();
    let mut client = Client::open(site.port).await;
    let asked = tokio::spawn(async move { client.ask(upload).await });
    for _ in 0..2 {
        sender.send(Ok(Frame::data(Bytes::from_static(b"012345")))).await.unwrap();
    }
    assert_eq!(asked.await.unwrap().unwrap().status, 413);
    // The other one was refused before it was anybody's.
    assert_eq!((site.outcome("a", Outcome::Refused).await, site.refusals("BodyTooLong").await), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_long_is_refused_and_the_pod_never_sees_it() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: m\r\nx-long: {}\r\n\r\n", "x".repeat(80 << 10));
    // The router may answer and close before it has read all.
    drop(stream.write_all(head.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(pod.requests(), 0);
    assert_eq!(site.get("/").await.text, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_begin_to_answer_is_given_up() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({"limits": {"answerMs": 100}})).await;
    assert_eq!(site.get("/hang").await.status, 504);
    assert_eq!(site.get("/").await.status, 200);
    assert_eq!(site.outcome("a", Outcome::Timeout).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_refused() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut client = Client::open(site.port).await;
    let answer = client.ask(request("CONNECT", "example.com:443", &[], "")).await.unwrap();
    assert_eq!(answer.status, 405);
    assert_eq!(pod.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_not_right_leaves_the_old_routes() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut wrong = document(site.port, &[revision("a", pod.address.port(), 1)], &json!({}));
    wrong["models"][0]["revisions"][0]["wieght"] = json!(5);
    site.routes(&wrong).await;
    assert_eq!(site.get("/").await.text, "a");
    site.routes(&json!({"models": [{"name": "m", "port": 0, "revisions": []}]})).await;
    assert_eq!(site.get("/").await.text, "a");
    let text = site.metrics().await;
    assert!(
        text.contains("millrace_router_routes_refused_total 2\n")
            && text.contains("millrace_router_routes_loaded_total 1\n")
    );
    site.routes(&document(site.port, &[], &json!({}))).await;
    assert_eq!(site.get("/").await.status, 503);
}
