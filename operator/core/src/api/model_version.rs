//! `ModelVersion`: an immutable registered model.

use std::collections::BTreeMap;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, RunCode, RunInput, StoreAccess, Value, schema};

/// A registered model. Nothing of it can be changed.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "ModelVersion",
    plural = "modelversions",
    shortname = "mlv",
    category = "millrace",
    namespaced,
    status = "ModelVersionStatus",
    derive = "Default",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".spec.version"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = r#".status.conditions[?(@.type=="Ready")].lastTransitionTime"#
    ),
    printcolumn(name = "Format", type_ = "string", json_path = ".spec.format"),
    printcolumn(name = "Metrics", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.lineage.run"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.artifact.digest", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self == oldSelf", "message": "a ModelVersion cannot be changed: register another version" }
]))]
pub struct ModelVersionSpec {
    #[schemars(length(min = 1, max = 50), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: String,
    /// Counts from 1 within the model and namespace.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub version: i64,
    pub artifact: ModelArtifact,
    /// `onnx`, or what `format` of the stage's output says.
    #[schemars(length(min = 1, max = 32))]
    pub format: String,
    /// Names, data types and shapes of inputs and outputs, as in the model's `signature.json`. Absent if
    /// that does not fit a stage's report (about 40 columns).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_value")]
    pub signature: Option<Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The run's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
}

/// Where the model lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.access) || !(has(self.access.anonymous) && self.access.anonymous && has(self.access.secretRef))", "message": "who asks without a signature needs no credentials: take access.secretRef or access.anonymous out" }
]))]
pub struct ModelArtifact {
    /// `pvc://<claim>/<path>`, `s3://<bucket>/<path>`, `gs://<bucket>/<path>` or `az://<container>/<path>`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^(pvc|s3|gs|az)://[a-z0-9]([-a-z0-9._]*[a-z0-9])?/.+$"))]
    pub uri: String,
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// How the store is reached, unless it is a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
}

/// What the model was made of. Of a version that a person wrote some of it may be absent: what a run needs to be made again, `frozen` above all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    pub run: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_uid: Option<String>,
    /// The stage that made the model.
    pub stage: String,
    /// What its run was given for inputs of the pipeline, where that is what another run made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub inputs: BTreeMap<String, RunInput>,
    /// The ControllerRevision that holds the frozen pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
    /// Digest of the run's parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params_digest: Option<String>,
    /// Image digests by stage, for every stage that the model depends on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// Every artifact that the model depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name", "uri"]))]
    pub datasets: Vec<Dataset>,
    /// Every model that its stages read, by an input with `model` or `deployed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub models: Vec<ModelRead>,
    /// The folder that its stages ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<RunCode>,
}

/// An artifact that a model was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// `<stage>.<output>`; of one that no stage made, any name or none.
    #[serde(default)]
    #[schemars(extend("default" = ""))]
    pub name: String,
    pub uri: String,
    pub digest: String,
}

/// A model that a stage read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRead {
    /// `<stage>.<input>`.
    pub name: String,
    /// Nothing where no ModelVersion is it: a ModelDeployment may serve an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    pub uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelVersionStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The most telling of `spec.metrics`, rounded for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
