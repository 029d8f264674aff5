//! `payload-log`: events that were taken are rows of the table, each once, whatever ends the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tables::read;
use crate::tables_others::ask;
use crate::{clouds, s3};

const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json";
/// For what comes sooner on a machine that has time.
const LONG: Duration = Duration::from_mins(2);

/// The program, which is killed with the value.
struct Writer {
    child: Child,
    address: String,
    lines: Receiver<String>,
}

impl Writer {
    fn start(spool: &Path, params: Value) -> Self {
        Self::start_with(spool, params, &[("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "secret")])
    }

    fn start_with(spool: &Path, params: Value, variables: &[(&str, &str)]) -> Self {
        let mut all = json!({ "listen": "127.0.0.1:0", "spool": spool, "everySeconds": 1 });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-data"))
            .args(["payload-log", "--params", &all.to_string()])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut writer = Self { child, address: String::new(), lines };
        let line = writer.says("listening on ");
        line.rsplit(' ').next().unwrap().clone_into(&mut writer.address);
        writer
    }

    /// The next line that has these words.
    fn says(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LONG).unwrap();
            if line.contains(words) {
                return line;
            }
        }
    }

    fn send(&self, method: &str, kind: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let head = format!("{method} /healthz HTTP/1.1\r\nhost: log\r\nconnection: close\r\ncontent-type: {kind}");
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
        // Who is refused may not read all of it.
        let _ = stream.write_all(body.as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, said) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), said.trim().to_owned())
    }

    /// Until the kubelet would lead requests here.
    fn ready(&self) {
        let until = Instant::now() + LONG;
        loop {
            let (status, said) = self.send("GET", "", "");
            if (status, said.as_str()) == (200, "ok") {
                return;
            }
            assert!(status == 503 && said.contains("has not been read yet"), "{status}: {said}");
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends events until they are taken.
    fn take(&self, events: &[Value]) {
        let until = Instant::now() + LONG;
        let body = json!(events).to_string();
        loop {
            let (status, said) = self.send("POST", MANY, &body);
            if status == 202 {
                return;
            }
            assert!(status == 503 && Instant::now() < until, "{status}: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn terminate(mut self) -> ExitStatus {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn event(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "type": "dev.millrace.inference.request", "time": "2026-11-01T12:00:00.5Z" })
}

fn many(name: &str, count: usize) -> Vec<Value> {
    (0..count).map(|number| event(&format!("{name}-{number}"))).collect()
}

fn at(folder: &TempDir, name: &str) -> std::path::PathBuf {
    folder.path().join(name)
}

/// The ids of a table's rows, sorted.
fn ids(table: &Path) -> Vec<String> {
    let rows = read(table, json!({})).well().table("data");
    let mut ids: Vec<String> = rows.column("id").into_iter().map(str::to_owned).collect();
    ids.sort();
    ids
}

fn ids_of(events: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn another_reader_sees_events_as_rows_with_their_types_and_bodies_as_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let table = at(&folder, "table");
    let writer = Writer::start(&at(&folder, "spool"), json!({ "table": { "uri": table } }));
    writer.ready();
    writer.take(&[json!({
        "specversion": "1.0", "id": "1-response", "type": "dev.millrace.inference.response", "time": "2026-11-01T12:00:00.25Z",
        "source": "/namespaces/team/modeldeployments/m", "requestid": "1", "modelversion": 3, "statuscode": 200,
        "durationms": 7, "data_base64": "AAH/", "somethingelse": true,
    })]);
    // Numbers as they were written: to read them and write them again makes others of them.
    let text = r#"{"specversion": "1.0", "id": "1-request", "type": "dev.millrace.inference.request", "time": "2026-11-01T12:00:00Z", "data": {"x": 1.10,
 "y": 12345678901234567890123}}"#;
    assert_eq!(writer.send("POST", ONE, text).0, 202);
    assert!(writer.terminate().success());
    let found = ask(
        &table,
        r#"
rows = DeltaTable(path).to_pyarrow_table().sort_by("id")
types = {f.name: str(f.type) for f in rows.schema}
print(json.dumps({"types": types, "rows": [{k: v for k, v in row.items() if v is not None} for row in rows.to_pylist()]}, default=str))"#,
    );
    let types = &found["types"];
    assert_eq!((&types["time"], &types["modelversion"]), (&json!("timestamp[us, tz=UTC]"), &json!("int64")));
    assert_eq!(
        (&types["statuscode"], &types["data"], &types["data_bytes"]),
        (&json!("int32"), &json!("string"), &json!("binary"))
    );
    assert_eq!(found["rows"][0]["data"], json!("{\"x\": 1.10,\n \"y\": 12345678901234567890123}"));
    let response = json!({
        "id": "1-response", "type": "dev.millrace.inference.response", "time": "2026-11-01 12:00:00.250000+00:00",
        "source": "/namespaces/team/modeldeployments/m", "requestid": "1", "modelversion": 3, "statuscode": 200,
        "durationms": 7, "data_bytes": "b'\\x00\\x01\\xff'",
    });
    assert_eq!(found["rows"][1], response);
}

#[test]
fn what_was_taken_is_there_once_however_often_the_program_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (table, spool) = (at(&folder, "table"), at(&folder, "spool"));
    let mut all = Vec::new();
    for round in 0..4 {
        let mut writer = Writer::start(&spool, json!({ "table": { "uri": table } }));
        for part in 0..5 {
            let events = many(&format!("{round}-{part}"), 20);
            writer.take(&events);
            all.extend(events);
        }
        if round % 2 == 1 {
            // Killed between a commit and what it leaves to be put away, or in the next one.
            writer.says("rows");
            let events = many(&format!("{round}-late"), 20);
            writer.take(&events);
            all.extend(events);
        }
        writer.child.kill().unwrap();
        writer.child.wait().unwrap();
    }
    // Half a line, of which nobody was told that it is taken.
    let last = std::fs::read_dir(&spool)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl")))
        .max();
    let path = last.unwrap_or_else(|| spool.join("00000000000000009999.jsonl"));
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(b"{\"id\":\"torn\",\"type\":\"t\",\"ti").unwrap();
    drop(file);
    let writer = Writer::start(&spool, json!({ "table": { "uri": table } }));
    assert!(writer.terminate().success());
    assert_eq!(ids(&table), ids_of(&all));
}

#[test]
fn two_writers_of_one_table_lose_nothing_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let table = at(&folder, "table");
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let events: Vec<Vec<Value>> = (0..6).map(|part| many(&format!("{name}-{part}"), 10)).collect();
            all.extend(events.concat());
            let (table, spool) = (&table, at(&folder, name));
            scope.spawn(move || {
                let writer = Writer::start(&spool, json!({ "table": { "uri": table } }));
                for part in &events {
                    writer.take(part);
                    writer.says("rows");
                }
                assert!(writer.terminate().success());
            });
        }
    });
    assert_eq!(ids(&table), ids_of(&all));
}

#[test]
fn a_commit_reads_what_is_new_and_all_of_it_where_that_cannot_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let table = at(&folder, "table");
    let commit = |version: u64| table.join(format!("_delta_log/{version:020}.json"));
    let writer = Writer::start(&at(&folder, "spool"), json!({ "table": { "uri": table } }));
    let write = |name: &str, words: &str| {
        let events = many(name, 2);
        writer.take(&events);
        writer.says(words);
        events
    };
    let mut all = write("a", "made the table, version 0 of");
    all.extend(write("b", ": 2 rows"));
    // Somebody else appends the rows again, twice.
    let again = r#"
rows = DeltaTable(path).to_pyarrow_table().filter(__import__("pyarrow.compute").compute.field("id") == "a-0")
for _ in range(2):
    write_deltalake(path, rows, mode="append")"#;
    ask(&table, again);
    all.extend(vec![event("a-0"); 2]);
    // The log reaches back to what is known.
    let (first, aside) = (commit(0), at(&folder, "aside"));
    std::fs::rename(&first, &aside).unwrap();
    all.extend(write("c", "version 4 of"));
    std::fs::rename(&aside, &first).unwrap();
    assert_eq!(ids(&table), ids_of(&all));

    // What is known was cleaned up behind a checkpoint.
    ask(&table, &format!("{again}\nDeltaTable(path).create_checkpoint()"));
    all.extend(vec![event("a-0"); 2 * 3]);
    for version in 0..=4 {
        std::fs::remove_file(commit(version)).unwrap();
    }
    all.extend(write("d", "version 7 of"));
    assert_eq!(ids(&table), ids_of(&all));

    // Another table is there, with a commit of the same number.
    ask(
        &table,
        r#"
import shutil
rows = DeltaTable(path).to_pyarrow_table().slice(0, 1)
rows = rows.set_column(rows.schema.get_field_index("id"), "id", pa.array(["other"]))
shutil.rmtree(path)
for _ in range(9):
    write_deltalake(path, rows, mode="append")"#,
    );
    let mut all = vec![event("other"); 9];
    all.extend(write("e", "version 9 of"));
    all.extend(write("f", "version 10 of"));
    // The checkpoint has the files of this table and no others.
    for version in 0..=9 {
        std::fs::remove_file(commit(version)).unwrap();
    }
    assert_eq!(ids(&table), ids_of(&all));

    // There is none any more.
    std::fs::remove_dir_all(&table).unwrap();
    let all = write("g", "made the table, version 0 of");
    assert!(writer.terminate().success());
    assert_eq!(ids(&table), ids_of(&all));
}

#[test]
fn a_commit_reads_what_is_new_in_a_bucket_of_each_cloud() {
    let s3 = s3::serve();
    let access = json!({ "endpoint": s3.endpoint(), "region": "us-east-1", "allowHttp": true });
    let keys = [("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    reads_what_is_new(&json!({ "uri": "s3://lake/requests", "s3": access }), &keys, &s3.store());
    let azure = clouds::azure();
    let access = json!({ "endpoint": azure.endpoint(), "account": clouds::ACCOUNT });
    let keys = [("AZURE_STORAGE_ACCOUNT_KEY", clouds::KEY)];
    reads_what_is_new(&json!({ "uri": "az://lake/requests", "azure": access }), &keys, &clouds::container(&azure));
    let gcs = clouds::gcs_with_writes();
    let access = json!({ "endpoint": gcs.endpoint() });
    let keys = [("GOOGLE_SERVICE_ACCOUNT_KEY", clouds::ANYBODY)];
    reads_what_is_new(&json!({ "uri": "gs://lake/requests", "gcs": access }), &keys, &clouds::bucket(&gcs));
}

fn reads_what_is_new(table: &Value, variables: &[(&str, &str)], store: &dyn ObjectStore) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::start_with(&at(&folder, "spool"), json!({ "table": table }), variables);
    for part in 0..2 {
        writer.take(&many(&part.to_string(), 2));
        writer.says(": 2 rows");
    }
    // Whoever reads it again finds it damaged.
    runtime.block_on(store.put(&"requests/_delta_log/00000000000000000000.json".into(), "{".into())).unwrap();
    writer.take(&many("late", 2));
    writer.says("version 2 of");
    assert!(writer.terminate().success());
}

#[test]
fn a_bucket_that_is_not_there_is_told_of_until_it_is() {
    let (server, folder) = (s3::serve(), tempfile::tempdir().unwrap());
    let access = json!({ "endpoint": server.endpoint(), "region": "us-east-1", "allowHttp": true });
    let table = json!({ "uri": "s3://logs/requests", "s3": access });
    let writer = Writer::start(&at(&folder, "spool"), json!({ "table": table }));
    let until = Instant::now() + LONG;
    loop {
        let (status, said) = writer.send("POST", MANY, "[]");
        assert!(status == 503 && Instant::now() < until, "{status}: {said}");
        if !said.contains("has not been read yet") {
            assert!(said.contains("s3://logs/requests") && said.contains("bucket"), "{said}");
            assert!(!said.contains('\n') && !said.contains("secret"), "{said}");
            break;
        }
    }
    // That reaches nobody from a pod to which no requests are led.
    assert_eq!(writer.send("GET", "", ""), (200, "ok".to_owned()));
    server.bucket("logs");
    let events = many("x", 3);
    writer.take(&events);
    writer.says("made the table, version 0 of s3://logs/requests: 3 rows");
    assert!(writer.terminate().success());
}

#[test]
fn nothing_is_led_to_a_writer_before_it_has_looked_at_the_table() {
    let folder = tempfile::tempdir().unwrap();
    // A store that is slow to answer.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let access = json!({ "endpoint": endpoint, "region": "us-east-1", "allowHttp": true });
    let table = json!({ "uri": "s3://logs/requests", "s3": access });
    let writer = Writer::start(&at(&folder, "spool"), json!({ "table": table }));
    let (status, said) = writer.send("GET", "", "");
    assert!(status == 503 && said.contains("s3://logs/requests has not been read yet"), "{status}: {said}");
    drop(silent);
    writer.ready();
    let (status, said) = writer.send("POST", MANY, "[]");
    assert!(status == 503 && said.contains("failed to fetch s3://logs/requests"), "{status}: {said}");
}

#[test]
fn what_is_no_event_is_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::start(&at(&folder, "spool"), json!({ "table": { "uri": at(&folder, "table") } }));
    writer.take(&[]);
    let long = "x".repeat((16 << 20) + 1);
    for (method, kind, body, status, words) in [
        ("PUT", ONE, "{}", 405, "send events with POST"),
        ("POST", "application/json", "{}", 415, "expected application/cloudevents+json"),
        ("POST", ONE, "{}", 400, "attribute id"),
        ("POST", MANY, "{}", 400, "no JSON list"),
        ("POST", ONE, long.as_str(), 413, "more than 16777216 bytes"),
    ] {
        let (found, said) = writer.send(method, kind, body);
        assert!(found == status && said.contains(words), "{found}: {said}");
    }
    // Nothing of a list with one that is wrong.
    let (status, _) = writer.send("POST", MANY, &json!([event("good"), {}]).to_string());
    assert_eq!(status, 400);
    assert!(writer.terminate().success());
    assert!(!at(&folder, "table").exists());
}

#[test]
fn a_full_spool_takes_no_more_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let params = json!({ "table": { "uri": at(&folder, "table") }, "spoolBytes": 1 << 20, "everySeconds": 3600 });
    let writer = Writer::start(&at(&folder, "spool"), params);
    writer.take(&[]);
    let large = |id: &str| {
        let mut event = event(id);
        event["data"] = json!("x".repeat(2 << 20));
        event.to_string()
    };
    let (status, said) = writer.send("POST", ONE, &large("too-large"));
    assert!(status == 503 && said.contains("the spool is full"), "{status}: {said}");
    writer.take(&many("x", 2));
    assert!(writer.terminate().success());
    assert_eq!(ids(&at(&folder, "table")), ids_of(&many("x", 2)));
}
