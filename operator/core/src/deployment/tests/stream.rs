//! What routers are told of a stream, what the status says of it, how often it is written, and that pods follow its lag.

use std::sync::Arc;

use millrace_routes::{Mechanism, Obstacle, StreamProblem};
use serde_json::json;

use super::cluster::{Cluster, pair};
use crate::api::{Stream, StreamStatus};
use crate::deployment::{followed, has_stream_news, stream};
use crate::routing::{Report, StreamReport};

fn streaming() -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    set(&mut cluster, &json!({ "brokers": ["kafka:9092"], "inputTopic": "in", "outputTopic": "out" }));
    cluster.events.clear();
    cluster
}

fn set(cluster: &mut Cluster, kafka: &serde_json::Value) {
    let spec: Stream = serde_json::from_value(json!({ "kafka": kafka })).unwrap();
    cluster.owner.spec.stream = Some(Box::new(spec));
    cluster.edited();
    cluster.settle();
}

/// What each of the two routers says, and how many writes that makes.
fn hear(cluster: &mut Cluster, said: [StreamReport; 2]) -> usize {
    let before = cluster.writes;
    for (router, said) in cluster.observed.routers.pods.iter_mut().zip(said) {
        let mut report = Report::clone(router.report.as_ref().unwrap());
        report.models.get_mut("penguins").unwrap().stream = Some(said);
        router.report = Some(Arc::new(report));
    }
    let reports: Vec<_> = cluster.observed.routers.pods.iter().filter_map(|router| router.report.clone()).collect();
    let is_news = has_stream_news(&cluster.owner, reports.iter().map(AsRef::as_ref), cluster.now);
    cluster.pass();
    assert_eq!(is_news, cluster.writes > before, "it is woken when there is something to write");
    cluster.writes - before
}

fn said(cluster: &Cluster, answered: u64) -> StreamReport {
    let id = stream(&cluster.owner).unwrap().id;
    StreamReport { id, lag: Some(4), partitions: 2, rate: 1500, answered, ..StreamReport::default() }
}

fn both(cluster: &mut Cluster, answered: u64) -> usize {
    let said = said(cluster, answered);
    hear(cluster, [said.clone(), said])
}

fn in_the_way(cluster: &Cluster, of: Obstacle, says: &str) -> StreamReport {
    StreamReport { problem: Some(StreamProblem { of, says: says.to_owned() }), ..said(cluster, 1) }
}

fn status(cluster: &Cluster) -> StreamStatus {
    cluster.owner.status.clone().unwrap().stream.unwrap()
}

#[test]
fn routers_are_told_everything_and_other_settings_have_another_id() {
    let mut cluster = streaming();
    let plain = stream(&cluster.owner).unwrap();
    assert_eq!((plain.group.as_str(), plain.path.as_str()), ("millrace.team.penguins", "/v2/models/penguins/infer"));
    assert_eq!((plain.latest, plain.in_flight, plain.dead_letters.is_none()), (false, 32, true));
    set(
        &mut cluster,
        &json!({
            "brokers": ["kafka:9092"], "inputTopic": "in", "outputTopic": "out", "deadLetterTopic": "dead", "group": "g",
            "start": "Latest", "tls": { "caConfigMap": { "name": "ca", "key": "ca.crt" } },
            "sasl": { "mechanism": "SCRAM-SHA-256", "secretName": "user" },
        }),
    );
    let full = stream(&cluster.owner).unwrap();
    assert_eq!((full.group.as_str(), full.latest, full.dead_letters.as_deref()), ("g", true, Some("dead")));
    assert_eq!(full.tls.as_ref().unwrap().ca.as_ref().unwrap().name, "ca");
    assert_eq!(full.sasl.as_ref().unwrap().mechanism, Mechanism::ScramSha256);
    assert_ne!(plain.id, full.id);
    assert_eq!(cluster.in_force[0].models[0].stream.as_ref(), Some(&full), "the routes have it");
    cluster.owner.metadata.name = Some("n".repeat(250));
    cluster.owner.spec.stream.as_mut().unwrap().kafka.group = None;
    assert_eq!(stream(&cluster.owner).unwrap().group.len(), 249);
}

#[test]
fn figures_are_sums_and_written_once_a_minute_while_they_move() {
    let mut cluster = streaming();
    assert_eq!(cluster.condition("Streaming"), pair("Unknown", "NoRouter"));
    assert_eq!(both(&mut cluster, 0), 1);
    assert_eq!(cluster.condition("Streaming"), pair("True", "Consuming"));
    let StreamStatus { lag, partitions, consumers, rate, .. } = status(&cluster);
    assert_eq!((lag, partitions, consumers), (Some(4), 4, 2));
    assert!((rate - 3.0).abs() < 1e-9, "{rate}");
    for answered in 1..6 {
        cluster.wait(10);
        assert_eq!(both(&mut cluster, answered), 0, "{answered}");
    }
    cluster.wait(10);
    assert_eq!((both(&mut cluster, 7), status(&cluster).answered), (1, 14));
    for _ in 0..10 {
        cluster.wait(100);
        assert_eq!(both(&mut cluster, 7), 0, "nothing moves");
    }
    assert!(cluster.events.is_empty());
}

#[test]
fn what_is_in_the_way_is_told_with_an_event_and_goes_again() {
    let mut cluster = streaming();
    both(&mut cluster, 1);
    let trouble = |cluster: &Cluster| {
        [
            in_the_way(cluster, Obstacle::Message, "partition 3 of in waits"),
            in_the_way(cluster, Obstacle::Model, "/p answers 503"),
        ]
    };
    let heard = trouble(&cluster);
    cluster.wait(5);
    assert_eq!(hear(&mut cluster, heard.clone()), 0, "it has just turned");
    cluster.wait(10);
    assert_eq!(hear(&mut cluster, heard), 1);
    assert_eq!(cluster.condition("Streaming"), pair("False", "MessageRefused"));
    let told: Vec<_> = cluster.events.iter().map(|event| (event.warning, event.message.as_str())).collect();
    assert_eq!(told, [(true, "partition 3 of in waits")]);
    cluster.wait(15);
    assert_eq!(both(&mut cluster, 2), 1);
    assert_eq!(cluster.condition("Streaming"), pair("True", "Consuming"));
}

#[test]
fn what_was_said_of_other_settings_counts_for_nothing_and_trouble_at_first_may_go() {
    let mut cluster = streaming();
    both(&mut cluster, 9);
    let old = said(&cluster, 9);
    set(&mut cluster, &json!({ "brokers": ["kafka:9092"], "inputTopic": "other", "outputTopic": "out" }));
    assert_eq!(cluster.condition("Streaming"), pair("Unknown", "NoRouter"));
    assert_eq!(hear(&mut cluster, [old.clone(), old]), 0);
    let trouble = in_the_way(&cluster, Obstacle::Broker, "kafka:9092: refused");
    assert_eq!(hear(&mut cluster, [trouble.clone(), trouble.clone()]), 0);
    cluster.wait(15);
    assert_eq!(hear(&mut cluster, [trouble.clone(), trouble]), 1);
    assert_eq!(cluster.condition("Streaming"), pair("False", "BrokerFailed"));
    cluster.owner.spec.stream = None;
    cluster.edited();
    cluster.settle();
    let status = cluster.owner.status.clone().unwrap();
    assert!(status.stream.is_none() && !status.conditions.iter().any(|condition| condition.type_ == "Streaming"));
}

#[test]
fn pods_follow_the_lag_of_these_settings() {
    let mut cluster = streaming();
    cluster.owner.spec.scale =
        Some(serde_json::from_value(json!({ "min": 0, "max": 9, "metric": "QueueLag", "target": 100 })).unwrap());
    let (_, follow) = followed(&cluster.owner).unwrap();
    assert_eq!(follow.query, Some(stream(&cluster.owner).unwrap().id));
    let stats = |id: &str| {
        let lag = millrace_routes::QueryStats { value: Some(250.0), age_ms: Some(0), ..Default::default() };
        let stream = millrace_routes::StreamStats { id: id.to_owned(), lag, ..Default::default() };
        millrace_routes::ModelStats { stream: Some(stream), ..Default::default() }
    };
    let id = follow.query.clone().unwrap();
    assert_eq!(follow.said(&stats(&id)).and_then(|said| said.value), Some(250.0));
    assert!(follow.said(&stats("other")).is_none());
}

#[test]
fn a_port_that_is_none_is_refused() {
    let mut cluster = streaming();
    set(&mut cluster, &json!({ "brokers": ["kafka:70000"], "inputTopic": "in", "outputTopic": "out" }));
    assert_eq!(cluster.condition("Accepted"), pair("False", "InvalidAddress"));
}
