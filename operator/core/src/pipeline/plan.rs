//! When a run starts, which finished runs are kept, and what a pipeline's status says.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::change::{self, Change};
use super::{check, check_template, history};
use crate::api::{
    Condition, ConditionStatus, MLPipeline, MLPipelineRun, MLPipelineStatus, StageTemplate, TemplateStatus,
    set_condition,
};
use crate::config::Config;
use crate::plan::{Create, DeleteKind, Event, Plan, Refusal};
use crate::problem::{self, Problem};

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
    pipeline: &MLPipeline,
    observed: &PipelineObserved,
    config: &Config,
    now: Timestamp,
) -> Plan<MLPipelineStatus> {
    let mut plan = Plan::default();
    if pipeline.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let (delete, next) = history::expired(pipeline.spec.history.as_ref(), &observed.runs, now);
    // First what they ran: a crash in between leaves a run that has ended and needs it no more.
    plan.delete = history::unnamed(&pipeline.metadata, &observed.runs, &delete);
    plan.delete.extend(delete);
    plan.requeue = next;

    let old = pipeline.status.clone().unwrap_or_default();
    let mut new = old.clone();
    new.observed_generation = pipeline.metadata.generation;
    let accepted = check(&pipeline.spec, &observed.templates, config).map(drop);
    let mut standing = standing(&accepted);
    if accepted.is_ok() {
        let runs = observed.runs.iter().filter_map(|run| Some((run.metadata.name.as_deref()?, run.as_ref())));
        match change::look(pipeline, &runs.collect()) {
            Change::None => {}
            Change::Seen { key, run } => {
                new.last_change = Some(key);
                new.last_run = Some(run);
            }
            Change::Start(run) => {
                // It may be about to run what one of these ran.
                plan.delete.retain(|delete| delete.kind != DeleteKind::ControllerRevision);
                plan.create.push(Create::Run(run));
                match observed.refusals.last() {
                    Some(refusal) => standing = refused(refusal),
                    // The status is written when the run was seen: one write instead of two.
                    None => return plan,
                }
            }
        }
    }
    standing.write(&mut new.conditions, pipeline.metadata.generation, now);
    if new != old {
        plan.events.extend(standing.event(&old.conditions));
        plan.status = Some(new);
    }
    plan
}

/// Decides for one StageTemplate: only its status.
#[must_use]
pub fn plan_template(template: &StageTemplate, config: &Config, now: Timestamp) -> Plan<TemplateStatus> {
    let mut plan = Plan::default();
    if template.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let old = template.status.clone().unwrap_or_default();
    let mut new = old.clone();
    new.observed_generation = template.metadata.generation;
    let standing = standing(&check_template(&template.spec, config));
    standing.write(&mut new.conditions, template.metadata.generation, now);
    if new != old {
        plan.events.extend(standing.event(&old.conditions));
        plan.status = Some(new);
    }
    plan
}

/// What the conditions say.
struct Standing {
    accepted: bool,
    /// Accepted, and nothing is in the way.
    ready: bool,
    reason: String,
    message: String,
}

fn standing(accepted: &Result<(), Vec<Problem>>) -> Standing {
    match accepted {
        Ok(()) => Standing { accepted: true, ready: true, reason: "Accepted".to_owned(), message: String::new() },
        Err(problems) => Standing {
            accepted: false,
            ready: false,
            reason: problems.first().map_or("Invalid", |problem| problem.reason).to_owned(),
            message: problem::summary(problems),
        },
    }
}

/// Accepted, but the run that it starts was refused. It is tried again.
fn refused(refusal: &Refusal) -> Standing {
    Standing {
        accepted: true,
        ready: false,
        reason: refusal.reason.clone(),
        message: format!("{}: {}", refusal.object, refusal.message),
    }
}

impl Standing {
    /// As kstatus reads it: `Stalled` and `Reconciling` are there only while they are true.
    fn write(&self, conditions: &mut Vec<Condition>, generation: Option<i64>, now: Timestamp) {
        let mut set = |kind: &str, on: bool, reason: &str, message: &str| {
            let status = if on { ConditionStatus::True } else { ConditionStatus::False };
            set_condition(conditions, kind, status, reason, message, generation, now);
        };
        let (reason, message) = (self.reason.as_str(), self.message.as_str());
        if self.accepted {
            set("Accepted", true, "Accepted", "");
        } else {
            set("Accepted", false, reason, message);
            set("Stalled", true, reason, message);
        }
        set("Ready", self.ready, reason, message);
        if self.accepted && !self.ready {
            set("Reconciling", true, reason, message);
        }
        let (stalled, reconciling) = (!self.accepted, self.accepted && !self.ready);
        conditions.retain(|c| match c.type_.as_str() {
            "Stalled" => stalled,
            "Reconciling" => reconciling,
            _ => true,
        });
    }

    /// Said when it was not said before.
    fn event(&self, before: &[Condition]) -> Option<Event> {
        let said = before.iter().any(|c| c.type_ == "Ready" && c.status == "False" && c.message == self.message);
        let reason = if self.accepted { "RunRefused" } else { "NotAccepted" };
        (!self.ready && !said).then(|| Event { warning: true, reason, message: self.message.clone() })
    }
}
