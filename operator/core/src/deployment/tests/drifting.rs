//! A rollout that is judged by the drift of what comes.

use millrace_contract::{Counted, DriftCounts};
use serde_json::{Value, json};

use super::cluster::{Cluster, pair};
use crate::api::{Drift, Monitoring, Verdict};
use crate::deployment::{Version, has_news, monitored, monitored_candidate, watched};

const EVEN: [u64; 5] = [0, 250, 250, 250, 250];
const SKEWED: [u64; 5] = [0, 50, 150, 350, 450];

/// Version 2 has half of the requests, and this is asked of its drift.
fn rolling(limits: &Value) -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    let mut analysis = json!({ "metric": "Drift" });
    analysis.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let rollout = json!({
        "strategy": "Canary", "steps": [{ "weight": 50, "hold": "1m" }], "analysis": { "rows": analysis },
    });
    cluster.owner.spec.rollout = Some(serde_json::from_value(rollout).unwrap());
    cluster.set_version(2);
    cluster.go_on(0);
    assert!(cluster.rollout().step_start_time.is_some());
    cluster
}

/// Two features, of which the first has three quarters of the importance.
fn counted(rows: u64, mass: [u64; 5], age: [u64; 5]) -> DriftCounts {
    let feature = |name: &str, importance, counts: [u64; 5]| Counted {
        name: name.to_owned(),
        importance,
        reference: EVEN.to_vec(),
        counts: counts.to_vec(),
        ..Counted::default()
    };
    let features = vec![feature("mass", 0.75, mass), feature("age", 0.25, age)];
    DriftCounts { rows, features, ..DriftCounts::default() }
}

/// What the pods of the revision that comes say.
fn hear(cluster: &mut Cluster, said: DriftCounts) {
    let (old, writes) = (cluster.rollout().analysis, cluster.writes);
    let is_news = has_news(&cluster.owner, None, Some(&said), cluster.now);
    cluster.observed.candidate_drift = Some(said);
    cluster.go_on(0);
    let news = cluster.owner.status.as_ref().unwrap().rollout.as_ref().is_none_or(|rollout| rollout.analysis != old);
    assert_eq!(is_news, news && cluster.writes > writes, "it is woken when there is something to write");
}

fn verdict(cluster: &Cluster) -> (Verdict, String) {
    let analysis = cluster.rollout().analysis.remove(0);
    (analysis.verdict, analysis.message)
}

#[test]
fn one_that_is_asked_for_what_it_was_not_trained_on_is_rolled_back() {
    let mut cluster = rolling(&json!({ "max": 0.3 }));
    let lacks = "no pod of the new revision says what it counted";
    assert_eq!(verdict(&cluster), (Verdict::Inconclusive, lacks.to_owned()));
    cluster.wait(15);
    hear(&mut cluster, counted(499, [0, 499, 0, 0, 0], EVEN));
    assert_eq!(verdict(&cluster), (Verdict::Inconclusive, "499 of 500 rows".to_owned()));
    // A quarter of the importance may drift.
    hear(&mut cluster, counted(1000, EVEN, SKEWED));
    let (judged, message) = verdict(&cluster);
    let words = "Drift 0.25, within max 0.3: 1 of 2 features has drifted, 0.25 of the importance (PSI: age 0.5242)";
    assert!(judged == Verdict::Passed && message.starts_with(words), "{message}");
    let status = cluster.rollout().analysis.remove(0);
    assert_eq!((status.value, status.stable, status.samples), (Some(0.25), None, 1000));
    hear(&mut cluster, counted(1000, SKEWED, EVEN));
    let rejected = cluster.rollout().rejected.unwrap();
    let words =
        "rows: Drift 0.75, more than max 0.3: 1 of 2 features has drifted, 0.75 of the importance (PSI: mass 0.5242)";
    assert!(rejected.reason == "AnalysisFailed" && rejected.message.starts_with(words), "{}", rejected.message);
    assert_eq!(cluster.condition("Stalled"), pair("True", "RolledBack"));
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(1));
    assert_eq!(monitored_candidate(&cluster.owner), None, "its pods go");
}

#[test]
fn one_that_is_asked_for_what_it_knows_is_promoted_after_its_hold() {
    let mut cluster = rolling(&json!({ "max": 0, "minSamples": 100 }));
    cluster.wait(15);
    hear(&mut cluster, counted(100, [0, 25, 25, 25, 25], [0, 25, 25, 25, 25]));
    assert_eq!(verdict(&cluster).0, Verdict::Passed);
    cluster.go_on(60);
    assert_eq!(cluster.condition("Ready"), pair("True", "Serving"));
    assert_eq!(cluster.owner.status.as_ref().unwrap().served_version, Some(2));
}

#[test]
fn a_version_without_a_profile_waits_and_says_so() {
    let mut cluster = rolling(&json!({ "max": 0.3 }));
    let nothing = Some("there is no profile.json".to_owned());
    cluster.wait(15);
    hear(&mut cluster, DriftCounts { rows: 5000, nothing, ..DriftCounts::default() });
    let words = "the model server has nothing to compare with: there is no profile.json";
    assert_eq!(verdict(&cluster), (Verdict::Inconclusive, words.to_owned()));
    cluster.go_on(60);
    let message = cluster.message();
    assert!(message.contains(&format!("waits for more rows: rows: {words}")), "{message}");
}

#[test]
fn it_is_compared_as_monitoring_says_and_with_the_defaults_where_that_says_nothing() {
    let mut cluster = rolling(&json!({ "max": 0.3 }));
    let candidate = monitored_candidate(&cluster.owner).unwrap();
    assert_eq!((candidate.version, candidate.window.as_secs()), (Version::Registered(2), 3600));
    assert_eq!(candidate.revision, cluster.rollout().revision);
    assert_eq!(monitored(&cluster.owner), None, "nobody asked for the promoted one's");
    assert!(watched(&cluster.owner).unwrap().asked.is_empty(), "routers count none of it");
    let drift = Drift { threshold: Some(2.0), window: Some("5m".to_owned()), ..Drift::default() };
    cluster.owner.spec.monitoring = Some(Monitoring { drift: Some(drift), log: None });
    cluster.edited();
    cluster.wait(15);
    hear(&mut cluster, counted(1000, SKEWED, SKEWED));
    let (judged, message) = verdict(&cluster);
    assert!(judged == Verdict::Passed && message.contains("threshold 2, 1000 rows in the last 5m"), "{message}");
    assert_eq!(monitored_candidate(&cluster.owner).unwrap().window.as_secs(), 300);
    assert_eq!(monitored(&cluster.owner).unwrap().version, Version::Registered(1));
    // Who asks for nothing of it has nobody asked.
    cluster.owner.spec.rollout.as_mut().unwrap().analysis.clear();
    assert_eq!(monitored_candidate(&cluster.owner), None);
}
