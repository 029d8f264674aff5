//! A model whose port cannot be had is not said to be served.

use std::net::TcpListener;
use std::sync::Arc;

use serde_json::json;

use crate::client::get;
use crate::pod::Pod;
use crate::site::{Site, endpoint, free_port, limits, revision, until};

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_in_force_for_a_model_only_once_its_port_is_open() {
    let pod = Pod::any("a").await;
    let site = Site::of(&[&pod], &json!({})).await;
    let taken = free_port();
    let holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let model = |name: &str, port: u16, generation: u64| json!({"name": name, "port": port, "generation": generation, "revisions": [revision("a", pod.address.port(), 1)]});
    site.routes(&json!({"models": [model("m", site.port, 1), model("n", taken, 5)]})).await;
    let stats = site.all_stats().await;
    assert_eq!(stats.models["m"].generation, 1);
    assert!(!stats.models.contains_key("n"));
    // The others go on.
    assert_eq!(get(site.admin(), "/readyz").await.status, 200);
    // One that is served keeps the generation of its open port.
    site.routes(&json!({"models": [model("m", taken, 2)]})).await;
    assert_eq!(site.all_stats().await.models["m"].generation, 1);
    drop(holder);
    until("it listens", || async { site.all_stats().await.models["m"].generation == 2 }).await;
    assert_eq!(get(taken, "/").await.text, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_never_had_all_ports_is_not_ready_and_says_so() {
    let pod = Pod::any("a").await;
    let port = free_port();
    let holder = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let endpoints = json!({"a": [endpoint(pod.address, true)]});
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let revisions = [revision("a", pod.address.port(), 1)];
    let site = Site::begin(folder, &revisions, &endpoints, &json!({"port": port}), None, limits());
    until("the routes are read", || async { site.metrics().await.contains("routes_loaded_total 1\n") }).await;
    let answer = get(site.admin(), "/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.text.contains("the port of every model")), (503, true));
    drop(holder);
    until("ready", || async { get(site.admin(), "/readyz").await.status == 200 }).await;
    assert_eq!(site.get("/").await.text, "a");
}
