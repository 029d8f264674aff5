//! Who is let in: keys and rates. What is refused never comes to a pod, and is no revision's error.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Answer, Client, body, open_http2, request};
use crate::mount::mount;
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, revision, until};

const ALICE: &str = "alice-0123456789abcdef";
const BOB: &str = "bob-0123456789abcdef";

/// One pod behind a door, and what is mounted.
pub async fn site(pod: &Pod, security: &Value, mounts: &[(&str, &[(&str, &str)])]) -> Site {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    for (path, entries) in mounts {
        mount(folder.path(), path, entries);
    }
    let endpoints = json!({"a": [endpoint(pod.address, true)]});
    let with = json!({"security": security});
    Site::start_in(folder, &[revision("a", pod.address.port(), 1)], &endpoints, &with, None).await
}

fn keys() -> Value {
    json!({"id": "1", "auth": {"apiKeys": {"secret": "keys"}}})
}

async fn with_key(site: &Site, key: &str) -> Answer {
    Client::open(site.port).await.get("/", &[("x-api-key", key)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lets_in_and_nothing_else_does() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &keys(), &[("secrets/keys/keys", &[("alice", ALICE), ("bob", &format!("{BOB}\n"))])]).await;
    let bearer = format!("Bearer {BOB}");
    let mut client = Client::open(site.port).await;
    let refused: [&[(&str, &str)]; 6] = [
        &[],
        &[("x-api-key", "")],
        &[("x-api-key", "alice")],
        &[("authorization", "Basic YWxpY2U6")],
        &[("x-api-key", "wrong"), ("authorization", &bearer)],
        &[("x-api-key", ALICE), ("x-api-key", ALICE)],
    ];
    for headers in refused {
        let answer = client.get("/", headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{answer:?}");
        assert!(answer.text.starts_with("{\"error\":\""), "{answer:?}");
    }
    assert_eq!(pod.requests(), 0);
    for headers in [("x-api-key", ALICE), ("x-api-key", BOB), ("authorization", bearer.as_str())] {
        let answer = client.get("/headers", &[headers, ("x-other", "stays")]).await;
        let seen: BTreeMap<String, String> = serde_json::from_str(&answer.text).unwrap();
        assert!(!seen.contains_key("x-api-key") && !seen.contains_key("authorization"), "{seen:?}");
        assert_eq!(seen["x-other"], "stays");
    }
    assert_eq!((site.refusals("NoCredential").await, site.refusals("BadCredential").await), (2, 4));
    let outcomes = site.stats("a").await.outcomes;
    assert_eq!(outcomes.values().sum::<u64>(), 3, "a refusal is no revision's: {outcomes:?}");
    let all = format!("{}{:?}", site.metrics().await, site.all_stats().await);
    assert!(!all.contains("0123456789abcdef") && !all.contains("alice"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_out_stops_and_one_that_is_put_in_works_on_open_connections() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &keys(), &[("secrets/keys/keys", &[("alice", ALICE)])]).await;
    let mut client = Client::open(site.port).await;
    assert_eq!(client.get("/", &[("x-api-key", ALICE)]).await.status, 200);
    site.mount("secrets/keys/keys", &[("alice", ""), ("bob", BOB)]);
    until("bob is let in", || async { with_key(&site, BOB).await.status == 200 }).await;
    assert_eq!(client.get("/", &[("x-api-key", ALICE)]).await.status, 401);
    assert_eq!(client.get("/", &[("x-api-key", "")]).await.status, 401);
    assert_eq!(site.problems().await, ["Secret keys: the entry alice is empty"]);
    assert_eq!(site.counted("millrace_router_security_problems{model=\"m\"}").await, 1);
    site.mount("secrets/keys/keys", &[]);
    until("nobody is let in", || async { with_key(&site, BOB).await.status == 503 }).await;
    assert!(site.all_stats().await.models["m"].security.as_ref().unwrap().closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_lets_nobody_in_until_it_comes() {
    let pod = Pod::any("a").await;
    for mounts in [&[][..], &[("secrets/keys/keys", &[][..])][..]] {
        let site = site(&pod, &keys(), mounts).await;
        let answer = with_key(&site, ALICE).await;
        assert_eq!((answer.status.as_u16(), answer.headers["retry-after"].to_str().unwrap()), (503, "5"));
        assert!(site.problems().await[0].starts_with("Secret keys is not "), "{:?}", site.problems().await);
        assert_eq!(site.refusals("Closed").await, 1);
        assert_eq!(pod.requests(), 0);
    }
    let site = site(&pod, &keys(), &[("secrets/keys/keys", &[])]).await;
    site.mount("secrets/keys/keys", &[("alice", ALICE)]);
    until("it is let in", || async { with_key(&site, ALICE).await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_comes_closes_connections_that_were_let_in_before() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    site.mount("secrets/keys/keys", &[("alice", ALICE)]);
    let mut client = Client::open(site.port).await;
    assert_eq!(client.get("/", &[]).await.status, 200);
    let revisions = [revision("a", pod.address.port(), 1)];
    site.routes(&document(site.port, &revisions, &json!({"security": keys()}))).await;
    assert_eq!(client.get("/", &[]).await.status, 401);
    assert_eq!(client.get("/", &[("x-api-key", ALICE)]).await.status, 200);
}

/// The status of a gRPC call with these headers.
async fn grpc(site: &Site, headers: &[(&str, &str)]) -> (String, Option<String>) {
    let mut client = open_http2(site.port).await;
    let mut call = Request::post("http://model.example/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        call = call.header(*name, *value);
    }
    let answer = client.send_request(call.body(body("message")).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = answer.headers().get("grpc-status").cloned();
    let trailers = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().trailers().cloned();
    let status = status.or_else(|| trailers?.get("grpc-status").cloned()).unwrap();
    (status.to_str().unwrap().to_owned(), retry)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_callers_get_the_statuses_of_grpc() {
    let pod = Pod::any("a").await;
    let mut security = keys();
    security["rate"] = json!({"perSecond": 0.01, "burst": 1, "per": "Caller"});
    let site = site(&pod, &security, &[("secrets/keys/keys", &[("alice", ALICE)])]).await;
    assert_eq!(grpc(&site, &[]).await.0, "16");
    assert_eq!(grpc(&site, &[("x-api-key", ALICE)]).await.0, "0");
    let (status, retry) = grpc(&site, &[("x-api-key", ALICE)]).await;
    assert_eq!(status, "8");
    assert!((90..=100).contains(&retry.unwrap().parse::<u32>().unwrap()));
    assert_eq!(pod.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_and_events_pass_a_door() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &keys(), &[("secrets/keys/keys", &[("alice", ALICE)])]).await;
    let upgrade =
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let mut client = Client::open(site.port).await;
    assert_eq!(client.send(request("GET", "/socket", &upgrade, "")).await.unwrap().status(), 401);
    let mut with_key = upgrade.to_vec();
    with_key.push(("x-api-key", ALICE));
    let response = Client::open(site.port).await.send(request("GET", "/socket", &with_key, "")).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    socket.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
    let events =
        Client::open(site.port).await.send(request("GET", "/events", &[("x-api-key", ALICE)], "")).await.unwrap();
    let first = http_body_util::BodyExt::frame(&mut events.into_body()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: 0\n\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_each_callers_own_or_that_of_all() {
    let pod = Pod::any("a").await;
    let mounts: [(&str, &[(&str, &str)]); 1] = [("secrets/keys/keys", &[("alice", ALICE), ("bob", BOB)])];
    for (per, expected) in [("Caller", [200, 200, 429, 200, 200, 429]), ("Model", [200, 200, 429, 429, 429, 429])] {
        let mut security = keys();
        security["rate"] = json!({"perSecond": 0.01, "burst": 2, "per": per});
        let site = site(&pod, &security, &mounts).await;
        let mut seen = Vec::new();
        for key in [ALICE, ALICE, ALICE, BOB, BOB, BOB] {
            let answer = with_key(&site, key).await;
            if answer.status == 429 {
                let seconds: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((50..=100).contains(&seconds), "{seconds}");
            }
            seen.push(answer.status.as_u16());
        }
        assert_eq!(seen, expected, "{per}");
        let refused = expected.iter().filter(|status| **status == 429).count() as u64;
        assert_eq!(site.refusals("TooFast").await, refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_counted_by_its_reason() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({"limits": {"bodyBytes": 10}})).await;
    assert_eq!(Client::open(site.port).await.post("/echo", "0123456789a").await.status, 413);
    assert_eq!(site.refusals("BodyTooLong").await, 1);
}
