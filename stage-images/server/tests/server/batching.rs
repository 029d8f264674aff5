//! Requests that run together must not be able to tell.

use serde_json::json;

use crate::support::{Caller, Server, heavy, heavy_rows, infer_path, lookup};

/// Sends a request that takes long, and comes back once the model runs it.
fn occupied(server: &Server) -> std::thread::JoinHandle<u16> {
    let mut caller = server.caller();
    let slow = std::thread::spawn(move || caller.post(infer_path(), &heavy()).status);
    server.wait_for_metric("millrace_server_batch_requests_count", 1.0);
    slow
}

/// A request of one row that waits in the queue.
fn waiting(server: &Server) -> Caller {
    let mut caller = server.caller();
    let body = heavy_rows(1);
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", infer_path(), body.len());
    caller.write(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    server.wait_for_metric("millrace_server_queue_length", 1.0);
    caller
}

#[test]
fn requests_that_wait_for_the_model_run_together() {
    let server = Server::ready("heavy", &[]);
    let slow = occupied(&server);
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut caller = server.caller();
            std::thread::spawn(move || caller.post(infer_path(), &heavy_rows(2)).json())
        })
        .collect();
    for answer in waiting {
        let answer = answer.join().unwrap();
        assert_eq!(answer["outputs"][0]["shape"], json!([2, 1]));
        assert_eq!(answer["outputs"][0]["data"], json!([1.0, 1.0]));
    }
    assert_eq!(slow.join().unwrap(), 200);
    let batches = server.metric("millrace_server_batch_requests_count");
    assert!(batches < 9.0, "9 requests ran in {batches} batches");
    assert!(server.metric("millrace_server_batch_rows_sum").total_cmp(&6016.0).is_eq());
}

#[test]
fn each_of_many_concurrent_requests_gets_its_own_rows_and_a_bad_one_fails_alone() {
    let server = Server::ready("lookup", &[]);
    let callers: Vec<_> = (0..16_i64)
        .map(|number| {
            let mut caller = server.caller();
            std::thread::spawn(move || {
                for turn in 0..100 {
                    let index: Vec<i64> = (0..=(number + turn) % 5).map(|step| (number + step) % 4).collect();
                    if (number + turn) % 7 == 0 {
                        let answer = caller.post(infer_path(), &lookup(&[index[0], 99]));
                        assert_eq!(answer.status, 400);
                    } else {
                        let expected: Vec<f64> =
                            index.iter().map(|index| [0.5, 1.5, 2.5, 3.5][usize::try_from(*index).unwrap()]).collect();
                        let answer = caller.post(infer_path(), &lookup(&index)).json();
                        assert_eq!(answer["outputs"][0]["data"], json!(expected));
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    let batches = server.metric("millrace_server_batch_requests_count");
    assert!(batches < 1600.0, "nothing ran together: {batches} batches");
}

#[test]
fn a_model_whose_outputs_cannot_be_split_answers_each_request_alone() {
    let server = Server::ready("total", &[]);
    let callers: Vec<_> = (1..=8)
        .map(|rows| {
            let mut caller = server.caller();
            let body = heavy_rows(rows);
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let answer = caller.post(infer_path(), &body).json();
                    assert_eq!(answer["outputs"][0]["data"], json!([f64::from(u8::try_from(rows).unwrap())]));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn a_full_queue_is_a_503_that_says_when_to_come_again() {
    // The delay keeps the first one waiting.
    let server = Server::ready("heavy", &["--max-queue", "1", "--max-delay", "1m"]);
    let waiting = waiting(&server);
    for _ in 0..3 {
        let answer = server.caller().post(infer_path(), &heavy_rows(1));
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.error(), "1 requests wait for this model already: try again");
    }
    drop(waiting);
}

#[test]
fn a_caller_that_leaves_is_dropped_from_the_queue() {
    let server = Server::ready("heavy", &["--max-batch-size", "2", "--max-delay", "1m"]);
    drop(waiting(&server));
    server.wait_for_metric("millrace_server_requests_total{code=\"gone\"}", 1.0);
    // Two are a full batch, if the one that left is not one of them.
    let mut caller = server.caller();
    let one = std::thread::spawn(move || caller.post(infer_path(), &heavy_rows(1)).status);
    assert_eq!(server.caller().post(infer_path(), &heavy_rows(1)).status, 200);
    assert_eq!(one.join().unwrap(), 200);
    assert!(server.metric("millrace_server_batch_requests_sum").total_cmp(&2.0).is_eq());
}

#[test]
fn an_answer_that_takes_too_long_is_a_504() {
    let server = Server::ready("heavy", &["--request-timeout", "50ms", "--max-delay", "1m"]);
    let answer = server.caller().post(infer_path(), &heavy_rows(1));
    assert_eq!(answer.status, 504);
    assert_eq!(
        answer.error(),
        "no answer within 0.05 s: the model is too slow for its load, or needs a longer --request-timeout, server.timeout of a ModelDeployment"
    );
}

#[test]
fn with_a_delay_requests_wait_for_company_and_a_full_batch_does_not() {
    let server = Server::ready("heavy", &["--max-delay", "1m", "--max-batch-size", "4"]);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let mut caller = server.caller();
            std::thread::spawn(move || caller.post(infer_path(), &heavy_rows(1)).status)
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.join().unwrap(), 200);
    }
    assert!(server.metric("millrace_server_batch_requests_count").total_cmp(&1.0).is_eq());
    assert!(server.metric("millrace_server_batch_rows_sum").total_cmp(&4.0).is_eq());
}

#[test]
fn a_model_that_takes_no_batches_waits_for_nobody() {
    let server = Server::ready("fixed", &["--max-delay", "1m"]);
    let body = r#"{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[1,2,3,4,5,6]}]}"#;
    assert_eq!(server.caller().post(infer_path(), body).status, 200);
}
