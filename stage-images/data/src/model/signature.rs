//! What a model takes and gives: `signature.json`, or the same JSON in the ONNX file's metadata.

use serde::Deserialize;

use crate::say;

#[derive(Clone, Debug, Deserialize)]
pub struct Signature {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Tensor {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
    #[serde(default)]
    pub classes: Option<Vec<Label>>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "its outputs are {found}; expected `label` or `probabilities` (a classifier), or `prediction` (a regressor)"
    )]
    Outputs { found: String },
    #[error("its classes are not known: none of the outputs `label` and `probabilities` has `classes`")]
    NoClasses,
    #[error("it is a {is}, but the parameter task says {said}; leave task out")]
    Task { is: &'static str, said: &'static str },
    #[error("its class `{class}` is there twice")]
    SameClass { class: String },
}

/// What the outputs are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Classifier { classes: Vec<String>, label: bool, probabilities: bool },
    Regressor,
}

impl Signature {
    /// What the outputs make of the model. The outputs decide, not the word in `task`: they are what is read.
    pub fn kind(&self, said: Option<Task>) -> Result<Kind, SignatureError> {
        let output = |name: &str| self.outputs.iter().find(|output| output.name == name);
        let (label, probabilities) = (output("label"), output("probabilities"));
        if label.is_none() && probabilities.is_none() {
            if output("prediction").is_none() {
                let found = say::names(self.outputs.iter().map(|output| &output.name));
                return Err(SignatureError::Outputs { found });
            }
            return match said {
                Some(Task::Classification) => Err(SignatureError::Task { is: "regressor", said: "classification" }),
                _ => Ok(Kind::Regressor),
            };
        }
        if said == Some(Task::Regression) {
            return Err(SignatureError::Task { is: "classifier", said: "regression" });
        }
        let classes = [probabilities, label].into_iter().flatten().find_map(|output| output.classes.clone());
        let classes: Vec<String> = classes.ok_or(SignatureError::NoClasses)?.into_iter().map(|label| label.0).collect();
        if let Some((_, class)) = classes.iter().enumerate().find(|(index, class)| classes[..*index].contains(class)) {
            return Err(SignatureError::SameClass { class: class.clone() });
        }
        Ok(Kind::Classifier { classes, label: label.is_some(), probabilities: probabilities.is_some() })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(outputs: &str) -> Signature {
        serde_json::from_str(&format!(r#"{{"task": "x", "inputs": [], "outputs": {outputs}}}"#)).unwrap()
    }

    #[test]
    fn outputs_say_what_a_model_is() {
        let classifier = signature(
            r#"[{"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2], "classes": [0, 1]}]"#,
        );
        let expected = Kind::Classifier { classes: vec!["0".into(), "1".into()], label: true, probabilities: true };
        assert_eq!(classifier.kind(None), Ok(expected));
        let regressor = signature(r#"[{"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}]"#);
        assert_eq!(regressor.kind(Some(Task::Regression)), Ok(Kind::Regressor));
        assert!(matches!(regressor.kind(Some(Task::Classification)), Err(SignatureError::Task { .. })));
        assert!(matches!(signature("[]").kind(None), Err(SignatureError::Outputs { .. })));
    }
}
