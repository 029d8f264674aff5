//! The parameters of `transform`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    /// One query over the inputs. Without it the only input is taken as it is.
    #[serde(default)]
    pub sql: Option<String>,
    #[serde(default)]
    pub split: Option<Split>,
    /// Whether a result without rows is right.
    #[serde(default)]
    pub allow_empty: Option<bool>,
}

/// Fractions of the rows, and how rows are chosen for them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    #[serde(default)]
    pub train: Option<f64>,
    #[serde(default)]
    pub validation: Option<f64>,
    #[serde(default)]
    pub test: Option<f64>,
    #[serde(default)]
    pub seed: Option<u64>,
    /// Keep this column's shares in every part.
    #[serde(default)]
    pub stratify: Option<String>,
    /// Cut by this column: the earliest rows train, the latest test.
    #[serde(default)]
    pub time: Option<String>,
}
