//! The PodDisruptionBudget of a ModelDeployment: who drains nodes takes its pods one after the other. It is over the revisions that have
//! requests: one that comes and whose pods never answer, or one that drains, must not keep nodes from being drained.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use super::drift::{self, Then, digest};
use super::traffic::Traffic;
use super::{Observed, objects};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::names::{DEPLOYMENT_LABEL, REVISION_LABEL, label_value};
use crate::plan::{Apply, Plan, sooner};

/// A PodDisruptionBudget as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetView {
    pub uid: String,
    /// Digest of the spec.
    pub shape: u64,
}

/// Digest of what is asked for.
#[must_use]
pub fn budget_asked(wanted: &PodDisruptionBudget) -> u64 {
    digest(&wanted.spec)
}

/// Makes it, or puts it right. It goes with the ModelDeployment.
pub(super) fn turn(
    plan: &mut Plan<ModelDeploymentStatus>,
    deployment: &ModelDeployment,
    traffic: &Traffic,
    observed: &Observed,
    now: Timestamp,
) {
    // Until a revision has requests nothing is to be kept; what was kept before is left as it is.
    let Some(wanted) = budget(deployment, traffic) else { return };
    let then = observed.budget.as_ref().map_or(Then::Apply, |there| {
        drift::then(observed.applied_budget.as_ref(), Some(budget_asked(&wanted)), there.shape, now)
    });
    match then {
        Then::Leave => {}
        Then::Later(left) => plan.requeue = sooner(plan.requeue, Some(left)),
        Then::Apply => plan.apply.push(Apply::Budget(Box::new(wanted))),
    }
}

fn budget(owner: &ModelDeployment, traffic: &Traffic) -> Option<PodDisruptionBudget> {
    let mut revisions: Vec<String> =
        traffic.routed.iter().filter(|routed| routed.weight > 0).map(|routed| routed.name.clone()).collect();
    if revisions.is_empty() {
        return None;
    }
    revisions.sort_unstable();
    let of_owner = label_value(owner.metadata.name.as_deref().unwrap_or_default());
    let one_of =
        LabelSelectorRequirement { key: REVISION_LABEL.to_owned(), operator: "In".to_owned(), values: Some(revisions) };
    Some(PodDisruptionBudget {
        metadata: objects::own_metadata(owner),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(DEPLOYMENT_LABEL.to_owned(), of_owner)])),
                match_expressions: Some(vec![one_of]),
            }),
            // One that does not answer serves nobody: it must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}
