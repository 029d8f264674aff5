//! `ingest` from a real Kafka broker: one process, with TLS, passwords and certificates beside its plain port.

use std::collections::HashMap;
use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use krafka::admin::{CreateTopicsOptions, DeleteRecordsOptions, DeleteTopicsOptions, NewTopic};
use krafka::consumer::TopicPartition;
use krafka::{Compression, Kafka, Record};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Run, stage};

const PASSWORD: &str = "rIght-s3cret";

/// A broker with the user `me`. It ends with the value.
struct Broker {
    child: Child,
    folder: TempDir,
    plain: u16,
    /// TLS, and a user with a password.
    secure: u16,
    /// TLS, and a client with a certificate.
    mutual: u16,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and certificates of it for this machine and for a client.
fn certify(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority -days 30"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    for name in ["server", "client"] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 30 -extfile names"
        ));
        let read = |end: &str| std::fs::read_to_string(folder.join(format!("{name}.{end}"))).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), read("key") + &read("crt")).unwrap();
    }
}

fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The broker that the tests which run now share: it takes seconds to start.
fn serve() -> Arc<Broker> {
    static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(broker) = shared.upgrade() {
        return broker;
    }
    let broker = Arc::new(start());
    *shared = Arc::downgrade(&broker);
    broker
}

fn start() -> Broker {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (plain, secure, mutual) = (free(), free(), free());
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/kafka/broker");
    let child = Command::new(script)
        .args([&path("broker"), "127.0.0.1", &plain.to_string()])
        .args([format!("+SECURE=SASL_SSL:{secure}"), format!("+MUTUAL=SSL:{mutual}")])
        .args(["ssl.keystore.type=PEM".to_owned(), format!("ssl.keystore.location={}", path("server.pem"))])
        .args(["ssl.truststore.type=PEM".to_owned(), format!("ssl.truststore.location={}", path("ca.crt"))])
        .arg("listener.name.mutual.ssl.client.auth=required")
        .arg("listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
        .arg(format!(
            "listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_me=\"{PASSWORD}\" user_other=\"0ther\";"
        ))
        .arg(format!("listener.name.secure.scram-sha-256.sasl.jaas.config={scram}"))
        .arg(format!("listener.name.secure.scram-sha-512.sasl.jaas.config={scram}"))
        .arg(format!("--add-scram=SCRAM-SHA-256=[name=me,password={PASSWORD}]"))
        .arg(format!("--add-scram=SCRAM-SHA-512=[name=me,password={PASSWORD}]"))
        // Who has a user gets at nothing that is not said; the plain port may all.
        .arg("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .arg("super.users=User:ANONYMOUS;User:CN=client;User:me")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let broker = Broker { child, folder, plain, secure, mutual };
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", plain)).is_err() {
        assert!(started.elapsed() < Duration::from_mins(4), "the broker does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    broker
}

fn wait<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(what)
}

/// A message: partition, key, value. Without a value it is a tombstone.
type Sent<'a> = (i32, Option<&'a str>, Option<&'a str>);

impl Broker {
    async fn client(&self) -> Kafka {
        let address = format!("127.0.0.1:{}", self.plain);
        let started = Instant::now();
        loop {
            match Kafka::builder(address.as_str()).connect().await {
                Ok(kafka) => return kafka,
                Err(error) => assert!(started.elapsed() < Duration::from_mins(1), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn topic(&self, name: &str, partitions: i32) {
        wait(async {
            let admin = self.client().await.admin();
            let topic = NewTopic::new(name, partitions, 1).unwrap();
            admin.create_topics([topic], CreateTopicsOptions::default()).await.unwrap().remove(name).unwrap().unwrap();
        });
    }

    fn send(&self, topic: &str, messages: &[Sent]) {
        self.send_packed(topic, Compression::None, messages);
    }

    fn send_packed(&self, topic: &str, packed: Compression, messages: &[Sent]) {
        wait(async {
            let producer = self.client().await.producer().compression(packed).build().await.unwrap();
            let mut sent = Vec::new();
            for message in messages {
                sent.push(producer.enqueue(record(topic, *message)).await.unwrap());
            }
            for handle in sent {
                assert!(handle.await.unwrap().offset >= 0);
            }
            producer.close().await.unwrap();
        });
    }

    fn ingest(&self, topic: &str, kafka: Value) -> Run {
        self.ingest_with(topic, json!({"kafka": kafka}), self.plain, &[])
    }

    /// Merges `params` over what every run has.
    fn ingest_with(&self, topic: &str, params: Value, port: u16, variables: &[(&str, &str)]) -> Run {
        let mut all = json!({"source": format!("kafka://127.0.0.1:{port}/{topic}")});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        if port == self.plain {
            all["kafka"]["allowPlaintext"] = json!(true);
        }
        let mut run = stage("ingest").variable("SSL_CERT_FILE", &self.path("ca.crt").display().to_string());
        for (name, value) in variables {
            run = run.variable(name, value);
        }
        run.run(&all)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn record(topic: &str, (partition, key, value): Sent) -> Record {
    let record = match value {
        Some(value) => Record::new(topic, value.to_owned()),
        None => Record::tombstone(topic, key.unwrap().to_owned()),
    };
    let record = record.partition(partition).timestamp(1_790_000_000_000);
    match key {
        Some(key) => record.key(key.to_owned()),
        None => record,
    }
}

#[test]
fn messages_become_rows_and_the_next_run_goes_on_behind_them() {
    let broker = serve();
    broker.topic("orders", 2);
    broker.send(
        "orders",
        &[
            (0, Some("a"), Some(r#"{"id": 1, "item": "pen", "price": 1.5}"#)),
            (1, Some("b"), Some("{\n \"id\": 2,\n \"item\": \"ink\\nblack\"\n}")),
            (0, Some("a"), None),
            (0, None, Some(r#"{"id": 3, "tags": ["x"]}"#)),
        ],
    );
    let metadata = json!({"metadata": ["partition", "offset", "timestamp", "key"]});
    let first = broker.ingest("orders", metadata.clone()).well();
    let table = first.table("data");
    assert_eq!(
        table.columns,
        [
            "id: Int64",
            "item: Utf8",
            "price: Float64",
            "_partition: Int64",
            "_offset: Int64",
            "_timestamp: Timestamp(µs, \"UTC\")",
            "_key: Utf8",
            "tags: List(Utf8)",
        ]
    );
    let time = "2026-09-21T14:13:20Z";
    assert_eq!(
        table.rows,
        [
            ["1", "pen", "1.5", "0", "0", time, "a", "NULL"],
            ["3", "NULL", "NULL", "0", "2", time, "NULL", "[x]"],
            ["2", "ink\nblack", "NULL", "1", "0", time, "b", "NULL"],
        ]
    );
    assert!(first.stdout.contains("1 messages without a value are left out"), "{}", first.stdout);
    assert_eq!((first.result("rows"), first.result("offsets")), (json!(3), json!({"0": 3, "1": 1})));

    // Nothing is new: an empty table, if its columns are known.
    let from = json!({"from": first.result("offsets")});
    let error = broker.ingest("orders", from.clone()).error();
    assert!(error.contains("there are no new messages, and without schema nobody knows the columns"), "{error}");
    let declared = json!({"kafka": from, "schema": {"id": "integer", "note": "string"}});
    let none = broker.ingest_with("orders", declared.clone(), broker.plain, &[]).well();
    assert_eq!((none.result("rows"), none.result("offsets")), (json!(0), json!({"0": 3, "1": 1})));
    assert_eq!(none.table("data").columns, ["id: Int64", "note: Utf8"]);

    // Only what is new, with a column that no message has. The offsets are text, as a parameter of a run may be.
    broker.send("orders", &[(1, None, Some(r#"{"id": 4}"#))]);
    let mut declared = declared;
    declared["kafka"]["from"] = json!(first.result("offsets").to_string());
    let second = broker.ingest_with("orders", declared, broker.plain, &[]).well();
    let table = second.table("data");
    assert_eq!(
        (table.columns, table.rows),
        (vec!["id: Int64".into(), "note: Utf8".into()], vec![vec!["4".to_owned(), "NULL".into()]])
    );
    assert_eq!(second.result("offsets"), json!({"0": 3, "1": 2}));
}

#[test]
fn what_is_deleted_or_made_anew_is_told_or_skipped() {
    let broker = serve();
    broker.topic("events", 1);
    let value = |n: i32| format!("{{\"n\": {n}}}");
    let values: Vec<String> = (0..10).map(value).collect();
    broker.send("events", &values.iter().map(|value| (0, None, Some(value.as_str()))).collect::<Vec<Sent>>());
    let delete = DeleteRecordsOptions::default();
    wait(async {
        let admin = broker.client().await.admin();
        let deleted = admin.delete_records([(TopicPartition::new("events", 0), 4)], delete).await.unwrap();
        deleted.into_values().next().unwrap().unwrap();
    });
    let error = broker.ingest("events", json!({"from": {"0": 2}})).error();
    assert!(error.contains("messages from offset 2 on are wanted, but those before 4 are deleted"), "{error}");
    assert!(error.contains("set kafka.deleted: skip"), "{error}");
    let rows = |run: Run| run.well().table("data").rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let all = ["4", "5", "6", "7", "8", "9"];
    assert_eq!(rows(broker.ingest("events", json!({"from": {"0": 2}, "deleted": "skip"}))), all);
    assert_eq!(rows(broker.ingest("events", json!({}))), all, "a first run takes what is there");
    assert_eq!(rows(broker.ingest("events", json!({"from": {"0": 9}}))), ["9"]);

    let error = broker.ingest("events", json!({"from": {"3": 0}})).error();
    assert!(error.contains("the topic events has no partition 3"), "{error}");
    wait(async {
        let admin = broker.client().await.admin();
        let deleted = admin.delete_topics(["events"], DeleteTopicsOptions::default()).await.unwrap();
        deleted.into_values().next().unwrap().unwrap();
    });
    let error = broker.ingest("events", json!({})).error();
    assert!(error.contains("there is no topic events"), "{error}");
    broker.topic("events", 1);
    broker.send("events", &[(0, None, Some(r#"{"n": 70}"#))]);
    let error = broker.ingest("events", json!({"from": {"0": 10}})).error();
    assert!(error.contains("it ends at 1: the topic was made anew"), "{error}");
    assert_eq!(rows(broker.ingest("events", json!({"from": {"0": 10}, "deleted": "skip"}))), ["70"]);
}

#[test]
fn a_backlog_is_taken_in_parts_and_every_packing_is_read() {
    let broker = serve();
    broker.topic("backlog", 3);
    let value = |n: i32| format!("{{\"n\": {n}, \"text\": \"{}\"}}", "packed ".repeat(20));
    for (part, packed) in [Compression::Gzip, Compression::Snappy, Compression::Lz4].into_iter().enumerate() {
        let part = i32::try_from(part).unwrap();
        let values: Vec<String> = (part * 20_000..(part + 1) * 20_000).map(value).collect();
        let sent: Vec<Sent> = values.iter().map(|value| (part, None, Some(value.as_str()))).collect();
        broker.send_packed("backlog", packed, &sent);
    }
    let (mut offsets, mut read) = (json!(""), Vec::new());
    for expected in [25_000, 25_000, 10_000] {
        let run = broker.ingest("backlog", json!({"from": offsets, "maxMessages": 25_000})).well();
        assert_eq!(run.result("rows"), json!(expected));
        offsets = run.result("offsets");
        read.extend(run.table("data").column("n").into_iter().map(|n| n.parse::<i32>().unwrap()));
    }
    assert_eq!(offsets, json!({"0": 20_000, "1": 20_000, "2": 20_000}));
    read.sort_unstable();
    assert!(read.into_iter().eq(0..60_000), "each message once");
    let run = broker.ingest_with("backlog", json!({"maxBytes": 1000}), broker.plain, &[]);
    assert!(run.error().contains("but maxBytes is 1000"), "{}", run.stderr);
}

#[test]
fn only_what_a_transaction_committed_is_read() {
    let broker = serve();
    broker.topic("transfers", 1);
    wait(async {
        let kafka = broker.client().await;
        let producer = kafka.producer().build_transactional("transfers").await.unwrap();
        for (value, commit) in [(r#"{"n": 1}"#, true), (r#"{"n": 2}"#, false), (r#"{"n": 3}"#, true)] {
            producer.begin().unwrap();
            assert!(producer.send(record("transfers", (0, None, Some(value)))).await.unwrap().offset >= 0);
            if commit { producer.commit().await.unwrap() } else { producer.abort().await.unwrap() }
        }
        producer.close().await.unwrap();
    });
    let run = broker.ingest("transfers", json!({})).well();
    assert_eq!(run.table("data").rows, [["1"], ["3"]]);
    // The marks of the transactions have offsets too: the position is behind them.
    assert_eq!(run.result("offsets"), json!({"0": 6}));
}

#[test]
fn a_message_that_is_no_row_is_named_by_its_offset() {
    let broker = serve();
    for (topic, value, words) in [
        ("bad-json", "{\"a\": ", "topic bad-json, partition 0, offset 1: the value is no JSON"),
        ("bad-list", "[1]", "topic bad-list, partition 0, offset 1: found a list, expected a JSON object"),
        (
            "bad-type",
            "{\"a\": \"x\"}",
            "topic bad-type, partition 0, offset 1: a value does not have its column's type",
        ),
        ("bad-name", "{\"_key\": 1}", "it has a value _key itself; leave that out of kafka.metadata"),
    ] {
        broker.topic(topic, 1);
        broker.send(topic, &[(0, None, Some("{\"a\": 1}")), (0, None, Some(value))]);
        let params = json!({"schema": {"a": "integer"}, "kafka": {"metadata": ["key"]}});
        let error = broker.ingest_with(topic, params, broker.plain, &[]).error();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_connection_is_verified_and_what_fails_is_told_without_secrets() {
    let broker = serve();
    broker.topic("safe", 1);
    broker.send("safe", &[(0, None, Some("{\"a\": 1}"))]);
    let user = [("KAFKA_USERNAME", "me"), ("KAFKA_PASSWORD", PASSWORD)];
    for sasl in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let run = broker.ingest_with("safe", json!({"kafka": {"sasl": sasl}}), broker.secure, &user).well();
        assert_eq!(run.table("data").rows, [["1"]], "{sasl}");
        assert!(!run.stdout.contains(PASSWORD) && !run.stderr.contains(PASSWORD), "{sasl}");
    }
    let file = |name: &str| broker.path(name).display().to_string();
    let identity = json!({"kafka": {"clientCertificate": file("client.crt"), "clientKey": file("client.key")}});
    broker.ingest_with("safe", identity, broker.mutual, &[]).well();

    let wrong = [("KAFKA_USERNAME", "me"), ("KAFKA_PASSWORD", "wr0ng")];
    let other = [("KAFKA_USERNAME", "other"), ("KAFKA_PASSWORD", "0ther")];
    let stranger = [user[0], user[1], ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")];
    let scram = json!({"kafka": {"sasl": "SCRAM-SHA-512"}});
    for (params, port, variables, words) in [
        (scram.clone(), broker.secure, &wrong[..], "failed to connect to 127.0.0.1"),
        (scram.clone(), broker.secure, &stranger, "failed to connect to 127.0.0.1"),
        (
            json!({"kafka": {"sasl": "PLAIN"}}),
            broker.secure,
            &other,
            "there is no topic safe, or the user may not see it",
        ),
        (json!({}), broker.mutual, &[], "failed to connect to 127.0.0.1"),
        (scram.clone(), broker.secure, &wrong[..1], "there is no KAFKA_PASSWORD; give it to the stage from a Secret"),
        (
            json!({"kafka": {"clientKey": "/x"}}),
            broker.mutual,
            &[],
            "parameter kafka.clientKey: it needs kafka.clientCertificate",
        ),
        (json!({"kafka": {"sasl": "GSSAPI"}}), broker.secure, &[], "expected one of `PLAIN`, `SCRAM-SHA-256`"),
        (json!({"sql": {"table": "a"}}), broker.secure, &[], "parameter sql: it is not for Kafka"),
        (json!({"delta": {}}), broker.secure, &[], "parameter delta: it is not for Kafka"),
        (json!({"format": "csv"}), broker.secure, &[], "parameter format: found csv, expected jsonl or auto"),
        (
            json!({"kafka": {"from": {"x": 1}}}),
            broker.secure,
            &[],
            "kafka.from: found x: 1, expected offsets by partition",
        ),
        (json!({"kafka": {"since": "soon"}}), broker.secure, &[], "parameter kafka.since: 'soon' is no timestamp"),
    ] {
        let error = broker.ingest_with("safe", params, port, variables).error();
        assert!(error.contains(words), "{words}: {error}");
        assert!(!error.contains(PASSWORD) && !error.contains("wr0ng"), "{error}");
    }
    let none = free();
    let error = broker.ingest_with("safe", json!({}), none, &[]).error();
    assert!(error.contains(&format!("failed to connect to 127.0.0.1:{none}")), "{error}");
}

#[test]
fn a_first_run_may_begin_at_a_time() {
    let broker = serve();
    broker.topic("dated", 2);
    wait(async {
        let producer = broker.client().await.producer().build().await.unwrap();
        for (partition, day) in [(0, 1), (0, 2), (0, 3), (1, 1)] {
            let record = Record::new("dated", format!("{{\"day\": {day}}}")).partition(partition);
            assert!(producer.send(record.timestamp(day * 86_400_000)).await.unwrap().offset >= 0);
        }
        producer.close().await.unwrap();
    });
    let run = broker.ingest("dated", json!({"since": "1970-01-03T00:00:00Z"})).well();
    assert_eq!(run.table("data").rows, [["2"], ["3"]]);
    assert_eq!(run.result("offsets"), json!({"0": 3, "1": 1}));
    // Where an earlier run ended counts more.
    let from: HashMap<&str, i64> = [("0", 2), ("1", 0)].into();
    let run = broker.ingest("dated", json!({"since": "1970-01-03T00:00:00Z", "from": from})).well();
    assert_eq!(run.table("data").rows, [["3"], ["1"]]);
}
