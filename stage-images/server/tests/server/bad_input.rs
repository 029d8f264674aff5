//! Wrong requests: each is a 4xx that says what is wrong, and the server answers the next right one.

use std::io::Write as _;

use crate::support::{Caller, Server, assert_schema, infer_path, lookup, tabular, tabular_rows};

/// The server still answers, on the same connection where that is open.
fn assert_well(caller: &mut Caller) {
    assert_eq!(caller.post(infer_path(), &tabular()).status, 200);
}

#[test]
fn wrong_requests_are_refused_by_name_and_the_connection_goes_on() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    let cases = [
        (tabular().replace("[1,1]", "[1,2]"), r#"input "mass" has shape [1, 2]: the model expects [-1, 1]"#),
        (tabular().replace("FP32", "INT64"), r#"input "mass" has datatype "INT64": the model expects FP32"#),
        (tabular().replace("mass", "weight"), r#"unknown input "weight": the model's inputs are "mass", "sex""#),
        (tabular().replace("4500.0", "4500.0,1"), r#"input "mass": "data" has more than the 1 values of shape [1, 1]"#),
        (tabular().replace("4500.0", ""), r#"input "mass": "data" has 0 values, but shape [1, 1] needs 1"#),
        (
            tabular().replace("4500.0", "\"heavy\""),
            r#"input "mass": value 0 is "heavy", but FP32 needs a number in its range, or null where a value is missing"#,
        ),
        (r#"{"inputs":[]}"#.into(), r#"input "mass" (FP32, shape [-1, 1]) is missing"#),
        (String::new(), r#"the body is empty: send an inference request, {"inputs": [...]}"#),
    ];
    for (body, expected) in cases {
        let answer = caller.post(infer_path(), &body);
        assert_eq!((answer.status, answer.error().as_str()), (400, expected), "{body}");
        assert_schema("inference_error_response", &answer.json());
        assert!(!answer.closes());
        assert_well(&mut caller);
    }
}

#[test]
fn broken_json_and_nan_are_refused_with_the_remedy() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    for (body, part) in [
        (tabular()[..40].to_owned(), "EOF while parsing"),
        (tabular().replace("4500.0", "NaN"), "write null where a number is missing"),
        (tabular().replace("4500.0", "Infinity"), "write null where a number is missing"),
        ("\u{feff}".to_owned() + &tabular(), "expected value"),
        ("[".repeat(1_000_000), "expected"),
    ] {
        let answer = caller.post(infer_path(), &body);
        assert_eq!(answer.status, 400);
        assert!(answer.error().contains(part), "{} has no {part:?}", answer.error());
        assert_well(&mut caller);
    }
    let answer = caller.post_as(infer_path(), &[], b"{\"inputs\":[{\"name\":\"\xff\xfe\"}]}").unwrap();
    assert_eq!(answer.status, 400);
    assert_well(&mut caller);
}

#[test]
fn an_unknown_model_or_version_is_a_404() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    for path in ["/v2/models/other/infer", "/v2/models/m/versions/4/infer", "/v2/models/m%00/infer"] {
        let answer = caller.post(path, &tabular());
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains("this server has"), "{}", answer.error());
        assert_well(&mut caller);
    }
}

#[test]
fn another_content_type_or_encoding_is_a_415() {
    let server = Server::ready("tabular", &[]);
    let mut caller = server.caller();
    for header in
        [("content-type", "application/octet-stream"), ("content-type", "text/plain"), ("content-encoding", "gzip")]
    {
        let answer = caller.post_as(infer_path(), &[header], tabular().as_bytes()).unwrap();
        assert_eq!(answer.status, 415, "{header:?}");
        assert!(answer.error().contains(header.1), "{}", answer.error());
        assert_well(&mut caller);
    }
}

#[test]
fn a_body_of_100_mb_is_refused_without_taking_it_into_memory() {
    let server = Server::ready("tabular", &[]);
    assert_well(&mut server.caller());
    let before = server.peak_memory();
    let whole = vec![b' '; 100_000_000];
    let answer = server.caller().post_as(infer_path(), &[], &whole).unwrap();
    assert_eq!(answer.status, 413);
    assert!(answer.closes());
    assert_eq!(
        answer.error(),
        "the body is larger than the 8388608 bytes that this server takes: send fewer rows, or raise --max-body, security.maxBodyBytes of a ModelDeployment"
    );
    assert!(server.peak_memory() < before + 4096, "{} KiB before, {} after", before, server.peak_memory());
    // Without a length the server can only see it when the limit is reached.
    let mut chunked =
        format!("POST {} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", infer_path()).into_bytes();
    for chunk in whole.chunks(1_000_000) {
        write!(chunked, "{:x}\r\n", chunk.len()).unwrap();
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(server.caller().send(&chunked).unwrap().status, 413);
    assert!(server.peak_memory() < before + 40_000, "{} KiB before, {} after", before, server.peak_memory());
    assert_well(&mut server.caller());
}

#[test]
fn a_caller_that_sends_all_before_it_reads_still_gets_the_refusal() {
    let server = Server::ready("tabular", &[]);
    let length = 9 << 20;
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n", infer_path());
    let mut caller = server.caller();
    // More than the sockets hold: a server that closed at once would break the pipe.
    caller.write(&[head.as_bytes(), &vec![b' '; length]].concat()).unwrap();
    assert_eq!(caller.read().unwrap().status, 413);
    assert!(caller.is_closed());
}

#[test]
fn a_length_that_is_no_length_and_a_head_that_is_too_large_are_refused() {
    let server = Server::ready("tabular", &[]);
    for length in ["-1", "99999999999999999999999", "1, 2", "x"] {
        let request = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n", infer_path());
        let status = server.caller().send(request.as_bytes()).unwrap().status;
        assert_eq!(status, 400, "{length}");
    }
    let request = format!("GET /v2 HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    assert_eq!(server.caller().send(request.as_bytes()).unwrap().status, 431);
    let mut caller = server.caller();
    caller.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").unwrap();
    assert_eq!(caller.read_all().matches("HTTP/1.1 400").count(), 1);
    caller.write(b"GET /v2 HTTP/1.1\r\nhost x\r\n\r\n").unwrap();
    let all = caller.read_all();
    assert_eq!(all.matches("HTTP/1.1").count(), 1, "one answer and no more: {all}");
    assert_well(&mut server.caller());
}

#[test]
fn what_only_the_model_can_see_is_wrong_is_a_400_too() {
    let server = Server::ready("lookup", &[]);
    let mut caller = server.caller();
    let answer = caller.post(infer_path(), &lookup(&[1, 99]));
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("out of data bounds"), "{}", answer.error());
    let answer = caller.post(infer_path(), &lookup(&[1, -1])).json();
    assert_eq!(answer["outputs"][0]["data"], serde_json::json!([1.5, 3.5]));
}

#[test]
fn values_count_against_the_servers_memory_as_they_are_parsed() {
    let server = Server::ready("tabular", &["--max-body", "1Mi", "--max-buffered", "1Mi"]);
    let rows: Vec<(Option<f64>, &str)> = vec![(None, ""); 40_000];
    let body = tabular_rows(&rows);
    assert!(body.len() < 1 << 20);
    let answer = server.caller().post(infer_path(), &body);
    assert_eq!(
        (answer.status, answer.error()),
        (
            413,
            "the request needs 1120000 bytes of memory, this server has 1048576 for requests: send fewer rows, or raise --max-buffered, of a ModelDeployment server.resources.limits.memory".into()
        )
    );
    assert_eq!(server.caller().post(infer_path(), &tabular_rows(&rows[..20_000])).status, 200);
}

fn head_of(length: usize) -> String {
    format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n", infer_path())
}

#[test]
fn bodies_beyond_the_servers_memory_for_them_are_answered_503() {
    let server = Server::ready("tabular", &["--max-body", "1Mi", "--max-buffered", "1Mi", "--body-timeout", "5m"]);
    let mut first = server.caller();
    // All of it but the last byte. Nobody else asks before it is there: whose bytes come last is refused.
    first.write(&[head_of(1 << 20).as_bytes(), &vec![b' '; (1 << 20) - 1]].concat()).unwrap();
    server.wait_for_metric("millrace_server_request_memory_bytes", f64::from((1 << 20) - 1));
    let answer = server.caller().post(infer_path(), &tabular());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    drop(first);
    server.wait_for_metric("millrace_server_request_memory_bytes", 0.0);
    assert_well(&mut server.caller());
}

#[test]
fn bodies_that_are_announced_and_not_sent_hold_no_memory() {
    let server = Server::ready("tabular", &["--max-body", "1Mi", "--max-buffered", "1Mi"]);
    let idle: Vec<_> = (0..20)
        .map(|_| {
            let mut caller = server.caller();
            caller.write(&[head_of(1 << 20).as_bytes(), b"{\"inputs\":"].concat()).unwrap();
            caller
        })
        .collect();
    server.wait_for_metric("millrace_server_requests_in_flight", 20.0);
    assert_well(&mut server.caller());
    drop(idle);
}
