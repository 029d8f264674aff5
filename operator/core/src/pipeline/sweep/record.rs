//! The record of a run that has ended: what is known of it when it is deleted, in one line of JSON.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use millrace_contract::RECORD_KEY;
use serde::{Deserialize, Serialize};

use crate::api::{
    CacheOrigin, MLPipelineRun, OutputStatus, RunInput, RunTrigger, StageState, StageStatus, StageUsage, Value,
};
use crate::clip::clip;
use crate::names;
use crate::run::ended;

/// The longest message of a run or a stage.
const MESSAGE: usize = 500;
/// The longest line. Of a run that says more, the stages are left out.
const LONGEST: usize = 200 * 1024;

/// A run as it is remembered. Texts of a program's output are in it as far as they are in a run's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub pipeline: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<RunTrigger>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, RunInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    pub completion_time: Time,
    /// `Succeeded`, `Failed` or `Canceled`.
    pub outcome: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<bool>,
    /// Name of the ControllerRevision that it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<StageUsage>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, StageRecord>,
    /// Its stages said more than fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// A stage as it is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageRecord {
    pub state: StageState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    #[serde(default)]
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheOrigin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<StageUsage>,
}

/// An output as it is remembered: it may be gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputRecord {
    pub uri: String,
    pub digest: String,
    pub size: u64,
}

/// Names a run and its end: one that `retryFrom` began again ends once more.
pub(super) fn key(run: &MLPipelineRun) -> Option<String> {
    let text = format!("{}/{}", run.metadata.uid.as_deref()?, ended(run)?.0);
    names::sha256_hex(text.as_bytes()).get(..RECORD_KEY).map(str::to_owned)
}

/// The line; none of a run that has not ended.
pub(super) fn line(run: &MLPipelineRun) -> Option<String> {
    let record = record(run)?;
    let text = serde_json::to_string(&record).ok()?;
    if text.len() <= LONGEST {
        return Some(text);
    }
    let cut =
        RunRecord { stages: BTreeMap::new(), params: BTreeMap::new(), inputs: BTreeMap::new(), cut: true, ..record };
    serde_json::to_string(&cut).ok().filter(|text| text.len() <= LONGEST)
}

fn record(run: &MLPipelineRun) -> Option<RunRecord> {
    let (meta, status) = (&run.metadata, run.status.as_ref()?);
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    let succeeded = condition("Succeeded");
    let reason = succeeded.map(|condition| condition.reason.clone()).unwrap_or_default();
    let outcome = match succeeded.map(|condition| condition.status.as_str()) {
        Some("True") => "Succeeded",
        _ if reason == "Canceled" => "Canceled",
        _ => "Failed",
    };
    Some(RunRecord {
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        namespace: meta.namespace.clone().unwrap_or_default(),
        pipeline: run.spec.pipeline_ref.as_ref().map(|pipeline| pipeline.name.clone()).unwrap_or_default(),
        trigger: run.spec.trigger.clone(),
        scheduled_time: run.spec.scheduled_time.clone(),
        params: run.spec.params.clone(),
        inputs: run.spec.inputs.clone(),
        start_time: status.start_time.clone(),
        completion_time: ended(run)?.clone(),
        outcome: outcome.to_owned(),
        reason,
        message: succeeded.map(|condition| clip(&condition.message, MESSAGE)).unwrap_or_default(),
        promoted: condition("Promoted").map(|condition| condition.status == "True"),
        frozen: status.frozen.clone(),
        progress: status.progress.clone(),
        usage: status.usage.clone(),
        stages: status.stages.iter().map(|(name, stage)| (name.clone(), stage_record(stage))).collect(),
        cut: false,
    })
}

fn stage_record(stage: &StageStatus) -> StageRecord {
    let output = |output: &OutputStatus| {
        let OutputStatus { uri, digest, size, .. } = output.clone();
        OutputRecord { uri, digest, size }
    };
    StageRecord {
        state: stage.state,
        reason: stage.reason.clone(),
        message: stage.message.as_ref().map(|message| clip(message, MESSAGE)),
        start_time: stage.start_time.clone(),
        completion_time: stage.completion_time.clone(),
        attempts: stage.attempts,
        exit_code: stage.exit_code,
        image: stage.image.clone(),
        results: stage.results.clone(),
        metrics: stage.metrics.clone(),
        outputs: stage.outputs.iter().map(|(name, found)| (name.clone(), output(found))).collect(),
        model_version: stage.model_version.clone(),
        cache: stage.cache.as_ref().and_then(|cache| cache.from.clone()),
        usage: stage.usage.clone(),
    }
}
