//! What a run that began now would take from the cache, and why it would not take the rest: decided by the operator's own code, over the
//! cluster's runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;
use millrace_core::api::{
    Cache, MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion, PipelineRef, Stage, StageState, StageTemplate,
};
use millrace_core::config::Config;
use millrace_core::run::{self, CacheIndex, Observed};
use serde::Serialize;

use crate::connect::{Cluster, Named};
use crate::error::words;
use crate::output;
use crate::show::brief;

/// The longest reason in a line.
const WHY: usize = 200;

/// What runs can be taken from, and what is served.
#[derive(Default)]
pub struct There {
    runs: CacheIndex,
    versions: Vec<Arc<ModelVersion>>,
    deployments: BTreeMap<String, Arc<ModelDeployment>>,
}

/// What becomes of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    pub stage: String,
    /// The run whose result it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub why: String,
}

impl There {
    pub async fn read(cluster: &Cluster) -> Self {
        let mut there = Self::default();
        for run in list::<MLPipelineRun>(cluster).await {
            there.runs.put(&run);
        }
        there.versions = list::<ModelVersion>(cluster).await.into_iter().map(Arc::new).collect();
        there.deployments =
            list::<ModelDeployment>(cluster).await.into_iter().map(|one| (one.name_any(), Arc::new(one))).collect();
        there
    }
}

/// Who may not read them sees less, and is told.
async fn list<K: Named>(cluster: &Cluster) -> Vec<K> {
    match cluster.api::<K>().list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) => {
            let why = brief(&words(&error), WHY);
            output::warn(&format!(
                "the {}s of {} cannot be read, so what is cached is not known: {why}",
                K::kind(&()),
                cluster.namespace
            ));
            Vec::new()
        }
    }
}

/// Stage by stage, those that run a program. Nothing if no run would begin, because a parameter has no default, for one.
pub fn outlook(
    pipeline: &MLPipeline,
    templates: &BTreeMap<String, Arc<StageTemplate>>,
    there: &There,
    config: &Config,
    now: Timestamp,
) -> Vec<Outlook> {
    let pipeline = spoken(pipeline, templates);
    let mut run = MLPipelineRun::default();
    run.metadata.name = Some("plan".to_owned());
    run.metadata.uid = Some("plan".to_owned());
    run.spec.pipeline_ref = Some(PipelineRef { name: pipeline.name_any() });
    let last = pipeline.status.as_ref().and_then(|status| Some(status.run_numbers.as_ref()?.last));
    run.status.get_or_insert_default().number = Some(last.unwrap_or_default() + 1);
    let observed = Observed {
        pipeline: Some(Arc::new(pipeline.clone())),
        templates: templates.clone(),
        model_versions: there.versions.clone(),
        model_deployments: there.deployments.clone(),
        cache: there.runs.snapshot(),
        ..Observed::default()
    };
    let status = run::plan(&run, &observed, config, now).status.unwrap_or_default();
    let programs = |name: &str| {
        pipeline.spec.stages.get(name).is_some_and(|stage| stage.uses.is_some() || stage.container.is_some())
    };
    let stages = status.stages.iter().filter(|(name, _)| programs(name.as_str()));
    let all = stages.map(|(name, stage)| {
        let cache = stage.cache.as_deref();
        let from = cache.and_then(|cache| cache.from.as_ref());
        let why = match (from, stage.state) {
            (Some(origin), _) => format!("stage `{}` made it at {}", origin.stage, origin.time.0),
            (None, StageState::Waiting) => "known when what it comes after has been made".to_owned(),
            (None, _) => cache
                .and_then(|cache| cache.miss.clone())
                .or_else(|| stage.message.clone())
                .unwrap_or_else(|| unasked(&pipeline.spec.stages[name])),
        };
        Outlook { stage: name.clone(), from: from.map(|from| from.run.clone()), why: brief(&why, WHY) }
    });
    all.collect()
}

fn unasked(stage: &Stage) -> String {
    let why = match &stage.cache {
        Some(_) => "cache.mode is Off",
        None => "it has no inputs, or no outputs, and does not ask for it by cache",
    };
    why.to_owned()
}

/// The pipeline with what it does not write: who writes it is told why nothing is taken. The key stays the same.
fn spoken(pipeline: &MLPipeline, templates: &BTreeMap<String, Arc<StageTemplate>>) -> MLPipeline {
    let mut pipeline = pipeline.clone();
    let usual = pipeline.spec.defaults.as_ref().and_then(|defaults| defaults.cache.clone());
    for stage in pipeline.spec.stages.values_mut().filter(|_| usual.is_none()) {
        let template = stage.uses.as_ref().and_then(|uses| templates.get(uses));
        let writes = !stage.outputs.is_empty() || template.is_some_and(|template| !template.spec.outputs.is_empty());
        let mounts =
            |settings: &millrace_core::api::PodSettings| settings.volumes.values().any(|volume| volume.claim.is_some());
        // There `cache` would have to say more.
        let claims = stage.container.as_ref().is_some_and(|own| mounts(&own.settings))
            || template.is_some_and(|template| mounts(&template.spec.container.settings))
            || stage.overrides.as_ref().is_some_and(mounts);
        if writes && !claims && !stage.inputs.is_empty() && stage.cache.is_none() {
            stage.cache = Some(Cache::default());
        }
    }
    pipeline
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_taken_and_why_the_rest_is_not_is_told() {
        let image = format!("train@sha256:{}", "ab".repeat(32));
        let stage = |image: &str, more: serde_json::Value| {
            let mut stage = json!({ "container": { "image": image, "command": ["c"] }, "outputs": { "data": {} } });
            stage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            stage
        };
        let pipeline: MLPipeline = serde_json::from_value(json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipeline", "metadata": { "name": "p" },
            "spec": { "store": { "pvc": { "claimName": "c" } }, "stages": {
                "load": stage(&image, json!({ "cache": { "maxAge": "1h" } })),
                "fit": stage("train:1", json!({ "inputs": { "rows": { "from": "load.data" } } })),
                "score": stage(&image, json!({ "inputs": { "rows": { "from": "fit.data" } } })),
                "plain": stage(&image, json!({})),
            } },
        }))
        .unwrap();
        let now: Timestamp = "2026-01-01T00:30:00Z".parse().unwrap();
        let told = |there: &There| outlook(&pipeline, &BTreeMap::new(), there, &Config::default(), now);
        let first = told(&There::default());
        assert_eq!(first.iter().map(|one| one.stage.as_str()).collect::<Vec<_>>(), ["fit", "load", "plain", "score"]);
        assert_eq!(first[1].why, "no kept run of the namespace has made the same");
        assert!(first[2].why.contains("does not ask for it"), "{first:?}");
        assert!(first[0].why.contains("known when"), "{first:?}");
        // A run that has made `load`, under the key that this one will ask for.
        let observed = Observed { pipeline: Some(Arc::new(pipeline.clone())), ..Observed::default() };
        let mut run = MLPipelineRun::default();
        run.metadata.name = Some("r1".into());
        run.metadata.uid = Some("u1".into());
        run.metadata.resource_version = Some("1".into());
        run.spec.pipeline_ref = Some(PipelineRef { name: "p".into() });
        run.status.get_or_insert_default().number = Some(1);
        run.status = run::plan(&run, &observed, &Config::default(), now).status;
        let load = run.status.as_mut().unwrap().stages.get_mut("load").unwrap();
        load.state = StageState::Succeeded;
        load.completion_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        load.outputs =
            serde_json::from_value(json!({ "data": { "uri": "pvc://c/a", "digest": "d", "size": 1 } })).unwrap();
        let mut there = There::default();
        there.runs.put(&run);
        let second = told(&there);
        assert_eq!(second[1].from.as_deref(), Some("r1"));
        assert!(second[0].why.contains("train:1 is not named by its digest"), "{second:?}");
        assert!(second[3].why.contains("known when"), "{second:?}");
    }
}
