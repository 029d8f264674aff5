//! What of requests and answers comes to a sink, and that nobody waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_routes::LogStats;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::client::{Client, request};
use crate::mount::mount;
use crate::pod::Pod;
use crate::sink::{Does, Sink};
use crate::site::{Site, document, endpoint, revision, until};

/// Of `localhost`.
const CERTIFICATE: [&str; 2] = [include_str!("../certs/localhost.crt"), include_str!("../certs/localhost.key")];

/// Every request of the model `m` is logged there.
fn log(address: &str, with: &Value) -> Value {
    let mut sink = json!({ "address": address });
    sink.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    let versions = json!({ "a": 7 });
    json!({ "log": {
        "namespace": "team", "model": "penguins", "versions": versions, "sampling": 1.0, "bodyBytes": 1000, "sink": sink
    } })
}

async fn logged(pod: &Pod, sink: &Sink, with: &Value) -> Site {
    Site::of(&[pod], &log(&format!("http://{}/in", sink.address), with)).await
}

async fn stats(site: &Site) -> LogStats {
    site.all_stats().await.models["m"].log.clone().unwrap()
}

async fn delivered(site: &Site, events: u64) {
    until("they are delivered", || async { stats(site).await.delivered == events }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_model_that_is_not_registered_have_its_digest() {
    let (pod, sink) = (Pod::any("a").await, Sink::start(&[Does::Answer(202)], None).await);
    let mut asked = log(&format!("http://{}/in", sink.address), &json!({}));
    asked["log"]["versions"] = json!({});
    asked["log"]["digests"] = json!({ "a": "sha256:1f" });
    let site = Site::of(&[&pod], &asked).await;
    Client::open(site.port).await.post("/", "[1]").await;
    delivered(&site, 2).await;
    for event in sink.events() {
        assert_eq!((&event["modeldigest"], event.get("modelversion")), (&json!("sha256:1f"), None), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_answer_are_two_events_of_one_request_id_without_secrets() {
    let (pod, sink) = (Pod::any("a").await, Sink::start(&[Does::Answer(202)], None).await);
    let site = logged(&pod, &sink, &json!({})).await;
    let mut client = Client::open(site.port).await;
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer s3cret"),
        ("cookie", "session=s3cret"),
        ("x-api-key", "s3cret"),
        ("x-request-id", "mine-1"),
    ];
    client.ask(request("POST", "/json?key=s3cret", &headers, "[1.10]")).await.unwrap();
    delivered(&site, 2).await;
    let posts = sink.posts();
    assert!(posts.iter().all(|post| post.kind == "application/cloudevents+json" && post.path == "/in"), "{posts:?}");
    assert!(posts.iter().all(|post| post.connection == 0), "one connection is kept");
    let [asked, answer] = [posts[0].body.clone(), posts[1].body.clone()];
    for event in [&asked, &answer] {
        assert!(!event.to_string().contains("s3cret"), "{event}");
        for (name, value) in [
            ("specversion", json!("1.0")),
            ("source", json!("/namespaces/team/modeldeployments/m")),
            ("subject", json!("/json")),
            ("namespace", json!("team")),
            ("modeldeployment", json!("m")),
            ("model", json!("penguins")),
            ("modelversion", json!(7)),
            ("revision", json!("a")),
            ("callerid", json!("mine-1")),
            ("requestid", asked["requestid"].clone()),
            ("datacontenttype", json!("application/json")),
        ] {
            assert_eq!(event[name], value, "{name} of {event}");
        }
        let names = event.as_object().unwrap().keys();
        let named = |name: &String| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(names.filter(|name| *name != "data_base64").all(named), "CloudEvents has such names: {event}");
    }
    assert_eq!(asked["requestid"].as_str().unwrap().len(), 32);
    assert_eq!((&asked["type"], &asked["data"]), (&json!("dev.millrace.inference.request"), &json!([1.1])));
    assert_eq!(answer["type"], json!("dev.millrace.inference.response"));
    assert_eq!(answer["data"], json!({ "model_version": "a", "outputs": [1.1] }));
    assert_eq!(answer["statuscode"], json!(200));
    assert!(answer["durationms"].is_u64() && asked["id"] != answer["id"]);
    // Not an inference.
    client.get("/json-of-name", &[]).await;
    client.post("/", "\u{1}\u{2}").await;
    delivered(&site, 4).await;
    let asked = sink.events()[2].clone();
    assert_eq!(
        (&asked["data_base64"], &asked["datacontenttype"]),
        (&json!("AQI="), &json!("application/octet-stream"))
    );
    assert_eq!(site.counted("millrace_router_log_events_total{model=\"m\",result=\"delivered\"}").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_left_out_and_sampling_is_a_share() {
    let (pod, sink) = (Pod::any("a").await, Sink::start(&[Does::Answer(200)], None).await);
    let site = logged(&pod, &sink, &json!({ "batched": true })).await;
    let mut client = Client::open(site.port).await;
    client.post("/", &"x".repeat(1001)).await;
    delivered(&site, 2).await;
    let asked = sink.events()[0].clone();
    assert_eq!((&asked["dataomitted"], &asked["datalength"]), (&json!("TooLong"), &json!(1001)));
    assert!(asked.get("data").is_none() && asked.get("data_base64").is_none(), "{asked}");
    assert!(sink.posts().iter().all(|post| post.kind == "application/cloudevents-batch+json" && post.body.is_array()));
    let mut with = log(&format!("http://{}/in", sink.address), &json!({}));
    with["log"]["sampling"] = json!(0.2);
    site.routes(&document(site.port, &[revision("a", pod.address.port(), 1)], &with)).await;
    for _ in 0..1000 {
        client.post("/", "x").await;
    }
    let none = |stats: &LogStats| stats.dropped == 0 && stats.failed == 0;
    let mut last = 0;
    until("no more come", || {
        let (site, before) = (&site, last);
        let now = sink.events().len();
        last = now;
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            now > 2 && now == before && none(&stats(site).await)
        }
    })
    .await;
    // 200 expected; six standard deviations of a binomial are 76.
    let sampled = (sink.events().len() - 2) / 2;
    assert!((124..=276).contains(&sampled), "{sampled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_slows_nobody_and_what_has_no_room_is_dropped_and_counted() {
    let (pod, sink) = (Pod::any("a").await, Sink::start(&[Does::Hang], None).await);
    let site = logged(&pod, &sink, &json!({})).await;
    let mut client = Client::open(site.port).await;
    let (began, mut answered) = (Instant::now(), 0_u64);
    while stats(&site).await.dropped == 0 {
        for _ in 0..100 {
            assert_eq!(client.post("/", &"x".repeat(1000)).await.status, 200);
            answered += 1;
        }
        assert!(answered < 100_000, "nothing was dropped");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{answered} requests in {:?}", began.elapsed());
    assert!(answered > 200, "256 have room: {answered}");
    until("it is given up", || async { stats(&site).await.problem.is_some() }).await;
    let problem = stats(&site).await.problem.unwrap();
    assert!(problem.ends_with("/in: no answer in 5 s"), "{problem}");
    assert!(site.counted("millrace_router_log_events_total{model=\"m\",result=\"dropped\"}").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_succeed_later_is_tried_again_and_what_is_refused_is_counted() {
    let busy = [Does::Answer(503), Does::Answer(429), Does::Answer(200), Does::Answer(204), Does::Answer(400)];
    let (pod, sink) = (Pod::any("a").await, Sink::start(&busy, None).await);
    let site = logged(&pod, &sink, &json!({})).await;
    let mut client = Client::open(site.port).await;
    client.post("/", "1").await;
    delivered(&site, 2).await;
    assert_eq!((sink.posts().len(), stats(&site).await.failed), (4, 0));
    client.post("/", "2").await;
    until("both are refused", || async { stats(&site).await.failed == 2 }).await;
    assert_eq!(sink.posts().len(), 6, "what is refused is not sent again");
    let problem = stats(&site).await.problem.unwrap();
    assert!(problem.ends_with("/in: the sink answers 400"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_it_is_the_authority_that_is_named_and_a_token_goes_along() {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE[0].as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(CERTIFICATE[1].as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let (pod, sink) = (Pod::any("a").await, Sink::start(&[Does::Answer(200)], Some(tls)).await);
    let with = json!({
        "token": { "of": "Secret", "name": "t", "key": "token" }, "ca": { "of": "ConfigMap", "name": "c", "key": "ca.crt" }
    });
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let endpoints = json!({ "a": [endpoint(pod.address, true)] });
    let address = format!("https://localhost:{}/in", sink.address.port());
    let revisions = [revision("a", pod.address.port(), 1)];
    let site = Site::start_in(folder.clone(), &revisions, &endpoints, &log(&address, &with), None).await;
    let mut client = Client::open(site.port).await;
    client.post("/", "1").await;
    let says = |words: &'static str| {
        let site = &site;
        async move {
            until(words, || async { stats(site).await.problem.is_some_and(|problem| problem.contains(words)) }).await;
        }
    };
    says("is not mounted into this router").await;
    mount(folder.path(), "secrets/t/log/token", &[("token", "w0rd\n")]);
    mount(folder.path(), "configmaps/c/log/ca.crt", &[("ca.crt", CERTIFICATE[0])]);
    let before = stats(&site).await.delivered;
    client.post("/", "2").await;
    until("it arrives", || async { stats(&site).await.delivered > before }).await;
    assert!(sink.posts().iter().all(|post| post.authorization.as_deref() == Some("Bearer w0rd")), "{:?}", sink.posts());
    assert_eq!(stats(&site).await.problem, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_a_router_ends_is_still_sent() {
    let (pod, sink) = (Pod::any("a").await, Sink::start(&[Does::Answer(503), Does::Answer(200)], None).await);
    let site = logged(&pod, &sink, &json!({})).await;
    let mut client = Client::open(site.port).await;
    for _ in 0..20 {
        client.post("/", "1").await;
    }
    drop(client);
    site.router.end(Duration::ZERO, Duration::from_secs(10)).await;
    assert_eq!(sink.events().len(), 41, "twenty requests and answers, and one of them twice");
}
