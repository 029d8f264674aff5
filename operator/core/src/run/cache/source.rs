//! A stage that reads an address ([`crate::pipeline`] makes it of an input by `uri`): its pod asks the source whether that has changed since a
//! kept run read it, and if not, the stage has what that run read. The operator itself asks nobody.
//!
//! ```text
//! attempt ─► status.cache.asked, GET_KNOWN ─► the source says `the same` ─► a report without the output ─► the result of `asked`
//!                                          └► anything else ─► the output, as without the question
//! ```

use millrace_contract::{AGENT_PROGRAM, GET_VALIDATOR};

use super::super::attempt;
use super::super::pass::{Effects, Pass, Stages, clip};
use super::index::Made;
use super::taken;
use crate::api::{CacheOrigin, CacheStatus, StageState, StageStatus};
use crate::pipeline::FrozenContainer;

/// Reason of a stage whose source had not changed.
const UNCHANGED: &str = "SourceUnchanged";
/// Reason of a stage that brings what lies at its address after all: nobody has what an earlier run read.
const GONE: &str = "CacheGone";

/// The stage's only program is the agent, which reads an address.
pub(in crate::run) fn reads_address(stage: &FrozenContainer) -> bool {
    let container = &stage.container;
    let is_agent = container.command.as_deref().is_some_and(|command| command == [AGENT_PROGRAM]);
    is_agent && container.args.first().is_some_and(|word| word == "get")
}

/// And its image is the agent's own: whatever its version, it brings the bytes that lie there.
pub(super) fn is_plain_copy(pass: &Pass<'_>, stage: &FrozenContainer) -> bool {
    reads_address(stage) && stage.container.image == pass.config.agent_image
}

/// The result about which the source can be asked.
pub(super) fn asked(stage: &FrozenContainer, origin: CacheOrigin, made: &Made) -> Option<CacheOrigin> {
    (reads_address(stage) && !made.outputs.is_empty() && validator(made).is_some()).then_some(origin)
}

fn validator(made: &Made) -> Option<&str> {
    made.results.get(GET_VALIDATOR)?.as_str()
}

/// What the agent asks the source.
pub(in crate::run) fn known(pass: &Pass<'_>, status: &StageStatus) -> Option<String> {
    let (_, made) = of(pass, status)?;
    validator(&made).map(str::to_owned)
}

/// Whose result is asked about, and what that is, while it can be had.
fn of(pass: &Pass<'_>, status: &StageStatus) -> Option<(CacheOrigin, Made)> {
    let cache = status.cache.as_ref()?;
    let origin = cache.asked.clone()?;
    let made = pass.observed.cache.made_by(cache.key.as_ref()?, &origin)?;
    Some((origin, made))
}

/// The stage after its source said that nothing has changed.
pub(in crate::run) fn unchanged(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let old = status.cache.as_deref().cloned().unwrap_or_default();
    let Some((origin, made)) = of(pass, status) else { return anew(name, status, old, effects) };
    let message = format!(
        "its source has not changed since stage `{}` of run {} read it at {}",
        origin.stage, origin.run, origin.time.0
    );
    effects.tell(UNCHANGED, format!("stage {name}: {message}"));
    let cache = CacheStatus { from: Some(origin), asked: None, ..old };
    let new = StageStatus {
        // There was an attempt, and it asked.
        job: status.job.clone(),
        attempt_time: status.attempt_time.clone(),
        exit_code: status.exit_code,
        ..taken(pass, status, cache, made)
    };
    let mut new = attempt::settle(pass, name, stage, new, stages, effects);
    if new.state == StageState::Succeeded && new.reason.is_none() {
        new.reason = Some(UNCHANGED.to_owned());
        new.message = Some(clip(&message));
    }
    new
}

/// Meanwhile the runs that had it were deleted, or it was found lost: it is brought. Not in the folder where an attempt has ended without it.
fn anew(name: &str, status: &StageStatus, old: CacheStatus, effects: &mut Effects) -> StageStatus {
    let message = "its source has not changed, and what was read of it is not there any more: it is read again";
    effects.tell(GONE, format!("stage {name}: {message}"));
    effects.again(std::time::Duration::ZERO);
    StageStatus {
        state: StageState::Waiting,
        reason: Some(GONE.to_owned()),
        message: Some(message.to_owned()),
        attempts: status.attempts,
        retries: status.retries + 1,
        failures: status.failures,
        disruptions: status.disruptions,
        remade: status.remade,
        usage: status.usage.clone(),
        memory: status.memory.clone(),
        cache: Some(Box::new(CacheStatus { asked: None, from: None, refresh: true, ..old })),
        ..StageStatus::default()
    }
}
