//! Messages of a real broker: every one is answered at least once and in order, whatever is killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use krafka::Record;
use krafka::consumer::ConsumerRecord;
use millrace_routes::{Obstacle, Outcome, Stats, StreamStats};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::broker::{Broker, source};
use crate::client::{Client, get, request};
use crate::mount::mount;
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, free_port, revision, until, write};

/// Of `localhost`.
const CERTIFICATE: [&str; 2] = [include_str!("../certs/localhost.crt"), include_str!("../certs/localhost.key")];

pub fn stream(broker: &Broker, path: &str, with: &Value) -> Value {
    let mut stream = json!({
        "id": "1", "brokers": [broker.address()], "input": "in", "output": "out", "group": "g", "path": path, "inFlight": 8,
    });
    stream.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    json!({ "stream": stream })
}

pub async fn said(site: &Site) -> StreamStats {
    site.all_stats().await.models["m"].stream.clone().unwrap()
}

pub fn lag(stats: &StreamStats) -> Option<f64> {
    stats.lag.value
}

/// A router that is a process, so that it can be killed.
pub struct Process {
    child: Child,
    pub admin: u16,
    _folder: Arc<TempDir>,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    pub async fn start(pod: &Pod, with: &Value) -> Self {
        let (folder, admin) = (Arc::new(tempfile::tempdir().unwrap()), free_port());
        write(folder.path(), "routes.json", &document(free_port(), &[revision("a", pod.address.port(), 1)], with));
        write(folder.path(), "endpoints.json", &json!({ "a": [endpoint(pod.address, true)] }));
        let child = Command::new(env!("CARGO_BIN_EXE_millrace-router"))
            .arg(format!("--routes={}", folder.path().join("routes.json").display()))
            .arg(format!("--endpoints={}", folder.path().join("endpoints.json").display()))
            .args(["--address=127.0.0.1", &format!("--admin=127.0.0.1:{admin}"), "--workers=1"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self { child, admin, _folder: folder };
        until("it answers", || async { std::net::TcpStream::connect(("127.0.0.1", admin)).is_ok() }).await;
        until("it is ready", || async { get(admin, "/readyz").await.status == 200 }).await;
        process
    }

    pub async fn said(&self) -> StreamStats {
        let stats: Stats = serde_json::from_str(&self.tells("/stats").await).unwrap();
        stats.models["m"].stream.clone().unwrap()
    }

    /// What its admin port says. That port takes leave of who needs more than two seconds to ask, as this process may on a machine that has much
    /// to do. Where nobody takes the connection, the router has ended.
    pub async fn tells(&self, path: &str) -> String {
        for _ in 0..10 {
            let mut client = Client::try_open(self.admin).await.expect("the router has ended");
            if let Ok(answer) = client.ask(request("GET", path, &[], "")).await {
                return answer.text;
            }
        }
        panic!("{path} was never answered");
    }
}

/// The time of messages, in milliseconds: the broker throws old ones away.
static BEGAN: LazyLock<i64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
});

fn asked(n: usize) -> Record {
    Record::new("in", format!("{{\"n\":{n}}}"))
        .key(format!("k{}", n % 37))
        .header("trace", format!("t{n}"))
        .timestamp(*BEGAN + i64::try_from(n).unwrap())
}

fn number(record: &ConsumerRecord) -> usize {
    let answer: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
    usize::try_from(answer["outputs"]["n"].as_u64().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_answered_in_order_though_a_router_is_killed() {
    const MESSAGES: usize = 3000;
    let (broker, pod) = (Broker::start().await, Pod::any("a").await);
    broker.topics(&[("in", 4), ("out", 4)]).await;
    let with = stream(&broker, "/json", &json!({}));
    let (mut first, second) = (Process::start(&pod, &with).await, Process::start(&pod, &with).await);
    until("both read", || async { first.said().await.partitions == 2 && second.said().await.partitions == 2 }).await;
    broker.put((0..MESSAGES / 2).map(asked).collect()).await;
    until("it has answered some", || async { first.said().await.answered > 100 }).await;
    broker.put((MESSAGES / 2..MESSAGES).map(asked).collect()).await;
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let answers = broker.answers_of("out", MESSAGES).await;
    assert_eq!(second.said().await.partitions, 4, "it has taken over");
    // A message may be answered twice, and what has one key is in order all the same, in one partition.
    let mut seen: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let mut partitions: BTreeMap<Vec<u8>, BTreeSet<i32>> = BTreeMap::new();
    for answer in &answers {
        let (key, n) = (answer.key.clone().unwrap().to_vec(), number(answer));
        assert_eq!(key, format!("k{}", n % 37).into_bytes());
        assert_eq!(answer.header_str("trace"), Some(format!("t{n}").as_str()));
        assert_eq!(answer.timestamp, *BEGAN + i64::try_from(n).unwrap());
        assert_eq!(source(answer).split('/').nth(1), Some(answer.partition.to_string().as_str()));
        partitions.entry(key.clone()).or_default().insert(answer.partition);
        let numbers = seen.entry(key).or_default();
        if !numbers.contains(&n) {
            numbers.push(n);
        }
    }
    assert!(seen.values().all(|numbers| numbers.is_sorted()), "{seen:?}");
    assert!(partitions.values().all(|partitions| partitions.len() == 1));
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), MESSAGES);
    until("nothing waits", || async { lag(&second.said().await) == Some(0.0) }).await;
    // Another one begins where they ended.
    drop(second);
    let third = Process::start(&pod, &with).await;
    until("it reads", || async { third.said().await.partitions == 4 && lag(&third.said().await) == Some(0.0) }).await;
    broker.put(vec![asked(MESSAGES)]).await;
    broker.answers_of("out", MESSAGES + 1).await;
    assert_eq!(third.said().await.answered, 1, "nothing that was committed comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_refused_is_a_dead_letter_or_stops_its_partition_with_a_word() {
    let (broker, pod) = (Broker::start().await, Pod::any("a").await);
    broker.topics(&[("in", 2), ("out", 2), ("dead", 1)]).await;
    let to = |partition, value: &str| Record::new("in", value.to_owned()).key("k").partition(partition);
    broker
        .put(vec![
            to(0, "[0]"),
            to(0, r#""bad""#),
            to(0, "[2]"),
            to(1, "[3]"),
            Record::tombstone("in", "gone").partition(1),
        ])
        .await;
    let site = Site::of(&[&pod], &stream(&broker, "/picky", &json!({}))).await;
    let answers = broker.answers_of("out", 3).await;
    let sources: BTreeSet<String> = answers.iter().map(source).collect();
    assert_eq!(sources, ["in/0/0", "in/1/0", "in/1/1"].map(str::to_owned).into(), "the other partition goes on");
    assert!(answers.iter().any(|answer| answer.is_tombstone() && answer.key.as_deref() == Some(b"gone")));
    until("it is told", || async { said(&site).await.problem.is_some() }).await;
    let stats = said(&site).await;
    let problem = stats.problem.unwrap();
    assert_eq!(problem.of, Obstacle::Message);
    assert!(
        problem.says.starts_with(
            "partition 0 of in waits: of the message at offset 1 /picky answers 400; write deadLetterTopic"
        ),
        "{}",
        problem.says
    );
    assert!(!problem.says.contains("this one is bad"), "the answer may repeat the message");
    until("what waits is known", || async { lag(&said(&site).await) == Some(2.0) }).await;
    assert_eq!((stats.answered, stats.rejected), (3, 0));

    broker.put(vec![to(1, r#""worse""#), to(1, "[6]")]).await;
    let letters = stream(&broker, "/picky", &json!({ "id": "2", "deadLetters": "dead" }));
    site.routes(&document(site.port, &[revision("a", pod.address.port(), 1)], &letters)).await;
    let answers = broker.answers_of("out", 5).await;
    assert_eq!(answers.len(), 5, "nothing was answered twice");
    let letters = broker.answers_of("dead", 2).await;
    let told: BTreeMap<String, [Option<&str>; 3]> = letters
        .iter()
        .map(|letter| {
            (source(letter), ["error", "status", "answer"].map(|name| letter.header_str(&format!("millrace-{name}"))))
        })
        .collect();
    assert_eq!(told["in/0/1"], [Some("/picky answers 400"), Some("400"), Some("this one is bad")]);
    assert_eq!(told["in/1/2"], [Some("/picky answers 500"), Some("500"), Some("this one is worse")]);
    assert_eq!(letters.iter().find(|letter| source(letter) == "in/0/1").unwrap().value_str(), Some(r#""bad""#));
    until("nothing is in the way any more", || async {
        let stats = said(&site).await;
        stats.problem.is_none() && lag(&stats) == Some(0.0)
    })
    .await;
    let stats = said(&site).await;
    assert_eq!((stats.id.as_str(), stats.rejected, stats.retried), ("2", 2, 4), "a 500 is asked five times");
    let counted = site.metrics().await;
    assert!(counted.contains("millrace_router_stream_messages_total{model=\"m\",result=\"rejected\"} 2"), "{counted}");
    assert!(counted.contains("millrace_router_stream_lag{model=\"m\"} 0"), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_pods_that_go_away_are_told_of_and_lose_nothing() {
    let (mut broker, pod) = (Broker::start().await, Pod::any("a").await);
    broker.topics(&[("in", 2), ("out", 3)]).await;
    // Who is asked inside needs no key, and is counted as callers are.
    let security = json!({ "id": "s", "auth": { "apiKeys": { "secret": "keys" } } });
    let mut with = stream(&broker, "/json", &json!({}));
    with["security"] = security;
    let site = Site::of(&[&pod], &with).await;
    broker.put((0..100).map(asked).collect()).await;
    broker.answers_of("out", 100).await;
    assert_eq!(site.get("/json").await.status, 503, "callers are not let in");
    assert_eq!(site.outcome("a", Outcome::Success).await, 100);
    broker.kill();
    until("it is told", || async { said(&site).await.problem.is_some_and(|problem| problem.of == Obstacle::Broker) })
        .await;
    let told = said(&site).await;
    assert!(told.problem.unwrap().says.starts_with(&broker.address()));
    until("nobody knows what waits", || async { said(&site).await.lag.errors > 0 }).await;
    broker.again().await;
    site.endpoints(&json!({}));
    broker.put((100..200).map(asked).collect()).await;
    until("it waits for a pod", || async { site.stats("a").await.queued > 0 }).await;
    until("what waits is known", || async { lag(&said(&site).await) == Some(100.0) }).await;
    site.endpoints(&json!({ "a": [endpoint(pod.address, true)] }));
    broker.answers_of("out", 200).await;
    until("all is well", || async {
        let stats = said(&site).await;
        stats.problem.is_none() && lag(&stats) == Some(0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_and_a_broker_nobody_is_at_are_told_of() {
    let (broker, pod) = (Broker::start().await, Pod::any("a").await);
    broker.topics(&[("in", 1)]).await;
    let site = Site::of(&[&pod], &stream(&broker, "/json", &json!({ "latest": true }))).await;
    let told = |site: &Site, words: &str| {
        let (words, admin) = (words.to_owned(), site.admin());
        async move {
            let stats: Stats = serde_json::from_str(&get(admin, "/stats").await.text).unwrap();
            stats.models["m"]
                .stream
                .as_ref()
                .unwrap()
                .problem
                .as_ref()
                .is_some_and(|problem| problem.says.contains(&words))
        }
    };
    until("the topic is missed", || told(&site, "the topic out is not there")).await;
    broker.topics(&[("out", 1)]).await;
    until("it reads", || async { said(&site).await.partitions == 1 }).await;
    until("it knows where it is", || async { lag(&said(&site).await) == Some(0.0) }).await;
    // It begins with what comes next, and remembers that.
    broker.put(vec![asked(7)]).await;
    assert_eq!(number(&broker.answers_of("out", 1).await[0]), 7);
    let nobody = stream(&broker, "/json", &json!({ "id": "2", "brokers": [format!("127.0.0.1:{}", free_port())] }));
    site.routes(&document(site.port, &[revision("a", pod.address.port(), 1)], &nobody)).await;
    until("nobody is there", || async { said(&site).await.problem.is_some() }).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(said(&site).await.problem.unwrap().of, Obstacle::Broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_are_spoken_to_over_tls_and_a_password_that_is_mended_is_used() {
    let (folder, secure) = (Arc::new(tempfile::tempdir().unwrap()), free_port());
    let keys = folder.path().join("broker.pem");
    std::fs::write(&keys, CERTIFICATE.concat()).unwrap();
    let with = [
        format!("+SECURE=SASL_SSL:{secure}"),
        "sasl.enabled.mechanisms=SCRAM-SHA-512".to_owned(),
        "listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.location={}", keys.display()),
        "--add-scram=SCRAM-SHA-512=[name=me,password=rIght-s3cret]".to_owned(),
    ];
    let (broker, pod) = (Broker::start_at("localhost", &with).await, Pod::any("a").await);
    broker.topics(&[("in", 1), ("out", 1)]).await;
    mount(folder.path(), "configmaps/ca/broker/ca.crt", &[("ca.crt", CERTIFICATE[0])]);
    mount(folder.path(), "secrets/user/sasl", &[("username", "me"), ("password", "wr0ng-s3cret")]);
    let settings = json!({
        "brokers": [format!("localhost:{secure}")],
        "tls": { "ca": { "of": "ConfigMap", "name": "ca", "key": "ca.crt" } },
        "sasl": { "mechanism": "ScramSha512", "secret": "user" },
    });
    let asks = stream(&broker, "/json", &settings);
    let endpoints = json!({ "a": [endpoint(pod.address, true)] });
    let site = Site::start_in(folder, &[revision("a", pod.address.port(), 1)], &endpoints, &asks, None).await;
    until("it is told", || async { said(&site).await.problem.is_some() }).await;
    let problem = said(&site).await.problem.unwrap();
    assert_eq!(problem.of, Obstacle::Broker);
    assert!(problem.says.contains("authentication") && !problem.says.contains("s3cret"), "{}", problem.says);
    site.mount("secrets/user/sasl", &[("username", "me"), ("password", "rIght-s3cret\n")]);
    broker.put(vec![asked(1)]).await;
    assert_eq!(number(&broker.answers_of("out", 1).await[0]), 1);
    until("all is well", || async { said(&site).await.problem.is_none() }).await;
}
