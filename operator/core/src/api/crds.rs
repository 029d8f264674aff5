//! The CustomResourceDefinitions as they are installed: the derived schemas, with a bound on everything.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt;
use serde_json::Value;

use super::{
    InferenceGraph, MLPipeline, MLPipelineRun, ModelDeployment, ModelVersion, StageTemplate, ml_pipeline_run, schema,
};

/// All six kinds, in the order in which they are installed.
///
/// # Panics
/// Never for the types of this crate: a CRD is JSON, and bounding keeps it a CRD (a test shows it).
#[must_use]
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    [
        (MLPipeline::crd(), None),
        (MLPipelineRun::crd(), Some(ml_pipeline_run::rules())),
        (StageTemplate::crd(), None),
        (ModelVersion::crd(), None),
        (ModelDeployment::crd(), None),
        (InferenceGraph::crd(), None),
    ]
    .into_iter()
    .map(|(crd, rules)| bounded(crd, rules.as_ref()))
    .collect()
}

/// `rules` are about the object as a whole.
#[allow(clippy::expect_used)]
fn bounded(crd: CustomResourceDefinition, rules: Option<&Value>) -> CustomResourceDefinition {
    let mut json = serde_json::to_value(crd).expect("a CRD is JSON");
    for version in json["spec"]["versions"].as_array_mut().into_iter().flatten() {
        if let Some(root) = version["schema"]["openAPIV3Schema"]["properties"].as_object_mut() {
            root.values_mut().for_each(schema::bound);
            // The operator alone writes it, and whole: who wrote which of its fields would be a third of a run, and of the work of each write.
            if let Some(status) = root.get_mut("status") {
                status["x-kubernetes-map-type"] = "atomic".into();
            }
        }
        if let Some(rules) = rules {
            version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = rules.clone();
        }
    }
    serde_json::from_value::<CustomResourceDefinition>(Value::take(&mut json)).expect("a bounded CRD is a CRD")
}
