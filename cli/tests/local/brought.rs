//! What a run brings with it: a folder of code, and inputs by address.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::json;

use crate::support::{Place, script};

#[test]
fn a_folder_is_where_programs_run_and_a_change_of_it_is_seen() {
    let place = Place::new();
    place.write("code/words/one.txt", "one\n");
    place.write("code/.gitignore", "*.log\n");
    place.write("code/old.log", "x");
    place.pipeline(
        &json!({
            "takes": script("cat words/one.txt; ls -A; test \"$PWD\" -ef \"$MILLRACE_CODE_DIR\"", &json!({})),
            "apart": script("ls words || echo apart", &json!({ "code": false })),
        }),
        &json!({}),
    );
    let ran = place.run(&["-f", "p.yaml", "--code", "code"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(place.read(".millrace/runs/p-1/logs/takes.1.log"), "one\n.gitignore\nwords\n");
    assert!(place.read(".millrace/runs/p-1/logs/apart.1.log").contains("apart"));
    let kept = || fs::read_dir(place.path(".millrace/claims/c/code")).unwrap().count();
    assert_eq!((place.run(&["-f", "p.yaml", "--code", "code"]).code, kept()), (0, 1));
    place.write("code/words/one.txt", "two\n");
    assert_eq!((place.run(&["-f", "p.yaml", "--code", "code"]).code, kept()), (0, 2));
    assert!(place.read(".millrace/runs/p-3/logs/takes.1.log").starts_with("two\n"));
    assert!(place.read(".millrace/runs/p-3/run.yaml").contains("digest: sha256:"));
}

#[test]
fn code_that_cannot_be_packed_starts_nothing() {
    let place = Place::new();
    place.write("code/a", "1");
    std::os::unix::fs::symlink("/etc/passwd", place.path("code/b")).unwrap();
    place.pipeline(&json!({ "a": script("true", &json!({})) }), &json!({}));
    let ran = place.run(&["-f", "p.yaml", "--code", "code"]);
    assert!(ran.code == 2 && ran.errors.contains("leads out of the folder"), "{ran:?}");
    assert!(!place.path(".millrace/runs/p-1").exists());
}

/// A server that gives the same to everybody.
fn serve(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let head = format!(
                "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    address
}

#[test]
fn inputs_by_address_are_read_by_stages_of_their_own() {
    let place = Place::new();
    place.write(".millrace/claims/raw/day/rows.csv", "2\n");
    let address = serve("1\n");
    let inputs = json!({
        "web": { "uri": format!("{address}/rows.csv") }, "claim": { "uri": "pvc://raw/day" },
        "handed": { "uri": "s3://lake/$[[ run.pipeline ]]/", "mode": "Uri" },
    });
    let text = "cat $MILLRACE_INPUT_WEB $MILLRACE_INPUT_CLAIM/rows.csv; echo $MILLRACE_INPUT_HANDED";
    place.pipeline(&json!({ "read": script(text, &json!({ "inputs": inputs })) }), &json!({}));
    let done = place.json(0, &[]);
    assert_eq!(done["stages"].as_object().unwrap().keys().collect::<Vec<_>>(), ["read", "read-claim", "read-web"]);
    assert_eq!(place.read(".millrace/runs/p-1/logs/read.1.log"), "1\n2\ns3://lake/p/\n");
    assert_eq!(done["stages"]["read-web"]["results"]["source_version"], "v1");
}
