//! Copies to a shadow: compared, counted, never waited for.

use std::sync::atomic::Ordering;

use http_body_util::BodyExt;
use hyper::Request;
use millrace_routes::Outcome;
use serde_json::{Value, json};

use crate::client::{Client, body, open_http2, request};
use crate::pod::Pod;
use crate::site::{Site, endpoint, revision, until};

async fn shadowed(a: &Pod, b: &Pod, with: &Value) -> Site {
    weighted(a, b, [1, 0], with).await
}

async fn weighted(a: &Pod, b: &Pod, weights: [u32; 2], with: &Value) -> Site {
    let mut shadow = json!({"revision": "b", "sample": 1.0});
    shadow.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    Site::start(
        &[revision("a", a.address.port(), weights[0]), revision("b", b.address.port(), weights[1])],
        &json!({"a": [endpoint(a.address, true)], "b": [endpoint(b.address, true)]}),
        &json!({"shadow": shadow}),
        None,
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compared_by_their_outputs() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let site = shadowed(&a, &b, &json!({})).await;
    let mut client = Client::open(site.port).await;
    for i in 0..20 {
        // The same outputs of different versions.
        assert_eq!(
            client.post("/json", &format!("[{i}]")).await.text,
            format!(r#"{{"model_version":"a","outputs":[{i}]}}"#)
        );
    }
    until("all are compared", || async { site.stats("b").await.shadow.agreed == 20 }).await;
    assert_eq!(client.get("/json-of-name", &[]).await.text, r#"{"outputs":"a"}"#);
    until("it is compared", || async { site.stats("b").await.shadow.differed == 1 }).await;
    assert_eq!(site.outcome("b", Outcome::Success).await, 21);
    assert_eq!(site.stats("a").await.shadow, millrace_routes::ShadowStats::default());
    assert_eq!(b.requests(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_share_and_copies_answers_its_callers_once() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let site = weighted(&a, &b, [1, 1], &json!({})).await;
    let mut client = Client::open(site.port).await;
    for i in 0..200 {
        client.post("/json", &format!("[{i}]")).await;
    }
    let of_a = u64::try_from(a.requests()).unwrap();
    assert!(of_a > 50 && of_a < 150, "{of_a}");
    until("all others are compared", || async { site.stats("b").await.shadow.agreed == of_a }).await;
    assert_eq!(site.stats("b").await.shadow.differed, 0);
    assert_eq!(b.requests(), 200, "those of its own callers and the copies of all others");
    assert_eq!(site.stats("a").await.shadow, millrace_routes::ShadowStats::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_another_version_agree_in_bytes_and_over_grpc() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let site = shadowed(&a, &b, &json!({})).await;
    let mut client = Client::open(site.port).await;
    // The bytes of 0.5, as text.
    let answer = client.ask(request("POST", "/v2/models/m/infer", &[], "\0\0\0?")).await.unwrap();
    assert!(answer.text.contains(r#""model_version":"a""#) && answer.text.ends_with("\0\0\0?"), "{}", answer.text);
    until("bytes agree", || async { site.stats("b").await.shadow.agreed == 1 }).await;
    let sender = open_http2(site.port).await;
    let call = async |header: (&'static str, &'static str)| {
        // An output `y` of one number.
        let message = b"\x2a\x11\x0a\x01y\x12\x04FP32\x2a\x06\x32\x04\0\0\0?";
        let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()][..], message].concat();
        let call = Request::post("http://m/inference.GRPCInferenceService/ModelInfer")
            .header("content-type", "application/grpc")
            .header("x-versioned", "true")
            .header(header.0, header.1);
        let answer = sender.clone().send_request(call.body(body(framed)).unwrap()).await.unwrap();
        let whole = answer.into_body().collect().await.unwrap();
        whole.trailers().unwrap()["grpc-status"].clone()
    };
    assert_eq!(call(("x-any", "thing")).await, "0");
    until("messages agree", || async { site.stats("b").await.shadow.agreed == 2 }).await;
    // The caller gets an answer, and the other version an error of its own.
    assert_eq!(call(("x-fails", "b")).await, "0");
    until("the status differs", || async { site.stats("b").await.shadow.differed == 1 }).await;
    assert_eq!(site.stats("b").await.shadow.agreed, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_hangs_slows_nobody_and_what_has_no_room_is_dropped() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let site = shadowed(&a, &b, &json!({})).await;
    let mut client = Client::open(site.port).await;
    // The shadow never answers: 64 are sent at once and 256 wait.
    let mut answered = 0;
    while site.stats("b").await.shadow.dropped == 0 {
        for _ in 0..100 {
            assert_eq!(client.ask(crate::client::request("GET", "/hang-if-b", &[], "")).await.unwrap().text, "a");
            answered += 1;
        }
        assert!(answered < 100_000, "nothing was dropped");
    }
    assert!(b.seen.most_at_once.load(Ordering::SeqCst) <= 64);
    assert_eq!(site.outcome("a", Outcome::Success).await, answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_without_pods_and_bodies_that_are_too_long_are_dropped() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let site = shadowed(&a, &b, &json!({"bodyBytes": 100})).await;
    let mut client = Client::open(site.port).await;
    assert_eq!(client.post("/echo", &"x".repeat(101)).await.status, 200);
    until("it is dropped", || async { site.stats("b").await.shadow.dropped == 1 }).await;
    site.endpoints(&json!({"a": [endpoint(a.address, true)]}));
    until("the shadow is gone", || async { site.stats("b").await.pods == 0 }).await;
    assert_eq!(client.get("/", &[]).await.text, "a");
    until("it is dropped", || async { site.stats("b").await.shadow.dropped == 2 }).await;
    assert_eq!(b.requests(), 0);
}
