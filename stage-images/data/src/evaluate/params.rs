//! The parameters of `evaluate`.

use serde::Deserialize;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    Classification,
    Regression,
}

/// A label as text: `true`, `1` and `"1"` are what people write for the same class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Label(pub String);

impl TryFrom<serde_json::Value> for Label {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            serde_json::Value::Bool(boolean) => Ok(Self(boolean.to_string())),
            other => {
                Err(format!("found {}, expected a label: a text, a number or a boolean", crate::params::kind(&other)))
            }
        }
    }
}
