//! What the status says of the payload log, and how often it is written.

use std::sync::Arc;

use millrace_routes::{LogStats, Use};

use super::cluster::{Cluster, pair};
use crate::api::{JwksKey, LogMode, LogSink, Monitoring, PayloadLog, PayloadLogStatus};
use crate::deployment::has_log_news;
use crate::routing::Report;

fn logged() -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    let sink = LogSink { address: "http://sink".to_owned(), ..LogSink::default() };
    set(&mut cluster, PayloadLog { sampling: 0.5, sink: Some(sink), ..PayloadLog::default() });
    cluster.events.clear();
    cluster
}

fn set(cluster: &mut Cluster, log: PayloadLog) {
    cluster.owner.spec.monitoring = Some(Monitoring { drift: None, log: Some(Box::new(log)) });
    cluster.edited();
    cluster.settle();
}

/// What each of the two routers says, and how many writes that makes.
fn hear(cluster: &mut Cluster, said: [LogStats; 2]) -> usize {
    let before = cluster.writes;
    for (router, said) in cluster.observed.routers.pods.iter_mut().zip(said) {
        let mut report = Report::clone(router.report.as_ref().unwrap());
        report.models.get_mut("penguins").unwrap().log = Some(said);
        router.report = Some(Arc::new(report));
    }
    let reports: Vec<_> = cluster.observed.routers.pods.iter().filter_map(|router| router.report.clone()).collect();
    let is_news = has_log_news(&cluster.owner, reports.iter().map(AsRef::as_ref), cluster.now);
    cluster.pass();
    assert_eq!(is_news, cluster.writes > before, "it is woken when there is something to write");
    cluster.writes - before
}

/// The same while the other router gives no answer.
fn hear_one(cluster: &mut Cluster, said: LogStats) -> usize {
    let before = cluster.writes;
    let routers = &mut cluster.observed.routers.pods;
    let mut report = Report::clone(routers[0].report.as_ref().unwrap());
    report.models.get_mut("penguins").unwrap().log = Some(said);
    routers[0].report = Some(Arc::new(report));
    let other = routers[1].report.take();
    cluster.pass();
    cluster.observed.routers.pods[1].report = other;
    cluster.writes - before
}

fn said(delivered: u64, dropped: u64, failed: u64, problem: Option<&str>) -> LogStats {
    LogStats { delivered, dropped, failed, problem: problem.map(str::to_owned) }
}

fn status(cluster: &Cluster) -> PayloadLogStatus {
    cluster.owner.status.clone().unwrap().log.unwrap()
}

#[test]
fn while_all_arrive_nothing_is_written_and_what_is_lost_once_a_minute() {
    let mut cluster = logged();
    assert_eq!(cluster.condition("PayloadLogged"), pair("Unknown", "NoRouter"));
    assert_eq!(hear(&mut cluster, [said(0, 0, 0, None), said(0, 0, 0, None)]), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("True", "Delivering"));
    for delivered in 1..100 {
        cluster.wait(10);
        assert_eq!(hear(&mut cluster, [said(delivered * 1000, 0, 0, None), said(0, 0, 0, None)]), 0);
    }
    let refused = Some("http://sink: connection refused");
    assert_eq!(hear(&mut cluster, [said(99_000, 0, 0, None), said(7, 0, 3, refused)]), 1, "it turns at once");
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "SinkFailed"));
    assert_eq!((status(&cluster).delivered, status(&cluster).failed), (99_007, 3));
    let told: Vec<_> = cluster.events.iter().map(|event| (event.warning, event.message.as_str())).collect();
    assert_eq!(told, [(true, "events are lost: http://sink: connection refused")]);
    for failed in 4..10 {
        cluster.wait(9);
        assert_eq!(hear(&mut cluster, [said(99_000, 0, 0, None), said(7, 0, failed, refused)]), 0, "{failed}");
    }
    cluster.wait(9);
    assert_eq!(hear(&mut cluster, [said(99_000, 0, 0, None), said(7, 0, 10, refused)]), 1);
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, [said(99_000, 0, 0, None), said(8, 0, 10, None)]), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("True", "Delivering"));
    assert_eq!(cluster.events.len(), 1, "{:?}", cluster.events);
    // A flood, and its end.
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, [said(99_000, 40, 0, None), said(8, 2, 10, None)]), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "EventsDropped"));
    assert_eq!(status(&cluster).dropped, 42);
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, [said(99_000, 40, 0, None), said(8, 2, 10, None)]), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("True", "Delivering"));
    cluster.owner.spec.monitoring = None;
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.owner.status.as_ref().unwrap().log, None);
    let conditions = &cluster.owner.status.as_ref().unwrap().conditions;
    assert!(conditions.iter().all(|condition| condition.type_ != "PayloadLogged"));
}

#[test]
fn what_a_router_had_dropped_is_not_lost_again_when_it_answers_again() {
    let mut cluster = logged();
    let both = || [said(20, 0, 0, None), said(20, 5, 0, None)];
    assert_eq!(hear(&mut cluster, [said(0, 0, 0, None), said(0, 0, 0, None)]), 1);
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, both()), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "EventsDropped"));
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, both()), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("True", "Delivering"));
    cluster.wait(60);
    assert_eq!(hear_one(&mut cluster, said(20, 0, 0, None)), 0);
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, both()), 0);
    assert_eq!((cluster.condition("PayloadLogged"), status(&cluster).dropped), (pair("True", "Delivering"), 5));
    // More than both had.
    assert_eq!(hear_one(&mut cluster, said(20, 6, 0, None)), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "EventsDropped"));
    // Others have come, and count from 0.
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, [said(0, 0, 0, None), said(0, 0, 0, None)]), 1);
    assert_eq!((cluster.condition("PayloadLogged"), status(&cluster).dropped), (pair("True", "Delivering"), 0));
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, [said(0, 1, 0, None), said(0, 0, 0, None)]), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "EventsDropped"));
    // What was dropped before a change does not say that the change was not enough.
    cluster.edited();
    assert_eq!(hear(&mut cluster, [said(0, 2, 0, None), said(0, 0, 0, None)]), 1);
    assert_eq!((cluster.condition("PayloadLogged"), status(&cluster).dropped), (pair("True", "Delivering"), 2));
}

#[test]
fn what_was_so_before_a_change_is_not_said_of_what_is_asked_for_now() {
    let mut cluster = logged();
    let (old, new) = (Some("http://sink: gone"), Some("http://other: gone"));
    assert_eq!(hear(&mut cluster, [said(0, 0, 0, None), said(0, 0, 0, None)]), 1);
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, [said(0, 0, 1, old), said(0, 0, 1, old)]), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "SinkFailed"));
    let sink = LogSink { address: "http://other".to_owned(), ..LogSink::default() };
    set(&mut cluster, PayloadLog { sampling: 0.5, sink: Some(sink), ..PayloadLog::default() });
    assert_eq!(cluster.condition("PayloadLogged"), pair("Unknown", "NoRouter"));
    cluster.wait(60);
    assert_eq!(hear(&mut cluster, [said(0, 0, 2, old), said(0, 0, 2, old)]), 0, "both have the old routes");
    assert_eq!(hear(&mut cluster, [said(0, 0, 2, old), said(1, 0, 2, None)]), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("True", "Delivering"));
    cluster.wait(60);
    let fail = || [said(1, 0, 3, new), said(1, 0, 3, new)];
    assert_eq!(hear(&mut cluster, fail()), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "SinkFailed"));
    // Another token for the same address: it is given time.
    cluster.edited();
    assert_eq!(hear(&mut cluster, fail()), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("Unknown", "NoRouter"));
    cluster.wait(14);
    assert_eq!(hear(&mut cluster, fail()), 0);
    cluster.wait(1);
    assert_eq!(hear(&mut cluster, fail()), 1);
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "SinkFailed"));
    cluster.edited();
    assert_eq!(hear(&mut cluster, fail()), 1);
    assert_eq!(hear(&mut cluster, [said(2, 0, 3, None), said(2, 0, 3, None)]), 1, "it is better at once");
    assert_eq!(cluster.condition("PayloadLogged"), pair("True", "Delivering"));
}

#[test]
fn routers_are_told_which_versions_there_are_and_get_the_token_mounted() {
    let mut cluster = logged();
    let name = cluster.served().unwrap().name.clone();
    let log = cluster.in_force[0].models[0].log.clone().unwrap();
    assert_eq!((log.namespace.as_str(), log.model.as_str(), log.versions[&name]), ("team", "penguins", 1));
    assert_eq!((log.sampling, log.body_bytes, log.sink.batched), (0.5, 65_536, false));
    let key = |name: &str| Some(JwksKey { name: name.to_owned(), key: "k".to_owned() });
    let sink = LogSink {
        address: "https://sink:70000/a".to_owned(),
        mode: Some(LogMode::Batched),
        token_secret: key("token"),
        ca_config_map: key("ca"),
    };
    set(&mut cluster, PayloadLog { sampling: 1.0, sink: Some(sink.clone()), max_body_bytes: Some(9), table: None });
    assert_eq!(cluster.condition("Accepted"), pair("False", "InvalidAddress"));
    let sink = LogSink { address: "https://sink:8443/a".to_owned(), ..sink };
    set(&mut cluster, PayloadLog { sampling: 1.0, sink: Some(sink), max_body_bytes: Some(9), table: None });
    assert_eq!(cluster.condition("Accepted"), pair("True", "Accepted"));
    let log = cluster.in_force[0].models[0].log.clone().unwrap();
    assert_eq!((log.body_bytes, log.sink.batched), (9, true));
    let (token, ca) = (log.sink.token.unwrap(), log.sink.ca.unwrap());
    assert_eq!(token.of.folder(&token.name, Use::Log(&token.key)), "secrets/token/log/k");
    assert_eq!(ca.of.folder(&ca.name, Use::Log(&ca.key)), "configmaps/ca/log/k");
}
