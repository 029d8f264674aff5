//! `look`: what lies on a claim, at a web server and on an S3 server, until it is something else.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clouds;
use crate::s3::serve as serve_s3;

/// The program as its pod runs it, until it ends.
struct Look {
    child: Child,
    folder: TempDir,
}

impl Look {
    fn new(task: &Value, variables: &[(&str, &str)], root: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-data"));
        command.args(["look", "--params", &task.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("MILLRACE_TERMINATION_LOG", folder.path().join("log")).envs(variables.iter().copied());
        if let Some(root) = root {
            command.env("MILLRACE_ROOT", root);
        }
        Self { child: command.spawn().unwrap(), folder }
    }

    /// Whether it still waits, a while after it began.
    fn waits(&mut self) -> bool {
        std::thread::sleep(Duration::from_secs(2));
        self.child.try_wait().unwrap().is_none()
    }

    fn report(mut self) -> Value {
        let until = Instant::now() + Duration::from_mins(2);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it tells nothing");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&std::fs::read_to_string(self.folder.path().join("log")).unwrap()).unwrap()
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn version(report: &Value) -> String {
    report["found"]["version"].as_str().unwrap_or_else(|| panic!("{report}")).to_owned()
}

fn task(uri: &str, known: Value) -> Value {
    json!({ "uri": uri, "poll": 1, "known": known })
}

#[test]
fn a_folder_of_a_claim_is_watched_until_a_file_comes() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("look/in");
    let uri = "pvc://lake/in";
    let first = Look::new(&task(uri, Value::Null), &[], Some(root.path())).report();
    assert_eq!(first["found"], json!({ "found": "nothing is there yet" }));
    let mut waiting = Look::new(&task(uri, json!({})), &[], Some(root.path()));
    assert!(waiting.waits());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.csv"), "1").unwrap();
    let report = waiting.report();
    assert_eq!(report["found"]["found"], "1 file, 1 bytes");
    let known = json!({ "version": version(&report) });
    assert!(Look::new(&task(uri, known.clone()), &[], Some(root.path())).waits());
    std::fs::write(folder.join("b.csv"), "1").unwrap();
    assert_ne!(
        json!(version(&Look::new(&task(uri, known), &[], Some(root.path())).report())),
        report["found"]["version"]
    );
}

/// A server that answers what it is told to, and notes what it was asked with.
fn serve(answer: &Arc<Mutex<String>>, asked: &Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (answer, asked) = (answer.clone(), asked.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n");
            let mut said = answer.lock().unwrap().clone();
            if said == "GET only" {
                let get = head.starts_with("GET ");
                said.clear();
                said.push_str(if get { "200 OK\r\nETag: \"g\"" } else { "405 Method Not Allowed" });
            }
            asked.lock().unwrap().push(head);
            let _ = write!(stream, "HTTP/1.1 {said}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn a_file_of_a_web_server_is_new_when_its_etag_or_its_time_is() {
    let (answer, asked) = (Arc::new(Mutex::new("200 OK\r\nETag: \"v1\"".to_owned())), Arc::default());
    let address = serve(&answer, &asked);
    let uri = format!("{address}/day.csv?signature=secret");
    let say = |text: &str| text.clone_into(&mut answer.lock().unwrap());
    let look = |known: Value| Look::new(&task(&uri, known), &[("HTTP_AUTHORIZATION", "Bearer t0ken")], None);
    assert_eq!(version(&look(Value::Null).report()), "v1");
    assert!(asked.lock().unwrap()[0].starts_with("HEAD ") && asked.lock().unwrap()[0].contains("Bearer t0ken"));
    let mut waiting = look(json!({ "version": "v1" }));
    assert!(waiting.waits());
    say("200 OK\r\nETag: \"v2\"");
    assert_eq!(version(&waiting.report()), "v2");
    say("200 OK\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(version(&look(Value::Null).report()), "Thu, 01 Jan 2026 00:00:00 GMT, 0 bytes");
    say("GET only");
    assert_eq!(version(&look(Value::Null).report()), "g");
    say("404 Not Found");
    assert_eq!(look(Value::Null).report()["found"], json!({ "found": "nothing is there yet" }));
}

#[test]
fn what_keeps_it_from_looking_is_told_once_and_so_is_its_end() {
    let (answer, asked) = (Arc::new(Mutex::new("403 Forbidden".to_owned())), Arc::default());
    let uri = format!("{}/day.csv?signature=secret", serve(&answer, &asked));
    let look = |known: Value| Look::new(&task(&uri, known), &[], None);
    let refused = look(json!({ "version": "v1" })).report();
    assert_eq!(refused["failed"]["reason"], "Refused");
    let message = refused["failed"]["message"].as_str().unwrap();
    assert!(message.contains("/day.csv: 403 Forbidden") && message.contains("secretRef"), "{message}");
    assert!(!message.contains("signature"), "{message}");
    let mut waiting = look(json!({ "version": "v1", "error": "Refused" }));
    assert!(waiting.waits());
    "200 OK\r\nETag: \"v1\"".clone_into(&mut answer.lock().unwrap());
    assert_eq!(version(&waiting.report()), "v1");
    "200 OK".clone_into(&mut answer.lock().unwrap());
    assert_eq!(look(Value::Null).report()["failed"]["reason"], "NoVersion");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = Look::new(&task(&format!("http://127.0.0.1:{nobody}/x"), Value::Null), &[], None).report();
    assert_eq!(away["failed"]["reason"], "Unreachable");
}

#[test]
fn objects_of_an_s3_server_are_new_when_one_comes_or_has_other_bytes() {
    let server = serve_s3();
    let access = json!({ "endpoint": server.endpoint(), "region": "us-east-1" });
    let look = |uri: &str, secret: &str, known: Value| {
        let mut task = task(uri, known);
        task["access"] = access.clone();
        Look::new(&task, &[("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", secret)], None)
    };
    let all = look("s3://lake/penguins/", "secret", Value::Null).report();
    assert_eq!(all["found"]["found"], "2 objects, 16 bytes");
    let known = json!({ "version": version(&all) });
    let mut waiting = look("s3://lake/penguins/", "secret", known);
    assert!(waiting.waits());
    server.put("penguins/c.csv", "a,b\n5,6\n");
    let more = waiting.report();
    assert_eq!(more["found"]["found"], "3 objects, 24 bytes");
    assert_ne!(version(&more), version(&all));
    let one = version(&look("s3://lake/penguins/a.csv", "secret", Value::Null).report());
    let ingested = crate::s3::ingest(&server, "s3://lake/penguins/a.csv", "secret").well();
    assert_eq!(ingested.result("source_version"), json!(one), "a run can see whether it read what started it");
    let ingested = crate::s3::ingest(&server, "s3://lake/penguins/", "secret").well();
    assert_eq!(ingested.result("source_version"), json!(version(&more)));
    for nothing in ["s3://lake/none.csv", "s3://lake/none/"] {
        assert_eq!(look(nothing, "secret", Value::Null).report()["found"], json!({ "found": "nothing is there yet" }));
    }
    assert_eq!(look("s3://lake/penguins/", "wrong", Value::Null).report()["failed"]["reason"], "Refused");
    for pond in ["s3://pond/penguins/", "s3://pond/penguins.csv"] {
        assert_eq!(look(pond, "secret", Value::Null).report()["failed"]["reason"], "NoSuchBucket", "{pond}");
    }
}

#[test]
fn objects_of_the_other_clouds_are_looked_at_as_those_of_s3() {
    let (gcs, azure) = (clouds::gcs(), clouds::azure());
    let look = |uri: &str, access: Value, variables: &[(&str, &str)], known: Value| {
        let mut task = task(uri, known);
        task["access"] = access;
        Look::new(&task, variables, None)
    };
    let open = || json!({ "endpoint": gcs.endpoint(), "anonymous": true });
    let mine = || json!({ "endpoint": azure.endpoint(), "account": clouds::ACCOUNT });
    let key = [("AZURE_STORAGE_ACCOUNT_KEY", clouds::KEY)];
    for (root, access, variables) in [("gs://lake", open(), &[][..]), ("az://lake", mine(), &key)] {
        let see = |below: &str| look(&format!("{root}/{below}"), access.clone(), variables, Value::Null).report();
        let all = see("penguins/");
        assert_eq!(all["found"]["found"], "2 objects, 16 bytes", "{all}");
        assert_eq!(see("penguins/a.csv")["found"]["found"], "1 object, 8 bytes");
        assert_eq!(see("none.csv")["found"], json!({ "found": "nothing is there yet" }));
        let known = json!({ "version": version(&all) });
        assert!(look(&format!("{root}/penguins/"), access.clone(), variables, known).waits());
    }
    let wrong = [("AZURE_STORAGE_ACCOUNT_KEY", clouds::WRONG)];
    let failed = |uri: &str, access: Value, variables: &[(&str, &str)]| {
        look(uri, access, variables, Value::Null).report()["failed"].clone()
    };
    let refused = failed("az://lake/penguins/", mine(), &wrong);
    assert_eq!(refused["reason"], "Refused");
    let says = refused["message"].as_str().unwrap();
    assert!(says.contains("name in access.secretRef a Secret with AZURE_STORAGE_ACCOUNT_KEY"), "{says}");
    assert_eq!(failed("az://pond/penguins/", mine(), &key)["reason"], "NoSuchBucket");
    assert_eq!(
        failed("az://lake/a", json!({}), &key)["message"],
        "az://lake/a: nobody says whose container it is; write access.account"
    );
}
