//! What labels that came later say of a served model: the stage that brings them, and where they are kept.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sets the live metrics of a version that a ModelDeployment serves, or served: what another stage measured of the model's answers once their
/// labels were there. They are in `status.live` of the ModelDeployment; a later report of the same version takes their place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.version) || !has(self.samples) || self.version != self.samples", "message": "version and samples must be two metrics" }
]))]
pub struct Report {
    #[schemars(length(min = 1, max = 63))]
    pub model_deployment: String,
    /// The stage whose metrics they are.
    #[schemars(length(min = 1, max = 63))]
    pub metrics: String,
    /// The metric of that stage that is the number of the version which gave the answers, such as `version`. Default: they are those of the
    /// version that is promoted when the stage begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub version: Option<String>,
    /// The metric of that stage that is the number of answers they are of, such as `rows`. Default: nobody knows, which is 0 where
    /// `minSamples` asks for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub samples: Option<String>,
}

/// What was reported last of one version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveMetrics {
    pub version: i64,
    /// When the stage began whose metrics these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Answers that they are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<i64>,
    #[schemars(extend("maxProperties" = 128))]
    pub metrics: BTreeMap<String, f64>,
    /// The MLPipelineRun that reported it, and its stage.
    pub run: String,
    pub stage: String,
    /// The registered model.
    pub model: String,
}
