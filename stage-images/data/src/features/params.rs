//! The parameters of `features`: a list of steps, each with the one key that says what it does.

#![allow(clippy::struct_field_names, reason = "a step is named by its first key")]

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    /// What is done, in order. Needed where features are fitted.
    #[serde(default)]
    pub steps: Option<Vec<Value>>,
    /// The column to predict: no feature. Steps that look at it name it here.
    #[serde(default)]
    pub target: Option<String>,
    /// Columns that stay in the tables and are no features.
    #[serde(default)]
    pub keep: Option<Vec<String>>,
    /// What becomes of columns that no step names.
    #[serde(default)]
    pub remainder: Option<Remainder>,
    /// What the tables have.
    #[serde(default)]
    pub write: Option<Write>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Remainder {
    Passthrough,
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// The features.
    Features,
    /// The columns as they came, and the windows.
    Raw,
}

/// A step as it is written.
#[derive(Clone, Debug)]
pub enum Step {
    Impute(Impute),
    Scale(Scale),
    Encode(Encode),
    Bin(Bin),
    Interact(Interact),
    Count(Count),
    Window(Window),
    Select(Select),
    Drop(Dropping),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Impute {
    pub impute: Imputing,
    #[serde(default)]
    pub columns: Option<Columns>,
    #[serde(default)]
    pub fill: Option<Value>,
    #[serde(default)]
    pub add_indicator: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Imputing {
    Mean,
    Median,
    MostFrequent,
    Constant,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scale {
    pub scale: Scaling,
    #[serde(default)]
    pub columns: Option<Columns>,
    #[serde(default)]
    pub clip: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    Standard,
    Minmax,
    Robust,
    Maxabs,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Encode {
    pub encode: Encoding,
    #[serde(default)]
    pub columns: Option<Columns>,
    #[serde(default)]
    pub handle_unknown: Option<HandleUnknown>,
    #[serde(default)]
    pub unknown_value: Option<f32>,
    #[serde(default)]
    pub min_frequency: Option<f64>,
    #[serde(default)]
    pub max_categories: Option<u32>,
    #[serde(default)]
    pub categories: Option<Vec<Value>>,
    #[serde(default)]
    pub drop: Option<First>,
    #[serde(default)]
    pub smooth: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    Onehot,
    Ordinal,
    Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandleUnknown {
    Ignore,
    InfrequentIfExist,
    /// Told apart, so that its message can say why there is none.
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum First {
    First,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Bin {
    pub bin: Binning,
    #[serde(default)]
    pub columns: Option<Columns>,
    #[serde(default)]
    pub bins: Option<u32>,
    #[serde(default)]
    pub edges: Option<Vec<f32>>,
    #[serde(default)]
    pub encode: Option<BinEncoding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binning {
    Quantile,
    Uniform,
    Edges,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BinEncoding {
    Onehot,
    Ordinal,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Interact {
    pub interact: Interaction,
    #[serde(default)]
    pub columns: Option<Columns>,
    #[serde(default)]
    pub pairs: Option<Vec<[String; 2]>>,
    #[serde(default)]
    pub squares: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interaction {
    Product,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Count {
    pub count: Counting,
    #[serde(default)]
    pub columns: Option<Columns>,
    #[serde(default)]
    pub max_features: Option<u32>,
    #[serde(default)]
    pub min_frequency: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    Words,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Window {
    pub window: Windowing,
    pub columns: Vec<String>,
    pub order: String,
    #[serde(default)]
    pub by: Option<Vec<String>>,
    #[serde(default)]
    pub rows: Option<u32>,
    #[serde(default)]
    pub range: Option<String>,
    #[serde(default)]
    pub current: Option<bool>,
}

/// What a window makes of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Windowing {
    Lag,
    Mean,
    Sum,
    Min,
    Max,
    Std,
    Count,
}

impl Windowing {
    pub fn word(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Mean => "mean",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Std => "std",
            Self::Count => "count",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Select {
    pub select: Selecting,
    #[serde(default)]
    pub columns: Option<Columns>,
    #[serde(default)]
    pub threshold: Option<f64>,
    #[serde(default)]
    pub k: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selecting {
    Variance,
    Correlation,
    MutualInformation,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dropping {
    pub drop: Vec<String>,
}

/// The columns of a step: a list of names, or all of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a list of column names, `numeric` or `text`")]
pub enum Columns {
    Names(Vec<String>),
    All(AllOf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllOf {
    Numeric,
    Text,
}
