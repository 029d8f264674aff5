//! Whole runs, driven through `run::plan` to their end on a small cluster.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, clippy::float_cmp)]

mod approve;
mod cache;
mod claims;
mod cluster;
mod control;
mod crashes;
mod deploy;
mod ends;
mod fan_out;
mod flow;
mod heal;
mod locks;
mod model;
mod nested;
mod nested_items;
mod node;
mod report;
mod retries;
mod source;
mod waits;

use serde_json::{Value, json};

/// A stage that runs `true`, with what is said besides.
fn stage(more: Value) -> Value {
    let mut stage = json!({ "container": { "image": "busybox:1", "command": ["true"] } });
    for (key, value) in more.as_object().unwrap() {
        stage[key] = value.clone();
    }
    stage
}

fn pipeline(stages: Value) -> Value {
    json!({ "store": { "pvc": { "claimName": "artifacts" } }, "stages": stages })
}

/// From data to a served model, with a gate.
fn whole_loop() -> Value {
    pipeline(json!({
        "ingest": stage(json!({ "outputs": { "data": {} } })),
        "train": stage(json!({
            "inputs": { "rows": { "from": "ingest.data" } },
            "outputs": { "model": { "type": "model" } },
        })),
        "evaluate": stage(json!({
            "inputs": {
                "model": { "from": "train.model" },
                "champion": { "deployed": "served", "optional": true },
            },
            "gate": { "pass": "metrics.f1 >= 0.9 && (champion == null || metrics.f1 >= champion.metrics.f1)" },
        })),
        "register": {
            "needs": ["evaluate"],
            "register": { "model": "penguins", "from": "train.model", "metrics": "evaluate" },
        },
        "deploy": { "deploy": { "modelDeployment": "served", "version": "register" } },
    }))
}
