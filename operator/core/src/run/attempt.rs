//! What follows from the end of an attempt: the stage is over, or there is another attempt.

use millrace_contract::{Report, ReportReason};

use super::ending::{Ending, Failure};
use super::gate::{self, Verdict};
use super::graph::GATE_REJECTED;
use super::pass::{Effects, Pass, Stages, after, clip, whole_seconds};
use super::{cache, container, heal, inputs, memory, mounts, retry, scope};
use crate::api::{Otherwise, OutputStatus, StageState, StageStatus};
use crate::duration;
use crate::pipeline::FrozenContainer;
use crate::store;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// All stages together: far enough from what an apiserver takes, and bytes that every watcher gets.
const STATUS_LIMIT: usize = 256 * 1024;
/// The longest message of a stage where all are too long together.
const SHORT_MESSAGE: usize = 256;

/// The stage's next status after its attempt has ended.
pub(super) fn end(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    mut status: StageStatus,
    ending: Ending,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    match ending {
        Ending::Succeeded(report) => succeeded(pass, name, stage, status, *report, stages, effects),
        Ending::Failed(failure) => failed(pass, name, stage, status, failure, stages, effects),
        Ending::Disrupted { reason, message } => {
            status.disruptions += 1;
            let attempt = status.attempts;
            if status.disruptions > retry::MAX_DISRUPTIONS {
                let message = format!("{attempt} attempts were interrupted, the last one: {reason}: {message}");
                return fail(pass, name, status, "TooManyDisruptions", &message, effects);
            }
            effects.warn("StageInterrupted", format!("stage {name}, attempt {attempt}: {reason}: {message}"));
            let seed = format!("{}/{name}/{attempt}", pass.run_uid());
            let wait = retry::after_disruption(status.disruptions, &seed);
            let next = if wait.is_zero() { pass.time().0 } else { after(whole_seconds(pass.now), wait) };
            status.next_attempt_time = Some(Time(next));
            status.state = StageState::BackingOff;
            status.reason = Some(reason);
            status.message = Some(clip(&message));
            if wait.is_zero() && !pass.held && !inputs::comes(stage, stages) {
                return container::begin(pass, name, stage, status, stages, effects);
            }
            effects.again(super::pass::since(pass.now, next));
            status
        }
    }
}

fn succeeded(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    mut status: StageStatus,
    report: Report,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    if cache::reads_address(stage) && report.outputs.is_empty() {
        status.exit_code = report.exit_code;
        return cache::unchanged(pass, name, stage, &status, stages, effects);
    }
    let winner = report.winner.unwrap_or(report.attempt);
    let folder = mounts::stage_folder(pass, name, status.retries);
    let access = store::access(pass.frozen.store.as_ref());
    status.exit_code = report.exit_code;
    status.results = report.results;
    status.metrics = report.metrics;
    status.champion = report.champion;
    status.outputs = report
        .outputs
        .into_iter()
        .map(|(output, record)| {
            let uri = store::output_uri(pass.frozen.store.as_ref(), &folder, winner, &output, &record.digest);
            let millrace_contract::OutputRecord { kind, digest, size, files: _, items, signature, format } = record;
            let access = access.clone();
            (output, OutputStatus { kind, uri, digest, size, access, format, signature, items })
        })
        .collect();
    if let Some(cache) = &mut status.cache {
        (cache.refresh, cache.asked) = (false, None);
    }
    let missing = stage.outputs.iter().find(|(output, spec)| !spec.optional && !status.outputs.contains_key(*output));
    if let Some((output, _)) = missing {
        let message = format!("the report lacks the output `{output}`");
        return fail(pass, name, status, "OutputMissing", &message, effects);
    }
    settle(pass, name, stage, status, stages, effects)
}

/// A stage that has its result, made by an attempt or taken from the cache: its gate is judged.
pub(super) fn settle(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    mut status: StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    status.next_attempt_time = None;
    if !fits(&status, stages) {
        let message = format!("the status of the run would be larger than {STATUS_LIMIT} bytes: report less");
        status.results.clear();
        return fail(pass, name, status, "ResultTooLarge", &message, effects);
    }
    let verdict =
        stage.gate.as_ref().map(|gate| (gate.otherwise, gate::judge(pass, gate, &stage.inputs, &status, stages)));
    match verdict {
        None | Some((_, Verdict::Pass)) => {
            status.reason = None;
            status.message = None;
        }
        Some((Otherwise::Reject, Verdict::No(figures))) => {
            effects.warn(GATE_REJECTED, format!("stage {name}: {figures}"));
            status.reason = Some(GATE_REJECTED.to_owned());
            status.message = Some(clip(&figures));
        }
        Some((Otherwise::Fail, Verdict::No(figures))) => {
            return fail(pass, name, status, "GateFailed", &figures, effects);
        }
        Some((_, Verdict::Unknown(error))) => {
            return fail(pass, name, status, "GateWithoutValue", &error.to_string(), effects);
        }
    }
    status.state = StageState::Succeeded;
    status.completion_time = Some(pass.time());
    status
}

fn failed(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    mut status: StageStatus,
    failure: Failure,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let Failure { mut reason, mut message, exit_code, report, lasting } = failure;
    if let Some(report) = report.as_ref().filter(|report| report.reason == ReportReason::InputLost) {
        // Of an item too: whoever gave it can make it again.
        heal::INPUT_LOST.clone_into(&mut reason);
        match heal::heal(pass, name, stage, &status, &report.message, stages, effects) {
            // It is no failure of this stage's.
            Ok(waits) => return waits,
            Err(why) if why.is_empty() => {}
            Err(why) => message = format!("{message}\n{why}"),
        }
    }
    status.failures += 1;
    status.exit_code = exit_code;
    if let Some(report) = report {
        let lost = report.reason == ReportReason::InputLost;
        let remedy = inputs::remedy(&stage.inputs, &status.inputs, &report.message).filter(|_| lost);
        if let Some(remedy) = remedy {
            message = format!("{message}\n{remedy}");
        }
    }
    let seed = format!("{}/{name}/{}", pass.run_uid(), status.attempts);
    let wait = if lasting { None } else { retry::wait(&stage.retry, status.failures, &seed) };
    let Some(wait) = wait else { return fail(pass, name, status, &reason, &message, effects) };
    let scope = scope::without_stages(pass);
    if let Some(no) = retry::refused(stage.retry.when.as_ref(), exit_code, &reason, status.attempts, scope) {
        // Of a stage that was made for an input nobody wrote the rule.
        let no = if cache::reads_address(stage) { "another try would not help".to_owned() } else { no };
        return fail(pass, name, status, &reason, &in_first_line(&message, &no), effects);
    }
    let next = after(whole_seconds(pass.now), wait);
    let mut again = duration::format(wait);
    if reason == memory::OUT_OF_MEMORY
        && let Some(memory) = memory::grown(stage, &status)
    {
        again = format!("{again} with {memory} of memory");
        message = in_first_line(&message, &format!("the next attempt has {memory}"));
        status.memory = Some(memory);
    }
    let words = format!("stage {name}, attempt {}, the next one in {again}: {reason}: {message}", status.attempts);
    effects.warn("StageRetried", words);
    status.state = StageState::BackingOff;
    status.reason = Some(reason);
    status.message = Some(clip(&message));
    status.next_attempt_time = Some(Time(next));
    effects.again(super::pass::since(pass.now, next));
    status
}

/// Behind the first line, which is the one that a run tells of its stages.
pub(super) fn in_first_line(message: &str, more: &str) -> String {
    match message.split_once('\n') {
        Some((first, rest)) => format!("{first}; {more}\n{rest}"),
        None => format!("{message}; {more}"),
    }
}

/// The stage has failed for good.
pub(super) fn fail(
    pass: &Pass<'_>,
    name: &str,
    mut status: StageStatus,
    reason: &str,
    message: &str,
    effects: &mut Effects,
) -> StageStatus {
    effects.warn("StageFailed", format!("stage {name}: {reason}: {message}"));
    status.state = StageState::Failed;
    status.reason = Some(reason.to_owned());
    status.message = Some(clip(message));
    status.completion_time = Some(pass.time());
    status.next_attempt_time = None;
    status
}

/// A stage's new status, beside those of the others, fits into the run's.
pub(super) fn fits(status: &StageStatus, stages: &Stages) -> bool {
    size(status) + stages.values().map(size).sum::<usize>() <= STATUS_LIMIT
}

/// Shortens what is said of the stages where together it would be too much: hundreds of them may wait or fail with long words.
pub(super) fn bound(stages: &mut Stages) {
    if stages.values().map(size).sum::<usize>() <= STATUS_LIMIT {
        return;
    }
    for message in stages.values_mut().filter_map(|status| status.message.as_mut()) {
        *message = crate::clip::clip(message, SHORT_MESSAGE);
    }
}

/// Bytes of a stage's status as JSON.
fn size(status: &StageStatus) -> usize {
    serde_json::to_vec(status).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_many_stages_is_shortened_where_it_would_be_too_much() {
        let said = |length: usize| StageStatus { message: Some("x".repeat(length)), ..StageStatus::default() };
        let all = |count: usize| -> Stages { (0..count).map(|n| (format!("s{n}"), said(1500))).collect() };
        let (mut few, mut many) = (all(100), all(300));
        bound(&mut few);
        assert_eq!(few, all(100));
        bound(&mut many);
        assert!(many.values().all(|status| status.message.as_ref().unwrap().len() <= SHORT_MESSAGE));
        assert!(many.values().map(size).sum::<usize>() < STATUS_LIMIT / 2);
    }
}
