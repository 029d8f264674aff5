//! What a pipeline is handed, besides its parameters: artifacts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stage::is_artifact;
use super::{ArtifactType, ModelArtifact, UriAccess, schema};

/// An artifact that a run of the pipeline is given: by its own `inputs`, or by the stage that runs the pipeline. Stages read it by `inputs: { <name>: { input: <this> } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!(has(self.default) && has(self.optional) && self.optional)", "message": "what has a default is always there: take optional out" }
]))]
pub struct PipelineInput {
    /// What it has to be. `model` is what a stage made as such.
    #[serde(rename = "type", default, skip_serializing_if = "is_artifact")]
    #[schemars(with = "String", extend("enum" = ["artifact", "model"]))]
    pub kind: ArtifactType,
    /// A run need not be given it: the inputs that read it are `optional` too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What is read where a run is given nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<AddressInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// What lies at an address, as of an input with `uri`: every stage that reads it has a stage before it that brings it into the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.digest) || !has(self.maxAge)", "message": "what has a digest does not age: take maxAge out" }
]))]
pub struct AddressInput {
    /// As of an input with `uri`.
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^(https?|s3|gs|az|pvc)://[ -~]+$"))]
    pub uri: String,
    /// What has to lie there, as `sha256:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// What another run brought is taken if it did so no longer ago than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub max_age: Option<String>,
    /// How it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Box<UriAccess>>,
}

/// What a run is given for an input of its pipeline: what lies at an address, or what a stage of another run made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.uri) != has(self.artifact)", "message": "exactly one of uri and artifact is required" },
    { "rule": "has(self.uri) || !(has(self.digest) || has(self.maxAge) || has(self.access))", "message": "digest, maxAge and access belong to uri: an artifact has its own digest and access" },
    { "rule": "has(self.artifact) || !has(self.type)", "message": "type belongs to an artifact: take it out" },
    { "rule": "!has(self.digest) || !has(self.maxAge)", "message": "what has a digest does not age: take maxAge out" }
]))]
pub struct RunInput {
    /// An address, as of an input with `uri`. What lies there is brought into the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^(https?|s3|gs|az|pvc)://[ -~]+$"))]
    pub uri: Option<String>,
    /// Of `uri`: what has to lie there, as `sha256:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// Of `uri`: what another run brought is taken if it did so no longer ago than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub max_age: Option<String>,
    /// Of `uri`: how it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Box<UriAccess>>,
    /// What a stage made, as a run's status and a ModelVersion name it. It is read where it lies, and compared with its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Box<ModelArtifact>>,
    /// Of `artifact`: what it was made as.
    #[serde(rename = "type", default, skip_serializing_if = "is_artifact")]
    #[schemars(with = "String", extend("enum" = ["artifact", "model"]))]
    pub kind: ArtifactType,
}

impl RunInput {
    /// What is given by address.
    #[must_use]
    pub fn address(&self) -> Option<AddressInput> {
        let Self { uri, digest, max_age, access, .. } = self.clone();
        Some(AddressInput { uri: uri?, digest, max_age, access })
    }
}
