//! Explanations: what is asked of them, beside an inference request, and their answer.

use serde::Deserialize;
use serde_json::json;

use super::check::RequestError;
use super::request::not_json;
use crate::explain::{Asked, Explanation, Row};

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    output: Option<String>,
    #[serde(default)]
    class: Option<usize>,
}

/// The parameters of a request whose JSON is `text`.
pub fn parse_asked(text: &[u8]) -> Result<Asked, RequestError> {
    let wire: Wire = serde_json::from_slice(text).map_err(|error| not_json(text, &error))?;
    let parameters = wire.parameters.map(|Parameters { output, class }| Asked { output, class });
    Ok(parameters.unwrap_or_default())
}

/// The answer, in the form of one to infer: a tensor of attributions, and what they begin with and add up to.
pub fn write_explanation(model: &str, version: &str, id: Option<&str>, explanation: &Explanation) -> Vec<u8> {
    let Explanation { output, method, evaluations, features, rows } = explanation;
    let each = |name: &str, of: fn(&Row) -> f64| {
        let data: Vec<f64> = rows.iter().map(of).collect();
        json!({"name": name, "datatype": "FP64", "shape": [rows.len()], "data": data})
    };
    let all: Vec<f64> = rows.iter().flat_map(|row| &row.attributions).copied().collect();
    let classes: Vec<usize> = rows.iter().map(|row| row.class).collect();
    let mut answer = json!({
        "model_name": model,
        "model_version": version,
        "parameters": {"method": method, "evaluations": evaluations, "output": output},
        "outputs": [
            {"name": "attributions", "datatype": "FP64", "shape": [rows.len(), features.len()], "data": all},
            {"name": "features", "datatype": "BYTES", "shape": [features.len()], "data": features},
            each("base", |row| row.base),
            each("value", |row| row.value),
            {"name": "class", "datatype": "INT64", "shape": [rows.len()], "data": classes},
        ],
    });
    if let Some(id) = id {
        answer["id"] = id.into();
    }
    answer.to_string().into_bytes()
}
