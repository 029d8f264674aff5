//! A port that speaks TLS: what it shows, that another certificate comes without a failed request, and who comes without.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use millrace_router::Limits;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Body, Client, body, request, whole};
use crate::mount::mount;
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, limits, revision, until};

const A: [(&str, &str); 2] = [("tls.crt", include_str!("../certs/a.crt")), ("tls.key", include_str!("../certs/a.key"))];
const B: [(&str, &str); 2] = [("tls.crt", include_str!("../certs/b.crt")), ("tls.key", include_str!("../certs/b.key"))];

fn certificate(of: [(&str, &str); 2]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(of[0].1.as_bytes()).unwrap()
}

/// A connection of a client that trusts both certificates.
async fn dial(port: u16, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for of in [A, B] {
        roots.add(certificate(of)).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("model.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn http1(port: u16) -> (Client, CertificateDer<'static>) {
    let stream = dial(port, b"http/1.1").await.unwrap();
    let certificate = shown(&stream);
    let (sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    (Client(sender), certificate)
}

async fn site(pod: &Pod, entries: &[(&str, &str)], limits: Limits) -> Site {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    mount(folder.path(), "secrets/cert/tls", entries);
    let endpoints = json!({"a": [endpoint(pod.address, true)]});
    let with = json!({"security": {"id": "1", "tls": {"secret": "cert"}}});
    let site = Site::begin(folder, &[revision("a", pod.address.port(), 1)], &endpoints, &with, None, limits);
    until("ready", || async { crate::client::get(site.admin(), "/readyz").await.status == 200 }).await;
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_spoken_and_the_pod_hears_that_it_was_tls() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &A, limits()).await;
    let (mut client, shown) = http1(site.port).await;
    assert_eq!(shown, certificate(A));
    let answer = client.get("/headers", &[]).await;
    assert!(answer.text.contains(r#""x-forwarded-proto":"https""#), "{answer:?}");
    let large = "x".repeat(1 << 20);
    assert_eq!(client.post("/echo", &large).await.text, large);
    let stream = dial(site.port, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let call = Request::post("https://model.example/inference.GRPCInferenceService/ModelInfer");
    let call = call.header("content-type", "application/grpc").header("te", "trailers").body(body("message")).unwrap();
    let answer = sender.send_request(call).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(whole(answer).await.unwrap().text, "message");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_comes_without_a_failed_request_and_a_broken_one_not_at_all() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &A, limits()).await;
    let (mut kept, _) = http1(site.port).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (port, ends) = (site.port, stop.clone());
    let load = tokio::spawn(async move {
        let mut seen = Vec::new();
        while !ends.load(Ordering::SeqCst) {
            let (mut client, shown) = http1(port).await;
            assert_eq!(client.get("/", &[]).await.status, 200);
            seen.push(shown);
        }
        seen
    });
    assert_eq!(kept.get("/", &[]).await.status, 200);
    site.mount("secrets/cert/tls", &B);
    until("the new one is shown", || async { http1(site.port).await.1 == certificate(B) }).await;
    // One half of a pair, then nothing: the last good one stays.
    site.mount("secrets/cert/tls", &[A[0], B[1]]);
    until("it is told", || async { !site.problems().await.is_empty() }).await;
    assert_eq!(site.problems().await, ["Secret cert: tls.key is not the key of tls.crt"]);
    site.mount("secrets/cert/tls", &[]);
    until("it is told", || async { site.problems().await[0].contains("is not there") }).await;
    assert!(!site.all_stats().await.models["m"].security.as_ref().unwrap().closed);
    assert_eq!(http1(site.port).await.1, certificate(B));
    assert_eq!(kept.get("/", &[]).await.status, 200);
    stop.store(true, Ordering::SeqCst);
    let seen = load.await.unwrap();
    let first_b = seen.iter().position(|shown| *shown == certificate(B)).unwrap();
    assert!(seen[first_b..].iter().all(|shown| *shown == certificate(B)));
    assert_eq!(site.refusals("Handshake").await, 0);
    site.mount("secrets/cert/tls", &A);
    until("a good one counts again", || async { http1(site.port).await.1 == certificate(A) }).await;
    assert_eq!(site.problems().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nobody_is_let_in_until_it_comes() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &[A[0]], limits()).await;
    assert!(dial(site.port, b"http/1.1").await.is_err());
    let mut plain = Client::open(site.port).await;
    assert!(plain.ask(request("GET", "/", &[], "")).await.is_err());
    assert!(site.all_stats().await.models["m"].security.as_ref().unwrap().closed);
    assert_eq!(site.problems().await, ["Secret cert: tls.key is missing or empty"]);
    assert_eq!((site.refusals("Closed").await, pod.requests()), (2, 0));
    site.mount("secrets/cert/tls", &A);
    until("TLS begins", || async { dial(site.port, b"http/1.1").await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_not_let_in() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &A, limits()).await;
    let mut plain = Client::open(site.port).await;
    assert!(plain.ask(request("GET", "/", &[], "")).await.is_err());
    until("it is counted", || async { site.refusals("Handshake").await == 1 }).await;
    assert_eq!(pod.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_before_tls_is_refused() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    site.mount("secrets/cert/tls", &A);
    let mut client = Client::open(site.port).await;
    assert_eq!(client.get("/", &[]).await.status, 200);
    let with = json!({"security": {"id": "1", "tls": {"secret": "cert"}}});
    site.routes(&document(site.port, &[revision("a", pod.address.port(), 1)], &with)).await;
    assert_eq!(client.get("/", &[]).await.status, 403);
    assert_eq!(http1(site.port).await.0.get("/", &[]).await.status, 200);
    assert_eq!((site.refusals("NotTls").await, pod.requests()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_greeting_does_not_hold_a_connection() {
    let pod = Pod::any("a").await;
    let site = site(&pod, &A, Limits { head: Duration::from_millis(200), ..limits() }).await;
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    // The head of a record of TLS, and nothing after it.
    stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(1), stream.read(&mut [0; 9])).await.unwrap();
    assert!(
        matches!(&ended, Ok(0)) || ended.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
        "{ended:?}"
    );
    // The router counts it after it has closed the connection.
    until("it is counted", || async { site.refusals("Handshake").await == 1 }).await;
}
