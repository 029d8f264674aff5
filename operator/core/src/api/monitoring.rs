//! What is watched of a served model, and what was found.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PayloadLog, schema};

/// What is watched: `drift` of the promoted revision, `log` of every revision that callers' requests go to. Turning it on or off, or
/// changing it, restarts no pod of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.drift) || has(self.log)", "message": "monitoring says nothing: write drift, as drift: {} for its defaults, or log, or leave it out" }
]))]
pub struct Monitoring {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // In a box, as `security` is.
    pub log: Option<Box<PayloadLog>>,
}

/// How far the rows that the model is asked for, and what it answers, are from the rows that it was trained on, as the version's
/// `profile.json` has them. Found is in `status.drift` and in the condition `Drifted`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "!has(self.threshold) || self.threshold >= 0.001", "message": "threshold must be 0.001 or more" },
    { "rule": "!has(self.threshold) || !has(self.method) || self.method == 'PSI' || self.threshold < 1.0", "message": "KS and ChiSquare give figures from 0 to 1: write a threshold below 1" }
]))]
pub struct Drift {
    /// The rows of this last time, exact within a twelfth of it, are compared. `5m` to `7d`. Default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub window: Option<String>,
    /// Default `PSI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<DriftMethod>,
    /// A feature has drifted if its figure is above this, and chance alone would make one so large less than once in a thousand times.
    /// Default 0.2 with `PSI`, 0.1 with the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The schema's minimum does not hold for whole numbers; a rule says it again.
    #[schemars(range(min = 0.001, max = 10.0))]
    pub threshold: Option<f64>,
    /// With fewer rows in the window nothing is said. Default 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10_000_000))]
    pub min_samples: Option<i64>,
    /// The features that are compared. Default: all that the profile has, the 200 most important at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub features: Vec<String>,
}

/// How two distributions are compared, both of them in the bins and categories of the profile. `PSI`: the population stability index; 0.1
/// to 0.2 is commonly read as a moderate change, more as a large one. `KS`: of numbers the largest difference of the cumulative shares, 0
/// to 1; of categories `ChiSquare`. `ChiSquare`: Cramér's V of the chi-squared test of homogeneity, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftMethod {
    #[default]
    PSI,
    KS,
    ChiSquare,
}

impl DriftMethod {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PSI => "PSI",
            Self::KS => "KS",
            Self::ChiSquare => "ChiSquare",
        }
    }
}

/// What the pods of a revision counted in the window, against the version's profile. It is written when a verdict changes, a figure has moved
/// by a tenth of the threshold, a share by 0.02 or the rows by a tenth, once a minute at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    pub revision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// When the figures are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,
    /// Rows in the window.
    pub samples: i64,
    /// The share, 0 to 1, of the compared features that have drifted, weighted by their importance. Absent until there are `minSamples`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// How many features have drifted.
    #[serde(default)]
    pub drifted: i32,
    /// How many are compared.
    #[serde(default)]
    pub compared: i32,
    /// The share of the rows in which a number is out of the profile's range or a category is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outliers: Option<f64>,
    /// The compared features, the 50 with the largest figures, those that have drifted first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]), length(max = 50))]
    pub features: Vec<FeatureDrift>,
    /// What the model answers, against its answers for the training rows. Absent where the profile does not have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionDrift>,
}

/// One feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureDrift {
    #[schemars(length(max = 256))]
    pub name: String,
    /// The figure of the method.
    pub value: f64,
    pub drifted: bool,
    /// The profile's share of the model's error that depends on this feature.
    #[serde(default)]
    pub importance: f64,
    /// The share of the rows without a value.
    #[serde(default)]
    pub missing: f64,
    /// The same of the training rows.
    #[serde(default)]
    pub reference_missing: f64,
    /// Of numbers: the share of the values below the smallest or above the largest one of the training rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_range: Option<f64>,
    /// Of categories: the share of the values that the training rows do not have. Absent where the profile does not name all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_categories: Option<f64>,
}

/// The model's answers: the labels of a classifier, the numbers of a regressor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PredictionDrift {
    /// The figure of the method.
    pub value: f64,
    pub drifted: bool,
    /// Of numbers: the share below the smallest or above the largest prediction for the training rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_range: Option<f64>,
    /// Of a classifier: by how much the mean probability of a class has moved, the most of all classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability_shift: Option<f64>,
}
