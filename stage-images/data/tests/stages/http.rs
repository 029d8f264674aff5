//! `ingest` from an HTTP server.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Run, stage};

const CSV: &str = "a,b\n1,2\n";

/// A server that answers by path. It lives as long as the test process.
struct Server {
    address: String,
    asked: Arc<AtomicUsize>,
}

fn serve() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            // The head ends with an empty line.
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let number = count.fetch_add(1, Ordering::SeqCst);
            let path = request.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
            stream.write_all(answer(&path, number).as_bytes()).unwrap();
        }
    });
    Server { address, asked }
}

fn answer(path: &str, number: usize) -> String {
    let head = |status: &str, more: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n")
    };
    let whole = || head("200 OK", "ETag: \"v1\"\r\n", CSV.len()) + CSV;
    match path {
        "/moved.csv" => head("302 Found", "Location: /data.csv\r\n", 0),
        "/private.csv" => head("403 Forbidden", "", 0),
        "/busy.csv" if number < 2 => head("503 Service Unavailable", "", 0),
        // Says more than it sends, the first time.
        "/cut.csv" if number == 0 => head("200 OK", "", CSV.len()) + &CSV[..5],
        "/data.csv" | "/busy.csv" | "/cut.csv" => whole(),
        "/always-cut.csv" => head("200 OK", "", CSV.len()) + &CSV[..5],
        _ => head("404 Not Found", "", 0),
    }
}

fn ingest(server: &Server, path: &str, more: Value) -> Run {
    let mut params = json!({"source": format!("{}{path}", server.address)});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage("ingest").run(&params)
}

#[test]
fn a_file_is_fetched_and_its_etag_is_the_version() {
    let server = serve();
    for path in ["/data.csv", "/moved.csv?signature=x"] {
        let run = ingest(&server, path, json!({})).well();
        assert_eq!(run.table("data").rows, [["1", "2"]]);
        assert_eq!(run.result("source_version"), json!("v1"));
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    for path in ["/busy.csv", "/cut.csv"] {
        assert_eq!(ingest(&serve(), path, json!({})).well().table("data").rows, [["1", "2"]]);
    }
}

#[test]
fn refusals_are_told_at_once_and_without_secrets() {
    let server = serve();
    let error = ingest(&server, "/none.csv?signature=secret", json!({})).error();
    assert!(error.contains("/none.csv: 404 Not Found; nothing is there: correct the address"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let error = ingest(&server, "/private.csv", json!({})).error();
    assert!(error.contains("403 Forbidden; the server refuses access"), "{error}");
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_transfer_that_always_breaks_off_fails() {
    let error = ingest(&serve(), "/always-cut.csv?key=secret", json!({})).error();
    assert!(error.contains("/always-cut.csv failed after 4 tries"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn nobody_at_the_address_is_an_error() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = stage("ingest").run(&json!({"source": format!("http://127.0.0.1:{port}/x.csv")})).error();
    assert!(error.contains("x.csv failed after 4 tries") && error.contains("Connection refused"), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_not_fetched() {
    let error = ingest(&serve(), "/data.csv", json!({"maxBytes": 3})).error();
    assert!(error.contains("8 bytes, but maxBytes is 3"), "{error}");
}
