//! `triggers.backfills`: a run for each time of a range, in their order and so many at a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Kind, Look, Start, has_ended, has_succeeded, of_schedule, since};
use crate::api::{Backfill, BackfillStatus, MLPipelineRun, Schedule};
use crate::plan::Event;

/// Runs of one backfill.
const MOST: i64 = 10_000;

/// Looks at one backfill: what its status says then.
pub(super) fn look(
    look: &mut Look<'_>,
    name: &str,
    backfill: &Backfill,
    schedule: &Schedule,
    old: Option<&BackfillStatus>,
) -> Option<BackfillStatus> {
    let times = of_schedule(schedule).ok()?;
    let rule = format!("{} {}/{}", backfill.schedule, backfill.from.0, backfill.to.0);
    let begins =
        || BackfillStatus { rule: rule.clone(), start_time: Some(Time(look.now)), ..BackfillStatus::default() };
    let mut new = old.filter(|old| old.rule == rule).cloned().unwrap_or_else(begins);
    if new.completion_time.is_some() {
        return Some(new);
    }
    count(look, &mut new);
    let running = look.runs.values().filter(|run| runs(run, name)).count();
    let mut free = free(look, backfill, running);
    let mut params = schedule.params.clone();
    params.extend(backfill.params.clone());
    let mut time = match &new.last_time {
        Some(last) => times.after(last.0),
        None => times.from(backfill.from.0),
    };
    // What is behind one that was not seen yet is noted when that one is.
    let mut noted = true;
    while let Some(at) = time.filter(|at| *at < backfill.to.0 && new.runs < MOST) {
        if at > look.now {
            look.wait_for(at);
            return Some(new);
        }
        let key = format!("{name}/{}/{at}", since(new.start_time.as_ref()));
        let start = Start { key, ..Start::at(Kind::Backfill, name, at, params.clone()) };
        match look.seen(&start) {
            Some(run) if noted => {
                look.tell(&format!("backfill {name}"), &run, &format!("for {at}"));
                new.runs += 1;
                new.last_time = Some(Time(at));
                new.running.push(run.clone());
                new.last_run = Some(run);
                // It may have ended, and be deleted in this pass.
                count(look, &mut new);
            }
            Some(_) => {}
            None if free == 0 => return Some(new),
            None => {
                let before = look.starts.len();
                look.start(start);
                if look.starts.len() == before {
                    return Some(new);
                }
                noted = false;
                free -= 1;
            }
        }
        time = times.after(at);
    }
    if noted && running == 0 {
        new.completion_time = Some(Time(look.now));
        let rest = time
            .filter(|at| *at < backfill.to.0)
            .map(|at| format!("; no more than {MOST} are made: another one may go on from {at}"));
        let BackfillStatus { runs, succeeded, failed, .. } = new;
        let lost = runs - succeeded - failed;
        let lost = if lost > 0 { format!(", {lost} were deleted before") } else { String::new() };
        let message = format!(
            "backfill {name}: {runs} runs have ended: {succeeded} succeeded, {failed} did not{lost}{}",
            rest.unwrap_or_default()
        );
        let event = "BackfillCompleted";
        let event = if succeeded == runs { Event::normal(event, message) } else { Event::warning(event, message) };
        look.events.push(event);
    }
    Some(new)
}

/// Counts those of its runs that have ended since. One that was deleted before is none of either.
fn count(look: &Look<'_>, status: &mut BackfillStatus) {
    let (mut succeeded, mut failed) = (0, 0);
    status.running.retain(|name| match look.runs.get(name.as_str()) {
        Some(run) if !has_ended(run) => true,
        Some(run) if has_succeeded(run) => {
            succeeded += 1;
            false
        }
        Some(_) => {
            failed += 1;
            false
        }
        None => false,
    });
    status.succeeded += succeeded;
    status.failed += failed;
}

/// How many of its runs may begin.
fn free(look: &Look<'_>, backfill: &Backfill, running: usize) -> usize {
    let parallelism = usize::try_from(backfill.parallelism.unwrap_or(1)).unwrap_or(usize::MAX);
    let free = parallelism.saturating_sub(running);
    look.places().map_or(free, |places| free.min(places))
}

/// It is one of this backfill, and has not ended.
fn runs(run: &MLPipelineRun, name: &str) -> bool {
    let ours = run
        .spec
        .trigger
        .as_ref()
        .is_some_and(|trigger| trigger.kind == Kind::Backfill.as_str() && trigger.name.as_deref() == Some(name));
    ours && !has_ended(run)
}
