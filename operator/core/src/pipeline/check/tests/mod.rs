//! Every refusal: the field it names and the remedy it gives. Here is the pipeline that passes, which each test changes.

mod addresses;
mod approve;
mod cache;
mod expressions;
mod flow;
mod for_each;
mod freeze;
mod given;
mod locks;
mod names;
mod retry;
mod stage;
mod tables;
mod templates;
mod triggers;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::check;
use crate::api::{MLPipelineSpec, StageTemplate, StageTemplateSpec};
use crate::config::Config;
use crate::pipeline::{Frozen, FrozenContainer, FrozenKind};
use crate::problem::Problem;

fn config() -> Config {
    Config { service_accounts: BTreeSet::from(["trainer".to_owned()]), ..Config::default() }
}

fn templates() -> BTreeMap<String, Arc<StageTemplate>> {
    let load = json!({
        "outputs": { "data": {} }, "results": { "rows": {} },
        "container": { "image": "load", "command": ["load"] }
    });
    let any = json!({ "inputs": { "*": {} }, "outputs": { "data": {} }, "container": { "image": "any", "command": ["any"] } });
    [("load", load), ("score", score()), ("any", any)]
        .into_iter()
        .map(|(name, spec)| {
            let spec: StageTemplateSpec = serde_json::from_value(spec).unwrap();
            (name.to_owned(), Arc::new(StageTemplate::new(name, spec)))
        })
        .collect()
}

fn score() -> Value {
    json!({
        "params": {
            "target": { "type": "string" },
            "bins": { "type": "integer", "optional": true, "minimum": 1, "maximum": 10 },
            "mode": { "type": "string", "default": "fast", "enum": ["fast", "slow"] }
        },
        "inputs": { "model": { "type": "model" }, "data": {}, "champion": { "type": "model", "optional": true } },
        "outputs": { "report": {} },
        "metrics": { "f1": {}, "rmse": {} },
        "retry": { "limit": 3 },
        "timeout": "5m",
        "container": {
            "image": "score", "command": ["score"], "args": ["--params", "$[[ params ]]", "$[[ inputs.data ]]"],
            "env": { "A": { "value": "1" }, "B": { "value": "2" } },
            "resources": { "requests": { "cpu": "1", "memory": "1Gi" } }
        }
    })
}

/// A pipeline that passes.
fn base() -> Value {
    json!({
        "params": {
            "rate": { "type": "number", "default": 0.5, "minimum": 0, "maximum": 1 },
            "model-name": { "type": "string", "default": "a" },
            "limit": { "type": "integer", "optional": true }
        },
        "store": { "pvc": { "claimName": "artifacts" } },
        "defaults": { "retry": { "limit": 1 }, "timeout": "1h", "serviceAccountName": "trainer" },
        "stages": {
            "load": { "uses": "load" },
            "fit": {
                "inputs": { "data": { "from": "load.data" } },
                "outputs": { "model": { "type": "model" }, "log": {} },
                "container": { "image": "fit", "command": ["fit", "--rate", "$[[ params.rate ]]", "$[[ inputs.data ]]"] }
            },
            "score": {
                "uses": "score",
                "inputs": {
                    "model": { "from": "fit.model" }, "data": { "from": "load.data" },
                    "champion": { "deployed": "shop", "optional": true }
                },
                "with": { "target": "y" },
                "gate": { "pass": "metrics.f1 > params.rate && (champion == null || metrics.f1 >= champion.metrics.f1)" }
            },
            "register": { "needs": ["score"], "register": { "model": "shop", "from": "fit.model", "metrics": "score" } },
            "deploy": { "deploy": { "modelDeployment": "shop", "version": "register" } }
        }
    })
}

/// RFC 7386.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(&key);
        } else {
            merge(into.as_object_mut().unwrap().entry(key).or_insert(Value::Null), value);
        }
    }
}

fn checked(patch: Value) -> Result<Frozen, Vec<Problem>> {
    let mut spec = base();
    merge(&mut spec, patch);
    let spec: MLPipelineSpec = serde_json::from_value(spec).unwrap();
    check(&spec, &templates(), &config())
}

/// Exactly one problem, at this path, whose message holds this.
#[track_caller]
fn refused(patch: Value, field: &str, says: &str) {
    let shown = patch.to_string();
    match checked(patch) {
        Ok(_) => panic!("{shown} was accepted"),
        Err(problems) => {
            let [problem] = problems.as_slice() else { panic!("{shown}: {problems:#?}") };
            assert_eq!(problem.path, field, "{shown}: {problem}");
            assert!(problem.message.contains(says), "{shown}: {problem}");
        }
    }
}

#[allow(clippy::needless_pass_by_value)] // The calls read better with `json!` as it is.
fn stage(name: &str, patch: Value) -> Value {
    json!({ "stages": { name: patch } })
}

fn container(frozen: &Frozen, stage: &str) -> FrozenContainer {
    match &frozen.stages[stage].kind {
        FrozenKind::Container(container) => container.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}
