//! When drift is written to the status, and what is told.

use millrace_contract::{Counted, DriftCounts};

use super::cluster::{Cluster, pair};
use crate::api::{Drift, Monitoring};
use crate::deployment::{Version, has_drift_news, monitored};
use crate::plan::Event;

const EVEN: [u64; 5] = [0, 250, 250, 250, 250];
const SKEWED: [u64; 5] = [0, 50, 150, 350, 450];

fn watched() -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    cluster.owner.spec.monitoring = Some(Monitoring { drift: Some(Drift::default()), log: None });
    cluster.edited();
    cluster.settle();
    cluster.events.clear();
    cluster
}

fn counted(rows: u64, counts: [u64; 5]) -> DriftCounts {
    let mass = Counted {
        name: "mass".to_owned(),
        importance: 1.0,
        reference: EVEN.to_vec(),
        counts: counts.to_vec(),
        ..Counted::default()
    };
    DriftCounts { rows, features: vec![mass], ..DriftCounts::default() }
}

/// What pods say, and how many writes that makes.
fn hear(cluster: &mut Cluster, said: DriftCounts) -> usize {
    let before = cluster.writes;
    let is_news = has_drift_news(&cluster.owner, &said, cluster.now);
    cluster.observed.drift = Some(said);
    cluster.settle();
    assert_eq!(is_news, cluster.writes > before, "it is woken when there is something to write");
    cluster.writes - before
}

fn reasons(events: &[Event]) -> Vec<(bool, &str)> {
    events.iter().map(|event| (event.warning, event.reason)).collect()
}

#[test]
fn it_turns_with_the_counts_and_an_event_tells() {
    let mut cluster = watched();
    assert_eq!(cluster.condition("Drifted"), pair("Unknown", "NoAnswer"));
    let of = monitored(&cluster.owner).unwrap();
    assert_eq!((of.model.as_str(), of.version), ("penguins", Version::Registered(1)));
    assert_eq!(Some(&of.revision), cluster.owner.status.as_ref().unwrap().served_revision.as_ref());
    hear(&mut cluster, counted(10, [0, 10, 0, 0, 0]));
    assert_eq!(cluster.condition("Drifted"), pair("Unknown", "NotEnoughSamples"));
    cluster.wait(61);
    hear(&mut cluster, counted(1000, EVEN));
    assert_eq!(cluster.condition("Drifted"), pair("False", "NoDrift"));
    assert_eq!(reasons(&cluster.events), []);
    cluster.wait(61);
    hear(&mut cluster, counted(1000, SKEWED));
    assert_eq!(cluster.condition("Drifted"), pair("True", "Drifted"));
    let drift = cluster.owner.status.as_ref().unwrap().drift.clone().unwrap();
    assert_eq!((drift.revision, drift.version, drift.share), (of.revision, Some(1), Some(1.0)));
    cluster.wait(61);
    hear(&mut cluster, counted(1000, EVEN));
    assert_eq!(reasons(&cluster.events), [(true, "Drifted"), (false, "DriftEnded")]);
    assert!(cluster.events[0].message.contains("mass 0.5242"), "{:?}", cluster.events);
}

#[test]
fn figures_are_written_once_a_minute_at_most_and_only_when_they_move() {
    let mut cluster = watched();
    assert_eq!(hear(&mut cluster, counted(1000, EVEN)), 1);
    cluster.wait(30);
    assert_eq!(hear(&mut cluster, counted(1000, SKEWED)), 0, "it is too early");
    cluster.wait(31);
    assert_eq!(hear(&mut cluster, counted(1000, SKEWED)), 1);
    for rows in 1001..1010 {
        cluster.wait(3600);
        assert_eq!(hear(&mut cluster, counted(rows, SKEWED)), 0, "a row more is no news");
    }
    cluster.wait(61);
    assert_eq!(hear(&mut cluster, counted(1000, [0, 40, 150, 350, 460])), 1, "the figure has moved");
}

#[test]
fn another_threshold_is_judged_at_once() {
    let mut cluster = watched();
    hear(&mut cluster, counted(1000, SKEWED));
    let drift = Drift { threshold: Some(1.0), ..Drift::default() };
    cluster.owner.spec.monitoring = Some(Monitoring { drift: Some(drift), log: None });
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.condition("Drifted"), pair("False", "NoDrift"));
}

#[test]
fn an_operator_that_has_just_begun_leaves_what_was_said() {
    let mut cluster = watched();
    hear(&mut cluster, counted(1000, SKEWED));
    cluster.observed.drift = None;
    cluster.edited();
    cluster.settle();
    assert_eq!(cluster.condition("Drifted"), pair("True", "Drifted"));
    assert!(cluster.owner.status.as_ref().unwrap().drift.is_some());
}

#[test]
fn another_revision_begins_from_nothing() {
    let mut cluster = watched();
    hear(&mut cluster, counted(1000, SKEWED));
    cluster.observed.drift = None;
    cluster.set_version(2);
    cluster.settle();
    cluster.pods_get_ready();
    cluster.settle();
    assert_eq!(monitored(&cluster.owner).unwrap().version, Version::Registered(2));
    assert_eq!(cluster.condition("Drifted"), pair("Unknown", "NoAnswer"));
    assert_eq!(cluster.owner.status.as_ref().unwrap().drift, None);
}

#[test]
fn without_monitoring_nothing_is_said() {
    let mut cluster = watched();
    hear(&mut cluster, counted(1000, SKEWED));
    let revision = cluster.owner.status.as_ref().unwrap().served_revision.clone();
    cluster.owner.spec.monitoring = None;
    cluster.edited();
    cluster.settle();
    let status = cluster.owner.status.clone().unwrap();
    assert_eq!(status.drift, None);
    assert!(status.conditions.iter().all(|condition| condition.type_ != "Drifted"));
    assert_eq!(status.served_revision, revision, "watching is no other revision");
    assert_eq!(monitored(&cluster.owner), None);
}

#[test]
fn a_window_that_is_none_is_refused_with_what_to_write() {
    for window in ["4m59s", "8d"] {
        let mut cluster = watched();
        let drift = Drift { window: Some(window.to_owned()), ..Drift::default() };
        cluster.owner.spec.monitoring = Some(Monitoring { drift: Some(drift), log: None });
        cluster.edited();
        cluster.settle();
        assert_eq!(cluster.condition("Accepted"), pair("False", "InvalidDuration"));
        assert!(cluster.message().contains("spec.monitoring.drift.window"), "{}", cluster.message());
    }
}
