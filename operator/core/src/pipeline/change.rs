//! `triggers.onChange`: one change starts one run, whatever crashes.
//!
//! A change has a key: its number and the digest of what is to run. The run's name follows from the key, so that it is
//! made once, and the status takes the key over when the run was seen. So a crash before the run is made makes it later; a
//! crash after it finds it there; a run that was seen and then deleted is not made again; and going back to an earlier
//! spec has a new number and starts a new run.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::api::{
    API_VERSION, MLPipeline, MLPipelineRun, MLPipelineRunSpec, MLPipelineSpec, MLPipelineStatus, PipelineRef,
    RunTrigger,
};
use crate::names;

/// Hex characters of the digest in a key.
const DIGEST: usize = 32;
/// `spec.trigger.kind` of a run that a change started.
const KIND: &str = "Change";

/// What a change asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Nothing changed, or nobody wants a run for it.
    None,
    /// This run is to be made.
    Start(Box<MLPipelineRun>),
    /// The run of this key was made.
    Seen { key: String, run: String },
}

/// Looks at one accepted pipeline.
pub(super) fn look(pipeline: &MLPipeline, runs: &BTreeMap<&str, &MLPipelineRun>) -> Change {
    if !pipeline.spec.triggers.as_ref().is_some_and(|triggers| triggers.on_change) {
        return Change::None;
    }
    let digest = digest(&pipeline.spec);
    let last = pipeline.status.as_ref().and_then(|status: &MLPipelineStatus| status.last_change.as_deref());
    let (number, last_digest) = last.map_or((0, ""), parts);
    if last_digest == digest {
        return Change::None;
    }
    let key = format!("{}-{digest}", number.saturating_add(1));
    let name = run_name(&pipeline.metadata, &key);
    if runs.contains_key(name.as_str()) {
        return Change::Seen { key, run: name };
    }
    Change::Start(Box::new(run(pipeline, name, key)))
}

/// A key's number and digest.
fn parts(key: &str) -> (u64, &str) {
    key.split_once('-').map_or((0, key), |(number, digest)| (number.parse().unwrap_or(0), digest))
}

/// The uid keeps a pipeline that was made again under an old name from meeting the old one's runs.
fn run_name(of: &ObjectMeta, key: &str) -> String {
    let uid = of.uid.as_deref().unwrap_or_default();
    names::triggered_run(of.name.as_deref().unwrap_or_default(), &format!("{uid}/{key}"))
}

/// Digest of what runs: history, triggers and defaults for failures change no run's outcome.
fn digest(spec: &MLPipelineSpec) -> String {
    let what = json!({ "params": spec.params, "stages": spec.stages, "store": spec.store });
    let mut hex = names::sha256_hex(sorted(&what).to_string().as_bytes());
    hex.truncate(DIGEST);
    hex
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

fn run(pipeline: &MLPipeline, name: String, key: String) -> MLPipelineRun {
    let of = &pipeline.metadata;
    let owner = of.name.clone().unwrap_or_default();
    let labels = [
        (names::PIPELINE_LABEL.to_owned(), names::label_value(&owner)),
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
    ];
    MLPipelineRun {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: of.namespace.clone(),
            labels: Some(labels.into()),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "MLPipeline".to_owned(),
                name: owner.clone(),
                uid: of.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: MLPipelineRunSpec {
            pipeline_ref: Some(PipelineRef { name: owner }),
            trigger: Some(RunTrigger { kind: KIND.to_owned(), key }),
            ..MLPipelineRunSpec::default()
        },
        status: None,
    }
}
