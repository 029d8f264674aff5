//! The plan of one InferenceGraph.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{Observed, check, objects, status};
use crate::api::{InferenceGraph, InferenceGraphStatus};
use crate::deployment::{asked, drift};
use crate::plan::{Apply, Plan, sooner};

/// Something was refused, by a quota for example: nobody tells when it may be tried again.
const AFTER_REFUSAL: Duration = Duration::from_secs(15);

/// Decides for one InferenceGraph.
#[must_use]
pub fn plan(graph: &InferenceGraph, observed: &Observed, now: Timestamp) -> Plan<InferenceGraphStatus> {
    let mut plan = Plan::default();
    if graph.metadata.deletion_timestamp.is_some() {
        // Its Service has an owner reference, and the routes leave it out.
        return plan;
    }
    let problems = check(graph);
    let owned = observed.service.as_ref().filter(|service| service.owner == graph.metadata.uid);
    let wanted = status::router_port(graph, observed)
        .filter(|_| owned.is_some() || problems.is_empty() && !status::is_taken(graph, observed))
        .map(|port| objects::service(graph, port));
    if let Some(wanted) = wanted {
        let then = observed.service.as_ref().map_or(drift::Then::Apply, |there| {
            drift::then(observed.applied_service.as_ref(), Some(asked(&wanted)), there.shape, now)
        });
        match then {
            drift::Then::Leave => {}
            drift::Then::Later(left) => plan.requeue = Some(left),
            drift::Then::Apply => plan.apply.push(Apply::GraphService(Box::new(wanted))),
        }
    }
    status::report(&mut plan, graph, observed, &problems, now);
    if !observed.refusals.is_empty() {
        plan.requeue = sooner(plan.requeue, Some(AFTER_REFUSAL));
    }
    plan
}
