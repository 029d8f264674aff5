//! A stage that runs another pipeline.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stage::is_artifact;
use super::{ArtifactType, Value, schema};

/// Runs another MLPipeline of the namespace, as an MLPipelineRun of its own that belongs to this run: it is canceled and deleted with it. The stage ends as that run does. With `forEach` there is such a run for each item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NestedPipeline {
    /// The MLPipeline. It is read when the stage begins.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Values for its parameters. Text may hold templates `$[[ … ]]`, which with `forEach` know `item` and `index`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, Value>,
    /// What later stages may read of what it makes, by the name that they use. With `forEach` a folder with an entry for each item, named by its
    /// index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub outputs: BTreeMap<String, NestedOutput>,
    /// The stage of it whose metrics and results are this stage's. With `forEach` the stage's output `items` lists them, a line for each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub results: Option<String>,
    /// From the creation of its run to the end of it: then it is canceled, and the stage fails. With `forEach` from the first to the last of its
    /// runs. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
}

impl NestedPipeline {
    /// With `forEach` something of each run is kept, and the list of them with it.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.results.is_some() || !self.outputs.is_empty()
    }
}

/// An output of a stage of the other pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NestedOutput {
    /// `<stage>.<output>` of the other pipeline.
    #[schemars(length(min = 3, max = 127))]
    pub from: String,
    /// What it must be there.
    #[serde(rename = "type", default, skip_serializing_if = "is_artifact")]
    #[schemars(with = "String", extend("enum" = ["artifact", "model"]))]
    pub kind: ArtifactType,
    /// It may be left out: those that read it are `optional`, or have a `default`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}
