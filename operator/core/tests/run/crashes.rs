//! The operator dies before or after each of its writes: the end is the same, and nothing is made twice.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Crash, Fate, deployment};
use crate::whole_loop;

/// The whole loop, with a failure that is retried and an eviction on the way.
fn scenario() -> Cluster {
    let mut spec = whole_loop();
    spec["stages"]["train"]["retry"] = json!({ "limit": 1, "backoff": { "initial": "1s" } });
    let mut cluster = Cluster::new(spec).fate("train", 1, Fate::Exits(1)).fate("ingest", 1, Fate::Evicted).fate(
        "evaluate",
        1,
        Fate::Succeeds(json!({ "metrics": { "f1": 0.95 } })),
    );
    cluster.deployment = Some(deployment());
    cluster
}

/// The end without its times: a crash may cost a second.
fn end(cluster: &Cluster) -> Value {
    let mut status = serde_json::to_value(cluster.status()).unwrap();
    strip(&mut status);
    status
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !key.ends_with("Time"));
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

#[test]
fn a_crash_at_any_write_leads_to_the_same_end_with_one_job_an_attempt() {
    let mut reference = scenario();
    reference.settle();
    assert_eq!(reference.condition("Succeeded").unwrap().0, "True");
    assert_eq!(reference.stage("train").attempts, 2);
    assert!(reference.writes > 15, "{}", reference.writes);
    for n in 1..=reference.writes {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let mut cluster = scenario();
            cluster.crash = Some(crash);
            cluster.settle();
            assert_eq!(end(&cluster), end(&reference), "{crash:?}");
            assert_eq!(cluster.created, reference.created, "{crash:?}");
            assert!(cluster.created.values().all(|count| *count == 1), "{crash:?}: {:?}", cluster.created);
            assert_eq!(cluster.versions.len(), 1, "{crash:?}");
        }
    }
}
