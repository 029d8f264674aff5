//! A stage that runs a program, one step: make an attempt, or look at the one there is.

use std::borrow::Cow;
use std::time::Duration;

use millrace_contract::ITEMS_OUTPUT;

use super::cache::{self, Look};
use super::classify::{self, Seen, Standing};
use super::ending::Wanted;
use super::inputs::{self, Hindrance};
use super::pass::{Effects, Pass, Stages, clip, since};
use super::{Observed, PodView, Words, attempt, deadline, ending, fan_out, finish, item_job, job, placed, usage};
use crate::api::{Cancel, JobRef, Output, StageState, StageStatus};
use crate::pipeline::{FrozenContainer, FrozenKind};
use crate::plan::{Create, Delete, DeleteKind};
use crate::{duration, names};

/// Failed because its pod did not start in time: its Job is deleted.
pub(super) const PENDING_TIMEOUT: &str = "PendingTimeout";

/// How soon something that was refused is tried again, at the earliest and at the latest.
const SOONEST: Duration = Duration::from_secs(5);
const LATEST: Duration = Duration::from_mins(1);
/// How long the scheduler's words wait until they are written down.
const SECOND_TRY: Duration = Duration::from_secs(2);

/// Makes the next attempt: the status says so, then the Job is created.
pub(super) fn begin(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    mut status: StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    // All items and all attempts read the same, also those that run when another version is served.
    let kept = Some(status.inputs.clone()).filter(|kept| !kept.is_empty());
    let resolved = kept.map_or_else(|| inputs::resolve(pass, &stage.inputs), Ok);
    if let Ok(resolved) = &resolved {
        let resolved = StageStatus { inputs: resolved.clone(), ..status.clone() };
        match cache::look(pass, name, stage, &resolved, stages, effects) {
            Look::Taken(taken) => return *taken,
            Look::Run(said) => status.cache = said,
        }
    }
    status.start_time.get_or_insert(pass.time());
    if let Some(left) = placed::leaving(pass, stage, &status) {
        if status.job.is_none() {
            status.state = StageState::Pending;
        }
        effects.again(left);
        return status;
    }
    let before = status.clone();
    let built = resolved.and_then(|resolved| {
        status.inputs = resolved;
        status.attempts += 1;
        status.job = Some(JobRef { name: names::job(pass.run_name(), name, status.attempts), uid: None });
        build(pass, name, stage, &status, stages)
    });
    match built {
        Ok((_, Some(0))) if fan_out::runs_items(stage, &status) => {
            let status = StageStatus { items: Some(fan_out::begun(pass, 0)), ..before };
            if fan_out::collects(&status) {
                return begin(pass, name, stage, status, stages, effects);
            }
            fan_out::finished(pass, status)
        }
        Ok((create, total)) => {
            if let Some(total) = total.filter(|_| fan_out::runs_items(stage, &status)) {
                status.items = Some(fan_out::begun(pass, total));
            }
            status.state = StageState::Pending;
            status.attempt_time = Some(pass.time());
            status.next_attempt_time = None;
            status.reason = None;
            status.message = None;
            if !fan_out::collects(&status) {
                status.image = None;
            }
            effects.create.push(create);
            again_at_timeout(pass, stage, &status, effects);
            status
        }
        Err(Hindrance::Fail(words)) => attempt::fail(pass, name, before, &words.reason, &words.message, effects),
        Err(Hindrance::Wait(words)) => {
            let mut status = before;
            if status.job.is_none() {
                status.state = StageState::Pending;
            }
            effects.again(pause(pass, &status));
            wait(pass, name, stage, status, Some(words), effects)
        }
    }
}

/// The Job of the current attempt, and how many items its stage has.
fn build(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    stages: &Stages,
) -> Result<(Create, Option<u32>), Hindrance> {
    let Some(each) = &stage.for_each else {
        return Ok((Create::Job(Box::new(job::build(pass, name, stage, status, stages)?)), None));
    };
    let build = if fan_out::collects(status) { item_job::collect } else { item_job::items };
    let item_job::Made { job, list, total } = build(pass, name, stage, each, status, stages)?;
    let job = Box::new(job);
    Ok((list.map_or_else(|| Create::Job(job.clone()), |list| Create::JobOver(list, job.clone())), Some(total)))
}

/// Looks at the current attempt.
pub(super) fn advance(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    if old.state == StageState::BackingOff {
        if pass.held || inputs::comes(stage, stages) {
            return old.clone();
        }
        return match old.next_attempt_time.as_ref().map(|next| since(pass.now, next.0)) {
            Some(left) if !left.is_zero() => {
                effects.again(left);
                old.clone()
            }
            _ => begin(pass, name, stage, old.clone(), stages, effects),
        };
    }
    let (Some(reference), true) = (&old.job, old.attempts > 0) else {
        return begin(pass, name, stage, old.clone(), stages, effects);
    };
    if fan_out::runs_items(stage, old) {
        return fan_out::advance(pass, name, stage, old, reference, stages, effects);
    }
    let mut outputs = Cow::Borrowed(&stage.outputs);
    if fan_out::collects(old) {
        outputs.to_mut().insert(ITEMS_OUTPUT.to_owned(), Output::default());
    }
    let wanted =
        Wanted { run_uid: pass.run_uid(), stage: name, attempt: old.attempts, items: false, outputs: &outputs };
    let seen = classify::look(wanted, reference, pass.observed);
    let mut new = step(pass, name, stage, old, &seen, stages, effects);
    // The uid is noted with what is written anyway, and before a Job that is being deleted is gone: a Job that was seen
    // is not made again under its name. A new attempt has a Job of its own, and
    // a stage that waits for another has none.
    let same = new.attempts == old.attempts && new.job.is_some();
    if let Some(job) = seen.job.filter(|job| same && (new != *old || job.deleting)) {
        new.job = Some(JobRef { name: job.name.clone(), uid: Some(job.uid.clone()) });
    }
    new
}

fn step(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    old: &StageStatus,
    seen: &Seen<'_>,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    match seen.standing.clone() {
        Standing::Unmade => make_sure(pass, name, stage, old, stages, effects),
        Standing::Pending(words) => {
            // A pod that ran and is gone: its Job tells in a second what became of it.
            if old.state == StageState::Running {
                return old.clone();
            }
            if let Some(Words { reason, message }) = words.as_ref().filter(|words| words.reason == NO_IMAGE) {
                return attempt::fail(pass, name, old.clone(), reason, message, effects);
            }
            if let Some(left) = soon(pass, seen.pod, words.as_ref()) {
                effects.again(left);
                return old.clone();
            }
            wait(pass, name, stage, old.clone(), words, effects)
        }
        Standing::Starting => {
            let waited_for = StageStatus { reason: None, message: None, ..old.clone() };
            wait(pass, name, stage, waited_for, None, effects)
        }
        Standing::Running(_) => StageStatus {
            state: StageState::Running,
            reason: None,
            message: None,
            image: image(seen, old),
            ..old.clone()
        },
        Standing::Unclear => old.clone(),
        Standing::Ended(ending) => {
            let mut status = StageStatus { image: image(seen, old), ..old.clone() };
            if let Some(report) = seen.pod.and_then(|pod| ending::report_of(pass.run_uid(), name, old.attempts, pod)) {
                status.usage = Some(usage::with(status.usage, stage, &report.usage));
            }
            attempt::end(pass, name, stage, status, ending, stages, effects)
        }
    }
}

/// The status says that there is an attempt, but no Job is seen: it is POSTed again, which meets itself if it is there.
pub(super) fn make_sure(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let job_name = names::job(pass.run_name(), name, old.attempts);
    if let Some(refusal) = pass.refusal("Job", &job_name) {
        // A Job that is not valid will not become so: what is frozen cannot change, only a PodTemplate can.
        let invalid = matches!(refusal.code, 400 | 422) && stage.container.settings.pod_template.is_none();
        if refusal.reason == "NameTaken" || invalid {
            return attempt::fail(pass, name, old.clone(), &refusal.reason, &refusal.message, effects);
        }
        effects.again(pause(pass, old));
        let words = Words { reason: refusal.reason.clone(), message: refusal.message.clone() };
        return wait(pass, name, stage, old.clone(), Some(words), effects);
    }
    match build(pass, name, stage, old, stages) {
        Ok((create, _)) => {
            effects.create.push(create);
            // Words of a refusal stay until the Job is there.
            let words =
                old.reason.clone().map(|reason| Words { reason, message: old.message.clone().unwrap_or_default() });
            wait(pass, name, stage, old.clone(), words, effects)
        }
        Err(Hindrance::Wait(words)) => wait(pass, name, stage, old.clone(), Some(words), effects),
        Err(Hindrance::Fail(words)) => attempt::fail(pass, name, old.clone(), &words.reason, &words.message, effects),
    }
}

/// The stage waits, with the words of whom it waits for, until its time is over.
pub(super) fn wait(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    mut status: StageStatus,
    words: Option<Words>,
    effects: &mut Effects,
) -> StageStatus {
    let words = words.map(|words| placed::plainly(pass, stage, words));
    let limit = Duration::from_secs(stage.pending_timeout_seconds);
    let since = waits_since(&status);
    let words = words.map(|words| Words { message: clip(&deadline::without(&words.message, since, limit)), ..words });
    if pass.left(since, limit).is_none() {
        let why = words.map_or_else(
            || "its pod did not start, and nobody said why".to_owned(),
            |words| format!("{}: {}", words.reason, words.message),
        );
        let message = format!("waited for {}: {why}", duration::format(limit));
        return attempt::fail(pass, name, status, PENDING_TIMEOUT, &message, effects);
    }
    again_at_timeout(pass, stage, &status, effects);
    if let Some(words) = words {
        let message = clip(&deadline::with(&words.message, waits_since(&status), limit));
        note(name, &mut status, Words { message, ..words }, effects);
    }
    status
}

/// The scheduler often finds a place in its second try, once a claim is bound: its first words are not worth a write.
fn soon(pass: &Pass<'_>, pod: Option<&PodView>, words: Option<&Words>) -> Option<Duration> {
    let unplaced =
        pod?.unschedulable.as_ref().is_some_and(|said| words.is_some_and(|words| words.reason == said.reason));
    let age = since(pod?.created?, pass.now);
    if unplaced { SECOND_TRY.checked_sub(age).filter(|left| !left.is_zero()) } else { None }
}

/// Writes down the words. The kubelet says `ErrImagePull` and `ImagePullBackOff` in turns: the first one has the cause.
fn note(name: &str, status: &mut StageStatus, words: Words, effects: &mut Effects) {
    let old = status.reason.as_deref().unwrap_or_default();
    if old == "ErrImagePull" && words.reason == "ImagePullBackOff" {
        return;
    }
    if old != words.reason {
        effects.warn("StageWaiting", format!("stage {name}: {}: {}", words.reason, words.message));
    }
    status.reason = Some(words.reason);
    status.message = Some(words.message);
}

pub(super) fn waits_since(status: &StageStatus) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    if status.state == StageState::BackingOff {
        return status.next_attempt_time.as_ref();
    }
    status.attempt_time.as_ref().or(status.start_time.as_ref())
}

fn again_at_timeout(pass: &Pass<'_>, stage: &FrozenContainer, status: &StageStatus, effects: &mut Effects) {
    let limit = Duration::from_secs(stage.pending_timeout_seconds);
    if let Some(left) = pass.left(waits_since(status), limit) {
        effects.again(left);
    }
}

/// A quarter of the time that it has waited already, within bounds.
fn pause(pass: &Pass<'_>, status: &StageStatus) -> Duration {
    let waited = waits_since(status).map_or(Duration::ZERO, |start| since(start.0, pass.now));
    (waited / 4).clamp(SOONEST, LATEST)
}

/// The digest of the image that ran. What is collected is what the items' image made.
fn image(seen: &Seen<'_>, old: &StageStatus) -> Option<String> {
    if fan_out::collects(old) { old.image.clone() } else { image_of(seen.pod) }
}

/// The digest of the image that the first of these pods has.
pub(super) fn image_of<'a>(pods: impl IntoIterator<Item = &'a PodView>) -> Option<String> {
    let mut ids = pods.into_iter().filter_map(|pod| pod.main.as_ref().map(|main| main.image_id.as_str()));
    let id = ids.find(|id| !id.is_empty())?;
    Some(id.rsplit_once('@').map_or(id, |(_, digest)| digest).to_owned())
}

/// There is a Job, was one, or will be: the first attempt was made, and the apiserver did not refuse it.
pub(super) fn has_job(pass: &Pass<'_>, status: &StageStatus) -> bool {
    let Some(name) = status.job.as_ref().map(|job| job.name.as_str()) else { return false };
    let seen = || pass.observed.jobs.iter().any(|job| job.name == name);
    status.attempts > 1 || status.attempts == 1 && (pass.refusal("Job", name).is_none() || seen())
}

/// The kubelet's word for what is no name of an image: it will not become one.
const NO_IMAGE: &str = "InvalidImageName";
/// How much longer than its grace period a pod of a stage that was given up is waited for: one on a node that is lost may stay for ever.
const PATIENCE: Duration = Duration::from_mins(5);
/// As long at most is waited for a program that is killed: a kubelet that has asked it to stop before may let it have all of its grace period.
const KILLED: Duration = Duration::from_secs(10);

/// A stage that was given up and whose program may still run: its Job was deleted, and it has its grace period.
pub(super) fn at_work<'a>(pass: &'a Pass<'_>, stages: &Stages, effects: &mut Effects) -> Option<&'a str> {
    let pods = pass.observed.pods.iter().filter(|pod| is_given_up(stages, &pod.stage) && classify::runs(pod));
    let all = pass.frozen.stages.keys().map(String::as_str);
    let items = all.filter(|stage| is_given_up(stages, stage) && has_unseen_items(pass, stage));
    let left = |stage: &str| {
        let grace = match pass.frozen.stages.get(stage).map(|stage| &stage.kind) {
            Some(FrozenKind::Container(container)) => job::grace_seconds(&container.container),
            Some(
                FrozenKind::Pipeline(_)
                | FrozenKind::Approve(_)
                | FrozenKind::Register(_)
                | FrozenKind::Deploy(_)
                | FrozenKind::Report(_),
            )
            | None => 0,
        };
        let killed = pass.run.spec.cancel == Some(Cancel::Now);
        let limit = if killed { KILLED } else { Duration::from_secs(grace) + PATIENCE };
        pass.left(stages.get(stage)?.completion_time.as_ref(), limit)
    };
    let working = pods.map(|pod| pod.stage.as_str()).chain(items);
    let found = working.filter_map(|stage| Some((stage, left(stage)?))).min();
    found.map(|(stage, left)| {
        // Pods of items wake nobody.
        let items = stages.get(stage).is_some_and(|status| status.items.is_some());
        effects.again(if items { left.min(SOONEST) } else { left });
        stage
    })
}

/// A program of the stage may run.
pub(super) fn works(pass: &Pass<'_>, stage: &str) -> bool {
    pass.observed.pods.iter().any(|pod| pod.stage == stage && classify::runs(pod)) || has_unseen_items(pass, stage)
}

/// The Job of the stage's items goes on: nobody looks at their pods until it is deleted.
fn has_unseen_items(pass: &Pass<'_>, stage: &str) -> bool {
    pass.observed.jobs.iter().any(|job| {
        let over = job.deleting || job.complete || job.failed.is_some();
        job.stage == stage && job.items.is_some() && !over && job.owner.as_deref() == Some(pass.run_uid())
    })
}

/// The run, or the stage's own `pendingTimeout`, ended it while its program may have run.
pub(super) fn is_given_up(stages: &Stages, stage: &str) -> bool {
    stages.get(stage).is_some_and(|status| status.state == StageState::Failed && gave_up(status))
}

fn gave_up(status: &StageStatus) -> bool {
    status.reason.as_deref().is_some_and(|reason| reason == PENDING_TIMEOUT || finish::by_the_run(reason))
}

/// The Job of a stage that was given up while its pod may still run or wait.
pub(super) fn abandoned(pass: &Pass<'_>, name: &str, status: &StageStatus) -> Option<Delete> {
    given_up(pass.run_uid(), pass.observed, name, status)
}

/// As [`abandoned`], for a run that has ended.
pub(super) fn given_up(run_uid: &str, observed: &Observed, name: &str, status: &StageStatus) -> Option<Delete> {
    let given_up = match status.state {
        StageState::Failed => gave_up(status),
        // Its Job was refused when the stage was skipped: one that is there nevertheless came late.
        StageState::Skipped => true,
        _ => false,
    };
    if !given_up {
        return None;
    }
    let job = observed
        .jobs
        .iter()
        .find(|job| job.stage == name && job.attempt == status.attempts && job.owner.as_deref() == Some(run_uid))?;
    let over = job.deleting || job.complete || job.failed.is_some();
    (!over).then(|| Delete { kind: DeleteKind::Job, name: job.name.clone(), uid: job.uid.clone() })
}
