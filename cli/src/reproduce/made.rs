//! What a run was made for, kept in an annotation of it: the comparison needs nothing else that could be gone by then.

use std::collections::BTreeMap;

use kube::ResourceExt;
use millrace_core::api::MLPipelineRun;
use serde::{Deserialize, Serialize};

/// Annotation of a run that `reproduce` made.
pub const ANNOTATION: &str = "millrace.dev/reproduces";

/// Where in the run is what the version has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sources {
    /// The ModelVersion.
    pub version: String,
    /// The output that is the model: `<stage>.<output>`.
    pub model: String,
    /// The stage whose metrics the version carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

impl Sources {
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let text = serde_json::to_string(self).unwrap_or_default();
        BTreeMap::from([(ANNOTATION.to_owned(), text)])
    }

    /// Those of a run that was made for this version.
    pub fn of(run: &MLPipelineRun, version: &str, options: &str) -> Result<Self, String> {
        let name = run.name_any();
        let text = run.annotations().get(ANNOTATION);
        let found = text.and_then(|text| serde_json::from_str::<Self>(text).ok());
        let make = format!("kubectl millrace reproduce {version}{options} makes one");
        match found {
            Some(found) if found.version == version => Ok(found),
            Some(found) => Err(format!("run {name} was made to reproduce {}, not {version}: {make}", found.version)),
            None => {
                Err(format!("run {name} was not made by reproduce: {make}; kubectl millrace diff compares any two"))
            }
        }
    }
}
