//! The parameters of `features`: a list of steps, each with the one key that says what it does.

#![allow(clippy::struct_field_names, reason = "a step is named by its first key")]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::params::{ParamsError, kind};

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

/// The keys of which a step has one.
const STEPS: [&str; 9] = ["impute", "scale", "encode", "bin", "interact", "count", "window", "select", "drop"];

/// Reads the steps as they are written; what a step is follows from its key.
pub fn steps(given: &[Value]) -> Result<Vec<Step>, ParamsError> {
    given.iter().enumerate().map(|(index, value)| step(index, value)).collect()
}

fn step(index: usize, value: &Value) -> Result<Step, ParamsError> {
    let unfit = |reason: String| ParamsError::Unfit { stage: "features", path: format!("steps[{index}]"), reason };
    let Value::Object(object) = value else {
        return Err(unfit(format!(
            "found {}, expected an object like {{impute: median, columns: [age]}}",
            kind(value)
        )));
    };
    let mut keys: Vec<&str> = STEPS.into_iter().filter(|key| object.contains_key(*key)).collect();
    // Of two steps the word is also an option: what becomes of bins, and the first category.
    if keys.len() == 2 {
        keys.retain(|key| !(*key == "encode" && object.contains_key("bin")));
        keys.retain(|key| !(*key == "drop" && object.contains_key("encode")));
    }
    match keys.as_slice() {
        ["impute"] => read(index, value).map(Step::Impute),
        ["scale"] => read(index, value).map(Step::Scale),
        ["encode"] => read(index, value).map(Step::Encode),
        ["bin"] => read(index, value).map(Step::Bin),
        ["interact"] => read(index, value).map(Step::Interact),
        ["count"] => read(index, value).map(Step::Count),
        ["window"] => read(index, value).map(Step::Window),
        ["select"] => read(index, value).map(Step::Select),
        ["drop"] => read(index, value).map(Step::Drop),
        [] => {
            let found = object.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(unfit(format!(
                "has none of {} (found: {found}); one of them says what the step does",
                STEPS.join(", ")
            )))
        }
        several => Err(unfit(format!("has {}; write a step for each", several.join(" and ")))),
    }
}

fn read<T: DeserializeOwned>(index: usize, value: &Value) -> Result<T, ParamsError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let path = if inner == "." { format!("steps[{index}]") } else { format!("steps[{index}].{inner}") };
        ParamsError::Unfit { stage: "features", path, reason: error.inner().to_string() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(step: Value) -> String {
        steps(&[json!({"scale": "standard"}), step]).unwrap_err().to_string()
    }

    #[test]
    fn a_step_is_what_its_key_says() {
        let read = steps(&[
            json!({"impute": "most_frequent"}),
            json!({"encode": "onehot", "drop": "first", "columns": "text"}),
            json!({"bin": "quantile", "encode": "ordinal", "columns": ["age"]}),
            json!({"drop": ["id"]}),
        ])
        .unwrap();
        assert!(matches!(read[0], Step::Impute(Impute { impute: Imputing::MostFrequent, .. })));
        assert!(matches!(
            &read[1],
            Step::Encode(Encode { drop: Some(First::First), columns: Some(Columns::All(AllOf::Text)), .. })
        ));
        assert!(matches!(read[2], Step::Bin(Bin { encode: Some(BinEncoding::Ordinal), .. })));
        assert!(matches!(&read[3], Step::Drop(Dropping { drop }) if drop == &["id"]));
    }

    #[test]
    fn what_is_wrong_with_a_step_names_it() {
        for (step, words) in [
            (json!({"columns": ["a"]}), "parameter steps[1]: has none of impute, scale, encode"),
            (
                json!({"impute": "mean", "scale": "standard"}),
                "parameter steps[1]: has impute and scale; write a step for each",
            ),
            (
                json!({"impute": "average"}),
                "parameter steps[1].impute: unknown variant `average`, expected one of `mean`, `median`",
            ),
            (
                json!({"scale": "standard", "colums": []}),
                "steps[1].colums: unknown field `colums`, expected one of `scale`, `columns`",
            ),
            (
                json!({"scale": "robust", "columns": "all"}),
                "steps[1].columns: expected a list of column names, `numeric` or `text`",
            ),
            (json!("median"), "parameter steps[1]: found a string, expected an object like"),
        ] {
            let message = message(step.clone());
            assert!(message.contains(words), "{step}: {message}");
        }
    }
}
