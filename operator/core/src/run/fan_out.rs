//! A stage with `forEach`, while its items run: what its Indexed Job and the pods of it say. When all are done, another attempt collects what
//! they made, as any program's.

use std::collections::BTreeMap;
use std::time::Duration;

use super::classify::{self, Standing};
use super::ending::{Ending, Failure, Wanted};
use super::pass::{Effects, Pass, Stages, since};
use super::{JobItems, JobView, PodView, Words, attempt, container};
use crate::api::{ItemsStatus, JobRef, StageState, StageStatus};
use crate::duration;
use crate::pipeline::FrozenContainer;

/// Reason of a stage of which an item failed.
const ITEM_FAILED: &str = "ItemFailed";
/// Pods of items wake nobody: there may be ten thousand.
const LOOK: Duration = Duration::from_secs(2);
/// Between two writes of the counts: longer, the more items there are.
const OFTEN: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(10);
/// So many failed items are told of.
const TOLD: usize = 3;

/// The items run, and nothing is collected yet.
pub(super) fn runs_items(stage: &FrozenContainer, status: &StageStatus) -> bool {
    stage.for_each.is_some() && !collects(status)
}

/// What the items made is put together.
pub(super) fn collects(status: &StageStatus) -> bool {
    status.items.as_ref().is_some_and(|items| items.collecting)
}

/// Looks at the Job of the items, which `reference` names.
pub(super) fn advance(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    old: &StageStatus,
    reference: &JobRef,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let job = pass.observed.jobs.iter().find(|job| {
        job.name == reference.name
            && job.owner.as_deref() == Some(pass.run_uid())
            && reference.uid.as_ref().is_none_or(|uid| *uid == job.uid)
    });
    let Some(job) = job else {
        if reference.uid.is_none() {
            return container::make_sure(pass, name, stage, old, stages, effects);
        }
        let ending = Ending::disrupted("JobDeleted", format!("Job {} is gone, and its pods with it", reference.name));
        return attempt::end(pass, name, stage, old.clone(), ending, stages, effects);
    };
    let mut new = step(pass, name, stage, old, job, stages, effects);
    if new.attempts == old.attempts && (new != *old || job.deleting) {
        new.job = Some(JobRef { name: job.name.clone(), uid: Some(job.uid.clone()) });
    }
    new
}

fn step(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    old: &StageStatus,
    job: &JobView,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let pods: Vec<&PodView> =
        pass.observed.pods.iter().map(AsRef::as_ref).filter(|pod| pod.owner.as_deref() == Some(&job.uid)).collect();
    let mut status =
        StageStatus { image: container::image_of(pods.iter().copied()).or(old.image.clone()), ..old.clone() };
    let total = old.items.as_ref().map_or(0, |items| items.total);
    let counts = job.items.clone().unwrap_or_default();
    if job.complete {
        status.items = Some(counted(pass, total, &JobItems { succeeded: total, ..JobItems::default() }));
        return done(pass, name, stage, status, stages, effects);
    }
    if job.deleting {
        let ending = Ending::disrupted("JobDeleted", format!("Job {} was deleted", job.name));
        return attempt::end(pass, name, stage, status, ending, stages, effects);
    }
    if let Some(words) = &job.failed {
        // The Job says so before the last counts are there.
        status.items = Some(counted(pass, total, &JobItems { ready: 0, ..counts.clone() }));
        let ending = failed(wanted(pass, name, stage, old), &pods, &counts, words);
        return attempt::end(pass, name, stage, status, ending, stages, effects);
    }
    effects.again(LOOK);
    let begun = counts.ready > 0 || counts.succeeded > 0 || counts.failed > 0;
    let words = || {
        let pending = pods.iter().filter_map(|pod| match classify::of_pod(wanted(pass, name, stage, old), pod) {
            Standing::Pending(words) => words,
            _ => None,
        });
        pending.min_by(|a, b| a.reason.cmp(&b.reason)).or_else(|| pass.observed.job_warnings.get(&job.name).cloned())
    };
    if !begun && old.state != StageState::Running {
        return container::wait(pass, name, stage, status, words(), effects);
    }
    status.state = StageState::Running;
    status.items = Some(tallied(pass, old, total, &counts));
    let told = if counts.ready == 0 { words() } else { None };
    if let Some(items) = status.items.as_ref().filter(|items| items.running == 0 && counts.ready == 0) {
        let limit = Duration::from_secs(stage.pending_timeout_seconds);
        if pass.left(items.time.as_ref(), limit).is_none() {
            let why = told
                .map_or_else(|| "nobody said why".to_owned(), |words| format!("{}: {}", words.reason, words.message));
            let message = format!("no item has run for {}: {why}", duration::format(limit));
            return attempt::fail(pass, name, status, container::PENDING_TIMEOUT, &message, effects);
        }
    }
    let (reason, message) = match told {
        // What holds the rest up is told until it runs again.
        Some(words) => (Some(words.reason.clone()), Some(format!("{}; {}", progress(&status), words.message))),
        None => (None, Some(progress(&status))),
    };
    status.reason = reason;
    status.message = message.map(|text| super::pass::clip(&text));
    status
}

fn wanted<'a>(pass: &'a Pass<'_>, name: &'a str, stage: &'a FrozenContainer, status: &StageStatus) -> Wanted<'a> {
    Wanted { run_uid: pass.run_uid(), stage: name, attempt: status.attempts, items: true, outputs: &stage.outputs }
}

/// `37 of 100 items are done, 4 run, 1 failed`.
fn progress(status: &StageStatus) -> String {
    let Some(items) = &status.items else { return String::new() };
    let ItemsStatus { total, succeeded, failed, running, .. } = items;
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{succeeded} of {total} items are done, {running} run{failed}")
}

fn counted(pass: &Pass<'_>, total: u32, counts: &JobItems) -> ItemsStatus {
    let JobItems { succeeded, ready, failed, .. } = counts;
    let time = Some(pass.time());
    ItemsStatus { total, succeeded: *succeeded, failed: *failed, running: *ready, time, collecting: false }
}

/// The counts; the old ones if they are the same, or were written a moment ago.
fn tallied(pass: &Pass<'_>, old: &StageStatus, total: u32, counts: &JobItems) -> ItemsStatus {
    let new = counted(pass, total, counts);
    let Some(before) = &old.items else { return new };
    let same = ItemsStatus { time: before.time.clone(), ..new.clone() } == *before;
    let pause = Duration::from_secs(u64::from(total / 200)).clamp(OFTEN, SELDOM);
    let recent = before.time.as_ref().is_some_and(|time| since(time.0, pass.now) < pause);
    // The first that begins is told at once.
    if same || recent && old.state == StageState::Running { before.clone() } else { new }
}

/// Every item is done.
fn done(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    mut status: StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    status.reason = None;
    status.message = None;
    if pass.frozen.store.is_some() {
        if let Some(items) = &mut status.items {
            items.collecting = true;
        }
        return container::begin(pass, name, stage, status, stages, effects);
    }
    finished(pass, status)
}

/// Nothing is kept of it, or there was none.
pub(super) fn finished(pass: &Pass<'_>, mut status: StageStatus) -> StageStatus {
    status.state = StageState::Succeeded;
    status.completion_time = Some(pass.time());
    status
}

/// The items of a stage that begins. With none of them there is no Job for them.
pub(super) fn begun(pass: &Pass<'_>, total: u32) -> ItemsStatus {
    let collecting = total == 0 && pass.frozen.store.is_some();
    ItemsStatus { collecting, ..counted(pass, total, &JobItems::default()) }
}

/// Why the Job failed, as the pods of the items that failed for good say. What somebody stopped from outside is tried again: what is done
/// is found in the store.
fn failed(wanted: Wanted<'_>, pods: &[&PodView], counts: &JobItems, words: &Words) -> Ending {
    let mut last: BTreeMap<u32, &PodView> = BTreeMap::new();
    for pod in pods {
        let Some(index) =
            pod.index.filter(|index| counts.first_failed.is_empty() || counts.first_failed.contains(index))
        else {
            continue;
        };
        let ended = pod.main.as_ref().is_some_and(|main| main.terminated.is_some()) || pod.phase == "Failed";
        if ended && last.get(&index).is_none_or(|other| other.created <= pod.created) {
            last.insert(index, pod);
        }
    }
    let mut failures = Vec::new();
    let mut disruption = None;
    for (index, pod) in &last {
        match classify::of_pod(wanted, pod) {
            Standing::Ended(Ending::Failed(failure)) => failures.push((*index, failure)),
            Standing::Ended(Ending::Disrupted { reason, message }) => {
                disruption.get_or_insert((reason, format!("item {index}: {message}")));
            }
            _ => {}
        }
    }
    let Some((_, first)) = failures.first() else {
        return match disruption {
            Some((reason, message)) => Ending::Disrupted { reason, message },
            None => Ending::Failed(Failure {
                reason: ITEM_FAILED.to_owned(),
                message: format!(
                    "the pods are gone and their reports with them; the Job says {}: {}",
                    words.reason, words.message
                ),
                lasting: true,
                ..Failure::default()
            }),
        };
    };
    let exit_code = first.exit_code;
    let told: Vec<String> = failures
        .iter()
        .take(TOLD)
        .map(|(index, failure)| format!("item {index}: {}: {}", failure.reason, failure.message))
        .collect();
    let more = (counts.failed as usize).max(failures.len()).saturating_sub(told.len());
    let rest = if more > 0 { format!("\nand {more} more") } else { String::new() };
    Ending::Failed(Failure {
        reason: ITEM_FAILED.to_owned(),
        message: format!("{}{rest}", told.join("\n")),
        exit_code,
        report: None,
        // Each was tried as often as `retry` says.
        lasting: true,
    })
}
