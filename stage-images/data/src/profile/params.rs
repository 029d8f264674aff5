//! The parameters of `profile`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    /// The columns to describe; all of them otherwise, up to a bound.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// From which correlation on, of either sign, a pair of columns is warned of.
    #[serde(default)]
    pub correlated: Option<f64>,
}
