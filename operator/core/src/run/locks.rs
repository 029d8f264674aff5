//! Named locks: which runs and stages of a namespace may run at a time. Who holds one is read from the runs that there are: their status says it
//! before anything of them runs, and who has ended holds none, so that none is ever lost.
//!
//! A run or a stage takes all of its locks at once, and nobody waits for one while it holds another: so nobody waits in a circle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::pass::{Effects, Pass, Stages, clip, since, whole_seconds};
use super::turns::{FRONT, listed};
use super::{Observed, container, turns};
use crate::api::{LocksStatus, MLPipelineRun, MLPipelineRunStatus, MLPipelineSpec, StageState, StageStatus, bounds};
use crate::pipeline::Frozen;
use crate::plan::Plan;

/// Reason of a run or stage that waits for a lock.
pub(super) const WAITING: &str = "WaitingForLock";

/// How soon one that waits looks again, if nobody wakes it: at the earliest and at the latest.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

/// What a run, or one of its stages, holds or waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub run: String,
    /// Nothing for the run itself.
    pub stage: Option<String>,
    pub priority: i32,
    /// Since when it waits.
    pub since: Option<Timestamp>,
    pub held: bool,
    /// How many may hold each lock, as it says.
    pub names: BTreeMap<String, u32>,
}

/// Who has the smaller one is first: the higher priority, then who waits longer, then by name.
type Rank<'a> = (Reverse<i32>, Option<Timestamp>, &'a str, Option<&'a str>);

impl Claim {
    fn of(run: &str, stage: Option<&str>, priority: i32, locks: &LocksStatus) -> Self {
        Self {
            run: run.to_owned(),
            stage: stage.map(str::to_owned),
            priority,
            since: locks.wait_time.as_ref().map(|time| time.0),
            held: locks.hold_time.is_some(),
            names: locks.names.clone(),
        }
    }

    fn rank(&self) -> Rank<'_> {
        (Reverse(self.priority), self.since, &self.run, self.stage.as_deref())
    }

    fn told(&self) -> String {
        match &self.stage {
            Some(stage) => format!("run {}, stage {stage}", self.run),
            None => format!("run {}", self.run),
        }
    }
}

/// What a run and its stages hold and wait for. `runs` says whether a program of a stage that was given up still runs: until it has stopped, its
/// lock is held. A run that is being deleted waits for nothing any more.
pub fn claims(run: &MLPipelineRun, priority: i32, runs: impl Fn(&str) -> bool) -> Vec<Claim> {
    let Some(status) = run.status.as_ref().filter(|status| status.completion_time.is_none()) else { return Vec::new() };
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let of_run = status.locks.iter().map(|locks| Claim::of(name, None, priority, locks));
    let mut found: Vec<_> = of_run.chain(of_stages(name, priority, &status.stages, runs)).collect();
    found.retain(|claim| claim.held || run.metadata.deletion_timestamp.is_none());
    found
}

fn of_stages<'a>(
    run: &'a str,
    priority: i32,
    stages: &'a Stages,
    runs: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = Claim> + 'a {
    stages.iter().filter_map(move |(name, status)| {
        let claim = Claim::of(run, Some(name), priority, status.locks.as_ref()?);
        let over = status.state.ended();
        let stopping = || claim.held && container::is_given_up(stages, name) && runs(name);
        (!over || stopping()).then_some(claim)
    })
}

/// The locks that a run or one of its stages has held or wanted: whoever waits for one of them is to look again when the run changes.
pub fn lock_names(run: &MLPipelineRun) -> BTreeSet<&str> {
    let status = run.status.as_ref();
    let of_stages = status.iter().flat_map(|status| status.stages.values()).filter_map(|stage| stage.locks.as_ref());
    let all = status.iter().filter_map(|status| status.locks.as_ref()).chain(of_stages);
    all.flat_map(|locks| locks.names.keys()).map(String::as_str).collect()
}

/// Whether a run that runs this looks at locks at all.
#[must_use]
pub fn has_locks(frozen: Option<&Frozen>, spec: Option<&MLPipelineSpec>) -> bool {
    match (frozen, spec) {
        (Some(frozen), _) => !frozen.locks.is_empty() || frozen.stages.values().any(|stage| !stage.locks.is_empty()),
        (None, Some(spec)) => {
            let mut stages = spec.stages.values().chain(spec.finally.values());
            !spec.locks.is_empty() || stages.any(|stage| !stage.locks.is_empty())
        }
        (None, None) => false,
    }
}

/// Whether a lock is taken in this plan. Two passes that saw the same place free must not both take it: such a plan is made again, while nobody
/// else takes one.
#[must_use]
pub fn takes_locks(run: &MLPipelineRun, plan: &Plan<MLPipelineRunStatus>) -> bool {
    let Some(new) = &plan.status else { return false };
    let before = run.status.as_ref().map(held).unwrap_or_default();
    !held(new).is_subset(&before)
}

/// What holds its locks: stages by name, and nothing for the run.
fn held(status: &MLPipelineRunStatus) -> BTreeSet<Option<&str>> {
    if status.completion_time.is_some() {
        return BTreeSet::new();
    }
    let holds = |locks: &Option<LocksStatus>| locks.as_ref().is_some_and(|locks| locks.hold_time.is_some());
    let stages = status.stages.iter().filter(|(_, stage)| !stage.state.ended() && holds(&stage.locks));
    let run = holds(&status.locks).then_some(None);
    stages.map(|(name, _)| Some(name.as_str())).chain(run).collect()
}

/// The run waits for its own locks.
pub(super) fn run_waits(status: &MLPipelineRunStatus) -> bool {
    status.locks.as_ref().is_some_and(|locks| locks.hold_time.is_none())
}

/// The stage waits for a lock, and nothing of it was begun.
pub(super) fn waits(status: &StageStatus) -> bool {
    status.state == StageState::Pending && status.reason.as_deref() == Some(WAITING)
}

/// What of the run's own locks is written down when it begins.
pub(super) fn taken(
    names: &BTreeMap<String, u32>,
    before: Option<&LocksStatus>,
    now: Timestamp,
) -> Option<LocksStatus> {
    let wait_time = before.and_then(|locks| locks.wait_time.clone());
    let hold_time = Some(Time(whole_seconds(now)));
    (!names.is_empty()).then(|| LocksStatus { names: names.clone(), wait_time, hold_time })
}

/// Why a run does not begin, although it has a slot: it waits for its locks.
pub(super) fn of_run(run: &MLPipelineRun, observed: &Observed, now: Timestamp) -> Option<(LocksStatus, String)> {
    let spec = run.spec.pipeline.as_ref().or(observed.pipeline.as_ref().map(|pipeline| &pipeline.spec));
    let names = match &observed.frozen {
        Some(frozen) => frozen.locks.clone(),
        None => spec.map(|spec| bounds(&spec.locks)).unwrap_or_default(),
    };
    if names.is_empty() {
        return None;
    }
    // What it held before it was begun again is over.
    let before = run.status.as_ref().and_then(|status| status.locks.as_ref()).filter(|locks| locks.hold_time.is_none());
    let wait_time = before.and_then(|locks| locks.wait_time.clone()).unwrap_or(Time(whole_seconds(now)));
    let locks = LocksStatus { names, wait_time: Some(wait_time), hold_time: None };
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let mine = Claim::of(name, None, turns::priority(run, observed.pipeline.as_deref()), &locks);
    let why = hindered(&mine, &observed.locks.iter().collect::<Vec<_>>())?;
    Some((locks, why))
}

/// A stage that wants its locks.
pub(super) enum Turn {
    /// It has them, or needs none.
    Begins(StageStatus),
    Waits(StageStatus),
}

/// Takes the stage's locks, or says what it waits for.
pub(super) fn of_stage(pass: &Pass<'_>, name: &str, old: &StageStatus, stages: &Stages, effects: &mut Effects) -> Turn {
    let Some(stage) = pass.frozen.stages.get(name).filter(|stage| !stage.locks.is_empty()) else {
        return Turn::Begins(old.clone());
    };
    if old.locks.as_ref().is_some_and(|locks| locks.hold_time.is_some()) {
        return Turn::Begins(old.clone());
    }
    let before = old.locks.as_ref().and_then(|locks| locks.wait_time.clone());
    let wait_time = before.clone().unwrap_or(pass.time());
    let locks = LocksStatus { names: stage.locks.clone(), wait_time: Some(wait_time.clone()), hold_time: None };
    let priority = turns::priority(pass.run, pass.observed.pipeline.as_deref());
    let mine = Claim::of(pass.run_name(), Some(name), priority, &locks);
    let works = |stage: &str| container::works(pass, stage);
    let own: Vec<_> = of_stages(pass.run_name(), priority, stages, works).collect();
    let own = own.iter().filter(|claim| claim.stage.as_deref() != Some(name));
    let Some(why) = hindered(&mine, &pass.observed.locks.iter().chain(own).collect::<Vec<_>>()) else {
        let locks = LocksStatus { wait_time: before, hold_time: Some(pass.time()), ..locks };
        let (state, reason, message) = (StageState::Waiting, None, None);
        return Turn::Begins(StageStatus { state, reason, message, locks: Some(locks), ..old.clone() });
    };
    effects.again(pause(wait_time.0, pass.now));
    if !waits(old) {
        effects.tell(WAITING, format!("stage {name}: {why}"));
    }
    Turn::Waits(StageStatus {
        state: StageState::Pending,
        reason: Some(WAITING.to_owned()),
        message: Some(clip(&why)),
        locks: Some(locks),
        ..old.clone()
    })
}

/// A quarter of the time that was waited already, within bounds. Whoever lets go wakes those who wait; but not one who was about to write down that it
/// waits.
pub(super) fn pause(from: Timestamp, now: Timestamp) -> Duration {
    (since(from, now) / 4).clamp(SOONEST, LATEST)
}

/// Why somebody does not get its locks, if it does not: of the first one that has no place.
fn hindered(mine: &Claim, others: &[&Claim]) -> Option<String> {
    mine.names.iter().find_map(|(name, max)| hindered_by(mine, name, *max, others))
}

/// Those before it are to have it first, also if they wait for another one yet: else one who wants several might never get them.
fn hindered_by(mine: &Claim, name: &str, max: u32, others: &[&Claim]) -> Option<String> {
    let before = others
        .iter()
        .copied()
        .filter(|claim| claim.names.contains_key(name) && (claim.held || claim.rank() < mine.rank()));
    let (holders, waiting): (Vec<&Claim>, Vec<&Claim>) = before.partition(|claim| claim.held);
    let said = holders.iter().chain(&waiting).filter_map(|claim| claim.names.get(name)).copied();
    let bound = said.chain([max]).min().unwrap_or(max);
    if holders.len() + waiting.len() < usize::try_from(bound).unwrap_or(usize::MAX) {
        return None;
    }
    let mut told: Vec<_> = holders.iter().map(|claim| claim.told()).collect();
    told.sort_unstable();
    let told: Vec<_> = told.iter().map(String::as_str).collect();
    let holds = if told.is_empty() { String::new() } else { format!(", held by {}", listed(&told)) };
    let ahead = match waiting.len() {
        0 => String::new(),
        count if count > FRONT => format!("; more than {FRONT} wait before it"),
        1 => "; 1 waits before it".to_owned(),
        count => format!("; {count} wait before it"),
    };
    Some(format!("waits for the lock `{name}` ({bound} at a time){holds}{ahead}"))
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
