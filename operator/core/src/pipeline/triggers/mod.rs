//! What starts runs by itself: one trigger starts one run, whatever crashes.
//!
//! A trigger has a key, and the run's name follows from it, so that it is made once. The status takes the trigger over when the run was
//! seen. So a crash before the run is made makes it later; a crash after it finds it there; and a run that was seen and then deleted is not
//! made again.

mod backfill;
mod change;
mod model;
mod schedule;
#[cfg(test)]
mod tests;
mod times;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;

use crate::api::{
    API_VERSION, MLPipeline, MLPipelineRun, MLPipelineRunSpec, MLPipelineStatus, ModelDeployment, PipelineRef,
    RunTrigger, TriggersStatus, Value,
};
use crate::duration;
use crate::names;
use crate::plan::{Event, sooner};

pub use change::starts;
pub(super) use model::names as names_of_model;
pub(super) use times::{Fault, of_schedule};

/// So many runs are started in one pass at most. The next pass comes when they are seen.
const MOST: usize = 20;
/// A clock may be put right while one waits: after so long it is read again.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// `spec.trigger.kind` of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Change,
    Schedule,
    Backfill,
    Model,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Change => "Change",
            Self::Schedule => "Schedule",
            Self::Backfill => "Backfill",
            Self::Model => "Model",
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
}

impl<'a> Start<'a> {
    fn new(kind: Kind, key: String) -> Self {
        Self { kind, name: None, key, time: None, params: BTreeMap::new() }
    }

    /// For a time of a schedule. Once for each name of a trigger: one that may begin anew has another key.
    fn at(kind: Kind, name: &'a str, time: Timestamp, params: BTreeMap<String, Value>) -> Self {
        Self { kind, name: Some(name), key: format!("{name}/{time}"), time: Some(time), params }
    }
}

/// One look at the triggers of a pipeline.
pub(super) struct Look<'a> {
    pipeline: &'a MLPipeline,
    runs: BTreeMap<&'a str, &'a MLPipelineRun>,
    models: &'a BTreeMap<String, Arc<ModelDeployment>>,
    now: Timestamp,
    /// So many runs may be started.
    most: usize,
    /// Runs that are to be made.
    pub(super) starts: Vec<MLPipelineRun>,
    pub(super) events: Vec<Event>,
    /// When to look again.
    pub(super) next: Option<Duration>,
}

/// Looks at the triggers of an accepted pipeline, and notes in its status what was seen of them.
pub(super) fn look<'a>(
    pipeline: &'a MLPipeline,
    runs: BTreeMap<&'a str, &'a MLPipelineRun>,
    models: &'a BTreeMap<String, Arc<ModelDeployment>>,
    refused: bool,
    status: &mut MLPipelineStatus,
    now: Timestamp,
) -> Look<'a> {
    // One that was refused is tried alone: what is behind it would be made, and made again.
    let most = if refused { 1 } else { MOST };
    let mut look = Look { pipeline, runs, models, now, most, starts: Vec::new(), events: Vec::new(), next: None };
    let old = status.triggers.take().unwrap_or_default();
    let mut new = TriggersStatus::default();
    if let Some(triggers) = &pipeline.spec.triggers {
        if triggers.on_change {
            change::look(&mut look, status);
        }
        for (name, schedule) in &triggers.schedules {
            let before = old.schedules.get(name);
            if let Some(seen) = schedule::look(&mut look, name, schedule, before) {
                note(&mut status.last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
                new.schedules.insert(name.clone(), seen);
            }
        }
        for (name, backfill) in &triggers.backfills {
            let before = old.backfills.get(name);
            let schedule = triggers.schedules.get(&backfill.schedule);
            if let Some(seen) = schedule.and_then(|of| backfill::look(&mut look, name, backfill, of, before)) {
                note(&mut status.last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
                new.backfills.insert(name.clone(), seen);
            }
        }
        for (name, trigger) in &triggers.on_model {
            let before = old.on_model.get(name);
            let seen = model::look(&mut look, name, trigger, before);
            note(&mut status.last_run, before.and_then(|old| old.last_run.as_ref()), seen.last_run.as_ref());
            new.on_model.insert(name.clone(), seen);
        }
    }
    status.triggers = (new != TriggersStatus::default()).then_some(new);
    look
}

/// The run that a trigger started last is the pipeline's last one, if it is another than before.
fn note(last: &mut Option<String>, before: Option<&String>, now: Option<&String>) {
    if now.is_some() && now != before {
        *last = now.cloned();
    }
}

impl Look<'_> {
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
        let left = duration::since(self.now, time).min(LONGEST_WAIT);
        self.next = sooner(self.next, Some(left.max(Duration::from_millis(1))));
    }
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
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "MLPipeline".to_owned(),
                name: owner.clone(),
                uid: of.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: MLPipelineRunSpec {
            pipeline_ref: Some(PipelineRef { name: owner }),
            params: start.params,
            trigger: Some(RunTrigger {
                kind: start.kind.as_str().to_owned(),
                name: start.name.map(str::to_owned),
                key: start.key,
            }),
            scheduled_time: start.time.map(Time),
            ..MLPipelineRunSpec::default()
        },
        status: None,
    }
}
