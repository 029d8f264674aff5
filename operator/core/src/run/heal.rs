//! An input that is lost is made again by the run itself: the stage that made it, or took it from the cache, is run once more, and who needs it
//! goes on when it is there. What is done stays as it is.

use super::pass::{Effects, Pass, Stages, clip};
use super::{cache, fan_out, inputs};
use crate::api::{CacheStatus, StageState, StageStatus};
use crate::pipeline::{FrozenContainer, FrozenKind, FrozenNested};

/// Reason of a stage whose input was lost.
pub(super) const INPUT_LOST: &str = "InputLost";
/// Reason of a stage that is run again because what it had made was lost.
const OUTPUT_LOST: &str = "OutputLost";
/// So often at most a run makes the same again: a store that loses what is written to it cannot be helped.
const MOST: u32 = 3;
/// What to do then.
const WHO: &str = "look who deletes or changes what lies in the store";

/// What becomes of a stage whose attempt found an input lost, and of the producer, which is left in `effects.remake`. An error says why
/// nothing is made again, or nothing where that is told elsewhere.
pub(super) fn heal(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    message: &str,
    stages: &Stages,
    effects: &mut Effects,
) -> Result<StageStatus, String> {
    if fan_out::collects(status) && is_run(pass, name) {
        return own(pass, name, status, message, effects);
    }
    let Some((input, producer)) = inputs::lost(stage, message, stages) else { return Err(String::new()) };
    again(pass, name, input, producer, status, stages, effects)?;
    // Items are to read the same, all of them.
    let anew = u32::from(stage.for_each.is_some());
    let mut cache = status.cache.clone();
    if let Some(cache) = cache.as_mut().filter(|_| anew > 0) {
        (cache.key, cache.mixed) = (None, false);
    }
    let waits = waits(name, input, producer, message, status, effects);
    Ok(StageStatus { retries: status.retries + anew, cache, ..waits })
}

/// The same of a stage with `pipeline`, of which a run found lost what it was given as `input`.
pub(super) fn heal_nested(
    pass: &Pass<'_>,
    name: &str,
    (frozen, input): (&FrozenNested, &str),
    status: &StageStatus,
    message: &str,
    stages: &Stages,
    effects: &mut Effects,
) -> Result<StageStatus, String> {
    let producer = frozen.inputs.get(input).and_then(|input| inputs::producer(input, stages));
    let Some(producer) = producer else { return Err(String::new()) };
    again(pass, name, input, producer, status, stages, effects)?;
    let waits = waits(name, input, producer, message, status, effects);
    // The runs of all items are others then, and so are their names.
    let anew = u32::from(frozen.collector.is_some());
    // Its `timeout` counts for all of its runs together.
    let start_time = status.start_time.clone();
    Ok(StageStatus { retries: status.retries + anew, attempts: status.attempts + anew, start_time, ..waits })
}

/// What the runs of a stage's items made was lost before it was kept: all of them run again.
fn own(
    pass: &Pass<'_>,
    name: &str,
    status: &StageStatus,
    message: &str,
    effects: &mut Effects,
) -> Result<StageStatus, String> {
    if status.remade >= MOST {
        return Err(format!("its items have run again {MOST} times: {WHO}"));
    }
    // The agent says what a person would have to do.
    let lost = message.split("; begin the stage again").next().unwrap_or(message);
    let said = format!("what its items made was lost, and they run again: {lost}");
    effects.warn(OUTPUT_LOST, format!("stage {name}: {said}"));
    Ok(remade(pass, name, status, &said))
}

/// The stage runs another pipeline.
fn is_run(pass: &Pass<'_>, name: &str) -> bool {
    pass.frozen.stages.get(name).is_some_and(|stage| matches!(stage.kind, FrozenKind::Pipeline(_)))
}

/// Has the producer make it again, unless it does already.
fn again(
    pass: &Pass<'_>,
    name: &str,
    input: &str,
    producer: &str,
    status: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> Result<(), String> {
    let made = stages.get(producer).cloned().unwrap_or_default();
    if pass.is_finally(name) && !pass.is_finally(producer) {
        return Err(format!("stage `{producer}`, which made it, is not run again at the very end"));
    }
    let since = status.attempt_time.as_ref().or(status.start_time.as_ref());
    let begun_since = made.start_time.as_ref().zip(since);
    // Another stage has lost it too, and it is being made again, or has been since.
    if !made.state.ended() || begun_since.is_some_and(|(start, attempt)| start.0 > attempt.0) {
        return Ok(());
    }
    let kind = pass.frozen.stages.get(producer).map(|stage| &stage.kind);
    let runs = matches!(kind, Some(FrozenKind::Container(_) | FrozenKind::Pipeline(_)));
    if made.state != StageState::Succeeded || !runs {
        return Err(String::new());
    }
    if made.remade >= MOST {
        return Err(format!("stage `{producer}` has made it again {MOST} times in this run: {WHO}"));
    }
    let why = format!("stage `{name}` found input `{input}` lost: it is made again");
    effects.remake.push((producer.to_owned(), remade(pass, producer, &made, &why)));
    Ok(())
}

/// The stage until its input is there again. It is no failure of its own.
fn waits(
    name: &str,
    input: &str,
    producer: &str,
    message: &str,
    status: &StageStatus,
    effects: &mut Effects,
) -> StageStatus {
    let said = format!("input `{input}` is made again by stage `{producer}`: {message}");
    effects.warn(INPUT_LOST, format!("stage {name}, attempt {}: {said}", status.attempts));
    StageStatus {
        state: StageState::Waiting,
        reason: Some(INPUT_LOST.to_owned()),
        message: Some(clip(&said)),
        attempts: status.attempts,
        retries: status.retries,
        failures: status.failures,
        disruptions: status.disruptions,
        remade: status.remade,
        usage: status.usage.clone(),
        memory: status.memory.clone(),
        ..StageStatus::default()
    }
}

/// A stage that is run again from nothing: it does not find what is left of before.
fn remade(pass: &Pass<'_>, name: &str, old: &StageStatus, why: &str) -> StageStatus {
    // A run of another pipeline is told to take nothing by its own spec.
    let cache = (!is_run(pass, name)).then(|| {
        let key = old.cache.as_ref().and_then(|cache| cache.key.clone());
        let lost = cache::origin(pass.run, name, old);
        Box::new(CacheStatus { key, refresh: true, lost, ..CacheStatus::default() })
    });
    StageStatus {
        state: StageState::Waiting,
        reason: Some(OUTPUT_LOST.to_owned()),
        message: Some(clip(why)),
        attempts: old.attempts,
        retries: old.retries + u32::from(old.attempts > 0),
        remade: old.remade + 1,
        usage: old.usage.clone(),
        memory: old.memory.clone(),
        cache,
        ..StageStatus::default()
    }
}
