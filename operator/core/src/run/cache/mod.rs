//! The cache: before an attempt is made, a kept run of the namespace may have the result already. Then the stage has it too, without a pod and
//! without a look into the store: whoever reads what it names checks it, and what is lost is made again ([`super::heal`]).

mod index;
mod key;
mod source;

use std::time::Duration;

pub(super) use index::origin;
pub use index::{CacheIndex, CacheSnapshot};
pub(super) use source::{known as known_source, reads_address, unchanged};

use self::index::{Made, WAITING};
use super::pass::{Effects, Pass, Stages, clip, since};
use super::{JobItems, Observed, attempt, fan_out};
use crate::api::{CacheMode, CacheOrigin, CacheStatus, MLPipelineRun, StageState, StageStatus};
use crate::duration;
use crate::pipeline::{FrozenCache, FrozenContainer, FrozenKind};

/// Reason of a stage whose result was taken from another run.
pub(super) const HIT: &str = "CacheHit";
/// The longest reason why nothing was taken.
const MISS: usize = 500;
/// Who waits is woken by what it waits for. This is for a change that was missed.
const LOOK: Duration = Duration::from_mins(1);

/// What becomes of a stage that would make an attempt now.
pub(super) enum Look {
    /// It has its result, or waits for another run that makes it.
    Taken(Box<StageStatus>),
    /// It is run, and this is what its status says of the cache.
    Run(Option<Box<CacheStatus>>),
}

/// How a stage is cached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    cache: FrozenCache,
    /// A person wrote it.
    written: bool,
}

/// A stage that takes artifacts and makes artifacts is a function of them unless somebody says otherwise. One that makes none is run for
/// what it does, and so is what comes at the very end.
fn asked(pass: &Pass<'_>, name: &str, stage: &FrozenContainer) -> Option<Asked> {
    // Without a store nothing of its items is kept.
    if stage.for_each.is_some() && pass.frozen.store.is_none() {
        return None;
    }
    let usual = || {
        let is_function = !stage.inputs.is_empty() && !stage.outputs.is_empty() && !pass.is_finally(name);
        let cache = FrozenCache { mode: CacheMode::Auto, salt: None, max_age_seconds: None, serialize: false };
        is_function.then_some(Asked { cache, written: false })
    };
    let written = stage.cache.clone().map(|cache| Asked { cache, written: true });
    let mut asked = written.or_else(usual)?;
    if let Some(run) = &pass.run.spec.cache {
        asked.cache.mode = run.mode.over(asked.cache.mode);
    }
    Some(asked).filter(|asked| asked.cache.mode != CacheMode::Off)
}

/// Looks for the result of a stage. `status` has which models its inputs are.
pub(super) fn look(
    pass: &Pass<'_>,
    name: &str,
    stage: &FrozenContainer,
    status: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> Look {
    let Some(asked) = asked(pass, name, stage) else { return Look::Run(None) };
    // All items are done: what they made is put together, whatever others have.
    if fan_out::collects(status) {
        return Look::Run(status.cache.clone());
    }
    let old = status.cache.as_deref().cloned().unwrap_or_default();
    let said = CacheStatus { refresh: old.refresh, lost: old.lost, mixed: old.mixed, ..CacheStatus::default() };
    // What is read at an address without a limit to its age is always asked about.
    let asks = reads_address(stage);
    let quiet = asks && asked.cache.max_age_seconds.is_none();
    let miss = |said: CacheStatus, why: String| {
        let miss =
            Some(why).filter(|why| asked.written && !quiet && !why.is_empty()).map(|why| crate::clip::clip(&why, MISS));
        let said = Some(CacheStatus { miss, ..said }).filter(|said| *said != CacheStatus::default());
        Look::Run(said.map(Box::new))
    };
    // Of the items that may be done already.
    let before = old.key.filter(|_| stage.for_each.is_some() && status.attempts > 0);
    let keyed = match key::of(pass, name, stage, status, stages) {
        Ok(keyed) => keyed,
        Err(why) => return miss(CacheStatus { key: before, ..said }, why),
    };
    // Items that are done are not run again, whatever has changed since.
    let other = before.is_some_and(|key| key != keyed.key);
    if said.mixed || other {
        let why = "what it reads has changed since some of its items were done".to_owned();
        return miss(CacheStatus { mixed: true, ..said }, why);
    }
    let is_auto = asked.cache.mode == CacheMode::Auto;
    let limit = asked.cache.max_age_seconds.map(Duration::from_secs);
    if keyed.blind && is_auto && limit.is_none() && !asks {
        let why = "nobody sees when what it reads changes: write cache.maxAge, the time for which its result holds";
        return miss(said, why.to_owned());
    }
    let said = CacheStatus { key: Some(keyed.key.clone()), ..said };
    if !is_auto || said.refresh {
        let why = match (said.refresh, &pass.run.spec.cache) {
            (true, _) => "it is asked to be run again",
            (_, Some(_)) => "spec.cache.mode of the run is Refresh",
            _ => "cache.mode is Refresh",
        };
        return miss(said, why.to_owned());
    }
    let known = pass.observed.cache.look(&keyed.key, pass.run_uid());
    let mut said = said;
    let why = match known.made {
        Some((origin, made)) => match too_old(pass, &origin, limit) {
            // Its source may have changed.
            None if keyed.blind && limit.is_none() => {
                said.asked = source::asked(stage, origin, &made);
                String::new()
            }
            None => {
                let message = format!("stage `{}` of run {} made it at {}", origin.stage, origin.run, origin.time.0);
                effects.tell(HIT, format!("stage {name}: {message}"));
                let cache = CacheStatus { from: Some(origin), ..said };
                let mut new = attempt::settle(pass, name, stage, taken(pass, status, cache, made), stages, effects);
                // What a gate says comes first.
                if new.state == StageState::Succeeded && new.reason.is_none() {
                    new.reason = Some(HIT.to_owned());
                    new.message = Some(clip(&message));
                }
                return Look::Taken(Box::new(new));
            }
            Some(why) => {
                said.asked = source::asked(stage, origin, &made);
                why
            }
        },
        None if known.lost => "what earlier runs had made was found lost".to_owned(),
        None => "no kept run of the namespace has made the same".to_owned(),
    };
    match known.maker.filter(|_| asked.cache.serialize) {
        Some((run, other)) => Look::Taken(Box::new(waits(name, status, said, &run, &other, effects))),
        None => miss(said, why),
    }
}

/// Why a result may not be taken any more.
fn too_old(pass: &Pass<'_>, origin: &CacheOrigin, limit: Option<Duration>) -> Option<String> {
    let limit = limit?;
    let age = since(origin.time.0, pass.now);
    (age > limit).then(|| {
        let CacheOrigin { run, stage, time, uid: _ } = origin;
        let limit = duration::format(limit);
        format!("the newest result is older than {limit}: stage `{stage}` of run {run} made it at {}", time.0)
    })
}

/// The stage with a result that was made elsewhere, before its gate is judged.
fn taken(pass: &Pass<'_>, status: &StageStatus, cache: CacheStatus, made: Made) -> StageStatus {
    let Made { image, results, metrics, champion, outputs, items } = made;
    let items = items.map(|total| fan_out::counted(pass, total, &JobItems { succeeded: total, ..JobItems::default() }));
    StageStatus {
        start_time: Some(status.start_time.clone().unwrap_or_else(|| pass.time())),
        attempts: status.attempts,
        retries: status.retries,
        failures: status.failures,
        disruptions: status.disruptions,
        remade: status.remade,
        inputs: status.inputs.clone(),
        usage: status.usage.clone(),
        locks: status.locks.clone(),
        cache: Some(Box::new(cache)),
        image,
        results,
        metrics,
        champion,
        outputs,
        items,
        ..StageStatus::default()
    }
}

/// Without a limit of its own: the other may work for hours. When it fails, this one has its turn.
fn waits(
    name: &str,
    status: &StageStatus,
    said: CacheStatus,
    run: &str,
    stage: &str,
    effects: &mut Effects,
) -> StageStatus {
    let message = format!("stage `{stage}` of run {run} makes the same: its result is waited for");
    if status.reason.as_deref() != Some(WAITING) {
        effects.tell(WAITING, format!("stage {name}: {message}"));
    }
    effects.again(LOOK);
    StageStatus {
        state: StageState::Pending,
        reason: Some(WAITING.to_owned()),
        message: Some(clip(&message)),
        // There is no attempt to look at, and its time to start has not begun.
        job: None,
        attempt_time: None,
        next_attempt_time: None,
        cache: Some(Box::new(said)),
        ..status.clone()
    }
}

/// The run has a stage of which one at a time is made: who decides about it must see what those before it decided.
#[must_use]
pub fn serializes(run: &MLPipelineRun, observed: &Observed) -> bool {
    if let Some(frozen) = &observed.frozen {
        return frozen.stages.values().any(|stage| match &stage.kind {
            FrozenKind::Container(container) => container.cache.as_ref().is_some_and(|cache| cache.serialize),
            FrozenKind::Pipeline(_)
            | FrozenKind::Approve(_)
            | FrozenKind::Register(_)
            | FrozenKind::Deploy(_)
            | FrozenKind::Report(_) => false,
        });
    }
    let spec = run.spec.pipeline.as_ref().or(observed.pipeline.as_ref().map(|pipeline| &pipeline.spec));
    spec.is_some_and(|spec| {
        let stages = spec.stages.values().chain(spec.finally.values()).filter_map(|stage| stage.cache.as_ref());
        let usual = spec.defaults.as_ref().and_then(|defaults| defaults.cache.as_ref());
        stages.chain(usual).any(|cache| cache.serialize)
    })
}
