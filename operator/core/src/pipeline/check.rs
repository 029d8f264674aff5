//! The checks that no schema can make.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Frozen;
use crate::api::{MLPipelineSpec, ParamSpec, StageTemplate, StageTemplateSpec, Value};
use crate::config::Config;
use crate::problem::Problem;

/// Checks a pipeline and resolves its templates. Paths begin with `spec`.
pub fn check(
    _spec: &MLPipelineSpec,
    _templates: &BTreeMap<String, Arc<StageTemplate>>,
    _config: &Config,
) -> Result<Frozen, Vec<Problem>> {
    Err(Vec::new())
}

/// Checks a StageTemplate. Paths begin with `spec`.
pub fn check_template(_spec: &StageTemplateSpec, _config: &Config) -> Result<(), Vec<Problem>> {
    Ok(())
}

/// Values for declared parameters: defaults filled in, types and bounds checked. `path` is where the values stand.
pub fn bind_params(
    _declared: &BTreeMap<String, ParamSpec>,
    given: &BTreeMap<String, Value>,
    _path: &str,
) -> Result<BTreeMap<String, Value>, Vec<Problem>> {
    Ok(given.clone())
}
