//! The plan of one ModelDeployment.

use k8s_openapi::jiff::Timestamp;

use super::Observed;
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::config::Config;
use crate::plan::Plan;

/// Decides for one ModelDeployment.
#[must_use]
pub fn plan(
    _deployment: &ModelDeployment,
    _observed: &Observed,
    _config: &Config,
    _now: Timestamp,
) -> Plan<ModelDeploymentStatus> {
    Plan::default()
}
