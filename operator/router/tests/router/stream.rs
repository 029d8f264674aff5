//! What is not one request and one answer of known length: events, websockets, HTTP/2, gRPC.

use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::{Bytes, Frame};
use hyper_util::rt::TokioIo;
use millrace_routes::Outcome;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, body, open_http2, request};
use crate::pod::Pod;
use crate::site::{Site, endpoint, revision, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_before_the_next_is_made() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut client = Client::open(site.port).await;
    let mut events = client.send(request("GET", "/events", &[], "")).await.unwrap().into_body();
    for i in 0..3 {
        let frame = events.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("data: {i}\n\n"));
        pod.seen.go.notify_one();
    }
    assert!(events.frame().await.is_none());
    assert_eq!(site.outcome("a", Outcome::Success).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_passed_through_both_ways_and_outlives_its_route() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut client = Client::open(site.port).await;
    let headers =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let response = client.send(request("GET", "/socket", &headers, "")).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut buffer = [0; 5];
    for text in [b"hello", b"again"] {
        socket.write_all(text).await.unwrap();
        socket.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, text);
    }
    assert_eq!(site.stats("a").await.in_flight, 1);
    site.routes(&json!({"models": []})).await;
    socket.write_all(b"still").await.unwrap();
    socket.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"still");
    drop(socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_protocol_is_passed_through() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let headers = [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")];
    let answer = Client::open(site.port).await.get("/headers", &headers).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text.contains("upgrade") && !answer.text.contains("http2-settings"), "{answer:?}");
    // Not even where the pod goes over to it unasked.
    assert_eq!(Client::open(site.port).await.get("/socket", &headers).await.status, 502);
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_goes_by_http2_with_its_trailers_and_its_status_is_counted() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut client = open_http2(site.port).await;
    for status in ["0", "13", "3"] {
        let request = Request::post("http://model.example/inference.GRPCInferenceService/ModelInfer")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-status", status)
            .body(body("message"))
            .unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], status);
        assert_eq!(collected.to_bytes(), "message");
    }
    until("all are counted", || async { site.stats("a").await.in_flight == 0 }).await;
    for outcome in [Outcome::Success, Outcome::ServerError, Outcome::ClientError] {
        assert_eq!(site.outcome("a", outcome).await, 1, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_grpc_status_for_who_speaks_grpc() {
    let site = Site::start(&[revision("a", 1, 1)], &json!({}), &json!({"queue": {"max": 0}}), None).await;
    let mut client = open_http2(site.port).await;
    let request = Request::post("http://m/x").header("content-type", "application/grpc+proto").body(body("")).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["grpc-status"].to_str().unwrap()), (200, "14"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_reach_http1_pods_and_many_requests_share_a_connection() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let client = open_http2(site.port).await;
    let mut asked = Vec::new();
    for i in 0..50 {
        let mut client = client.clone();
        asked.push(tokio::spawn(async move {
            let request = Request::post("http://model.example/echo").body(body(format!("number {i}"))).unwrap();
            let answer = client.send_request(request).await.unwrap();
            (answer.into_body().collect().await.unwrap().to_bytes(), format!("number {i}"))
        }));
    }
    for one in asked {
        let (got, expected) = one.await.unwrap();
        assert_eq!(got, expected);
    }
    let request = Request::get("http://model.example/headers").body(body("")).unwrap();
    let seen = client.clone().send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let seen: serde_json::Value = serde_json::from_slice(&seen).unwrap();
    assert_eq!((seen[":version"].as_str(), seen["host"].as_str()), (Some("HTTP/1.1"), Some("model.example")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_speaks_http2_alone_gets_it_from_every_client() {
    let pod = Pod::any("a").await;
    let mut only = revision("a", pod.address.port(), 1);
    only["protocol"] = json!("Http2");
    let site = Site::start(&[only], &json!({"a": [endpoint(pod.address, true)]}), &json!({}), None).await;
    let seen: serde_json::Value = serde_json::from_str(&site.get("/headers").await.text).unwrap();
    assert_eq!(seen[":version"], "HTTP/2.0");
    assert_eq!(seen[":target"], "http://model.example/headers");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_bodies_stream_at_the_same_time() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut client = Client::open(site.port).await;
    let (mut sender, receiver) = futures::channel::mpsc::channel(1);
    let upload = Request::post("/echo").header("host", "m").body(StreamBody::new(receiver).boxed()).unwrap();
    let mut answer = client.send(upload).await.unwrap().into_body();
    for i in 0..10 {
        let data = Bytes::from(format!("part {i}"));
        sender.try_send(Ok(Frame::data(data.clone()))).unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), data);
    }
    drop(sender);
    assert!(answer.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_served_and_large_bodies_pass_whole() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    for byte in b"POST /json HTTP/1.1\r\nhost: m\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello" {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(r#"{"model_version":"a","outputs":hello}"#),
        "{answer}"
    );
    let large: String = (b'a'..=b'w').cycle().take(2_000_000).map(char::from).collect();
    assert!(Client::open(site.port).await.post("/echo", &large).await.text == large);
}
