//! Places at pods that take a bounded number of requests, shared by two routers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use millrace_router::{ScaleError, Scaler};
use millrace_routes::Outcome;
use serde_json::{Value, json};

use crate::client::{Answer, Client, get_at, request};
use crate::pod::Pod;
use crate::site::{Peer, Site, document, endpoint, free_port, limits, revision, until};

/// Two routers of one model, each at an address of its own, and a pod.
struct Pair {
    sites: [Site; 2],
    port: u16,
    pod: Pod,
}

const ROUTERS: [u8; 2] = [3, 4];

fn address(router: usize) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(127, 0, 0, ROUTERS[router]))
}

fn router(last: u8) -> Value {
    json!({"address": format!("127.0.0.{last}"), "ready": true})
}

impl Pair {
    async fn start(pod: Pod, cap: u32, with: &Value) -> Self {
        let (port, places) = (free_port(), free_port());
        let mut bounded = revision("a", pod.address.port(), 1);
        bounded["concurrency"] = json!(cap);
        let endpoints = json!({"a": [endpoint(pod.address, true)], "m": ROUTERS.map(router)});
        let mut with = with.clone();
        with["port"] = json!(port);
        let start = |last: u8| {
            let folder = Arc::new(tempfile::tempdir().unwrap());
            let peer = Peer { address: IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), places };
            Site::begin_at(Some(peer), folder, &[bounded.clone()], &endpoints, &with, None, limits())
        };
        let sites = ROUTERS.map(start);
        for site in &sites {
            site.ready().await;
        }
        Self { sites, port, pod }
    }

    async fn get(&self, router: usize, path: &str) -> Answer {
        get_at(address(router), self.port, path).await
    }

    async fn in_flight(&self) -> u64 {
        let mut all = 0;
        for site in &self.sites {
            all += site.stats("a").await.in_flight;
        }
        all
    }

    async fn queued(&self) -> u64 {
        let mut all = 0;
        for site in &self.sites {
            all += site.stats("a").await.queued;
        }
        all
    }

    async fn outcome(&self, outcome: Outcome) -> u64 {
        self.sites[0].outcome("a", outcome).await + self.sites[1].outcome("a", outcome).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_holds_over_both_routers_and_nothing_is_lost() {
    let pair = Pair::start(Pod::any("a").await, 1, &json!({})).await;
    let mut clients = Vec::new();
    for n in 0..16 {
        let (address, port) = (address(n % 2), pair.port);
        clients.push(tokio::spawn(async move {
            let mut client = Client::open_at(address, port).await;
            for _ in 0..20 {
                assert_eq!(client.get("/slow/1", &[]).await.status, 200);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(pair.pod.seen.most_at_once.load(Ordering::SeqCst), 1);
    assert_eq!(pair.outcome(Outcome::Success).await, 320);
    for site in &pair.sites {
        assert!(site.outcome("a", Outcome::Success).await > 0, "both were asked");
    }
    assert_eq!((pair.in_flight().await, pair.queued().await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_either_router_is_in_one_queue() {
    let pair = Pair::start(Pod::any("a").await, 1, &json!({"queue": {"max": 2, "timeoutMs": 20_000}})).await;
    let mut asked = Vec::new();
    for n in 0..3_usize {
        let (address, port) = (address(n % 2), pair.port);
        asked.push(tokio::spawn(async move { get_at(address, port, "/hang").await }));
        until("it is here", || async { pair.in_flight().await == n as u64 + 1 }).await;
        until("it has its place", || async { pair.pod.requests() == 1 && pair.queued().await == n as u64 }).await;
    }
    for router in 0..2 {
        let refused = pair.get(router, "/").await;
        assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].to_str().unwrap()), (503, "1"));
    }
    for one in asked {
        until("it is its turn", || async {
            pair.pod.seen.go.notify_waiters();
            one.is_finished()
        })
        .await;
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(pair.pod.seen.most_at_once.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_too_long_at_another_router_is_answered_504() {
    let pair = Pair::start(Pod::any("a").await, 1, &json!({"queue": {"timeoutMs": 300}})).await;
    let (address, port) = (address(0), pair.port);
    let first = tokio::spawn(async move { get_at(address, port, "/hang").await });
    until("it is at the pod", || async { pair.pod.requests() == 1 }).await;
    for router in 0..2 {
        assert_eq!(pair.get(router, "/").await.status, 504);
    }
    pair.pod.seen.go.notify_one();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(pair.queued().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_gives_its_place_back_whichever_router_keeps_it() {
    let pair = Pair::start(Pod::any("a").await, 1, &json!({})).await;
    for router in 0..2 {
        let before = pair.pod.seen.broken_off.load(Ordering::SeqCst);
        let mut client = Client::open_at(address(router), pair.port).await;
        let hangs = tokio::spawn(async move { client.ask(request("GET", "/hang", &[], "")).await.is_ok() });
        until("it is at the pod", || async { pair.pod.seen.now.load(Ordering::SeqCst) == 1 }).await;
        hangs.abort();
        until("the pod saw it leave", || async { pair.pod.seen.broken_off.load(Ordering::SeqCst) > before }).await;
        for other in 0..2 {
            let answer = tokio::time::timeout(Duration::from_secs(10), pair.get(other, "/")).await;
            assert_eq!(answer.unwrap().status, 200, "the place is free again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_is_gone_and_still_listed_is_passed_by() {
    let pod = Pod::any("a").await;
    // Of so many revisions some are kept by the router that is not there.
    let revisions: Vec<Value> = (0..8)
        .map(|n| {
            let mut bounded = revision(&format!("a{n}"), pod.address.port(), 1);
            bounded["service"] = json!("a");
            bounded["concurrency"] = json!(1);
            bounded
        })
        .collect();
    let headers: Vec<Value> =
        (0..8).map(|n| json!({"header": "x-to", "value": n.to_string(), "revision": format!("a{n}")})).collect();
    let endpoints = json!({"a": [endpoint(pod.address, true)], "m": ROUTERS.map(router)});
    let with = json!({"headers": headers, "queue": {"timeoutMs": 20_000}});
    let peer = Peer { address: address(0), places: free_port() };
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let site = Site::begin_at(Some(peer), folder, &revisions, &endpoints, &with, None, limits());
    site.ready().await;
    let mut client = Client::open_at(address(0), site.port).await;
    for n in 0..8_u8 {
        for _ in 0..2 {
            let answer = client.get("/", &[("x-to", &n.to_string())]).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "a"), "a{n}");
        }
    }
    assert_eq!(pod.requests(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_at_zero_is_woken_by_the_keeper_and_both_routers_say_what_took_the_time() {
    let (port, places, pod_port) = (free_port(), free_port(), free_port());
    let woken = Arc::new(AtomicUsize::new(0));
    let mut at_zero = revision("a", pod_port, 1);
    at_zero["concurrency"] = json!(1);
    at_zero["deployment"] = json!("m-a");
    at_zero["readyPath"] = json!("/v2/health/ready");
    let routers = json!({"m": ROUTERS.map(router)});
    let sites = ROUTERS.map(|last| {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let peer = Peer { address: IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), places };
        let scaler: Arc<dyn Scaler> = Arc::new(Counting(woken.clone()));
        let with = json!({"port": port});
        Site::begin_at(Some(peer), folder, &[at_zero.clone()], &routers, &with, Some(scaler), limits())
    });
    for site in &sites {
        site.ready().await;
    }
    let asked = [0, 1].map(|router| tokio::spawn(async move { get_at(address(router), port, "/").await }));
    until("it is woken", || async { woken.load(Ordering::SeqCst) > 0 }).await;
    until("both wait at one", || async {
        let (one, other) = (sites[0].stats("a").await.queued, sites[1].stats("a").await.queued);
        (one.max(other), one.min(other)) == (2, 0)
    })
    .await;
    let pod = Pod::start("a", SocketAddr::from(([127, 0, 0, 1], pod_port))).await;
    let there = json!({"m": ROUTERS.map(router), "a": [endpoint(pod.address, true)]});
    for site in &sites {
        site.endpoints(&there);
    }
    for answer in asked {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200);
        let timing = answer.headers["server-timing"].to_str().unwrap();
        assert!(timing.contains("queue;dur=") && timing.contains("load;dur="), "{timing}");
    }
    assert_eq!(pod.seen.most_at_once.load(Ordering::SeqCst), 1);
}

/// Counts who wakes the model; nothing comes of it by itself.
struct Counting(Arc<AtomicUsize>);

impl Scaler for Counting {
    fn wake<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        assert_eq!(deployment, "m-a");
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_other_router_one_counts_for_itself() {
    let Pair { sites: [one, other], port, pod } = Pair::start(Pod::any("a").await, 1, &json!({})).await;
    other.router.end(Duration::ZERO, Duration::from_secs(5)).await;
    // As EndpointSlices say it.
    let alone = json!({"a": [endpoint(pod.address, true)], "m": [router(ROUTERS[0])]});
    one.endpoints(&alone);
    let mut bounded = revision("a", pod.address.port(), 1);
    bounded["concurrency"] = json!(1);
    one.routes(&document(port, &[bounded], &json!({}))).await;
    for _ in 0..5 {
        assert_eq!(get_at(address(0), port, "/").await.status, 200);
    }
}
