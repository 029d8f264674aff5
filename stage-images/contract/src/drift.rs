//! What a model server counted of the rows that it was asked for and of its answers, in the bins of the model's profile.

use serde::{Deserialize, Serialize};

/// Where the operator asks for [`DriftCounts`]. Callers come to another port.
pub const DRIFT_PATH: &str = "/drift";
/// The port for the operator.
pub const SERVER_ADMIN_PORT: u16 = 9091;
/// Features that a server counts at most, those with the largest importance first.
pub const MOST_FEATURES: usize = 200;
/// Bins or categories of one feature at most.
pub const MOST_CELLS: usize = 64;
/// Bytes of a feature's name at most: one with a longer name is not counted.
pub const LONGEST_NAME: usize = 256;
/// Probabilities and their sums are counted in millionths.
pub const MILLIONTHS: f64 = 1e6;

/// The counts of one window. Those of several pods of a revision add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftCounts {
    pub model: String,
    pub version: String,
    /// Why nothing is counted, such as a model without a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing: Option<String>,
    pub rows: u64,
    /// Rows in which a number is out of the profile's range or a category is new.
    pub outliers: u64,
    pub features: Vec<Counted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Counted>,
}

/// The values of one feature, or of the predictions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    pub name: String,
    pub kind: CountedKind,
    /// The profile's share of the model's error that depends on this feature.
    pub importance: f64,
    /// The training rows: without a value, then in each bin or category; categories have one more for all that are not named.
    pub reference: Vec<u64>,
    /// The same of the rows of the window.
    pub counts: Vec<u64>,
    /// Of numbers: values below the first or above the last edge; they are in the outer bins too. Of categories: values that the
    /// training rows do not have.
    pub strange: u64,
    /// The profile does not name every category, so that nobody can tell which are new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Of a classifier's answers: the mean probability of each class for the training rows, in millionths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reference_probabilities: Vec<u64>,
    /// The sum of each class' probabilities over the rows of the window, in millionths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CountedKind {
    #[default]
    Numeric,
    Categorical,
}
