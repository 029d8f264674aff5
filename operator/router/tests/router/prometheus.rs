//! What is asked of a server that speaks Prometheus' HTTP API, and what `/stats` tells of its answers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use millrace_routes::QueryStats;
use serde_json::{Value, json};

use crate::mount::mount;
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, revision, until};
use crate::web::{OTHER, RIGHT, Server, http, tls};

fn vector(value: &str) -> String {
    let result = format!(r#"[{{"metric":{{"pod":"a"}},"value":[1435781451.781,"{value}"]}}]"#);
    http("200 OK", &format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#))
}

/// A site whose model has these queries.
async fn site(pod: &Pod, queries: &Value, mounts: &[(&str, &[(&str, &str)])]) -> Site {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    for (path, entries) in mounts {
        mount(folder.path(), path, entries);
    }
    let endpoints = json!({"a": [endpoint(pod.address, true)]});
    let with = json!({"queries": queries});
    Site::start_in(folder, &[revision("a", pod.address.port(), 1)], &endpoints, &with, None).await
}

async fn said(site: &Site, id: &str) -> QueryStats {
    site.all_stats().await.models["m"].queries[id].clone()
}

async fn problem(site: &Site, id: &str, words: &str) -> QueryStats {
    until(words, || async { said(site, id).await.problem.is_some_and(|problem| problem.contains(words)) }).await;
    said(site, id).await
}

fn query(id: &str, address: SocketAddr, text: &str) -> Value {
    json!({"id": id, "address": format!("http://{address}/prom/"), "query": text})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_asked_as_it_is_written_and_its_number_is_told() {
    let (pod, server) = (Pod::any("a").await, Server::start(&[vector("0.25")], None));
    let site = site(&pod, &json!([query("q1", server.address, "sum(rate(x{a=\"b c\"}[1m])) + 1")]), &[]).await;
    until("an answer", || async { said(&site, "q1").await.value == Some(0.25) }).await;
    let QueryStats { age_ms, errors, problem, .. } = said(&site, "q1").await;
    assert!(age_ms.is_some_and(|age| age < 60_000) && errors == 0 && problem.is_none());
    let asked = server.asked().remove(0);
    let line = "GET /prom/api/v1/query?query=sum%28rate%28x%7Ba%3D%22b+c%22%7D%5B1m%5D%29%29+%2B+1 HTTP/1.1\r\n";
    assert!(asked.starts_with(line), "{asked}");
    assert!(asked.contains(&format!("host: {}\r\n", server.address)) && !asked.contains("authorization"), "{asked}");
    // Another document without it, and nothing is told of it any more.
    site.routes(&document(site.port, &[revision("a", pod.address.port(), 1)], &json!({}))).await;
    until("no query", || async { site.all_stats().await.models["m"].queries.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gives_no_number_is_told_with_its_cause() {
    let pod = Pod::any("a").await;
    let long = http("200 OK", &" ".repeat(100_000));
    let answers = [
        ("none", http("200 OK", r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#), "no sample"),
        ("nan", vector("NaN"), "NaN"),
        ("bad", http("400 Bad Request", r#"{"status":"error","error":"parse error"}"#), "400: parse error"),
        ("page", http("502 Bad Gateway", "<html>"), "502, and none of Prometheus"),
        (
            "moved",
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "redirects",
        ),
        ("long", long, "longer than 65536 bytes"),
    ];
    let servers: Vec<Server> =
        answers.iter().map(|(_, answer, _)| Server::start(std::slice::from_ref(answer), None)).collect();
    let queries: Vec<Value> =
        answers.iter().zip(&servers).map(|((id, _, _), server)| query(id, server.address, "up")).collect();
    let mut queries = json!(queries);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    queries.as_array_mut().unwrap().push(query("gone", nobody, "up"));
    queries.as_array_mut().unwrap().push(query("node", "169.254.169.254:80".parse().unwrap(), "up"));
    let site = site(&pod, &queries, &[]).await;
    for (id, _, words) in answers {
        let said = problem(&site, id, words).await;
        // The first two are answers, and no errors.
        assert_eq!(
            (said.value, said.age_ms.is_some(), said.errors == 0),
            (None, id.len() <= 4 && id.starts_with('n'), id.starts_with('n')),
            "{id}: {said:?}"
        );
    }
    problem(&site, "gone", "refused").await;
    problem(&site, "node", "are not asked").await;
}

fn entry(of: &str, name: &str, key: &str) -> Value {
    json!({"of": of, "name": name, "key": key})
}

fn over_tls(id: &str, server: &Server, ca: &str, token: &str) -> Value {
    let address = format!("https://localhost:{}", server.address.port());
    let (ca, token) = (entry("ConfigMap", ca, "ca.crt"), entry("Secret", token, "t"));
    json!({"id": id, "address": address, "query": "up", "ca": ca, "token": token})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_a_server_that_its_authority_knows() {
    let (pod, server) = (Pod::any("a").await, Server::start(&[vector("7")], Some(tls(RIGHT))));
    let mounts: [(&str, &[(&str, &str)]); 2] = [
        ("configmaps/roots/prometheus/ca.crt", &[("ca.crt", RIGHT[0])]),
        ("secrets/token/prometheus/t", &[("t", "s3cret-token\n")]),
    ];
    let site = site(&pod, &json!([over_tls("q", &server, "roots", "token")]), &mounts).await;
    until("an answer", || async { said(&site, "q").await.value == Some(7.0) }).await;
    let asked = server.asked().remove(0);
    assert!(asked.contains("authorization: Bearer s3cret-token\r\n"), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_it_and_what_is_not_mounted_is_told_of() {
    let (pod, server) = (Pod::any("a").await, Server::start(&[vector("1")], Some(tls(OTHER))));
    let mounts: [(&str, &[(&str, &str)]); 3] = [
        ("configmaps/roots/prometheus/ca.crt", &[("ca.crt", OTHER[0])]),
        ("configmaps/broken/prometheus/ca.crt", &[("ca.crt", "s3cret")]),
        ("secrets/token/prometheus/t", &[("t", "s3cret-token\n")]),
    ];
    let queries = json!([
        over_tls("name", &server, "roots", "token"),
        over_tls("broken", &server, "broken", "token"),
        over_tls("unmounted", &server, "roots", "other"),
    ]);
    let site = site(&pod, &queries, &mounts).await;
    problem(&site, "name", "certificate").await;
    problem(&site, "broken", "ConfigMap broken: the entry ca.crt holds no certificate in PEM").await;
    problem(&site, "unmounted", "Secret other with its entry t is not mounted").await;
    assert_eq!(server.asked(), Vec::<String>::new());
    let all = format!("{:?}", site.all_stats().await);
    assert!(!all.contains("s3cret"), "{all}");
}
