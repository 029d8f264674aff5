//! `triggers.onChange`: one change starts one run, whatever crashes.
//!
//! A change has a key: its number and the digest of what is to run. The run's name follows from the key, so that it is
//! made once, and the status takes the key over when the run was seen. So a crash before the run is made makes it later; a
//! crash after it finds it there; a run that was seen and then deleted is not made again; and going back to an earlier
//! spec has a new number and starts a new run.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kube_core::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{Kind, Look, Start};
use crate::api::{MLPipeline, MLPipelineSpec, MLPipelineStatus};
use crate::names;

/// Hex characters of the digest in a key.
const DIGEST: usize = 32;
/// Looks at one accepted pipeline.
pub(super) fn look(look: &mut Look<'_>, status: &mut MLPipelineStatus) {
    let digest = digest(&look.pipeline.spec);
    let (number, last_digest) = status.last_change.as_deref().map_or((0, ""), parts);
    if last_digest == digest {
        return;
    }
    let key = format!("{}-{digest}", number.saturating_add(1));
    if let Some(run) = look.started(Start::new(Kind::Change, key.clone())) {
        look.tell("onChange", &run, "for what was changed");
        status.last_change = Some(key);
        status.last_run = Some(run);
    }
}

/// Whether a pipeline with this status would start a run if this were its spec.
#[must_use]
pub fn starts(status: Option<&MLPipelineStatus>, spec: &MLPipelineSpec) -> bool {
    let last = status.and_then(|status| status.last_change.as_deref());
    spec.triggers.as_ref().is_some_and(|triggers| triggers.on_change)
        && last.map(parts).is_none_or(|(_, last)| last != digest(spec))
}

/// A key's number and digest.
fn parts(key: &str) -> (u64, &str) {
    key.split_once('-').map_or((0, key), |(number, digest)| (number.parse().unwrap_or(0), digest))
}

/// The schema of a pipeline's spec.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(MLPipeline::crd()).unwrap_or_default();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
});

/// Digest of what runs: history, triggers, words for people, and what is waited for and tried again change no run's outcome.
fn digest(spec: &MLPipelineSpec) -> String {
    let mut spec = said(&serde_json::to_value(spec).unwrap_or_default(), &SCHEMA);
    let within = |field: &mut Value, without: &[&str]| {
        for entry in field.as_object_mut().into_iter().flat_map(|entries| entries.values_mut()) {
            leave_out(entry, without);
        }
    };
    for part in ["params", "inputs"] {
        within(&mut spec[part], &["description"]);
    }
    for part in ["stages", "finally"] {
        within(&mut spec[part], &["timeout", "pendingTimeout", "retry", "locks"]);
        for stage in spec[part].as_object_mut().into_iter().flat_map(|stages| stages.values_mut()) {
            if let Some(outputs) = stage.get_mut("outputs") {
                within(outputs, &["description"]);
            }
            if let Some(approve) = stage.get_mut("approve") {
                leave_out(approve, &["message", "timeout"]);
            }
            if let Some(deploy) = stage.get_mut("deploy") {
                leave_out(deploy, &["timeout"]);
            }
        }
    }
    let mut what = json!({ "params": spec["params"], "stages": spec["stages"], "store": spec["store"] });
    // A pipeline without them keeps the digest that it had before there were such fields.
    for part in ["finally", "inputs"] {
        if !spec[part].is_null() {
            what[part] = spec[part].clone();
        }
    }
    let mut hex = names::sha256_hex(sorted(&what).to_string().as_bytes());
    hex.truncate(DIGEST);
    hex
}

fn leave_out(value: &mut Value, fields: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

/// Without the fields that have the value that they have when nobody writes them: a release may add such a field, and that
/// is no change of a pipeline. A release that gives a field another such value starts a run of every pipeline that left the
/// field out: the apiserver has written the old value into it.
fn said(value: &Value, schema: &Value) -> Value {
    match value {
        Value::Object(map) if schema["properties"].is_object() => {
            let fields = map.iter().filter_map(|(key, value)| {
                let schema = &schema["properties"][key];
                let said = said(value, schema);
                let default = schema.get("default").is_some_and(|default| default == value || *default == said);
                (!default && !value.is_null()).then(|| (key.clone(), said))
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Object(map) if schema["additionalProperties"].is_object() => {
            let entry = |(key, value): (&String, &Value)| (key.clone(), said(value, &schema["additionalProperties"]));
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| said(item, &schema["items"])).collect()),
        _ => value.clone(),
    }
}

/// Objects by key, so that the digest does not depend on how a map keeps its order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries: BTreeMap<&String, Value> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_a_release_adds_with_a_default_is_no_change() {
        let schema = |more: Value| {
            let mut stage = json!({ "properties": { "image": {}, "limit": { "default": 0 } } });
            for (key, value) in more.as_object().unwrap() {
                stage["properties"][key] = value.clone();
            }
            json!({ "properties": { "stages": { "additionalProperties": stage } } })
        };
        let before = json!({ "stages": { "a": { "image": "i", "limit": 0 }, "b": { "image": "i", "limit": 2 } } });
        let mut after = before.clone();
        for stage in ["a", "b"] {
            after["stages"][stage]["cache"] = json!({ "enabled": false, "ttl": "1h" });
            after["stages"][stage]["note"] = Value::Null;
        }
        let cache =
            json!({ "default": {}, "properties": { "enabled": { "default": false }, "ttl": { "default": "1h" } } });
        let new = schema(json!({ "cache": cache, "note": {} }));
        assert_eq!(said(&before, &schema(json!({}))), said(&after, &new));
        assert_eq!(
            said(&after, &new),
            json!({ "stages": { "a": { "image": "i" }, "b": { "image": "i", "limit": 2 } } })
        );
        after["stages"]["a"]["cache"]["enabled"] = json!(true);
        assert_ne!(said(&before, &new), said(&after, &new));
    }

    #[test]
    fn what_is_nobodys_field_counts_as_it_is() {
        let schema = json!({ "properties": { "with": { "x-kubernetes-preserve-unknown-fields": true } } });
        let value = json!({ "with": { "limit": 0, "none": null, "list": [null, {}] } });
        assert_eq!(said(&value, &schema), value);
    }

    fn full() -> Value {
        json!({
            "params": { "rows": { "type": "integer", "default": 3, "minimum": 1 }, "word": { "type": "string", "optional": true } },
            "store": { "pvc": { "claimName": "artifacts" } },
            "triggers": { "onChange": true },
            "history": { "keepFailed": 1 },
            "defaults": { "retry": { "limit": 1 }, "timeout": "1h" },
            "timeout": "2h",
            "stages": {
                "ingest": { "uses": "ingest", "with": { "rows": "$[[ params.rows ]]", "none": null }, "overrides": { "nodeSelector": { "a": "b" } } },
                "train": {
                    "needs": ["ingest"],
                    "container": {
                        "image": "i", "command": ["c"], "args": ["a"],
                        "env": { "A": { "value": "1" }, "B": { "secret": { "name": "s", "key": "k" } } },
                        "volumes": { "v": { "mountPath": "/v", "memory": { "size": "1Gi" } } },
                        "resources": { "requests": { "cpu": 1 }, "limits": { "memory": "1Gi" } },
                    },
                    "inputs": { "data": { "from": "ingest.data" }, "champion": { "deployed": "d", "optional": true } },
                    "outputs": { "model": { "type": "model" }, "extra": { "optional": true } },
                    "gate": { "pass": "metrics.f1 > 0.5" },
                    "retry": { "backoff": { "initial": "1s", "factor": 2 } },
                    "timeout": "1h",
                },
                "register": { "register": { "model": "m", "from": "train.model", "metrics": "train" } },
                "deploy": { "deploy": { "modelDeployment": "d", "version": "register" } },
            },
        })
    }

    fn of(spec: &Value) -> String {
        digest(&serde_json::from_value(spec.clone()).unwrap())
    }

    /// Recorded: another digest here starts a run of every pipeline with `onChange` when the operator is upgraded.
    #[test]
    fn the_digest_of_a_full_pipeline_is_what_it_was() {
        let mut spec = full();
        // It was 777de27c4559853d84bd3f3ac4e9a716 while `retry` and `timeout` of a stage counted.
        assert_eq!(of(&spec), "5932237acb6fc9794ead8b9e07dbada6");
        let train = spec["stages"]["train"].as_object_mut().unwrap();
        train.remove("retry");
        train.remove("timeout");
        // A pipeline that has none of what counts no more has the digest that it had then: no run starts.
        assert_eq!(of(&spec), "5932237acb6fc9794ead8b9e07dbada6");
    }

    #[test]
    fn a_spec_starts_a_run_if_it_runs_something_else_than_the_last_one() {
        let spec = |value: &Value| serde_json::from_value::<MLPipelineSpec>(value.clone()).unwrap();
        let ran = |spec: &MLPipelineSpec| MLPipelineStatus {
            last_change: Some(format!("3-{}", digest(spec))),
            ..MLPipelineStatus::default()
        };
        let mut other = full();
        other["stages"]["train"]["container"]["image"] = json!("j");
        assert!(starts(None, &spec(&full())));
        assert!(!starts(Some(&ran(&spec(&full()))), &spec(&full())));
        assert!(starts(Some(&ran(&spec(&full()))), &spec(&other)));
        other["triggers"]["onChange"] = json!(false);
        assert!(!starts(Some(&ran(&spec(&full()))), &spec(&other)));
    }

    #[test]
    fn words_and_times_are_no_change_and_what_runs_is() {
        let before = of(&full());
        for (pointer, field, value) in [
            ("/params/rows", "description", json!("how many")),
            ("/stages/train/outputs/extra", "description", json!("more")),
            ("/stages/train", "timeout", json!("2h")),
            ("/stages/train", "pendingTimeout", json!("2h")),
            ("/stages/train", "retry", json!({ "limit": 3 })),
            ("/stages/deploy/deploy", "timeout", json!("2h")),
        ] {
            let mut spec = full();
            spec.pointer_mut(pointer).unwrap()[field] = value;
            assert_eq!(of(&spec), before, "{pointer}/{field}");
        }
        for (pointer, field, value) in [
            ("/params/rows", "default", json!(4)),
            ("/stages/ingest/with", "timeout", json!("2h")),
            ("/stages/train/container", "image", json!("j")),
            ("/stages/train/gate", "pass", json!("metrics.f1 > 0.6")),
            ("/store/pvc", "claimName", json!("other")),
        ] {
            let mut spec = full();
            spec.pointer_mut(pointer).unwrap()[field] = value;
            assert_ne!(of(&spec), before, "{pointer}/{field}");
        }
    }

    #[test]
    fn what_a_run_reads_by_default_is_a_change() {
        let with = |input: Value| {
            let mut spec = full();
            spec["inputs"] = json!({ "rows": input });
            of(&spec)
        };
        let before = with(json!({ "default": { "uri": "s3://lake/1" } }));
        assert_ne!(before, of(&full()));
        assert_ne!(before, with(json!({ "default": { "uri": "s3://lake/2" } })));
        assert_eq!(before, with(json!({ "description": "rows", "default": { "uri": "s3://lake/1" } })));
    }
}
