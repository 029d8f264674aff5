//! Which pipelines a claim makes impossible, and which only wait.

use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::pipeline::check;

fn frozen(spec: &Value) -> Frozen {
    check(&serde_json::from_value(spec.clone()).unwrap(), &BTreeMap::new(), &Config::default()).unwrap()
}

/// A stage that runs on nodes with this label, with what is said besides.
fn stage(pool: &str, more: &Value) -> Value {
    let mut stage = json!({ "container": { "image": "i", "command": ["c"] } });
    if !pool.is_empty() {
        stage["container"]["nodeSelector"] = json!({ "pool": pool });
    }
    stage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage
}

fn stored(stages: &Value) -> Value {
    json!({ "store": { "pvc": { "claimName": "artifacts" } }, "stages": stages })
}

/// What is wrong with a pipeline whose claim `artifacts` is of this access.
fn found(spec: &Value, access: Access) -> Vec<(String, String)> {
    let claims = Claims::from([("artifacts".to_owned(), access)]);
    impossible(&frozen(spec), &claims).into_iter().map(|problem| (problem.path, problem.message)).collect()
}

#[test]
fn stages_at_once_on_nodes_that_exclude_each_other_are_refused_with_the_reason_and_the_remedy() {
    let spec = stored(&json!({ "prepare": stage("cpu", &json!({})), "train": stage("gpu", &json!({})) }));
    let problems = found(&spec, Access::OneNode);
    let [(path, message)] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(path, "spec.stages.train.container.nodeSelector");
    for words in ["`prepare` and `train`", "`artifacts`", "ReadWriteOnce)", "pool=cpu", "pool=gpu", "needs: [prepare]"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(found(&spec, Access::Shared), []);
    assert_eq!(impossible(&frozen(&spec), &Claims::new()), [], "nobody knows the claim");
    let problem = &impossible(&frozen(&spec), &Claims::from([("artifacts".to_owned(), Access::OneNode)]))[0];
    assert!(is_about(problem) && problem.reason == "ClaimNotShared");
}

#[test]
fn what_may_come_one_after_the_other_is_accepted() {
    let (cpu, gpu) = (|more: Value| stage("cpu", &more), |more: Value| stage("gpu", &more));
    for stages in [
        // The volume goes along.
        json!({ "a": cpu(json!({})), "b": gpu(json!({ "needs": ["a"] })) }),
        json!({ "a": cpu(json!({})), "m": stage("", &json!({ "needs": ["a"] })), "b": gpu(json!({ "needs": ["m"] })) }),
        // The same nodes, or any.
        json!({ "a": cpu(json!({})), "b": cpu(json!({})) }),
        json!({ "a": cpu(json!({})), "b": stage("", &json!({})) }),
        // One of them may not run at all, itself or because of what it needs.
        json!({ "a": cpu(json!({ "when": "run.name == 'a'" })), "b": gpu(json!({ "when": "run.name != 'a'" })) }),
        json!({ "w": cpu(json!({ "when": "run.name == 'a'" })), "a": cpu(json!({ "needs": ["w"] })), "b": gpu(json!({ "needs": ["w"] })) }),
        // A lock keeps them apart.
        json!({ "a": cpu(json!({ "locks": { "disk": { "max": 1 } } })), "b": gpu(json!({ "locks": { "disk": { "max": 1 } } })) }),
    ] {
        assert_eq!(found(&stored(&stages), Access::OneNode), [], "{stages}");
    }
}

#[test]
fn stages_of_finally_are_at_once_among_themselves_only() {
    let mut spec = stored(&json!({ "a": stage("cpu", &json!({})) }));
    spec["finally"] = json!({ "b": stage("gpu", &json!({})) });
    assert_eq!(found(&spec, Access::OneNode), []);
    spec["finally"]["c"] = stage("cpu", &json!({}));
    assert_eq!(found(&spec, Access::OneNode)[0].0, "spec.finally.c.container.nodeSelector");
}

#[test]
fn a_lock_that_several_may_hold_keeps_nobody_apart() {
    let locks = json!({ "locks": { "disk": { "max": 2 } } });
    let spec = stored(&json!({ "a": stage("cpu", &locks), "b": stage("gpu", &locks) }));
    assert_eq!(found(&spec, Access::OneNode).len(), 1);
}

#[test]
fn pods_that_only_wait_for_a_claim_of_one_pod_are_accepted() {
    let at_once = json!({ "a": stage("cpu", &json!({})), "b": stage("gpu", &json!({})) });
    assert_eq!(found(&stored(&at_once), Access::OnePod), []);
    let each = json!({ "fan": stage("", &json!({ "forEach": { "range": { "count": 3 } } })) });
    for access in [Access::OnePod, Access::OneNode] {
        assert_eq!(found(&stored(&each), access), []);
    }
}

#[test]
fn a_volume_of_two_stages_counts_as_their_store_does() {
    let volumes = json!({ "scratch": { "claim": { "name": "artifacts" }, "mountPath": "/scratch" } });
    let mounting = |pool: &str| {
        let mut stage = stage(pool, &json!({}));
        stage["container"]["volumes"] = volumes.clone();
        stage
    };
    let spec = json!({ "stages": { "a": mounting("cpu"), "b": mounting("gpu"), "c": stage("tpu", &json!({})) } });
    let problems = found(&spec, Access::OneNode);
    assert_eq!(problems.len(), 1, "the third mounts nothing: {problems:?}");
    assert!(problems[0].0.starts_with("spec.stages.b."));
}

#[test]
fn every_claim_that_a_pipeline_names_is_known_before_it_is_frozen_and_after() {
    let spec = json!({
        "store": { "pvc": { "claimName": "artifacts" } },
        "triggers": { "onData": { "lake": { "uri": "pvc://lake/in" } } },
        "inputs": { "rules": { "default": { "uri": "pvc://rules/all.csv" } } },
        "stages": {
            "a": {
                "container": {
                    "image": "i", "command": ["c"],
                    "volumes": { "v": { "claim": { "name": "scratch" }, "mountPath": "/v" } },
                },
                "inputs": { "rows": { "uri": "pvc://source/$[[ run.name ]]" } },
            },
            "t": { "uses": "template" },
        },
    });
    let template: StageTemplate = serde_json::from_value(json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "StageTemplate", "metadata": { "name": "template" },
        "spec": { "container": {
            "image": "i", "command": ["c"], "volumes": { "v": { "claim": { "name": "shared" }, "mountPath": "/v" } },
        } },
    }))
    .unwrap();
    let templates = BTreeMap::from([("template".to_owned(), Arc::new(template))]);
    let written: MLPipelineSpec = serde_json::from_value(spec).unwrap();
    let names: Vec<String> = of_spec(&written, &templates).into_iter().collect();
    assert_eq!(names, ["artifacts", "lake", "rules", "scratch", "shared", "source"]);
    let frozen = check(
        &written,
        &templates,
        &Config { data_image: "data".into(), agent_image: "a".into(), ..Config::default() },
    )
    .unwrap();
    let names: Vec<String> = of_frozen(&frozen).into_iter().collect();
    assert_eq!(names, ["artifacts", "scratch", "shared", "source"]);
    assert_eq!(of_address("s3://bucket/a"), None);
    assert_eq!(of_address("pvc://claim"), None);
}
