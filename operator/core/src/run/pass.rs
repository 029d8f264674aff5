//! What every step of a pass looks at, and where it puts its effects.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Observed;
use super::finish::End;
use crate::api::{API_VERSION, MLPipelineRun, StageStatus, Value};
use crate::config::Config;
pub(super) use crate::duration::since;
use crate::pipeline::{Frozen, stage_path};
use crate::plan::{Apply, Create, Delete, Event, Refusal, sooner};

/// The longest message that is written to a status, in bytes (the schema allows 2,048 characters).
const MESSAGE_LIMIT: usize = 1500;

/// The stages' states by name, those of this pass as far as they are decided.
pub(super) type Stages = BTreeMap<String, StageStatus>;

/// What a pass decides from.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub run: &'a MLPipelineRun,
    pub observed: &'a Observed,
    pub config: &'a Config,
    pub now: Timestamp,
    pub frozen: &'a Frozen,
    /// The ControllerRevision that holds `frozen`.
    pub frozen_name: &'a str,
    /// The run's parameters, defaults filled in.
    pub params: &'a BTreeMap<String, Value>,
    /// `run.status`: how the stages before `finally` ended, once they have.
    pub end: Option<&'a End>,
    /// Nothing new begins: the run is suspended, or has no slot.
    pub held: bool,
    /// Why what people decided is not carried out yet: a reason and a sentence.
    pub waits: Option<(&'static str, &'a str)>,
}

impl Pass<'_> {
    pub fn run_name(&self) -> &str {
        self.run.metadata.name.as_deref().unwrap_or_default()
    }

    /// The path of a stage.
    pub fn at(&self, stage: &str) -> String {
        stage_path(self.is_finally(stage), stage)
    }

    pub fn is_finally(&self, stage: &str) -> bool {
        self.frozen.stages.get(stage).is_some_and(|stage| stage.finally)
    }

    pub fn run_uid(&self) -> &str {
        self.run.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.run.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn pipeline_name(&self) -> Option<&str> {
        self.run.spec.pipeline_ref.as_ref().map(|reference| reference.name.as_str())
    }

    /// The time as it is written: Kubernetes keeps whole seconds, and what is read back must equal what was written.
    pub fn time(&self) -> Time {
        Time(whole_seconds(self.now))
    }

    /// The run as the controller of what it makes.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: "MLPipelineRun".to_owned(),
            name: self.run_name().to_owned(),
            uid: self.run_uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Why the apiserver refused an effect of the last pass.
    pub fn refusal(&self, kind: &str, name: &str) -> Option<&Refusal> {
        refusal(self.observed, &format!("{kind} {name}"))
    }

    /// How long is left of `limit` since `start`; `None` if nothing is.
    pub fn left(&self, start: Option<&Time>, limit: Duration) -> Option<Duration> {
        let gone = start.map_or(Duration::ZERO, |start| since(start.0, self.now));
        limit.checked_sub(gone).filter(|left| !left.is_zero())
    }
}

/// Which run of its pipeline it is: as its status has it, or else as its pipeline has given it.
pub(super) fn number(run: &MLPipelineRun, observed: &Observed) -> Option<i64> {
    let taken = run.status.as_ref().and_then(|status| status.number);
    let given = || {
        let pipeline = observed.pipeline.as_ref().filter(|_| run.spec.pipeline.is_none())?;
        let numbers = pipeline.status.as_ref()?.run_numbers.as_ref()?;
        numbers.given.get(run.metadata.uid.as_ref()?).copied()
    };
    taken.or_else(given)
}

/// Why the apiserver refused what the last pass wanted of an object, given as kind and name.
pub(super) fn refusal<'a>(observed: &'a Observed, object: &str) -> Option<&'a Refusal> {
    observed.refusals.iter().find(|refusal| refusal.object == object)
}

/// What the steps of a pass want done.
#[derive(Default)]
pub(super) struct Effects {
    pub create: Vec<Create>,
    pub apply: Vec<Apply>,
    pub delete: Vec<Delete>,
    pub events: Vec<Event>,
    pub requeue: Option<Duration>,
    /// Stages that are run again, and the status with which they are.
    pub remake: Vec<(String, StageStatus)>,
}

impl Effects {
    /// Look again after `wait` at the latest.
    pub fn again(&mut self, wait: Duration) {
        self.requeue = sooner(self.requeue, Some(wait));
    }

    /// Those of another part of the pass after these.
    pub fn join(&mut self, more: Self) {
        let Self { create, apply, delete, events, requeue, remake } = more;
        self.create.extend(create);
        self.apply.extend(apply);
        self.delete.extend(delete);
        self.events.extend(events);
        self.remake.extend(remake);
        self.requeue = sooner(self.requeue, requeue);
    }

    pub fn warn(&mut self, reason: &'static str, message: impl AsRef<str>) {
        self.events.push(Event::warning(reason, clip(message.as_ref())));
    }

    pub fn tell(&mut self, reason: &'static str, message: impl AsRef<str>) {
        self.events.push(Event::normal(reason, clip(message.as_ref())));
    }
}

/// The second that `time` lies in.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The first whole second that is not before `start + wait`.
pub(super) fn after(start: Timestamp, wait: Duration) -> Timestamp {
    let end = SignedDuration::try_from(wait).ok().and_then(|wait| start.checked_add(wait).ok());
    let end = end.unwrap_or(Timestamp::MAX);
    if whole_seconds(end) == end { end } else { Timestamp::from_second(end.as_second() + 1).unwrap_or(end) }
}

/// The longest that a run says of one stage.
const LINE_LIMIT: usize = 300;

/// What a stage says in one line, for its run: the stage itself says all of it.
pub(super) fn first_line(stage: &StageStatus) -> String {
    let message = stage.message.as_deref().unwrap_or_default();
    crate::clip::clip(message.lines().next().unwrap_or_default(), LINE_LIMIT)
}

/// Text that fits a status.
pub(super) fn clip(text: &str) -> String {
    crate::clip::clip(text, MESSAGE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_of_a_stage_keeps_its_end() {
        let message = format!("Failed to pull image: {}: no such host\nmore", "resolver ".repeat(99));
        let line = first_line(&StageStatus { message: Some(message), ..StageStatus::default() });
        assert!(
            line.len() <= LINE_LIMIT && line.starts_with("Failed to pull") && line.ends_with("no such host"),
            "{line}"
        );
    }

    #[test]
    fn the_earliest_requeue_wins() {
        let mut effects = Effects::default();
        for seconds in [30, 5, 60] {
            effects.again(Duration::from_secs(seconds));
        }
        assert_eq!(effects.requeue, Some(Duration::from_secs(5)));
    }
}
