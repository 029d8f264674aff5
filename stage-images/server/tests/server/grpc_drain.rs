//! What callers of gRPC see while a server ends.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;

use crate::support::messages::model_infer_request::InferInputTensor;
use crate::support::messages::{ModelInferRequest, ModelInferResponse, ServerReadyRequest, ServerReadyResponse};
use crate::support::{Called, GrpcCaller, Server, eventually};

/// A row for the models "heavy" and "total".
fn rows(rows: usize) -> ModelInferRequest {
    let shape = vec![i64::try_from(rows).unwrap(), 1];
    let raw: Vec<u8> = std::iter::repeat_n(1_f32.to_le_bytes(), rows).flatten().collect();
    let x = InferInputTensor { name: "x".into(), datatype: "FP32".into(), shape, ..InferInputTensor::default() };
    let raw_input_contents = vec![Bytes::from(raw)];
    ModelInferRequest { model_name: "m".into(), inputs: vec![x], raw_input_contents, ..ModelInferRequest::default() }
}

#[test]
fn a_draining_server_answers_and_sends_connections_away() {
    let server = Server::ready("total", &["--drain", "1m"]);
    let mut kept = server.grpc();
    assert_eq!(kept.call::<ModelInferResponse>("ModelInfer", &rows(1)).code, 0);
    assert!(kept.is_open());
    server.terminate();
    eventually("a kept connection is told to go", || !kept.is_open());
    let mut late = server.grpc();
    let ready: Called<ServerReadyResponse> = late.call("ServerReady", &ServerReadyRequest {});
    assert!(!ready.message.unwrap().ready);
    eventually("a late connection is told to go", || !late.is_open());
    assert_eq!(server.grpc().call::<ModelInferResponse>("ModelInfer", &rows(1)).code, 0);
}

#[test]
fn calls_in_flight_are_answered_before_the_server_ends() {
    let mut server = Server::ready("heavy", &["--drain", "0s", "--max-delay", "3s"]);
    let mut caller = server.grpc();
    let calls = std::thread::spawn(move || caller.call_all::<ModelInferResponse>("ModelInfer", &vec![rows(1); 4]));
    server.wait_for_metric("millrace_server_requests_in_flight", 4.0);
    server.terminate();
    let answers = calls.join().unwrap();
    assert!(answers.iter().all(|answer| answer.code == 0 && answer.message.is_some()));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn connections_that_say_nothing_do_not_hold_up_the_end() {
    let mut server = Server::ready("total", &["--drain", "0s", "--grace", "20s"]);
    // One has only said what it speaks, one nothing at all, and neither will ever answer.
    let mut begun = TcpStream::connect(server.address).unwrap();
    begun.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let silent = TcpStream::connect(server.address).unwrap();
    let mut used = server.grpc();
    assert_eq!(used.call::<ModelInferResponse>("ModelInfer", &rows(1)).code, 0);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    drop((begun, silent));
}

/// Callers on kept connections and on new ones, through ten swaps of the server.
#[test]
fn not_one_call_fails_while_versions_are_swapped() {
    let flags = ["--drain", "3s"];
    let mut live = Server::ready_with("0", "total", &flags);
    let service = Arc::new(Service::default());
    service.port.store(live.address.port(), Ordering::Relaxed);
    let callers: Vec<_> = (0..6)
        .map(|number| {
            let service = Arc::clone(&service);
            std::thread::spawn(move || service.call_on(number % 2 == 0))
        })
        .collect();
    let mut ending = Vec::new();
    for swap in 1..=10 {
        let mut old = std::mem::replace(&mut live, Server::ready_with(&swap.to_string(), "total", &flags));
        let (port, later) = (live.address.port(), Arc::clone(&service));
        // Callers learn late of the new address, as they do of an endpoint that has gone.
        std::thread::spawn(move || {
            sleep(Duration::from_millis(300));
            later.port.store(port, Ordering::Relaxed);
        });
        old.terminate();
        ending.push(std::thread::spawn(move || assert_eq!(old.wait().code(), Some(0), "{}", old.stderr())));
        let before = service.answered();
        eventually("50 more calls are answered", || service.answered() >= before + 50);
        sleep(Duration::from_millis(500));
    }
    service.stopped.store(true, Ordering::Relaxed);
    for thread in callers.into_iter().chain(ending) {
        thread.join().unwrap();
    }
}

#[derive(Default)]
struct Service {
    port: AtomicU16,
    stopped: AtomicBool,
    answered: AtomicUsize,
}

impl Service {
    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Calls until told to stop; on one connection as long as the server lets it, or on a new one each time.
    fn call_on(&self, keep: bool) {
        let connect = || GrpcCaller::new(([127, 0, 0, 1], self.port.load(Ordering::Relaxed)).into());
        let mut caller = connect();
        while !self.stopped.load(Ordering::Relaxed) {
            match caller.try_call::<ModelInferResponse>("ModelInfer", &rows(3)) {
                Ok(called) => {
                    assert_eq!(called.code, 0, "{}", called.words);
                    assert_eq!(called.message.unwrap().raw_output_contents[0], 3_f32.to_le_bytes()[..]);
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                // The server said beforehand that it would not take the call: callers send it elsewhere.
                Err(error) => {
                    let unprocessed = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
                    assert!(unprocessed, "{error:?}");
                    caller = connect();
                    continue;
                }
            }
            if !keep {
                caller = connect();
            }
            sleep(Duration::from_millis(20));
        }
    }
}
