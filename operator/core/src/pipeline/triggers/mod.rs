//! What starts runs by itself: one trigger starts one run, whatever crashes.
//!
//! A trigger has a key, and the run's name follows from it, so that it is made once. The status takes the trigger over when the run was
//! seen. So a crash before the run is made makes it later; a crash after it finds it there; and a run that was seen and then deleted is not
//! made again.

mod backfill;
mod change;
mod circle;
mod data;
mod data_job;
#[cfg(test)]
mod data_tests;
mod model;
mod schedule;
#[cfg(test)]
mod tests;
mod times;
mod upstream;
#[cfg(test)]
mod upstream_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::PipelineObserved;
use crate::api::{
    ConcurrencyPolicy, Condition, ConditionStatus, MLPipeline, MLPipelineRun, MLPipelineRunSpec, MLPipelineStatus,
    PipelineRef, RunTrigger, Triggers, TriggersStatus, Value, set_condition,
};
use crate::config::Config;
use crate::duration;
use crate::names;
use crate::pipeline::worker;
use crate::plan::{Delete, DeleteKind, Event, sooner};
use crate::run::{JobView, bound};

pub use change::starts;
pub use circle::find as circles;
pub(super) use model::names as names_of_model;
pub(super) use times::{Fault, of_schedule};
pub(super) use upstream::awaits;

/// So many runs are started in one pass at most. The next pass comes when they are seen.
const MOST: usize = 20;
/// The condition of a pipeline that says whether its triggers can work.
const TRIGGERS_READY: &str = "TriggersReady";
/// A clock may be put right while one waits: after so long it is read again.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// `spec.trigger.kind` of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Change,
    Schedule,
    Backfill,
    Model,
    Pipeline,
    Data,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Change => "Change",
            Self::Schedule => "Schedule",
            Self::Backfill => "Backfill",
            Self::Model => "Model",
            Self::Pipeline => "Pipeline",
            Self::Data => "Data",
        }
    }
}

/// One start that a trigger asks for.
struct Start<'a> {
    kind: Kind,
    /// Of the trigger, among those of its kind.
    name: Option<&'a str>,
    /// The same key is the same start.
    key: String,
    time: Option<Timestamp>,
    params: BTreeMap<String, Value>,
    /// The run of another pipeline that it follows.
    run: Option<&'a str>,
    /// What the data are called that it is for.
    version: Option<&'a str>,
}

impl<'a> Start<'a> {
    fn new(kind: Kind, key: String) -> Self {
        Self { kind, name: None, key, time: None, params: BTreeMap::new(), run: None, version: None }
    }

    /// For a trigger that has a name and values of its own.
    fn of(kind: Kind, name: &'a str, key: String, params: &BTreeMap<String, Value>) -> Self {
        Self { name: Some(name), params: params.clone(), ..Self::new(kind, key) }
    }

    /// For a time of a schedule. Once for each name of a trigger: one that may begin anew has another key.
    fn at(kind: Kind, name: &'a str, time: Timestamp, params: BTreeMap<String, Value>) -> Self {
        Self { name: Some(name), time: Some(time), params, ..Self::new(kind, format!("{name}/{time}")) }
    }
}

/// One look at the triggers of a pipeline.
pub(super) struct Look<'a> {
    pipeline: &'a MLPipeline,
    observed: &'a PipelineObserved,
    config: &'a Config,
    /// Its runs by name.
    runs: BTreeMap<&'a str, &'a MLPipelineRun>,
    now: Timestamp,
    /// So many runs may be started.
    most: usize,
    /// Why triggers cannot work, until somebody mends something.
    blocked: Vec<String>,
    /// Jobs that look for data, as they are to be.
    wanted: BTreeSet<String>,
    /// Those of them that are to be made.
    pub(super) looks: Vec<Job>,
    /// Jobs that nobody needs any more.
    pub(super) delete: Vec<Delete>,
    /// Runs that are to be made.
    pub(super) starts: Vec<MLPipelineRun>,
    pub(super) events: Vec<Event>,
    /// When to look again.
    pub(super) next: Option<Duration>,
}

/// Looks at the triggers of an accepted pipeline, and notes in its status what was seen of them.
pub(super) fn look<'a>(
    pipeline: &'a MLPipeline,
    observed: &'a PipelineObserved,
    config: &'a Config,
    status: &mut MLPipelineStatus,
    now: Timestamp,
) -> Look<'a> {
    let runs = observed.runs.iter().filter_map(|run| Some((run.metadata.name.as_deref()?, run.as_ref())));
    let mut look = Look {
        pipeline,
        observed,
        config,
        runs: runs.collect(),
        now,
        // One that was refused is tried alone: what is behind it would be made, and made again.
        most: if observed.refusals.is_empty() { MOST } else { 1 },
        blocked: Vec::new(),
        wanted: BTreeSet::new(),
        looks: Vec::new(),
        delete: Vec::new(),
        starts: Vec::new(),
        events: Vec::new(),
        next: None,
    };
    let old = status.triggers.take().unwrap_or_default();
    let mut new = TriggersStatus::default();
    if let Some(triggers) = &pipeline.spec.triggers {
        if triggers.on_change {
            change::look(&mut look, status);
        }
        look.each(triggers, &old, &mut new, &mut status.last_run);
    }
    status.triggers = (new != TriggersStatus::default()).then_some(new);
    look.tell_blocked(&mut status.conditions);
    look.delete = of_looks(pipeline, observed, |job| !look.wanted.contains(job));
    look
}

/// The Jobs that look for data, those of a trigger that there is no more.
pub(super) fn orphans(pipeline: &MLPipeline, observed: &PipelineObserved) -> Vec<Delete> {
    let triggers = pipeline.spec.triggers.as_ref();
    let goes_on = |trigger: &str| triggers.and_then(|all| all.on_data.get(trigger)).is_some_and(|of| !of.suspend);
    let jobs = observed.looks.jobs.iter().filter(|job| goes_on(&job.stage));
    let kept: BTreeSet<&str> = jobs.map(|job| job.name.as_str()).collect();
    of_looks(pipeline, observed, |job| !kept.contains(job))
}

/// The pipeline's own Jobs that look for data, as far as they are to go.
fn of_looks(pipeline: &MLPipeline, observed: &PipelineObserved, goes: impl Fn(&str) -> bool) -> Vec<Delete> {
    let of_data =
        |job: &&Arc<JobView>| job.stage != names::SWEEP && !job.deleting && job.owner == pipeline.metadata.uid;
    let jobs = observed.looks.jobs.iter().filter(of_data);
    let delete = |job: &str, uid: &str| Delete { kind: DeleteKind::Job, name: job.to_owned(), uid: uid.to_owned() };
    jobs.filter(|job| goes(&job.name)).map(|job| delete(&job.name, &job.uid)).collect()
}

/// The run that a trigger started last is the pipeline's last one, if it is another than before.
fn note(last: &mut Option<String>, before: Option<&String>, now: Option<&String>) {
    if now.is_some() && now != before {
        *last = now.cloned();
    }
}

/// The triggers that start nothing because the spec says so.
fn suspended(triggers: &Triggers) -> Vec<String> {
    let named = |field: &str, name: &str| format!("{field}.{name}");
    let schedules = triggers.schedules.iter().filter(|(_, of)| of.suspend).map(|(name, _)| named("schedules", name));
    let upstreams = triggers.on_pipeline.iter().filter(|(_, of)| of.suspend).map(|(name, _)| named("onPipeline", name));
    let data = triggers.on_data.iter().filter(|(_, of)| of.suspend).map(|(name, _)| named("onData", name));
    schedules.chain(upstreams).chain(data).collect()
}

impl Look<'_> {
    /// Looks at the triggers that have names.
    fn each(
        &mut self,
        triggers: &Triggers,
        old: &TriggersStatus,
        new: &mut TriggersStatus,
        last_run: &mut Option<String>,
    ) {
        for (name, schedule) in &triggers.schedules {
            let before = old.schedules.get(name);
            if let Some(seen) = schedule::look(self, name, schedule, before) {
                note(last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
                new.schedules.insert(name.clone(), seen);
            }
        }
        for (name, backfill) in &triggers.backfills {
            let before = old.backfills.get(name);
            let schedule = triggers.schedules.get(&backfill.schedule);
            if let Some(seen) = schedule.and_then(|of| backfill::look(self, name, backfill, of, before)) {
                note(last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
                new.backfills.insert(name.clone(), seen);
            }
        }
        for (name, trigger) in &triggers.on_model {
            let before = old.on_model.get(name);
            let seen = model::look(self, name, trigger, before);
            note(last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
            new.on_model.insert(name.clone(), seen);
        }
        for (name, trigger) in &triggers.on_pipeline {
            let before = old.on_pipeline.get(name);
            if let Some(seen) = upstream::look(self, name, trigger, before) {
                note(last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
                new.on_pipeline.insert(name.clone(), seen);
            }
        }
        for (name, trigger) in &triggers.on_data {
            let before = old.on_data.get(name);
            if let Some(seen) = data::look(self, name, trigger, before) {
                note(last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
                new.on_data.insert(name.clone(), seen);
            }
        }
    }

    /// `TriggersReady`, where something outside the pipeline may keep a trigger from working, and an event when it begins to; and where one is
    /// suspended, which is easily forgotten.
    fn tell_blocked(&mut self, conditions: &mut Vec<Condition>) {
        let triggers = self.pipeline.spec.triggers.as_ref();
        let suspended = triggers.map(suspended).unwrap_or_default();
        let none = triggers.is_none_or(|t| t.on_model.is_empty() && t.on_pipeline.is_empty() && t.on_data.is_empty());
        if none && suspended.is_empty() {
            conditions.retain(|condition| condition.type_ != TRIGGERS_READY);
            return;
        }
        let said = self.blocked.join("; ");
        let before = conditions.iter().find(|condition| condition.type_ == TRIGGERS_READY);
        if !said.is_empty() && before.is_none_or(|before| !before.message.starts_with(&said)) {
            self.events.push(Event::warning("TriggerBlocked", &said));
        }
        let (status, reason) = match (said.is_empty(), suspended.is_empty()) {
            (false, _) => (ConditionStatus::False, "TriggerBlocked"),
            (true, false) => (ConditionStatus::True, "Suspended"),
            (true, true) => (ConditionStatus::True, "Ready"),
        };
        let suspended = suspended.iter().map(|trigger| format!("{trigger} is suspended"));
        let said = self.blocked.iter().cloned().chain(suspended).collect::<Vec<_>>().join("; ");
        set_condition(conditions, TRIGGERS_READY, status, reason, &said, self.pipeline.metadata.generation, self.now);
    }

    /// Nothing starts by this trigger until somebody mends something.
    fn blocked(&mut self, field: &str, name: &str, why: &str) {
        self.blocked.push(format!("{field}.{name}: {why}"));
    }

    /// How many runs may begin, where one too many ends at once or ends another one: all runs of the pipeline count.
    fn places(&self) -> Option<usize> {
        match bound(self.pipeline.spec.concurrency.as_ref())? {
            (ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Replace, max) => {
                let all = self.runs.values().filter(|run| !has_ended(run)).count() + self.starts.len();
                Some(max.saturating_sub(all))
            }
            (ConcurrencyPolicy::Allow | ConcurrencyPolicy::Queue, _) => None,
        }
    }

    /// The run of a start, if it was made; else it will be.
    fn started(&mut self, start: Start<'_>) -> Option<String> {
        let seen = self.seen(&start);
        if seen.is_none() {
            self.start(start);
        }
        seen
    }

    /// The run of a start, if it was made.
    fn seen(&self, start: &Start<'_>) -> Option<String> {
        let name = self.run_name(start);
        self.runs.contains_key(name.as_str()).then_some(name)
    }

    fn start(&mut self, start: Start<'_>) {
        if self.starts.len() < self.most {
            let name = self.run_name(&start);
            self.starts.push(run(&self.pipeline.metadata, name, start));
        }
    }

    fn run_name(&self, start: &Start<'_>) -> String {
        let of = &self.pipeline.metadata;
        // The uid keeps a pipeline that was made again under an old name from meeting the old one's runs.
        let uid = of.uid.as_deref().unwrap_or_default();
        let key = match start.kind {
            Kind::Change => start.key.clone(),
            kind => format!("{}/{}", kind.as_str(), start.key),
        };
        names::triggered_run(of.name.as_deref().unwrap_or_default(), &format!("{uid}/{key}"))
    }

    /// Tells that a run was started.
    fn tell(&mut self, by: &str, run: &str, why: &str) {
        self.events.push(Event::normal("RunStarted", format!("{by}: MLPipelineRun {run} {why}")));
    }

    /// Looks again at this time.
    fn wait_for(&mut self, time: Timestamp) {
        self.again(duration::since(self.now, time).min(LONGEST_WAIT));
    }

    /// Looks again after so long.
    fn again(&mut self, left: Duration) {
        self.next = sooner(self.next, Some(left.max(Duration::from_millis(1))));
    }
}

fn has_succeeded(run: &MLPipelineRun) -> bool {
    has_ended(run) && condition(run, "Succeeded") == Some("True")
}

/// The status of a condition.
fn condition<'a>(run: &'a MLPipelineRun, kind: &str) -> Option<&'a str> {
    let conditions = run.status.as_ref().map(|status| &status.conditions)?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

fn has_ended(run: &MLPipelineRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.completion_time.is_some())
}

/// The part of a key that tells a trigger from an earlier one of its name: when it began. That is in the status before a run is made.
fn since(start_time: Option<&Time>) -> i64 {
    start_time.map(|time| time.0.as_second()).unwrap_or_default()
}

fn run(of: &ObjectMeta, name: String, start: Start<'_>) -> MLPipelineRun {
    let owner = of.name.clone().unwrap_or_default();
    let labels = [
        (names::PIPELINE_LABEL.to_owned(), names::label_value(&owner)),
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
    ];
    MLPipelineRun {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: of.namespace.clone(),
            labels: Some(labels.into()),
            owner_references: Some(vec![worker::owner(of)]),
            ..ObjectMeta::default()
        },
        spec: MLPipelineRunSpec {
            pipeline_ref: Some(PipelineRef { name: owner }),
            params: start.params,
            trigger: Some(RunTrigger {
                kind: start.kind.as_str().to_owned(),
                name: start.name.map(str::to_owned),
                key: start.key,
                run: start.run.map(str::to_owned),
                version: start.version.map(str::to_owned),
            }),
            scheduled_time: start.time.map(Time),
            ..MLPipelineRunSpec::default()
        },
        status: None,
    }
}
