//! Callers that send or read slowly, or not at all.

use std::time::{Duration, Instant};

use crate::support::{Server, eventually, infer_path, tabular};

fn head(length: usize) -> String {
    format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n", infer_path())
}

#[test]
fn a_head_that_does_not_arrive_is_a_408() {
    let server = Server::ready("tabular", &["--head-timeout", "300ms"]);
    let mut caller = server.caller();
    caller.write(b"POST /v2/models/m/in").unwrap();
    let answer = caller.read().unwrap();
    assert_eq!((answer.status, answer.error()), (408, "the request's head did not arrive within 0.3 s".into()));
    assert!(answer.closes());
}

#[test]
fn a_head_that_drips_gets_no_more_time() {
    let server = Server::ready("tabular", &["--head-timeout", "300ms"]);
    let start = Instant::now();
    let mut caller = server.caller();
    for byte in head(10).bytes() {
        if caller.write(&[byte]).is_err() || start.elapsed() > Duration::from_secs(1) {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(caller.read().unwrap().status, 408);
}

#[test]
fn a_body_that_does_not_arrive_is_a_408() {
    let server = Server::ready("tabular", &["--body-timeout", "300ms"]);
    let mut caller = server.caller();
    caller.write(&[head(100).as_bytes(), b"{\"inputs\":"].concat()).unwrap();
    let answer = caller.read().unwrap();
    assert_eq!((answer.status, answer.error()), (408, "the body did not arrive within 0.3 s".into()));
    assert!(answer.closes());
}

#[test]
fn a_kept_connection_may_be_idle_longer_than_a_head_may_take() {
    let server = Server::ready("tabular", &["--head-timeout", "100ms", "--idle-timeout", "5s"]);
    let mut caller = server.caller();
    for _ in 0..2 {
        assert_eq!(caller.post(infer_path(), &tabular()).status, 200);
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(caller.post(infer_path(), &tabular()).status, 200);
    assert!(caller.is_closed(), "an idle connection is closed after --idle-timeout");
}

#[test]
fn many_slow_callers_do_not_keep_others_from_their_answers() {
    let server = Server::ready("tabular", &["--head-timeout", "5s"]);
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let mut caller = server.caller();
            caller.write(b"POST /v2").unwrap();
            caller
        })
        .collect();
    let mut caller = server.caller();
    for _ in 0..20 {
        assert_eq!(caller.post(infer_path(), &tabular()).status, 200);
    }
    drop(slow);
}

#[test]
fn more_connections_than_allowed_are_answered_503() {
    let server = Server::ready("tabular", &["--max-connections", "4"]);
    let mut kept: Vec<_> = (0..4).map(|_| server.caller()).collect();
    for caller in &mut kept {
        // The probe of the test's own start may still be closing.
        eventually("four are served", || caller.post(infer_path(), &tabular()).status == 200);
    }
    let answer = server.caller().post(infer_path(), &tabular());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    drop(kept.pop());
    eventually("its place is free", || server.caller().post(infer_path(), &tabular()).status == 200);
}
