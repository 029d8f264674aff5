//! Where a stage finds its inputs and leaves its outputs and facts: the environment of the stage contract.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum WorkplaceError {
    #[error("the input `{name}` is missing: the stage's `inputs` must have `{name}` (its path is in {variable})")]
    NoInput { name: String, variable: String },
    #[error("the output `{name}` has no path: {variable} is not set; the agent sets it for every declared output")]
    NoOutput { name: String, variable: String },
    #[error("MILLRACE_OUT is not set: it names the folder for metrics and results, and the agent sets it")]
    NoOut,
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The paths of one attempt, by the names that the environment has: lower case, with `_`.
#[derive(Debug, Default)]
pub struct Workplace {
    inputs: BTreeMap<String, PathBuf>,
    outputs: BTreeMap<String, PathBuf>,
    out: Option<PathBuf>,
}

impl Workplace {
    pub fn from_environment() -> Self {
        Self::from_variables(std::env::vars_os())
    }

    fn from_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut place = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if let Some(input) = name.strip_prefix("MILLRACE_INPUT_") {
                place.inputs.insert(input.to_ascii_lowercase(), value.into());
            } else if let Some(output) = name.strip_prefix("MILLRACE_OUTPUT_") {
                place.outputs.insert(output.to_ascii_lowercase(), value.into());
            } else if name == "MILLRACE_OUT" {
                place.out = Some(value.into());
            }
        }
        place
    }

    /// All inputs by name, sorted.
    pub fn inputs(&self) -> &BTreeMap<String, PathBuf> {
        &self.inputs
    }

    pub fn input(&self, name: &str) -> Result<&Path, WorkplaceError> {
        self.optional_input(name).ok_or_else(|| WorkplaceError::NoInput {
            name: name.into(),
            variable: format!("MILLRACE_INPUT_{}", millrace_contract::env_name(name)),
        })
    }

    pub fn optional_input(&self, name: &str) -> Option<&Path> {
        self.inputs.get(name).map(PathBuf::as_path)
    }

    pub fn output(&self, name: &str) -> Result<&Path, WorkplaceError> {
        self.outputs.get(name).map(PathBuf::as_path).ok_or_else(|| WorkplaceError::NoOutput {
            name: name.into(),
            variable: format!("MILLRACE_OUTPUT_{}", millrace_contract::env_name(name)),
        })
    }

    /// Writes a flat object of numbers: `metrics.json` or `champion.json`. What is not finite is left out: a metric that
    /// is not defined on these rows has no number.
    pub fn write_numbers(&self, file: &str, numbers: &BTreeMap<String, f64>) -> Result<(), WorkplaceError> {
        let object: serde_json::Map<String, Value> = numbers
            .iter()
            .filter_map(|(name, number)| Some((name.clone(), Value::Number(json_number(*number)?))))
            .collect();
        self.write(Path::new(file), Value::Object(object).to_string().as_bytes())
    }

    /// Writes one result.
    pub fn write_result(&self, name: &str, value: &Value) -> Result<(), WorkplaceError> {
        self.write(&Path::new("results").join(name), value.to_string().as_bytes())
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> Result<(), WorkplaceError> {
        write_file(&self.out.as_deref().ok_or(WorkplaceError::NoOut)?.join(file), bytes)
    }
}

/// A JSON number that is an integer where the value is one: `344`, not `344.0`.
pub fn json_number(number: f64) -> Option<serde_json::Number> {
    #[allow(clippy::cast_possible_truncation, reason = "the bound keeps the value inside i64")]
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Some(serde_json::Number::from(number as i64));
    }
    serde_json::Number::from_f64(number)
}

/// Writes a file, and its folders before it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), WorkplaceError> {
    let write = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, bytes)
    };
    write().map_err(|source| WorkplaceError::Write { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Workplace {
        Workplace::from_variables(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    #[test]
    fn inputs_and_outputs_come_from_the_environment() {
        let place = place(&[("MILLRACE_INPUT_TEST_DATA", "/in"), ("MILLRACE_OUTPUT_DATA", "/out"), ("OTHER", "x")]);
        assert_eq!(place.input("test_data").unwrap(), Path::new("/in"));
        assert_eq!(place.output("data").unwrap(), Path::new("/out"));
        assert_eq!(place.inputs().len(), 1);
    }

    #[test]
    fn a_missing_input_names_its_variable() {
        let message = place(&[]).input("data").unwrap_err().to_string();
        assert!(message.contains("`data`") && message.contains("MILLRACE_INPUT_DATA"), "{message}");
    }

    #[test]
    fn numbers_that_are_not_finite_are_left_out_and_whole_ones_are_integers() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&[("MILLRACE_OUT", folder.path().to_str().unwrap())]);
        let numbers = BTreeMap::from([("rows".into(), 3.0), ("f1".into(), 0.5), ("roc_auc".into(), f64::NAN)]);
        place.write_numbers("metrics.json", &numbers).unwrap();
        let text = std::fs::read_to_string(folder.path().join("metrics.json")).unwrap();
        assert_eq!(text, r#"{"f1":0.5,"rows":3}"#);
    }
}
