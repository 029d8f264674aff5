//! The start of a run: its pipeline is found, checked and frozen.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

use super::{Observed, nested};
use crate::api::{API_VERSION, MLPipelineRun, MLPipelineSpec, Value};
use crate::config::Config;
use crate::names;
use crate::pipeline::{self, Frozen, bind_inputs, bind_params};
use crate::problem::Problem;

/// Whether a run can start.
pub(super) enum Start {
    Frozen {
        frozen: Box<Frozen>,
        params: BTreeMap<String, Value>,
        revision: Box<ControllerRevision>,
    },
    /// There is no such pipeline yet.
    Missing(String),
    /// The pipeline or the parameters are wrong; the run's spec cannot change, so this is its end.
    Refused(Vec<Problem>),
}

/// Checks what the run is to run and freezes it.
pub(super) fn start(run: &MLPipelineRun, observed: &Observed, config: &Config) -> Start {
    // Runs of one stage's items run the same: they share what their outer run keeps.
    let own = || match nested::parent(run) {
        Some(outer) => OwnerReference { controller: None, block_owner_deletion: None, ..outer.clone() },
        None => owner("MLPipelineRun", &run.metadata),
    };
    let (spec, owner) = match (&run.spec.pipeline, &run.spec.pipeline_ref) {
        (Some(spec), _) => (spec, own()),
        (None, Some(reference)) => match &observed.pipeline {
            // A run that a person made outlives its pipeline, and so does what it runs.
            Some(found) if run.spec.trigger.is_some() => (&found.spec, owner("MLPipeline", &found.metadata)),
            Some(found) => (&found.spec, own()),
            None => return Start::Missing(reference.name.clone()),
        },
        (None, None) => {
            let message = "exactly one of pipelineRef and pipeline is required";
            return Start::Refused(vec![Problem::new("spec", "InvalidSpec", message)]);
        }
    };
    match check(run, spec, observed, config) {
        Ok((frozen, params)) => match revision(run, &frozen, owner) {
            Ok(revision) => Start::Frozen { frozen: Box::new(frozen), params, revision: Box::new(revision) },
            Err(problem) => Start::Refused(vec![problem]),
        },
        Err(problems) => Start::Refused(problems),
    }
}

fn check(
    run: &MLPipelineRun,
    spec: &MLPipelineSpec,
    observed: &Observed,
    config: &Config,
) -> Result<(Frozen, BTreeMap<String, Value>), Vec<Problem>> {
    // What is not given is told before what follows from it, and all at once.
    let inputs = bind_inputs(&spec.inputs, &run.spec.inputs, "spec.inputs").err();
    if let Some(mut found) = inputs {
        found.extend(bind_params(&spec.params, &run.spec.params, "spec.params").err().unwrap_or_default());
        return Err(found);
    }
    let frozen = pipeline::check_run(spec, &run.spec, &observed.templates, config)?;
    if run.spec.code.is_some() && frozen.store.is_none() {
        let message =
            "code comes out of the pipeline's store, and it has none: write store into the pipeline, or leave code out";
        return Err(vec![Problem::new("spec.code", "StoreMissing", message)]);
    }
    let params = bind_params(&frozen.params, &run.spec.params, "spec.params")?;
    let problems = pipeline::claims::impossible(&frozen, &observed.claims);
    if problems.is_empty() { Ok((frozen, params)) } else { Err(problems) }
}

fn owner(kind: &str, of: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: kind.to_owned(),
        name: of.name.clone().unwrap_or_default(),
        uid: of.uid.clone().unwrap_or_default(),
        // Shared by every run that has it: nobody's own.
        controller: None,
        block_owner_deletion: None,
    }
}

/// The ControllerRevision that holds the frozen pipeline. Triggered runs of the same content share it.
fn revision(run: &MLPipelineRun, frozen: &Frozen, owner: OwnerReference) -> Result<ControllerRevision, Problem> {
    let unfit = |error: serde_json::Error| Problem::new("spec", "InvalidSpec", format!("cannot be frozen: {error}"));
    let data = serde_json::to_value(frozen).map_err(unfit)?;
    let name = frozen.revision_name(&owner.name, &owner.uid).map_err(unfit)?;
    let mut labels = BTreeMap::from([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())]);
    if let Some(reference) = &run.spec.pipeline_ref {
        labels.insert(names::PIPELINE_LABEL.to_owned(), names::label_value(&reference.name));
    }
    Ok(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: run.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: 1,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::MLPipeline;

    #[test]
    fn a_run_that_is_called_as_its_pipeline_has_a_revision_of_its_own() {
        let stages = json!({ "stages": { "say": { "container": { "image": "i", "command": ["c"] } } } });
        let mut pipeline = MLPipeline::new("penguins", serde_json::from_value(stages).unwrap());
        pipeline.metadata.uid = Some("pipeline-uid".into());
        let observed = Observed { pipeline: Some(Arc::new(pipeline)), ..Observed::default() };
        let revision = |name: &str, uid: &str, trigger: bool| {
            let mut spec = json!({ "pipelineRef": { "name": "penguins" } });
            if trigger {
                spec["trigger"] = json!({ "kind": "Change", "key": "1-a" });
            }
            let mut run = MLPipelineRun::new(name, serde_json::from_value(spec).unwrap());
            run.metadata.uid = Some(uid.into());
            let Start::Frozen { revision, .. } = start(&run, &observed, &Config::default()) else { panic!("{name}") };
            let metadata = revision.metadata;
            (metadata.name.unwrap(), metadata.owner_references.unwrap()[0].uid.clone())
        };
        let triggered = revision("penguins-1a2b", "triggered-uid", true);
        assert_eq!(triggered, revision("penguins-3c4d", "other-uid", true), "they share it");
        assert_eq!(triggered.1, "pipeline-uid");
        let by_hand = revision("penguins", "by-hand-uid", false);
        assert_eq!(by_hand.1, "by-hand-uid");
        assert_ne!(by_hand.0, triggered.0);
        assert_ne!(by_hand.0, revision("penguins", "made-again-uid", false).0);
    }

    #[test]
    fn runs_of_items_share_what_their_outer_run_keeps() {
        let pipeline = json!({ "stages": { "say": { "container": { "image": "i", "command": ["c"] } } } });
        let of = |name: &str, outer: &str| {
            let spec = json!({ "pipeline": pipeline });
            let mut run = MLPipelineRun::new(name, serde_json::from_value(spec).unwrap());
            run.metadata.uid = Some(format!("{name}-uid"));
            let outer =
                ObjectMeta { name: Some(outer.into()), uid: Some(format!("{outer}-uid")), ..ObjectMeta::default() };
            let controls = OwnerReference { controller: Some(true), ..owner("MLPipelineRun", &outer) };
            run.metadata.owner_references = Some(vec![controls]);
            let start = start(&run, &Observed::default(), &Config::default());
            let Start::Frozen { revision, .. } = start else { panic!("{name}") };
            let metadata = revision.metadata;
            (metadata.name.unwrap(), metadata.owner_references.unwrap()[0].uid.clone())
        };
        assert_eq!(of("r-each-1-0", "r"), of("r-each-1-1", "r"));
        assert_eq!(of("r-each-1-0", "r").1, "r-uid");
        assert_ne!(of("r-each-1-0", "r"), of("s-each-1-0", "s"));
    }
}
