//! Reads the list of steps. What a step is follows from its one key; everything else in it has to go with that.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::params::Step;
use crate::params::{ParamsError, kind};

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
    use crate::features::params::{AllOf, Bin, BinEncoding, Columns, Dropping, Encode, First, Impute, Imputing};
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
