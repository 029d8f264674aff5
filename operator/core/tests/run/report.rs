//! Reporting live metrics.

use millrace_core::api::{LiveMetrics, StageState};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fate, deployment};
use crate::{pipeline, stage};

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

#[test]
fn a_later_report_of_the_version_stays_and_others_stand_beside() {
    let mut cluster = reporting(json!({}), json!({ "accuracy": 0.91 }));
    let later = |version: i64, second: i64| {
        let text = json!({
            "version": version, "time": format!("2199-01-01T00:00:{second:02}Z"), "metrics": { "accuracy": 0.5 },
            "run": "other", "stage": "tell", "model": "penguins",
        });
        serde_json::from_value::<LiveMetrics>(text).unwrap()
    };
    let status = cluster.deployment.as_mut().unwrap().status.as_mut().unwrap();
    status.live = vec![later(3, 9), later(2, 8), later(1, 7)];
    cluster.settle();
    assert_eq!(cluster.stage("tell").state, StageState::Succeeded);
    assert_eq!(live(&cluster).iter().map(|live| live.version).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(live(&cluster)[0].run, "other");
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
