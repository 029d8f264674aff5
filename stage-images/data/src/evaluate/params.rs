//! The parameters of `evaluate`.

use serde::Deserialize;

use crate::model::signature::{Label, Task};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    /// The column that the model predicts.
    pub target: String,
    /// Columns by whose values the metrics are told apart.
    #[serde(default)]
    pub slices: Option<Vec<String>>,
    /// The label that counts as positive where there are two; the last of the model's classes otherwise.
    #[serde(default)]
    pub positive: Option<Label>,
    /// Overrides what the model's outputs say.
    #[serde(default)]
    pub task: Option<Task>,
    #[serde(default)]
    pub batch_size: Option<std::num::NonZeroU32>,
}
