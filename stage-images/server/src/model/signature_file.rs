//! `signature.json` of a model folder, as `docs/stage-contract.md` describes it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole file. Fields that a later version adds are read over.
#[derive(Clone, Debug, Deserialize)]
pub struct SignatureFile {
    #[serde(default)]
    pub task: Option<String>,
    pub inputs: Vec<SignatureTensor>,
    pub outputs: Vec<SignatureTensor>,
}

/// One input or output.
#[derive(Clone, Debug, Deserialize)]
pub struct SignatureTensor {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
    /// A classifier's classes, in the order of the columns of `probabilities`.
    #[serde(default)]
    pub classes: Option<Vec<serde_json::Value>>,
}

impl SignatureFile {
    /// What goes into the model's metadata, whose `properties` are strings.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let task = self.task.iter().map(|task| ("task".to_owned(), task.clone()));
        let classes = self.outputs.iter().filter_map(|output| {
            let classes = output.classes.clone()?;
            Some((format!("{}.classes", output.name), serde_json::Value::Array(classes).to_string()))
        });
        task.chain(classes).collect()
    }
}
