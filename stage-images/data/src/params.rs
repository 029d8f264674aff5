//! Parameters: one JSON object into a stage's own type. Whatever does not fit is named by its path.

use serde::de::DeserializeOwned;

#[derive(Debug, thiserror::Error)]
pub enum ParamsError {
    #[error("{stage}: --params is not a JSON object")]
    NotJson {
        stage: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("{stage}: parameter {path}: {reason}")]
    Unfit { stage: &'static str, path: String, reason: String },
}

/// Reads a stage's parameters. Unknown ones and wrong types are errors that name the parameter, what was found and what
/// was expected.
pub fn parse<T: DeserializeOwned>(stage: &'static str, json: &str) -> Result<T, ParamsError> {
    // First as any JSON: a syntax error is about the text as a whole, not about a parameter.
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(serde_json::Value::Object(_)) => {}
        Ok(other) => {
            return Err(ParamsError::Unfit {
                stage,
                path: "(all)".into(),
                reason: format!("found {}, expected one JSON object", kind(&other)),
            });
        }
        Err(source) => return Err(ParamsError::NotJson { stage, source }),
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "(top level)".to_owned() } else { path };
        ParamsError::Unfit { stage, path, reason: without_position(&error.inner().to_string()) }
    })
}

/// The parameters with one more, a text, at a path of names. What is no object stays as it is: it is refused when it is read.
pub fn with_text(json: &str, path: &str, text: &str) -> String {
    let Ok(mut all) = serde_json::from_str::<serde_json::Value>(json) else { return json.to_owned() };
    let mut at = &mut all;
    for name in path.split('.') {
        let Some(fields) = at.as_object_mut() else { return json.to_owned() };
        at = fields.entry(name).or_insert_with(|| serde_json::json!({}));
    }
    *at = text.into();
    all.to_string()
}

/// `serde_json` adds a position in the one-line JSON text, which nobody has before them.
fn without_position(message: &str) -> String {
    message.rfind(" at line ").map_or(message, |at| &message[..at]).to_owned()
}

/// What a JSON value is, in a word.
pub fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        delimiter: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        source: String,
        #[allow(dead_code)]
        csv: Option<Inner>,
    }

    fn message(json: &str) -> String {
        parse::<Outer>("ingest", json).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_type_names_the_path_what_was_found_and_what_was_expected() {
        assert_eq!(
            message(r#"{"source": "a", "csv": {"delimiter": 5}}"#),
            "ingest: parameter csv.delimiter: invalid type: integer `5`, expected a string"
        );
    }

    #[test]
    fn an_unknown_parameter_names_the_known_ones() {
        let message = message(r#"{"source": "a", "sauce": 1}"#);
        assert!(message.contains("unknown field `sauce`, expected `source` or `csv`"), "{message}");
    }

    #[test]
    fn a_missing_parameter_is_named() {
        assert!(message("{}").contains("missing field `source`"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(message("[]").contains("found a list, expected one JSON object"));
        assert!(message("{").contains("--params is not a JSON object"));
    }

    #[test]
    fn a_null_is_an_absent_parameter() {
        assert!(parse::<Outer>("ingest", r#"{"source": "a", "csv": null}"#).is_ok());
    }
}
