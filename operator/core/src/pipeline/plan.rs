//! When a run starts, which finished runs are kept, and what a pipeline's status says.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::{Frozen, check, check_template, foreign, history, triggers};
use crate::api::{
    Condition, ConditionStatus, MLPipeline, MLPipelineRun, MLPipelineStatus, ModelDeployment, StageTemplate,
    TemplateStatus, set_condition,
};
use crate::config::Config;
use crate::plan::{Create, Event, Plan, Refusal, sooner};
use crate::problem::{self, Problem};

/// Everything that the plan of one pipeline depends on.
#[derive(Clone, Debug, Default)]
pub struct PipelineObserved {
    /// StageTemplates by name: the namespace's own, and the catalog's where it has none of that name.
    pub templates: BTreeMap<String, Arc<StageTemplate>>,
    /// Those that its triggers name.
    pub model_deployments: BTreeMap<String, Arc<ModelDeployment>>,
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
    let (expired, next) = history::expired(pipeline.spec.history.as_ref(), &observed.runs, now);
    plan.requeue = next;
    // A crash in between leaves a run that has ended and needs what it ran no more.
    let deleted = |starts: Option<&str>| history::with_revisions(&pipeline.metadata, &observed.runs, &expired, starts);

    let old = pipeline.status.clone().unwrap_or_default();
    let mut new = old.clone();
    new.observed_generation = pipeline.metadata.generation;
    let accepted = check(&pipeline.spec, &observed.templates, config);
    let unlikely = foreign::in_pipeline(&pipeline.spec);
    let mut standing = standing(accepted.as_ref().map(drop), &unlikely);
    let mut starts = None;
    if let Ok(frozen) = &accepted {
        let runs = observed.runs.iter().filter_map(|run| Some((run.metadata.name.as_deref()?, run.as_ref())));
        let refused_before = !observed.refusals.is_empty();
        let looked =
            triggers::look(pipeline, runs.collect(), &observed.model_deployments, refused_before, &mut new, now);
        plan.requeue = sooner(plan.requeue, looked.next);
        plan.events = looked.events;
        if !looked.starts.is_empty() {
            starts = revision_name(frozen, &pipeline.metadata);
            plan.create.extend(looked.starts.into_iter().map(|run| Create::Run(Box::new(run))));
            match observed.refusals.last() {
                Some(refusal) => standing = refused(refusal, standing.all),
                // The status is written when the runs were seen: one write instead of two. What was seen already is written now: its run
                // may be deleted.
                None if new.triggers == old.triggers && new.last_change == old.last_change => {
                    plan.delete = deleted(starts.as_deref());
                    return plan;
                }
                None => {}
            }
        }
    }
    plan.delete = deleted(starts.as_deref());
    standing.write(&mut new.conditions, pipeline.metadata.generation, now);
    if new != old {
        plan.events.extend(standing.events(&old.conditions));
        plan.status = Some(new);
    }
    plan
}

/// What a triggered run runs. Without a name it cannot be frozen either, and the run says so.
fn revision_name(frozen: &Frozen, pipeline: &ObjectMeta) -> Option<String> {
    frozen.revision_name(pipeline.name.as_deref()?, pipeline.uid.as_deref()?).ok()
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
    let unlikely = foreign::in_container(&template.spec.container, "spec.container");
    let standing = standing(check_template(&template.spec, config).as_ref().map(drop), &unlikely);
    standing.write(&mut new.conditions, template.metadata.generation, now);
    if new != old {
        plan.events.extend(standing.events(&old.conditions));
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
    /// What `Accepted` says: every fault, one a line; or what may be a mistake in what was accepted.
    all: String,
}

fn standing(accepted: Result<(), &Vec<Problem>>, unlikely: &[Problem]) -> Standing {
    match accepted {
        Ok(()) => Standing {
            accepted: true,
            ready: true,
            reason: "Accepted".to_owned(),
            message: String::new(),
            all: problem::every(unlikely),
        },
        Err(problems) => Standing {
            accepted: false,
            ready: false,
            reason: problems.first().map_or("Invalid", |problem| problem.reason).to_owned(),
            message: problem::brief(problems),
            all: problem::every(problems),
        },
    }
}

/// Accepted, but the run that it starts was refused. It is tried again.
fn refused(refusal: &Refusal, all: String) -> Standing {
    Standing {
        accepted: true,
        ready: false,
        reason: refusal.reason.clone(),
        message: format!("{}: {}", refusal.object, refusal.message),
        all,
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
            set("Accepted", true, "Accepted", &self.all);
        } else {
            set("Accepted", false, reason, &self.all);
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

    /// What was not said before.
    fn events(&self, before: &[Condition]) -> Vec<Event> {
        let said = |kind: &str, status: &str, message: &str| {
            before.iter().any(|c| c.type_ == kind && c.status == status && c.message == message)
        };
        let mut events = Vec::new();
        if !self.ready && !said("Ready", "False", &self.message) {
            let reason = if self.accepted { "RunRefused" } else { "NotAccepted" };
            events.push(Event::warning(reason, &self.message));
        }
        if self.accepted && !self.all.is_empty() && !said("Accepted", "True", &self.all) {
            events.push(Event::warning("NotReplaced", &self.all));
        }
        events
    }
}
