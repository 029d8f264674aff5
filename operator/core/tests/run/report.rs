//! Reporting live metrics.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use millrace_core::api::{CacheOrigin, LiveMetrics, StageState};
use millrace_core::plan::{FIELD_OWNED, Refusal};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate, deployment, unregistered};
use crate::{node, pipeline, stage};

/// Version 3 is served, labels came, and this was found.
fn reporting(report: Value, found: Value) -> Cluster {
    let mut whole = json!({ "modelDeployment": "served", "metrics": "score" });
    whole.as_object_mut().unwrap().extend(report.as_object().unwrap().clone());
    let stages = json!({ "score": stage(json!({})), "tell": { "report": whole } });
    let fate = Fate::Succeeds(json!({ "metrics": found }));
    let mut cluster = Cluster::new(pipeline(stages)).fate("score", 1, fate);
    let mut served = deployment();
    served.spec.model.version = Some(3);
    cluster.deployment = Some(served);
    cluster.serve();
    cluster
}

fn live(cluster: &Cluster) -> Vec<LiveMetrics> {
    cluster.deployment.as_ref().unwrap().status.clone().unwrap().live
}

#[test]
fn what_a_stage_measured_is_reported_of_the_version_that_is_promoted_or_named() {
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    cluster.settle();
    assert_eq!(cluster.condition("Succeeded").unwrap().0, "True");
    let [told] = live(&cluster).try_into().unwrap();
    assert_eq!((told.version, told.samples, told.metrics["accuracy"]), (3, None, 0.91));
    assert_eq!((told.run.as_str(), told.stage.as_str(), told.model.as_str()), ("r", "tell", "penguins"));
    let named = json!({ "version": "version", "samples": "rows" });
    let mut cluster = reporting(named, json!({ "accuracy": 0.7, "version": 2.0, "rows": 5000.0 }));
    cluster.settle();
    let [told] = live(&cluster).try_into().unwrap();
    assert_eq!((told.version, told.samples), (2, Some(5000)));
    assert_eq!(told.metrics.keys().collect::<Vec<_>>(), ["accuracy"], "those two are none of the model's");
}

/// What another run said of a version, long after.
fn later(version: i64, second: i64) -> LiveMetrics {
    let text = json!({
        "version": version, "time": format!("2199-01-01T00:00:{second:02}Z"), "metrics": { "accuracy": 0.5 },
        "run": "other", "stage": "tell", "model": "penguins",
    });
    serde_json::from_value(text).unwrap()
}

fn set_live(cluster: &mut Cluster, live: Vec<LiveMetrics>) {
    cluster.deployment.as_mut().unwrap().status.as_mut().unwrap().live = live;
}

fn versions(cluster: &Cluster) -> Vec<i64> {
    live(cluster).iter().map(|live| live.version).collect()
}

/// Pass by pass, ten seconds each, until the report was written for the first time; no pass has seen it yet.
fn first_step(cluster: &mut Cluster) {
    for _ in 0..50 {
        cluster.reconcile_with_refusals();
        let stages = cluster.run.status.as_ref().map(|status| &status.stages);
        let tell = stages.and_then(|stages| stages.get("tell"));
        if tell.is_some_and(|tell| tell.state == StageState::Running) {
            return;
        }
        node::tick(cluster);
        cluster.pass_time(Duration::from_secs(10));
    }
    panic!("it never reports: {:#?}", cluster.run.status);
}

#[test]
fn a_later_report_of_the_version_stays_and_others_stand_beside() {
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    set_live(&mut cluster, vec![later(3, 9), later(2, 8), later(1, 7)]);
    cluster.settle();
    assert_eq!(cluster.stage("tell").state, StageState::Succeeded);
    assert_eq!(versions(&cluster), [3, 2, 1]);
    assert_eq!(live(&cluster)[0].run, "other");
}

#[test]
fn a_report_that_is_older_than_all_that_are_kept_is_told_and_nothing_waits_for_it() {
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    set_live(&mut cluster, (4..=8).map(|version| later(version, version)).collect());
    cluster.settle();
    assert_eq!(cluster.stage("tell").state, StageState::Succeeded);
    assert_eq!(versions(&cluster), [4, 5, 6, 7, 8]);
}

#[test]
fn what_is_promoted_between_two_steps_does_not_make_it_the_other_versions() {
    for lost in [false, true] {
        let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
        first_step(&mut cluster);
        assert_eq!(
            (versions(&cluster), cluster.stage("tell").model_version.as_deref()),
            (vec![3], Some("penguins-v3"))
        );
        if lost {
            set_live(&mut cluster, Vec::new());
        }
        cluster.deployment.as_mut().unwrap().spec.model.version = Some(4);
        cluster.serve();
        cluster.settle();
        assert_eq!((cluster.stage("tell").state, versions(&cluster)), (StageState::Succeeded, vec![3]));
    }
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    first_step(&mut cluster);
    set_live(&mut cluster, Vec::new());
    cluster.deployment.as_mut().unwrap().spec.model.name = Some("owls".to_owned());
    cluster.settle();
    let status = cluster.stage("tell");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("WrongModel")));
    assert!(status.message.as_ref().unwrap().contains("the model `owls` by now, and the report is of penguins-v3"));
}

#[test]
fn a_model_that_is_not_registered_has_no_version_that_a_report_is_of() {
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    cluster.deployment.as_mut().unwrap().spec.model = unregistered();
    cluster.settle();
    let status = cluster.stage("tell");
    assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some("WrongModel")));
    assert!(status.message.as_ref().unwrap().contains("its spec.model.uri"), "{:?}", status.message);
    assert_eq!(live(&cluster), []);
}

#[test]
fn its_time_is_when_the_measurement_began_or_was_made_where_it_is_from_the_cache() {
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    first_step(&mut cluster);
    let (score, tell) = (cluster.stage("score").clone(), cluster.stage("tell").clone());
    assert!(score.start_time.as_ref().unwrap().0 < tell.start_time.unwrap().0);
    assert_eq!(live(&cluster)[0].time, score.start_time);
    set_live(&mut cluster, Vec::new());
    let made = Time("2025-12-31T00:00:00Z".parse().unwrap());
    let from =
        CacheOrigin { run: "before".to_owned(), uid: "u".to_owned(), stage: "score".to_owned(), time: made.clone() };
    let stages = &mut cluster.run.status.as_mut().unwrap().stages;
    stages.get_mut("score").unwrap().cache.get_or_insert_default().from = Some(from);
    cluster.settle();
    assert_eq!(live(&cluster)[0].time, Some(made));
}

#[test]
fn a_report_that_is_refused_or_never_there_is_tried_for_an_hour_and_says_so() {
    let refusal = |object: &str, reason: &str| Refusal {
        object: object.to_owned(),
        code: 403,
        reason: reason.to_owned(),
        message: "a webhook says no".to_owned(),
    };
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    first_step(&mut cluster);
    set_live(&mut cluster, Vec::new());
    cluster.refusals = vec![refusal("ModelDeployment/live served", "Forbidden")];
    assert_eq!(cluster.reconcile(), Some(Duration::from_secs(15)));
    let tell = cluster.stage("tell");
    assert_eq!((tell.state, tell.reason.as_deref()), (StageState::Running, Some("Forbidden")));
    assert!(tell.message.as_ref().unwrap().starts_with("a webhook says no (gives up at "), "{:?}", tell.message);
    assert!(live(&cluster).is_empty());
    // What is refused of a `deploy` stage is not this.
    cluster.refusals = vec![refusal("ModelDeployment served", FIELD_OWNED)];
    cluster.reconcile_with_refusals();
    assert_eq!(versions(&cluster), [3]);
    // It is written each time, and each time it is gone.
    let mut passes = 0;
    while cluster.stage("tell").state == StageState::Running {
        set_live(&mut cluster, Vec::new());
        cluster.pass_time(Duration::from_mins(5));
        cluster.reconcile_with_refusals();
        passes += 1;
        assert!(passes <= 12, "{:?}", cluster.stage("tell"));
    }
    let tell = cluster.stage("tell");
    assert_eq!((tell.state, tell.reason.as_deref()), (StageState::Failed, Some("ReportTimeout")));
    assert!(tell.message.as_ref().unwrap().contains("is not in status.live of ModelDeployment served"));
}

#[test]
fn what_cannot_be_reported_fails_with_its_cause() {
    for (report, found, reason, words) in [
        (
            json!({ "version": "v" }),
            json!({ "a": 1.0 }),
            "MetricAbsent",
            "has no metric `v`, which report.version names",
        ),
        (
            json!({ "version": "v" }),
            json!({ "v": 2.5, "a": 1.0 }),
            "BadMetric",
            "is 2.5, and report.version needs a whole",
        ),
        (json!({ "version": "v" }), json!({ "v": 0.0, "a": 1.0 }), "BadMetric", "is 0, and report.version"),
        (json!({ "samples": "n" }), json!({ "n": -1.0, "a": 1.0 }), "BadMetric", "is -1, and report.samples"),
        (json!({ "samples": "n" }), json!({ "n": 1.0 }), "MetricAbsent", "no metric that could be reported"),
    ] {
        let mut cluster = reporting(report, found);
        cluster.settle();
        let status = cluster.stage("tell");
        assert_eq!((status.state, status.reason.as_deref()), (StageState::Failed, Some(reason)));
        assert!(status.message.as_ref().unwrap().contains(words), "{:?}", status.message);
        assert!(live(&cluster).is_empty());
    }
    let mut cluster = reporting(json!({}), json!({ "a": 1.0 }));
    cluster.deployment = Some(deployment());
    cluster.settle();
    assert_eq!(cluster.stage("tell").reason.as_deref(), Some("VersionNotFound"));
}
