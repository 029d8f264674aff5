//! A stage that runs another pipeline once for each item: each is an MLPipelineRun that belongs to this run, so many at a time. How far they are
//! is counted from the runs in each pass; the status has the counts. When all are done, an attempt of the stage, the agent alone, keeps what they
//! made as outputs of the stage, and what became of them as the output `items`.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_contract::{TOLD_OUTPUTS, ToldOutput};
use serde_json::json;

use super::graph::GATE_REJECTED;
use super::inputs::{self, Hindrance};
use super::items::{self, Items, LONGEST_LIST, Values};
use super::pass::{Effects, Pass, Stages, clip};
use super::{JobItems, attempt, container, fan_out, nested, scope, usage};
use crate::api::{ForEach, ItemsStatus, MLPipelineRun, NestedPipeline, OutputStatus, StageState, StageStatus};
use crate::names;
use crate::pipeline::FrozenNested;
use crate::plan::{Create, NAME_TAKEN};
use crate::store;

/// So many items at most: each is an object of its own.
pub const MOST_RUNS: u64 = 1000;
/// So many runs are made in one pass: what a pass makes is in memory at once.
const AT_ONCE: usize = 16;
/// The next pass, where there is room for more.
const SOON: Duration = Duration::from_millis(100);
/// Bytes of one item's parameters, as JSON.
const LONGEST_PARAMS: usize = 64 << 10;

/// An item's run, and what a stage with that run alone would be.
type Found<'a> = Option<(&'a MLPipelineRun, StageStatus)>;

/// One step.
pub(super) fn step(
    pass: &Pass<'_>,
    name: &str,
    frozen: &FrozenNested,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let Some((each, collector)) = frozen.items() else { return old.clone() };
    let nested = &frozen.pipeline;
    let mut status = if fan_out::collects(old) {
        container::advance(pass, name, collector, old, stages, effects)
    } else {
        let status = look(pass, name, frozen, each, old, stages, effects);
        if status.state.ended() || fan_out::collects(&status) {
            status
        } else {
            nested::in_time(pass, name, nested, status, effects)
        }
    };
    if status.state == StageState::Succeeded {
        let total = status.items.as_ref().map_or(0, |items| items.total);
        let all = found(pass, name, nested, &status, total);
        // What a gate or a person does not let through in one of them does not go on out here.
        if let Some((_, said)) = all.iter().flatten().find(|(_, made)| made.reason.is_some()) {
            (status.reason, status.message) = (said.reason.clone(), said.message.clone());
            effects.warn(GATE_REJECTED, format!("stage {name}: {}", said.message.as_deref().unwrap_or_default()));
        }
    }
    status
}

/// Something of the stage is there: a run of an item, or the Job that keeps what became of them.
pub(super) fn has_begun(pass: &Pass<'_>, name: &str, status: &StageStatus) -> bool {
    container::has_job(pass, status) || of_stage(pass, name, status.retries).next().is_some()
}

/// The run is for an item of this stage, since it was begun last.
pub(super) fn is_of(run: &MLPipelineRun, stage: &str, status: &StageStatus) -> bool {
    status.items.is_some()
        && nested::label(run, names::STAGE_LABEL) == Some(stage)
        && number(run, names::ATTEMPT_LABEL) == Some(status.attempts)
}

/// What the output `items` is to be: a line for each item.
pub(super) fn told(
    pass: &Pass<'_>,
    name: &str,
    nested: &NestedPipeline,
    each: &ForEach,
    status: &StageStatus,
    stages: &Stages,
) -> Result<Items, Hindrance> {
    let values = items::values(pass, name, each, stages, MOST_RUNS)?;
    let mut text = String::new();
    for (index, found) in (0..values.total()).zip(found(pass, name, nested, status, values.total())) {
        let Some((run, made)) = found.filter(|(_, made)| made.state == StageState::Succeeded) else {
            let message = format!(
                "the run of item {index} was deleted before its results were kept: begin the stage again with retryFrom"
            );
            return Err(Hindrance::fail("RunDeleted", message));
        };
        let mut line = json!({
            "index": index, "item": values.item(index), "run": run.metadata.name, "results": made.results, "metrics": made.metrics,
        });
        if !nested.outputs.is_empty() {
            let told = |made: &OutputStatus| ToldOutput { uri: made.uri.clone(), digest: made.digest.clone() };
            let outputs = made.outputs.iter().map(|(name, made)| (name, told(made)));
            line[TOLD_OUTPUTS] = json!(outputs.collect::<BTreeMap<_, _>>());
        }
        text.push_str(&line.to_string());
        text.push('\n');
    }
    if text.len() > LONGEST_LIST {
        let message = format!(
            "{}: the items with their results, metrics and outputs are {} bytes long, and at most {LONGEST_LIST} are kept: let the stage that \
             pipeline.results names report less, name fewer outputs, or run over fewer items",
            pass.at(name),
            text.len()
        );
        return Err(Hindrance::fail("ResultTooLarge", message));
    }
    Ok(items::written(pass, name, values.total(), text))
}

/// Why what an item made cannot be kept: it does not lie in the store of this run.
fn elsewhere(pass: &Pass<'_>, nested: &NestedPipeline, all: &[Found<'_>]) -> Option<String> {
    let store = pass.frozen.store.as_ref()?;
    let lies_there = |made: &OutputStatus| store::holds(store, &made.uri, made.access.as_ref());
    let (index, output, uri) = (0..).zip(all).find_map(|(index, found): (u32, _)| {
        let (name, made) = found.as_ref()?.1.outputs.iter().find(|(_, made)| !lies_there(made))?;
        Some((index, name, &made.uri))
    })?;
    Some(format!(
        "output `{output}` of item {index} is {uri}, which is not in this pipeline's store: let the pipeline `{}` have the same store, and begin \
         this stage again (retryFrom its name); or leave pipeline.outputs out",
        nested.name
    ))
}

fn look(
    pass: &Pass<'_>,
    name: &str,
    frozen: &FrozenNested,
    each: &ForEach,
    old: &StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let nested = &frozen.pipeline;
    let mut status = old.clone();
    status.start_time.get_or_insert(pass.time());
    status.attempts = status.attempts.max(1);
    let values = match items::values(pass, name, each, stages, MOST_RUNS) {
        Ok(values) => values,
        Err(Hindrance::Fail(words) | Hindrance::Wait(words)) => {
            return attempt::fail(pass, name, status, &words.reason, &words.message, effects);
        }
    };
    let total = values.total();
    let all = found(pass, name, nested, &status, total);
    let tally = Tally::of(pass, name, &status, &all);
    let new = ItemsStatus { begun: tally.begun, ..fan_out::counted(pass, total, &tally.counts()) };
    let mut failed = all.iter().flatten().filter(|(_, made)| made.state == StageState::Failed);
    let healed = failed.find_map(|(run, _)| {
        let status = StageStatus { items: Some(ItemsStatus { running: 0, ..new.clone() }), ..status.clone() };
        nested::healed(pass, name, frozen, run, &status, stages, effects)
    });
    if let Some(healed) = healed {
        return healed;
    }
    if let Some(message) = elsewhere(pass, nested, &all) {
        status.items = Some(ItemsStatus { running: 0, ..new });
        return attempt::fail(pass, name, status, "OutputElsewhere", &message, effects);
    }
    if !tally.failed.is_empty() && (each.fail_fast || tally.open == 0 && tally.absent.is_empty()) {
        status.items = Some(ItemsStatus { running: 0, ..new });
        let told = tally.failed.iter().map(|(index, why)| format!("item {index}: {why}"));
        let message = fan_out::told(told, tally.failed.len());
        return attempt::fail(pass, name, status, fan_out::ITEM_FAILED, &message, effects);
    }
    if tally.done == total {
        status.items = Some(new);
        return done(pass, name, frozen, status, stages, effects);
    }
    let begun = tally.done + tally.running > 0 || !tally.failed.is_empty();
    status.items = Some(fan_out::tallied(pass, old, new.clone()));
    if status.items.as_ref().is_some_and(|items| ItemsStatus { time: items.time.clone(), ..new } != *items) {
        // It was written a moment ago.
        effects.again(fan_out::LOOK);
    }
    if begun || old.state == StageState::Running {
        status.state = StageState::Running;
    } else {
        status.state = StageState::Pending;
    }
    let room = (each.parallelism as usize).saturating_sub(tally.open as usize);
    let room = room.min(tally.absent.len());
    let next = &tally.absent[..room.min(AT_ONCE)];
    let mut waits =
        tally.waits.filter(|_| tally.running == 0).map(|waits| (waits.reason.clone(), waits.message.clone()));
    let refused = next.iter().find_map(|index| pass.refusal("MLPipelineRun", &run_name(pass, name, &status, *index)));
    if let Some(refusal) = refused {
        let since = status.items.as_ref().and_then(|items| items.time.as_ref());
        if refusal.reason == NAME_TAKEN || tally.open == 0 && pass.left(since, nested::LIMIT).is_none() {
            return attempt::fail(pass, name, status, &refusal.reason, &refusal.message, effects);
        }
        waits = Some((Some(refusal.reason.clone()), Some(refusal.message.clone())));
        effects.again(nested::PAUSE);
    } else if !pass.held && !next.is_empty() && !inputs::any_comes(&frozen.inputs, stages) {
        if let Some(reason) = nested::too_deep(pass, nested) {
            return attempt::fail(pass, name, status, "NestedCycle", &reason, effects);
        }
        if pass.observed.above.items || nested::label(pass.run, names::ITEM_LABEL).is_some() {
            let message = format!(
                "this run is one of an item's itself, so that there could be {MOST_RUNS} times {MOST_RUNS} of {}: let one forEach go over both",
                nested.name
            );
            return attempt::fail(pass, name, status, "TooManyItems", &message, effects);
        }
        if next.len() < room {
            effects.again(SOON);
        }
        let given = match nested::given(pass, frozen, &mut status, stages) {
            Ok(given) => given,
            Err(hindrance) => {
                // Their clock begins when there is something to give.
                let status = StageStatus { items: old.items.clone(), ..status };
                return nested::hindered(pass, name, nested, status, hindrance, effects);
            }
        };
        // What is made again from now on they have not been given.
        status.attempt_time.get_or_insert(pass.time());
        match runs(pass, name, nested, &values, next, &status, stages) {
            Ok(mut runs) => {
                for run in &mut runs {
                    run.spec.inputs.clone_from(&given);
                }
                effects.create.extend(runs.into_iter().map(|run| Create::Run(Box::new(run))));
            }
            Err(message) => return attempt::fail(pass, name, status, "InvalidExpression", &message, effects),
        }
    }
    let (reason, words) = waits.unwrap_or_default();
    status.reason = reason;
    let parts = [Some(fan_out::progress(&status)), words.filter(|words| !words.is_empty())];
    status.message = Some(clip(&parts.into_iter().flatten().collect::<Vec<_>>().join("; ")));
    status
}

/// The runs of these items.
fn runs(
    pass: &Pass<'_>,
    name: &str,
    nested: &NestedPipeline,
    values: &Values,
    items: &[u32],
    status: &StageStatus,
    stages: &Stages,
) -> Result<Vec<MLPipelineRun>, String> {
    let scope = scope::of_run(pass, stages);
    let run = |index: &u32| {
        let scope = scope.clone().with("item", values.item(*index)).with("index", (*index).into());
        let params = nested::params(nested, &scope).map_err(|message| format!("item {index}: {message}"))?;
        let length = serde_json::to_string(&params).map_or(0, |text| text.len());
        if length > LONGEST_PARAMS {
            return Err(format!(
                "item {index}: pipeline.params are {length} bytes long as JSON, and at most {LONGEST_PARAMS} are handed on: name a file or an address instead"
            ));
        }
        let mut run = nested::run(pass, name, nested, &run_name(pass, name, status, *index), params, status);
        let labels = [(names::ATTEMPT_LABEL, status.attempts), (names::ITEM_LABEL, *index)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_string()));
        run.metadata.labels.get_or_insert_default().extend(labels);
        Ok(run)
    };
    items.iter().map(run).collect()
}

fn done(
    pass: &Pass<'_>,
    name: &str,
    frozen: &FrozenNested,
    mut status: StageStatus,
    stages: &Stages,
    effects: &mut Effects,
) -> StageStatus {
    let keeps = frozen.pipeline.keeps();
    status.usage = usage::of_runs(pass, name).or(status.usage);
    match frozen.items().filter(|_| keeps) {
        Some((_, collector)) => fan_out::done(pass, name, collector, status, stages, effects),
        None => {
            (status.reason, status.message) = (None, None);
            fan_out::finished(pass, status)
        }
    }
}

/// How far the items are.
struct Tally<'a> {
    done: u32,
    running: u32,
    /// Those whose run has not ended.
    open: u32,
    failed: Vec<(u32, String)>,
    /// Those that have no run yet.
    absent: Vec<u32>,
    begun: u32,
    /// What the first run waits for that has not begun.
    waits: Option<&'a StageStatus>,
}

impl<'a> Tally<'a> {
    fn of(pass: &Pass<'_>, name: &str, status: &StageStatus, all: &'a [Found<'_>]) -> Self {
        let before = status.items.as_ref().map_or(0, |items| items.begun);
        let further = all.iter().skip(before as usize).take_while(|found| found.is_some()).map(|_| 1_u32);
        let mut tally = Self {
            done: 0,
            running: 0,
            open: 0,
            failed: Vec::new(),
            absent: Vec::new(),
            begun: before + further.sum::<u32>(),
            waits: None,
        };
        for (index, found) in (0..).zip(all) {
            match found {
                Some((_, made)) => tally.add(index, made),
                // They are begun in their order: this one had its run.
                None if index < before => {
                    let run = run_name(pass, name, status, index);
                    tally.failed.push((index, format!("RunDeleted: its run {run} was deleted")));
                }
                None => tally.absent.push(index),
            }
        }
        tally
    }

    fn add(&mut self, index: u32, made: &'a StageStatus) {
        match made.state {
            StageState::Succeeded => self.done += 1,
            StageState::Failed => {
                let (reason, message) = (made.reason.as_deref(), made.message.as_deref());
                self.failed.push((index, format!("{}: {}", reason.unwrap_or_default(), message.unwrap_or_default())));
            }
            StageState::Running => {
                self.open += 1;
                self.running += 1;
            }
            StageState::Waiting | StageState::Pending | StageState::BackingOff | StageState::Skipped => {
                self.open += 1;
                self.waits.get_or_insert(made);
            }
        }
    }

    fn counts(&self) -> JobItems {
        let failed = u32::try_from(self.failed.len()).unwrap_or(u32::MAX);
        JobItems { succeeded: self.done, ready: self.running, failed, first_failed: Vec::new() }
    }
}

/// Of each item the run that has succeeded since the stage was begun from nothing, else the one since it was begun last.
fn found<'a>(pass: &Pass<'a>, name: &str, nested: &NestedPipeline, status: &StageStatus, total: u32) -> Vec<Found<'a>> {
    let mut all: Vec<Found<'a>> = (0..total).map(|_| None).collect();
    for run in of_stage(pass, name, status.retries) {
        let index = number(run, names::ITEM_LABEL);
        let Some(slot) = index.and_then(|index| all.get_mut(index as usize)) else { continue };
        if slot.as_ref().is_some_and(|(_, made)| made.state == StageState::Succeeded) {
            continue;
        }
        // Their words are those of the stage: nothing is told of each.
        let (none, mut unheard) = (StageStatus::default(), Effects::default());
        let made = nested::look(pass, name, nested, run, none, &Stages::new(), &mut unheard);
        if made.state == StageState::Succeeded || number(run, names::ATTEMPT_LABEL) == Some(status.attempts) {
            *slot = Some((run, made));
        }
    }
    all
}

/// The runs of the stage's items, since it was begun from nothing.
fn of_stage<'a>(pass: &Pass<'a>, name: &str, retries: u32) -> impl Iterator<Item = &'a MLPipelineRun> {
    pass.observed.nested.values().map(AsRef::as_ref).filter(move |run| {
        nested::label(run, names::STAGE_LABEL) == Some(name) && number(run, names::RETRY_LABEL) == Some(retries)
    })
}

fn number(run: &MLPipelineRun, label: &str) -> Option<u32> {
    nested::label(run, label)?.parse().ok()
}

fn run_name(pass: &Pass<'_>, stage: &str, status: &StageStatus, index: u32) -> String {
    names::item_run(pass.run_name(), stage, status.attempts, index)
}
