//! When a run starts, which finished runs are kept, and what a pipeline's status says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::sweep::{self, Gate, Needs};
use super::{Frozen, asks_for_number, check, check_template, claims, foreign, history, numbers, triggers};
use crate::api::{
    Condition, ConditionStatus, MLPipeline, MLPipelineRun, MLPipelineStatus, ModelDeployment, StageTemplate,
    TemplateStatus, set_condition,
};
use crate::config::Config;
use crate::plan::{Create, Event, Plan, Refusal, sooner};
use crate::pod::Claims;
use crate::problem::{self, Problem};
use crate::run::{JobView, PodView, Words};

/// Everything that the plan of one pipeline depends on.
#[derive(Clone, Debug, Default)]
pub struct PipelineObserved {
    /// StageTemplates by name: the namespace's own, and the catalog's where it has none of that name.
    pub templates: BTreeMap<String, Arc<StageTemplate>>,
    /// Those that its triggers name.
    pub model_deployments: BTreeMap<String, Arc<ModelDeployment>>,
    /// Runs of this pipeline.
    pub runs: Vec<Arc<MLPipelineRun>>,
    /// The pipelines that it follows by `onPipeline`, as far as they are there, and those that these follow.
    pub upstreams: BTreeMap<String, Arc<MLPipeline>>,
    /// Runs of the pipelines that its own triggers name.
    pub upstream_runs: BTreeMap<String, Vec<Arc<MLPipelineRun>>>,
    /// The pipelines that follow it.
    pub followers: Vec<Arc<MLPipeline>>,
    /// What looks for data for it, and keeps its store in order.
    pub looks: Looks,
    /// What is needed of its store, or why that cannot be read. Read where a pod is to be made that keeps it in order.
    pub needs: Option<Result<Needs, String>>,
    /// Who may mount the claims that it names, of those that are there.
    pub claims: Claims,
    pub refusals: Vec<Refusal>,
}

/// The Jobs of a pipeline: they look for data, and `stage` of a view is the trigger, or keep its store in order.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    pub jobs: Vec<Arc<JobView>>,
    pub pods: Vec<Arc<PodView>>,
    /// What the Job controller said of Jobs that have no pod, by Job name.
    pub warnings: BTreeMap<String, Words>,
}

/// A pipeline that is refused because of a claim is looked at again after this.
const CLAIMS: Duration = Duration::from_mins(1);

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
    let name = pipeline.metadata.name.as_deref().unwrap_or_default();
    let awaited = |run: &MLPipelineRun| observed.followers.iter().any(|by| triggers::awaits(by, name, run));
    let old = pipeline.status.clone().unwrap_or_default();
    let mut new = old.clone();
    new.observed_generation = pipeline.metadata.generation;
    let swept = sweep::look(pipeline, observed, config, &mut new, now);
    plan.create.extend(swept.create.into_iter().map(|job| Create::Look(Box::new(job))));
    let runs = &observed.runs;
    numbers::give(runs, || asks_for_number(&pipeline.spec, &observed.templates), &mut new);
    let kept = pipeline.spec.history.as_ref();
    let gate = Gate::of(kept, new.archive.as_deref(), runs.iter().map(AsRef::as_ref), now);
    let expired = history::expired(kept, runs, awaited, &gate, now);
    plan.requeue = sooner(swept.next, expired.next);
    let accepted = accepted(name, pipeline, observed, config);
    let unlikely = foreign::in_pipeline(&pipeline.spec);
    let mut standing = standing(accepted.as_ref().map(drop), &unlikely);
    let mut starts = None;
    let looks;
    let mut waits = false;
    match &accepted {
        Ok(frozen) => {
            let looked = triggers::look(pipeline, observed, config, &mut new, now);
            plan.requeue = sooner(plan.requeue, looked.next);
            plan.events = looked.events;
            looks = looked.delete;
            plan.create.extend(looked.looks.into_iter().map(|job| Create::Look(Box::new(job))));
            if !looked.starts.is_empty() {
                starts = revision_name(frozen, &pipeline.metadata);
                plan.create.extend(looked.starts.into_iter().map(|run| Create::Run(Box::new(run))));
                match observed.refusals.iter().rfind(|refusal| refusal.object.starts_with("MLPipelineRun ")) {
                    Some(refusal) => standing = refused(refusal, standing.all),
                    // The status is written when the runs were seen: one write instead of two. What was seen already is written now: its run
                    // may be deleted.
                    None => {
                        waits = (&new.triggers, &new.last_change, &new.conditions, &new.archive, &new.run_numbers)
                            == (&old.triggers, &old.last_change, &old.conditions, &old.archive, &old.run_numbers);
                    }
                }
            }
        }
        Err(problems) => {
            looks = triggers::orphans(pipeline, observed);
            // Nobody tells of claims: another may be there in its place.
            let mounts = problems.iter().any(claims::is_about);
            plan.requeue = sooner(plan.requeue, mounts.then_some(CLAIMS));
        }
    }
    // A crash in between leaves a run that has ended and needs what it ran no more.
    plan.delete = history::with_revisions(&pipeline.metadata, runs, &expired.delete, starts.as_deref());
    plan.delete.extend(looks.into_iter().chain(swept.delete));
    plan.events.extend(swept.events);
    plan.events.extend(unrecorded(expired.lost));
    if waits {
        return plan;
    }
    standing.write(&mut new.conditions, pipeline.metadata.generation, now);
    if new != old {
        plan.events.extend(standing.events(&old.conditions));
        plan.status = Some(new);
    }
    plan
}

/// Runs that go without a record.
fn unrecorded(runs: usize) -> Option<Event> {
    let message =
        format!("{runs} finished runs are deleted before they are in the archive: it could not be written for a day");
    (runs > 0).then(|| Event::warning("NotArchived", message))
}

/// What the pipeline would run, or what is wrong with it by itself, with the pipelines that it follows and with the claims that it mounts.
fn accepted(
    name: &str,
    pipeline: &MLPipeline,
    observed: &PipelineObserved,
    config: &Config,
) -> Result<Frozen, Vec<Problem>> {
    let circles = triggers::circles(name, &pipeline.spec, &observed.upstreams);
    match check(&pipeline.spec, &observed.templates, config) {
        Ok(frozen) => {
            let problems: Vec<Problem> =
                circles.into_iter().chain(claims::impossible(&frozen, &observed.claims)).collect();
            if problems.is_empty() { Ok(frozen) } else { Err(problems) }
        }
        Err(problems) => Err(problems.into_iter().chain(circles).collect()),
    }
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
