//! When a run starts, which finished runs are kept, and what a pipeline's status says.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::api::{MLPipeline, MLPipelineRun, MLPipelineStatus, StageTemplate, TemplateStatus};
use crate::config::Config;
use crate::plan::{Plan, Refusal};

/// Everything that the plan of one pipeline depends on.
#[derive(Clone, Debug, Default)]
pub struct PipelineObserved {
    /// StageTemplates by name: the namespace's own, and the catalog's where it has none of that name.
    pub templates: BTreeMap<String, Arc<StageTemplate>>,
    /// Runs of this pipeline.
    pub runs: Vec<Arc<MLPipelineRun>>,
    pub refusals: Vec<Refusal>,
}

/// Decides for one pipeline.
#[must_use]
pub fn plan(
    _pipeline: &MLPipeline,
    _observed: &PipelineObserved,
    _config: &Config,
    _now: Timestamp,
) -> Plan<MLPipelineStatus> {
    Plan::default()
}

/// Decides for one StageTemplate: only its status.
#[must_use]
pub fn plan_template(_template: &StageTemplate, _config: &Config, _now: Timestamp) -> Plan<TemplateStatus> {
    Plan::default()
}
