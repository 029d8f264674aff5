//! Messages that nobody can answer or write down, and brokers that name addresses: the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use krafka::Record;
use krafka::consumer::ConsumerRecord;
use millrace_routes::{Obstacle, StreamRefusals};
use serde_json::{Value, json};

use crate::broker::{Broker, source};
use crate::kafka::{Process, lag, said, stream};
use crate::pod::Pod;
use crate::site::{Site, document, endpoint, revision, until};

/// The source of each letter, and why it is one.
fn why_each(all: &[ConsumerRecord]) -> BTreeMap<String, String> {
    all.iter().map(|letter| (source(letter), letter.header_str("millrace-error").unwrap().to_owned())).collect()
}

/// What was answered of a partition, by offsets, each once, in the order in which it was written last.
fn last_written(answers: &[ConsumerRecord], partition: i32) -> Vec<usize> {
    let mut offsets = Vec::new();
    for answer in answers.iter().filter(|answer| answer.partition == partition) {
        let offset: usize = source(answer).rsplit('/').next().unwrap().parse().unwrap();
        offsets.retain(|known| *known != offset);
        offsets.push(offset);
    }
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_brokers_refuse_is_a_dead_letter_and_those_sent_along_are_written_in_order() {
    const MESSAGES: usize = 200;
    let (broker, pod) = (Broker::start().await, Pod::any("a").await);
    // It takes nothing without a key.
    broker.topics(&[("in", 2), ("dead", 1)]).await;
    broker.topic("out", 2, &[("cleanup.policy", "compact")]).await;
    let has_no_key = |n: usize| n % 37 == 7;
    let message = |n: usize| {
        let record = Record::new("in", format!("{{\"n\":{n}}}")).partition(i32::try_from(n % 2).unwrap());
        if has_no_key(n) { record } else { record.key(format!("k{n}")) }
    };
    broker.put((0..MESSAGES).map(message).collect()).await;
    let site = Site::of(&[&pod], &stream(&broker, "/json", &json!({ "deadLetters": "dead" }))).await;
    let refused = (0..MESSAGES).filter(|n| has_no_key(*n)).count();
    broker.answers_of("out", MESSAGES - refused).await;
    // Some are written once more.
    until("nothing waits", || async { lag(&said(&site).await) == Some(0.0) }).await;
    let answers = broker.all("out").await;
    let of = |partition: usize| {
        let mine = |n: &usize| n % 2 == partition && !has_no_key(*n);
        (0..MESSAGES).filter(mine).map(|n| n / 2).collect::<Vec<_>>()
    };
    assert_eq!((last_written(&answers, 0), last_written(&answers, 1)), (of(0), of(1)));
    let letters = why_each(&broker.answers_of("dead", refused).await);
    assert_eq!(letters.len(), refused, "nothing else was refused: {letters:?}");
    for n in (0..MESSAGES).filter(|n| has_no_key(*n)) {
        let why = &letters[&format!("in/{}/{}", n % 2, n / 2)];
        assert!(
            why.starts_with("the answer is not taken by its topic: a compacted one takes none without a key"),
            "{why}"
        );
    }
    until("nothing waits", || async { lag(&said(&site).await) == Some(0.0) }).await;
    let stats = said(&site).await;
    assert_eq!(
        (stats.answered + stats.rejected, stats.rejected),
        (MESSAGES as u64, refused as u64),
        "it never began again"
    );
    assert_eq!(stats.refused, StreamRefusals { brokers: refused as u64, ..StreamRefusals::default() });
    let counted = site.metrics().await;
    let line = format!("millrace_router_stream_refused_total{{model=\"m\",by=\"brokers\"}} {refused}");
    assert!(counted.contains(&line), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_topics_do_not_take_is_told_or_is_with_the_dead_letters() {
    let (broker, pod) = (Broker::start().await, Pod::any("a").await);
    let recent = [("message.timestamp.before.max.ms", "3600000")];
    broker.topics(&[("in", 1)]).await;
    broker.topic("out", 1, &recent).await;
    broker.topic("dead", 1, &recent).await;
    let message = |n: usize| Record::new("in", format!("{{\"n\":{n}}}")).key("k");
    broker.put(vec![message(0), message(1).timestamp(1_000), message(2)]).await;
    let site = Site::of(&[&pod], &stream(&broker, "/json", &json!({}))).await;
    until("it is told", || async { said(&site).await.problem.is_some_and(|problem| problem.of == Obstacle::Message) })
        .await;
    let says = said(&site).await.problem.unwrap().says;
    let expected = "partition 0 of in waits: of the message at offset 1 the answer has a time that its topic does not take; \
                    write deadLetterTopic, or let the topic of answers take it. It is tried every 30 s";
    assert_eq!(says, expected);
    // What came behind it may have been written before the brokers refused it, and is written again then.
    assert!(last_written(&broker.all("out").await, 0).contains(&0), "what was before it is there");
    assert!(said(&site).await.refused.brokers >= 1);

    let with = stream(&broker, "/json", &json!({ "id": "2", "deadLetters": "dead" }));
    site.routes(&document(site.port, &[revision("a", pod.address.port(), 1)], &with)).await;
    let letters = broker.answers_of("dead", 1).await;
    assert_eq!((source(&letters[0]).as_str(), letters[0].timestamp > 1_000), ("in/0/1", true));
    until("they are in order", || async { last_written(&broker.all("out").await, 0) == [0, 2] }).await;
    until("all is well", || async { said(&site).await.problem.is_none() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_which_servers_end_is_a_dead_letter_and_no_other_is() {
    const MESSAGES: usize = 300;
    const DEADLY: usize = 101;
    let (broker, pod) = (Broker::start().await, Pod::any("a").await);
    broker.topics(&[("in", 2), ("out", 2), ("dead", 1)]).await;
    let with = stream(&broker, "/mortal", &json!({ "deadLetters": "dead" }));
    // First there is no server at all, and then one whose port nobody listens at.
    let site = Site::start(&[revision("a", pod.address.port(), 1)], &json!({}), &with, None).await;
    let message = |n: usize| {
        let value = if n == DEADLY { json!({ "n": n, "is": "deadly" }) } else { json!({ "n": n }) };
        Record::new("in", value.to_string()).key(format!("k{n}")).partition(i32::try_from(n % 2).unwrap())
    };
    broker.put((0..MESSAGES).map(message).collect()).await;
    until("they wait for a pod", || async { site.stats("a").await.queued > 0 }).await;
    let closed = json!({ "address": "127.0.0.9", "ready": true });
    site.endpoints(&json!({ "a": [closed] }));
    until("nobody is reached", || async { said(&site).await.retried > 20 }).await;
    let stats = said(&site).await;
    assert_eq!((stats.refused, stats.rejected), (StreamRefusals::default(), 0), "who is not there says nothing of it");

    site.endpoints(&json!({ "a": [endpoint(pod.address, true)] }));
    let answers = broker.answers_of("out", MESSAGES - 1).await;
    let sources: BTreeSet<String> = answers.iter().map(source).collect();
    assert!(!sources.contains(&format!("in/1/{}", DEADLY / 2)));
    let letters = broker.answers_of("dead", 1).await;
    let why = "a server broke off without an answer, as one that ends over it does";
    assert_eq!(why_each(&letters), [(format!("in/1/{}", DEADLY / 2), why.to_owned())].into());
    let value: Value = serde_json::from_slice(letters[0].value.as_ref().unwrap()).unwrap();
    assert_eq!(value["is"], "deadly");
    assert_eq!(pod.seen.ends.load(Ordering::SeqCst), 4, "once beside others, three times alone");
    until("nothing waits", || async { lag(&said(&site).await) == Some(0.0) }).await;
    let stats = said(&site).await;
    assert_eq!((stats.refused, stats.rejected), (StreamRefusals { server: 1, ..StreamRefusals::default() }, 1));
    assert!(stats.problem.is_none(), "{:?}", stats.problem);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_that_wait_for_earlier_ones_are_bounded_over_all_partitions() {
    const PARTITIONS: usize = 8;
    const EACH: usize = 33;
    let with = ["message.max.bytes=4194304".to_owned()];
    let (broker, pod) = (Broker::start_at("127.0.0.1", &with).await, Pod::any("a").await);
    broker.topics(&[("in", 8), ("out", 8)]).await;
    let message = |n: usize| {
        let value = if n < PARTITIONS { "\"late\"" } else { "0" };
        Record::new("in", value.to_owned()).partition(i32::try_from(n % PARTITIONS).unwrap())
    };
    broker.put((0..PARTITIONS * EACH).map(message).collect()).await;
    let router = Process::start(&pod, &stream(&broker, "/large", &json!({ "inFlight": 32 }))).await;
    let memory = || async {
        let text = router.tells("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix("millrace_router_resident_memory_bytes "));
        line.unwrap().trim().parse::<usize>().unwrap() >> 20
    };
    let mut most = 0;
    while router.said().await.answered < (PARTITIONS * EACH) as u64 {
        most = most.max(memory().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // 8 × 32 answers of 1 MiB would wait otherwise.
    assert!(most < 200, "{most} MiB");
    let answers = broker.all("out").await;
    for partition in 0..PARTITIONS {
        assert_eq!(last_written(&answers, i32::try_from(partition).unwrap()), (0..EACH).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_that_brokers_refuse_stops_its_partition_and_no_other() {
    // More than there is room for, of each partition.
    const EACH: usize = 40;
    let with = ["message.max.bytes=4194304".to_owned()];
    let (broker, pod) = (Broker::start_at("127.0.0.1", &with).await, Pod::any("a").await);
    broker.topics(&[("in", 2)]).await;
    broker.topic("out", 2, &[("cleanup.policy", "compact")]).await;
    let message = |partition: i32, n: usize| {
        let record = Record::new("in", "0").partition(partition);
        if (partition, n) == (0, 0) { record } else { record.key(format!("k{n}")) }
    };
    broker.put((0..EACH).map(|n| message(0, n)).collect()).await;
    let site = Site::of(&[&pod], &stream(&broker, "/large", &json!({ "inFlight": 64 }))).await;
    until("it is told", || async { said(&site).await.problem.is_some_and(|problem| problem.of == Obstacle::Message) })
        .await;
    broker.put((0..EACH).map(|n| message(1, n)).collect()).await;
    until("the other partition is answered", || async { said(&site).await.answered == EACH as u64 }).await;
    assert_eq!(said(&site).await.problem.map(|problem| problem.of), Some(Obstacle::Message));
    let tries = said(&site).await.refused.brokers;
    until("it is tried again", || async { said(&site).await.refused.brokers > tries }).await;
    broker.alter("out", "cleanup.policy", "delete").await;
    until("both are answered", || async { said(&site).await.answered == 2 * EACH as u64 }).await;
    let answers = broker.all("out").await;
    for partition in 0..2 {
        assert_eq!(last_written(&answers, partition), (0..EACH).collect::<Vec<_>>());
    }
    until("nothing waits", || async { lag(&said(&site).await) == Some(0.0) }).await;
    assert!(said(&site).await.problem.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_node_is_not_dialled_though_a_broker_names_it() {
    let port = crate::site::free_port();
    let with = [
        format!("+METADATA=PLAINTEXT:{port}"),
        // Who comes by this listener is led to where clouds tell a machine who it is.
        "advertised.listeners=PLAIN://127.0.0.1:${port},METADATA://169.254.169.254:80".to_owned(),
    ];
    let (broker, pod) = (Broker::start_at("127.0.0.1", &with).await, Pod::any("a").await);
    broker.topics(&[("in", 1), ("out", 1)]).await;
    let asks = stream(&broker, "/json", &json!({ "brokers": [format!("127.0.0.1:{port}")] }));
    let site = Site::of(&[&pod], &asks).await;
    until("it is told", || async {
        let problem = said(&site).await.problem;
        problem.is_some_and(|problem| problem.says.contains("addresses of a node or of the pod itself are not asked"))
    })
    .await;
    let problem = said(&site).await.problem.unwrap();
    assert_eq!(problem.of, Obstacle::Broker);
    assert!(problem.says.contains("169.254.169.254:80"), "{}", problem.says);
}
