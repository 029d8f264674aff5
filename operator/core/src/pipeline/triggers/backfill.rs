//! `triggers.backfills`: a run for each time of a range, in their order and so many at a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Kind, Look, Start, has_ended, of_schedule, since};
use crate::api::{Backfill, BackfillStatus, ConcurrencyPolicy, MLPipelineRun, Schedule};
use crate::plan::Event;
use crate::run::bound;

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
                new.last_run = Some(run);
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
        let message = format!("backfill {name}: {} runs have ended{}", new.runs, rest.unwrap_or_default());
        look.events.push(Event::normal("BackfillCompleted", message));
    }
    Some(new)
}

/// How many of its runs may begin. Where a run too many ends at once or ends another one, all runs of the pipeline count.
fn free(look: &Look<'_>, backfill: &Backfill, running: usize) -> usize {
    let parallelism = usize::try_from(backfill.parallelism.unwrap_or(1)).unwrap_or(usize::MAX);
    let free = parallelism.saturating_sub(running);
    match bound(look.pipeline.spec.concurrency.as_ref()) {
        Some((ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Replace, max)) => {
            let all = look.runs.values().filter(|run| !has_ended(run)).count() + look.starts.len();
            free.min(max.saturating_sub(all))
        }
        _ => free,
    }
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
