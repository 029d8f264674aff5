//! What callers see while a server ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::support::{Caller, Server, eventually, infer_path, tabular};

#[test]
fn a_draining_server_is_not_ready_but_answers_and_closes_kept_connections() {
    let server = Server::ready("tabular", &["--drain", "1m"]);
    let mut kept = server.caller();
    assert!(!kept.post(infer_path(), &tabular()).closes());
    server.terminate();
    eventually("the server is not ready", || server.caller().get("/v2/health/ready").status == 503);
    assert_eq!(server.caller().get("/v2/health/live").status, 200);
    let answer = kept.post(infer_path(), &tabular());
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(server.caller().post(infer_path(), &tabular()).status, 200);
}

#[test]
fn a_server_ends_no_sooner_than_its_drain() {
    let mut server = Server::ready("tabular", &["--drain", "1s"]);
    let start = Instant::now();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(1), "it ended before --drain");
}

#[test]
fn a_request_in_flight_ends_before_the_server_does() {
    let mut server = Server::ready("tabular", &["--drain", "100ms"]);
    let mut slow = server.caller();
    let (first, second) = slow_request();
    slow.write(&first).unwrap();
    server.wait_for_metric("millrace_server_requests_in_flight", 1.0);
    server.terminate();
    eventually("the server takes no connections", || {
        Caller::new(server.address).send(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").is_err()
    });
    slow.write(&second).unwrap();
    let answer = slow.read().unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_request_that_never_ends_is_cut_after_the_grace() {
    let mut server = Server::ready("tabular", &["--drain", "0s", "--grace", "300ms"]);
    let mut slow = server.caller();
    slow.write(&slow_request().0).unwrap();
    server.wait_for_metric("millrace_server_requests_in_flight", 1.0);
    server.terminate();
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.stderr().contains("1 connections were cut"), "{}", server.stderr());
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let mut server = Server::ready("tabular", &["--drain", "0s"]);
    let mut idle = server.caller();
    assert_eq!(idle.post(infer_path(), &tabular()).status, 200);
    server.terminate();
    // One that had to be cut would make it 1.
    assert_eq!(server.wait().code(), Some(0));
}

/// How long callers still use the old address after a swap, as when a node learns late that an endpoint has gone.
const LAG: Duration = Duration::from_millis(300);
const SWAPS: usize = 20;

/// Two hundred requests a second through twenty swaps of the server: on kept connections, on new ones, and with bodies
/// that take longer to send than a server lives after its SIGTERM reaches the endpoints.
#[test]
fn not_one_request_fails_while_versions_are_swapped() {
    let flags = ["--drain", "3s"];
    let service = Arc::new(Service::default());
    let mut live = Server::ready_with("0", "tabular", &flags);
    service.point_to(live.address);
    let mut callers: Vec<JoinHandle<()>> = Vec::new();
    for _ in 0..5 {
        callers.push(service.start(Duration::from_millis(50), |caller, _| caller.try_post(infer_path(), &tabular())));
        callers.push(service.start(Duration::from_millis(50), |caller, address| {
            *caller = Caller::new(address);
            caller.try_post(infer_path(), &tabular())
        }));
    }
    for _ in 0..4 {
        callers.push(service.start(Duration::ZERO, |caller, address| {
            *caller = Caller::new(address);
            let (first, second) = slow_request();
            caller.write(&first)?;
            sleep(Duration::from_millis(3500));
            caller.write(&second)?;
            caller.read()
        }));
    }
    let mut ending = Vec::new();
    for swap in 1..=SWAPS {
        let next = Server::ready_with(&swap.to_string(), "tabular", &flags);
        let mut old = std::mem::replace(&mut live, next);
        service.point_later(live.address);
        old.terminate();
        ending.push(std::thread::spawn(move || assert_eq!(old.wait().code(), Some(0), "{}", old.stderr())));
        let before = service.answered();
        eventually("50 more requests are answered", || service.answered() >= before + 50);
        sleep(Duration::from_millis(500));
    }
    service.stopped.store(true, Ordering::Relaxed);
    for thread in callers.into_iter().chain(ending) {
        thread.join().unwrap();
    }
    assert_eq!(service.failed.load(Ordering::Relaxed), 0, "of {} requests", service.answered());
}

/// What a Kubernetes Service is to its callers: the address of the moment.
#[derive(Default)]
struct Service {
    port: AtomicU16,
    stopped: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
}

impl Service {
    fn point_to(&self, address: SocketAddr) {
        self.port.store(address.port(), Ordering::Relaxed);
    }

    fn point_later(self: &Arc<Self>, address: SocketAddr) {
        let service = Arc::clone(self);
        std::thread::spawn(move || {
            sleep(LAG);
            service.point_to(address);
        });
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.load(Ordering::Relaxed)))
    }

    /// Starts a thread that sends a request every `pause`. A caller keeps its connection until the server closes it.
    fn start(
        self: &Arc<Self>,
        pause: Duration,
        send: impl Fn(&mut Caller, SocketAddr) -> std::io::Result<crate::support::Answer> + Send + 'static,
    ) -> JoinHandle<()> {
        let service = Arc::clone(self);
        std::thread::spawn(move || {
            let mut caller = Caller::new(service.address());
            while !service.stopped.load(Ordering::Relaxed) {
                match send(&mut caller, service.address()) {
                    Ok(answer) if answer.status == 200 => {
                        service.answered.fetch_add(1, Ordering::Relaxed);
                        if answer.closes() {
                            caller = Caller::new(service.address());
                        }
                    }
                    Ok(answer) => {
                        service.fail(&format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
                    }
                    Err(error) => service.fail(&error.to_string()),
                }
                sleep(pause);
            }
        })
    }

    fn fail(&self, why: &str) {
        eprintln!("failed: {why}");
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The two halves of a right request.
fn slow_request() -> (Vec<u8>, Vec<u8>) {
    let body = tabular();
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", infer_path(), body.len());
    let (first, second) = body.split_at(30);
    ([head.as_bytes(), first.as_bytes()].concat(), second.as_bytes().to_vec())
}
