//! A rollout that is judged by what `report` stages bring.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::api::{LiveMetrics, Verdict};
use crate::deployment::{Live, live, take_report};

/// Version 2 has half of the requests, and this is asked of its accuracy.
fn rolling(limits: &Value) -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    let mut analysis = json!({ "live": "accuracy" });
    analysis.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let rollout = json!({
        "strategy": "Canary", "steps": [{ "weight": 50, "hold": "1m" }], "analysis": { "truth": analysis },
    });
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
    cluster.set_version(2);
    cluster.edited();
    cluster.go_on(0);
    assert!(cluster.rollout().step_start_time.is_some());
    cluster
}

/// A run says this of a version.
fn report(cluster: &mut Cluster, version: i64, accuracy: f64, samples: i64) {
    let report = LiveMetrics {
        version,
        time: Some(Time(cluster.now)),
        samples: Some(samples),
        metrics: [("accuracy".to_owned(), accuracy)].into(),
        run: format!("score-{}", cluster.now.as_second()),
        stage: "tell".to_owned(),
        model: "penguins".to_owned(),
    };
    assert!(take_report(cluster.owner.status.as_mut().unwrap(), &report));
    cluster.go_on(0);
}

fn verdict(cluster: &Cluster) -> (Verdict, String) {
    let analysis = cluster.rollout().analysis.remove(0);
    (analysis.verdict, analysis.message)
}

#[test]
fn only_a_report_of_its_version_since_the_step_began_judges_a_canary() {
    let mut cluster = rolling(&json!({ "min": 0.8, "minSamples": 100 }));
    assert_eq!(
        verdict(&cluster),
        (Verdict::Inconclusive, "no figure: nothing was reported since the step began".to_owned())
    );
    // Of the promoted version, and of this one before: a bad one of either would roll it back.
    report(&mut cluster, 1, 0.1, 1000);
    let mut old = cluster.rollout();
    let began = old.step_start_time.clone().unwrap().0;
    report(&mut cluster, 2, 0.9, 99);
    // Another figure of the same verdict is written after a while.
    cluster.go_on(15);
    assert_eq!(verdict(&cluster), (Verdict::Inconclusive, "99 of 100 requests".to_owned()));
    old.step_start_time = Some(Time(began + k8s_openapi::jiff::SignedDuration::from_secs(10)));
    cluster.owner.status.as_mut().unwrap().rollout = Some(old);
    cluster.go_on(15);
    assert_eq!(verdict(&cluster).0, Verdict::Inconclusive);
    cluster.go_on(60);
    assert_eq!(cluster.rollout().step, 1, "it waits for a report: {}", cluster.message());
    assert!(cluster.message().contains("waits for a report"), "{}", cluster.message());
    report(&mut cluster, 2, 0.85, 1000);
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(2), "{}", cluster.message());
    assert_eq!(live(&cluster.owner).unwrap().metrics, [("accuracy".to_owned(), 0.85)].into());
}

#[test]
fn one_that_is_wrong_too_often_is_rolled_back() {
    let mut cluster = rolling(&json!({ "min": 0.8 }));
    report(&mut cluster, 2, 0.7, 1000);
    let rejected = cluster.rollout().rejected.unwrap();
    assert!(rejected.message.contains("live accuracy is 0.7, less than min 0.8"), "{}", rejected.message);
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1));
}

#[test]
fn both_versions_are_compared_by_reports_of_the_same_step() {
    let mut cluster = rolling(&json!({ "maxRatioToStable": 1.1 }));
    report(&mut cluster, 2, 0.9, 1000);
    cluster.go_on(15);
    let lacks = "no figure of the promoted revision: nothing was reported since the step began";
    assert_eq!(verdict(&cluster), (Verdict::Inconclusive, lacks.to_owned()));
    report(&mut cluster, 1, 0.85, 1000);
    assert_eq!(verdict(&cluster).0, Verdict::Passed);
}

#[test]
fn more_may_be_asked_for_than_a_share_of_what_the_promoted_version_has() {
    let mut cluster = rolling(&json!({ "minRatioToStable": 0.98 }));
    report(&mut cluster, 1, 0.9, 1000);
    report(&mut cluster, 2, 0.885, 1000);
    let (judged, message) = verdict(&cluster);
    assert_eq!(judged, Verdict::Passed);
    assert_eq!(message, "live accuracy is 0.885 (at least 0.98 times the promoted revision's 0.9)");
    let mut cluster = rolling(&json!({ "minRatioToStable": 0.98 }));
    report(&mut cluster, 2, 0.88, 1000);
    cluster.go_on(15);
    assert_eq!(verdict(&cluster).0, Verdict::Inconclusive, "nothing to compare with");
    report(&mut cluster, 1, 0.9, 1000);
    let rejected = cluster.rollout().rejected.unwrap();
    let words = "live accuracy is 0.88, less than 0.98 times the promoted revision's 0.9";
    assert!(rejected.message.contains(words), "{}", rejected.message);
}

#[test]
fn a_rollout_of_settings_is_not_judged_by_the_figures_of_the_version_that_both_have() {
    let mut cluster = rolling(&json!({ "min": 0.8 }));
    report(&mut cluster, 1, 0.1, 1000);
    report(&mut cluster, 2, 0.9, 1000);
    let found = Live::of(&cluster.owner);
    assert_eq!((found.candidate.unwrap().version, found.stable.unwrap().version, found.shared), (2, 1, None));
    assert_eq!(found.lacks(), "nothing was reported since the step began");
    // The same rollout, of version 1 with other settings.
    cluster.owner.status.as_mut().unwrap().rollout.as_mut().unwrap().version = Some(1);
    let found = Live::of(&cluster.owner);
    assert_eq!((found.candidate, found.stable, found.shared), (None, None, Some(1)));
    assert_eq!(found.lacks(), "both revisions are of version 1: a report cannot tell them apart");
}

#[test]
fn five_versions_are_kept_and_none_of_another_model() {
    let mut cluster = Cluster::serving_version_1();
    for version in 1..8 {
        cluster.wait(1);
        report(&mut cluster, version, 0.5, 1);
    }
    let versions = |cluster: &Cluster| -> Vec<i64> {
        cluster.owner.status.as_ref().unwrap().live.iter().map(|live| live.version).collect()
    };
    assert_eq!(versions(&cluster), [7, 6, 5, 4, 3]);
    assert!(live(&cluster.owner).is_none(), "nothing is kept of version 1");
    let status = cluster.owner.status.as_mut().unwrap();
    let old = LiveMetrics { version: 1, ..status.live[4].clone() };
    let older = LiveMetrics { time: Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)), ..old.clone() };
    assert!(!take_report(status, &older), "it would not be kept");
    assert!(take_report(status, &old), "as old as the oldest");
    assert_eq!(versions(&cluster), [7, 6, 5, 4, 1]);
    let other = LiveMetrics { version: 9, model: "other".to_owned(), ..LiveMetrics::default() };
    assert!(take_report(cluster.owner.status.as_mut().unwrap(), &other));
    assert_eq!(versions(&cluster), [9]);
}
