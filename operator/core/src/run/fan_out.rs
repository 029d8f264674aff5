//! A stage with `forEach`, while its items run: what its Indexed Job and the pods of it say. When all are done, another attempt collects what
//! they made, as any program's.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_contract::ReportReason;

use super::classify::{self, Standing};
use super::ending::{Ending, Failure, Wanted};
use super::pass::{Effects, Pass, Stages, clip, since};
use super::{JobItems, JobView, PodView, Words, attempt, container, item_job, job, placed, scope};
use crate::api::{ItemsStatus, JobRef, MLPipelineRun, StageState, StageStatus};
use crate::duration;
use crate::item::RetryOrder;
use crate::pipeline::FrozenContainer;
use crate::plan::{Delete, DeleteKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Reason of a stage of which an item failed.
pub(super) const ITEM_FAILED: &str = "ItemFailed";
/// Reason of a stage whose items are being stopped.
const STOPPING: &str = "Stopping";
/// How much longer than its grace period a program is waited for.
const PATIENCE: Duration = Duration::from_mins(5);
/// Pods of items wake nobody: there may be ten thousand.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// Between two writes of the counts: longer, the more items there are.
const OFTEN: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(10);
/// So many failed items are told of.
const TOLD: usize = 3;

/// The items run, and nothing is collected yet.
pub(super) fn runs_items(stage: &FrozenContainer, status: &StageStatus) -> bool {
    stage.for_each.is_some() && !collects(status)
}

/// The pods of this stage of a run are those of items.
#[must_use]
pub fn has_item_pods(run: &MLPipelineRun, stage: &str) -> bool {
    let status = run.status.as_ref().and_then(|status| status.stages.get(stage));
    let over = |status: &StageStatus| matches!(status.state, StageState::Succeeded | StageState::Skipped);
    // Items that are runs have none, and no Job.
    status.is_some_and(|status| status.items.is_some() && status.job.is_some() && !collects(status) && !over(status))
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
    let job = classify::job_of(pass.run_uid(), reference, pass.observed);
    let Some(uid) = reference.uid.as_ref().or(job.map(|job| &job.uid)) else {
        return container::make_sure(pass, name, stage, old, stages, effects);
    };
    let mut new = match job {
        None => {
            let message = format!("Job {} is gone, and its pods with it", reference.name);
            let ending = Ending::disrupted("JobDeleted", message);
            match stopping(pass, stage, old, &pods_of(pass, uid), effects) {
                Some(waits) => waits,
                None => attempt::end(pass, name, stage, old.clone(), ending, stages, effects),
            }
        }
        Some(job) => step(pass, name, stage, old, job, stages, effects),
    };
    let same = new.attempts == old.attempts && new.job.is_some();
    if let Some(job) = job.filter(|job| same && (new != *old || job.deleting)) {
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
    let pods = &pods_of(pass, &job.uid)[..];
    let image = container::image_of(pods.iter().copied()).or(old.image.clone());
    let mut status = StageStatus { image, ..old.clone() };
    let total = old.items.as_ref().map_or(0, |items| items.total);
    let counts = job.items.clone().unwrap_or_default();
    if job.complete {
        status.items = Some(counted(pass, total, &JobItems { succeeded: total, ..JobItems::default() }));
        return done(pass, name, stage, status, stages, effects);
    }
    let ending = if job.deleting {
        Some(Ending::disrupted("JobDeleted", format!("Job {} was deleted", job.name)))
    } else {
        let rule = rule(pass, stage, old, stages);
        job.failed.as_ref().map(|words| failed(rule.as_ref(), wanted(pass, name, stage, old), pods, &counts, words))
    };
    if let Some(ending) = ending {
        if old.reason.as_deref() != Some(STOPPING) {
            status.items = Some(counted(pass, total, &JobItems { ready: 0, ..counts }));
        }
        return match stopping(pass, stage, &status, pods, effects) {
            Some(waits) => waits,
            None => attempt::end(pass, name, stage, status, ending, stages, effects),
        };
    }
    effects.again(LOOK);
    if let Some(message) = lost(pass, name, stage, old, pods) {
        effects.delete.push(Delete { kind: DeleteKind::Job, name: job.name.clone(), uid: job.uid.clone() });
        let ending = Ending::disrupted(classify::LOST, message);
        return attempt::end(pass, name, stage, status, ending, stages, effects);
    }
    let tried = pods.iter().any(|pod| has_ended(pod));
    let begun = tried || counts.ready > 0 || counts.succeeded > 0 || counts.failed > 0;
    if !begun && old.state != StageState::Running {
        let words = pending(pass, name, stage, old, pods, job, stages);
        return container::wait(pass, name, stage, status, words, effects);
    }
    status.state = StageState::Running;
    let items = tallied(pass, old, counted(pass, total, &counts));
    let told = if counts.ready == 0 { pending(pass, name, stage, old, pods, job, stages) } else { None };
    // A pod that was made since is a sign of life too: its Job counts an item when it is over.
    let made = pods.iter().filter_map(|pod| pod.created).max();
    let life = items.time.as_ref().map(|time| Time(made.map_or(time.0, |made| made.max(time.0))));
    let limit = Duration::from_secs(stage.pending_timeout_seconds);
    status.items = Some(items);
    if counts.ready == 0 && pass.left(life.as_ref(), limit).is_none() {
        let why =
            told.map_or_else(|| "nobody said why".to_owned(), |words| format!("{}: {}", words.reason, words.message));
        let message = format!("no item has run for {}: {why}", duration::format(limit));
        return attempt::fail(pass, name, status, container::PENDING_TIMEOUT, &message, effects);
    }
    let (reason, message) = match told {
        // What holds the rest up is told until it runs again.
        Some(words) => (Some(words.reason), format!("{}; {}", progress(&status), words.message)),
        None => (None, progress(&status)),
    };
    status.reason = reason;
    status.message = Some(clip(&message));
    status
}

fn pods_of<'a>(pass: &Pass<'a>, job: &str) -> Vec<&'a PodView> {
    pass.observed.pods.iter().map(AsRef::as_ref).filter(|pod| pod.owner.as_deref() == Some(job)).collect()
}

/// The Job is over, and nothing follows while programs of its pods stop. A pod on a node that is lost may stay for ever.
fn stopping(
    pass: &Pass<'_>,
    stage: &FrozenContainer,
    status: &StageStatus,
    pods: &[&PodView],
    effects: &mut Effects,
) -> Option<StageStatus> {
    let since = status.items.as_ref().and_then(|items| items.time.clone());
    let limit = Duration::from_secs(job::grace_seconds(&stage.container)) + PATIENCE;
    let waits = status.reason.as_deref() == Some(STOPPING);
    if !pods.iter().any(|pod| classify::runs(pod)) || waits && pass.left(since.as_ref(), limit).is_none() {
        return None;
    }
    effects.again(LOOK);
    if waits {
        return Some(status.clone());
    }
    let items = status.items.clone().map(|items| ItemsStatus { time: Some(pass.time()), ..items });
    Some(StageStatus {
        reason: Some(STOPPING.to_owned()),
        message: Some("the Job of its items is over, and waits until their programs have stopped".to_owned()),
        items,
        ..status.clone()
    })
}

/// The words of a pod that waits; else of one that failed and is tried again; else of the Job that gets no pods.
fn pending(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    pods: &[&PodView],
    job: &JobView,
    stages: &Stages,
) -> Option<Words> {
    let of_pod = |pod: &PodView| classify::of_pod(wanted(pass, name, stage, status), pod);
    let waiting = pods.iter().filter_map(|pod| match of_pod(pod) {
        Standing::Pending(words) => words,
        _ => None,
    });
    let failed = || {
        let rule = rule(pass, stage, status, stages);
        let tried_again = |pod: &&&PodView| has_failed(pod) && !rule.as_ref().is_some_and(|rule| rule.gives_up(pod));
        let last = pods.iter().filter(tried_again).max_by_key(|pod| pod.created)?;
        let Standing::Ended(Ending::Failed(failure)) = of_pod(last) else { return None };
        let item = last.index.unwrap_or_default();
        let message = format!("item {item} is tried again: {}", failure.message);
        Some(Words { reason: failure.reason, message })
    };
    waiting
        .min_by(|a, b| a.reason.cmp(&b.reason))
        .or_else(failed)
        .or_else(|| pass.observed.job_warnings.get(&job.name).cloned())
        .map(|words| placed::plainly(pass, stage, words))
}

/// All that is left to run is on nodes that are lost: the Job would wait for them.
fn lost(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    pods: &[&PodView],
) -> Option<String> {
    let mut found = None;
    for pod in pods.iter().filter(|pod| !has_ended(pod)) {
        match classify::of_pod(wanted(pass, name, stage, status), pod) {
            Standing::Ended(Ending::Disrupted { reason, message }) if reason == classify::LOST => {
                found.get_or_insert(message);
            }
            _ => return None,
        }
    }
    found
}

fn has_ended(pod: &PodView) -> bool {
    pod.main.as_ref().is_some_and(|main| main.terminated.is_some())
        || matches!(pod.phase.as_str(), "Failed" | "Succeeded")
}

/// `retry.when` of the items, and how the pods end that the Job gives up for it.
struct Rule {
    retry: RetryOrder,
    codes: Vec<i32>,
}

fn rule(pass: &Pass<'_>, stage: &FrozenContainer, status: &StageStatus, stages: &Stages) -> Option<Rule> {
    let retry = RetryOrder::new(stage.retry.when.as_ref()?, scope::names(pass, stages));
    let codes = item_job::final_codes(&retry, status.attempts);
    Some(Rule { retry, codes })
}

impl Rule {
    /// The Job does not try the item of this pod again.
    fn gives_up(&self, pod: &PodView) -> bool {
        let end = pod.main.as_ref().and_then(|main| main.terminated.as_ref());
        end.is_some_and(|end| self.codes.contains(&end.exit_code))
    }

    /// Why there is no other attempt, if the Job was told that.
    fn refused(&self, pod: &PodView, failure: &Failure, attempt: u32) -> Option<String> {
        let attempt = failure.report.as_ref().map_or(attempt, |report| report.attempt);
        self.gives_up(pod).then(|| self.retry.refused(failure.exit_code, &failure.reason, attempt))?
    }
}

fn has_failed(pod: &PodView) -> bool {
    let good = |pod: &PodView| {
        pod.main.as_ref().and_then(|main| main.terminated.as_ref()).is_some_and(|end| end.exit_code == 0)
    };
    has_ended(pod) && !good(pod) && pod.phase != "Succeeded"
}

fn wanted<'a>(pass: &'a Pass<'_>, name: &'a str, stage: &'a FrozenContainer, status: &StageStatus) -> Wanted<'a> {
    Wanted { run_uid: pass.run_uid(), stage: name, attempt: status.attempts, items: true, outputs: &stage.outputs }
}

/// `37 of 100 items are done, 4 run, 1 failed`.
pub(super) fn progress(status: &StageStatus) -> String {
    let Some(items) = &status.items else { return String::new() };
    let ItemsStatus { total, succeeded, failed, running, .. } = items;
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{succeeded} of {total} items are done, {running} run{failed}")
}

pub(super) fn counted(pass: &Pass<'_>, total: u32, counts: &JobItems) -> ItemsStatus {
    let JobItems { succeeded, ready, failed, .. } = counts;
    ItemsStatus {
        total,
        succeeded: *succeeded,
        failed: *failed,
        running: *ready,
        time: Some(pass.time()),
        ..ItemsStatus::default()
    }
}

/// The counts; the old ones if they are the same, or were written a moment ago.
pub(super) fn tallied(pass: &Pass<'_>, old: &StageStatus, new: ItemsStatus) -> ItemsStatus {
    let Some(before) = &old.items else { return new };
    let same = ItemsStatus { time: before.time.clone(), ..new.clone() } == *before;
    let pause = Duration::from_secs(u64::from(new.total / 200)).clamp(OFTEN, SELDOM);
    let recent = before.time.as_ref().is_some_and(|time| since(time.0, pass.now) < pause);
    // The first that begins is told at once.
    if same || recent && old.state == StageState::Running { before.clone() } else { new }
}

/// Every item is done.
pub(super) fn done(
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
        let before = status.attempts;
        status = container::begin(pass, name, stage, status, stages, effects);
        // What hinders it may pass: then this is looked at again.
        if let Some(items) = status.items.as_mut().filter(|_| status.attempts == before && !status.state.ended()) {
            items.collecting = false;
        }
        return status;
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
fn failed(rule: Option<&Rule>, wanted: Wanted<'_>, pods: &[&PodView], counts: &JobItems, words: &Words) -> Ending {
    let mut last: BTreeMap<u32, &PodView> = BTreeMap::new();
    for pod in pods {
        let Some(index) =
            pod.index.filter(|index| counts.first_failed.is_empty() || counts.first_failed.contains(index))
        else {
            continue;
        };
        if has_failed(pod) && last.get(&index).is_none_or(|other| other.created <= pod.created) {
            last.insert(index, pod);
        }
    }
    let mut failures = Vec::new();
    let mut disruption = None;
    for (index, pod) in &last {
        match classify::of_pod(wanted, pod) {
            Standing::Ended(Ending::Failed(mut failure)) => {
                if let Some(no) = rule.and_then(|rule| rule.refused(pod, &failure, wanted.attempt)) {
                    failure.message = attempt::in_first_line(&failure.message, &no);
                }
                failures.push((*index, failure));
            }
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
    // Zero would say that the stage is complete: what its items made is to be found again.
    let exit_code = first.exit_code.filter(|code| *code != 0);
    let message = told(
        failures.iter().map(|(index, failure)| format!("item {index}: {}: {}", failure.reason, failure.message)),
        counts.failed as usize,
    );
    Ending::Failed(Failure {
        reason: ITEM_FAILED.to_owned(),
        message,
        exit_code,
        // What one item lost all others would miss.
        report: first.report.clone().filter(|report| report.reason == ReportReason::InputLost),
        // Each was tried as often as `retry` says.
        lasting: true,
    })
}

/// The first items that failed with their words, and how many of `count` there are besides.
pub(super) fn told(failures: impl ExactSizeIterator<Item = String>, count: usize) -> String {
    let count = count.max(failures.len());
    let told: Vec<String> = failures.take(TOLD).collect();
    let more = count.saturating_sub(told.len());
    let rest = if more > 0 { format!("\nand {more} more") } else { String::new() };
    format!("{}{rest}", told.join("\n"))
}
