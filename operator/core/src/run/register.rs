//! A stage that registers a model: it makes one immutable ModelVersion.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::pass::{Effects, Pass, Stages, clip};
use super::{attempt, deadline, graph, keep};
use crate::api::{
    Dataset, Lineage, ModelArtifact, ModelRead, ModelVersion, ModelVersionSpec, OutputStatus, Register, ResolvedInput,
    StageState, StageStatus,
};
use crate::names;
use crate::plan::{Create, Refusal};
use crate::store;

/// How long the apiserver may refuse the ModelVersion (a quota, for one).
const LIMIT: Duration = Duration::from_hours(1);
const PAUSE: Duration = Duration::from_secs(15);

/// One step: the first makes the version, a later one sees it.
pub(super) fn step(
    pass: &Pass<'_>,
    name: &str,
    register: &Register,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let mut status = old.clone();
    let started = status.start_time.get_or_insert(pass.time()).clone();
    status.state = StageState::Running;
    if let Some(version) = ours(pass, name, old.retries) {
        return keep::step(pass, name, register.keep.as_ref(), version, status, stages, effects);
    }
    let (stage, output) = register.from.split_once('.').unwrap_or((&register.from, ""));
    let Some(artifact) = stages.get(stage).and_then(|status| status.outputs.get(output)) else {
        let message = format!("stage `{stage}` has no output `{output}`: let the stage write the model there");
        return attempt::fail(pass, name, status, "OutputAbsent", &message, effects);
    };
    let refusal = refusal(pass, &register.model);
    if let Some(refusal) = refusal.filter(|refusal| refusal.reason != "NameTaken") {
        if pass.left(Some(&started), LIMIT).is_none() {
            return attempt::fail(pass, name, status, &refusal.reason, &refusal.message, effects);
        }
        status.reason = Some(refusal.reason.clone());
        status.message = Some(clip(&deadline::with(&refusal.message, Some(&started), LIMIT)));
        effects.again(PAUSE);
        return status;
    }
    let version = next(pass, &register.model, refusal);
    if version > i64::from(i32::MAX) {
        let message = format!(
            "the version after {} cannot be written: delete the ModelVersion {}, which nobody but a person can have made",
            i32::MAX,
            names::model_version(&register.model, i32::MAX.into())
        );
        return attempt::fail(pass, name, status, "VersionsExhausted", &message, effects);
    }
    let mut made = model_version(pass, name, register, stage, artifact, version, stages);
    if status.retries > 0 {
        made.metadata.labels.get_or_insert_default().insert(names::RETRY_LABEL.to_owned(), status.retries.to_string());
    }
    effects.create.push(Create::ModelVersion(Box::new(made)));
    status
}

/// The version that this stage made: found by what it was made for, whatever its number.
fn ours<'a>(pass: &'a Pass<'_>, stage: &str, retries: u32) -> Option<&'a ModelVersion> {
    let versions = pass.observed.model_versions.iter().map(AsRef::as_ref);
    versions.into_iter().find(|version| {
        let label = |key: &str| version.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let retry = label(names::RETRY_LABEL).map_or(Some(0), |text| text.parse().ok());
        label(names::RUN_UID_LABEL) == Some(pass.run_uid())
            && label(names::STAGE_LABEL) == Some(stage)
            && retry == Some(retries)
    })
}

/// The apiserver does not take the version, so that nothing was made.
pub(super) fn is_refused(pass: &Pass<'_>, stage: &str, retries: u32, register: &Register) -> bool {
    refusal(pass, &register.model).is_some() && ours(pass, stage, retries).is_none()
}

fn refusal<'a>(pass: &'a Pass<'_>, model: &str) -> Option<&'a Refusal> {
    pass.observed
        .refusals
        .iter()
        .find(|refusal| refusal.object.strip_prefix("ModelVersion ").is_some_and(|name| number(model, name).is_some()))
}

/// The number in a ModelVersion's name.
pub(super) fn number(model: &str, name: &str) -> Option<i64> {
    name.strip_prefix(model)?.strip_prefix("-v")?.parse().ok()
}

/// One more than the highest number, that of a name that proved to be taken included.
fn next(pass: &Pass<'_>, model: &str, taken: Option<&Refusal>) -> i64 {
    let taken = taken.and_then(|refusal| number(model, refusal.object.strip_prefix("ModelVersion ")?));
    let versions = pass.observed.model_versions.iter().filter(|version| version.spec.model == model);
    versions.map(|version| version.spec.version).chain(taken).max().unwrap_or(0) + 1
}

fn model_version(
    pass: &Pass<'_>,
    name: &str,
    register: &Register,
    producer: &str,
    artifact: &OutputStatus,
    version: i64,
    stages: &Stages,
) -> ModelVersion {
    let labels = [
        (names::MANAGED_BY_LABEL, names::MANAGED_BY.to_owned()),
        (names::MODEL_LABEL, register.model.clone()),
        (names::RUN_LABEL, names::label_value(pass.run_name())),
        (names::RUN_UID_LABEL, pass.run_uid().to_owned()),
        (names::STAGE_LABEL, name.to_owned()),
    ];
    let metrics = register.metrics.as_ref().and_then(|stage| stages.get(stage));
    ModelVersion {
        // No owner: a model outlives the run that made it.
        metadata: ObjectMeta {
            name: Some(names::model_version(&register.model, version)),
            namespace: Some(pass.namespace().to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ..ObjectMeta::default()
        },
        spec: ModelVersionSpec {
            model: register.model.clone(),
            version,
            artifact: ModelArtifact {
                uri: artifact.uri.clone(),
                digest: artifact.digest.clone(),
                size: artifact.size,
                access: artifact.access.clone().or_else(|| store::access(pass.frozen.store.as_ref())),
            },
            format: artifact.format.clone().unwrap_or_else(|| "onnx".to_owned()),
            signature: artifact.signature.clone(),
            metrics: metrics.map(|status| status.metrics.clone()).unwrap_or_default(),
            params: pass.params.clone(),
            lineage: Some(lineage(pass, producer, stages)),
        },
        status: None,
    }
}

/// What the model was made of: the images of the stages that it depends on, every artifact that they made, and the models that they read.
fn lineage(pass: &Pass<'_>, producer: &str, stages: &Stages) -> Lineage {
    let mut above = graph::ancestors(&pass.frozen.stages, producer);
    let made = above.iter().filter_map(|stage| Some((*stage, stages.get(*stage)?))).flat_map(|(stage, status)| {
        status.outputs.iter().map(move |(output, artifact)| Dataset {
            name: format!("{stage}.{output}"),
            uri: artifact.uri.clone(),
            digest: artifact.digest.clone(),
        })
    });
    let mut datasets: Vec<Dataset> = made.collect();
    above.insert(producer);
    // What was read and no stage made: models, and what the run was given.
    let mut models = Vec::new();
    for (stage, frozen) in above.iter().filter_map(|stage| Some((*stage, pass.frozen.stages.get(*stage)?))) {
        let Some(status) = stages.get(stage) else { continue };
        for (name, input) in frozen.inputs() {
            let Some(ResolvedInput { model_version, uri: Some(uri), digest, .. }) = status.inputs.get(name) else {
                continue;
            };
            if let (Some(given), Some(digest)) = (&input.input, digest) {
                let (uri, digest) = (uri.clone(), digest.clone());
                datasets.push(Dataset { name: format!("inputs.{given}"), uri, digest });
            } else {
                models.push(ModelRead {
                    name: format!("{stage}.{name}"),
                    model_version: model_version.clone(),
                    uri: uri.clone(),
                    digest: digest.clone(),
                });
            }
        }
    }
    datasets.sort_by(|a, b| a.name.cmp(&b.name));
    datasets.dedup();
    let given = pass.run.spec.inputs.iter().filter(|(_, given)| given.artifact.is_some());
    let image = |stage: &&str| Some(((*stage).to_owned(), stages.get(*stage)?.image.clone()?));
    let params = serde_json::to_vec(pass.params).unwrap_or_default();
    Lineage {
        pipeline: pass.pipeline_name().map(str::to_owned),
        run: pass.run_name().to_owned(),
        run_uid: Some(pass.run_uid().to_owned()),
        stage: producer.to_owned(),
        inputs: given.map(|(name, given)| (name.clone(), given.clone())).collect(),
        frozen: Some(pass.frozen_name.to_owned()),
        params_digest: Some(format!("sha256:{}", names::sha256_hex(&params))),
        images: above.iter().filter_map(image).collect(),
        datasets,
        models,
        code: pass.run.spec.code.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versions_number_is_read_from_its_name() {
        assert_eq!(number("penguins", "penguins-v12"), Some(12));
        assert_eq!(number("penguins", "penguins-v"), None);
        assert_eq!(number("penguins", "penguins-small-v1"), None);
    }
}
