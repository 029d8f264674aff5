//! The parameters of `predict`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    /// The columns of the data that stay beside the predictions, in this order; all of them otherwise.
    #[serde(default)]
    pub keep: Option<Vec<String>>,
    /// Whether a classifier's probabilities are written; they are if nothing is said.
    #[serde(default)]
    pub probabilities: Option<bool>,
    #[serde(default)]
    pub batch_size: Option<std::num::NonZeroU32>,
}
