//! The plan of one run.

use k8s_openapi::jiff::Timestamp;

use super::Observed;
use crate::api::{MLPipelineRun, MLPipelineRunStatus};
use crate::config::Config;
use crate::plan::Plan;

/// Decides for one run.
#[must_use]
pub fn plan(
    _run: &MLPipelineRun,
    _observed: &Observed,
    _config: &Config,
    _now: Timestamp,
) -> Plan<MLPipelineRunStatus> {
    Plan::default()
}
