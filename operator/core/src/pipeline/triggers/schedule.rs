//! `triggers.schedules`: a run for each of its times, or for the last of those that were missed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{Kind, LONGEST_WAIT, Look, Start, of_schedule};
use crate::api::{Missed, Schedule, ScheduleStatus};
use crate::duration;
use crate::plan::Event;

/// So many missed times get a run at most.
const MOST_MISSED: usize = 100;
/// Up to so many seconds after it a time is not missed.
const LATE: u64 = 60;

/// Looks at one schedule: what its status says then. A suspended one has none: it begins anew.
pub(super) fn look(
    look: &mut Look<'_>,
    name: &str,
    schedule: &Schedule,
    old: Option<&ScheduleStatus>,
) -> Option<ScheduleStatus> {
    if schedule.suspend {
        return None;
    }
    let times = of_schedule(schedule).ok()?;
    let now = look.now;
    if let Some(next) = times.after(now) {
        look.wait_for(next);
    }
    let anew = || {
        let next_time = times.after(now).map(Time);
        Some(ScheduleStatus { rule: times.rule().to_owned(), last_time: Some(Time(now)), next_time, last_run: None })
    };
    let seen = old.filter(|old| old.rule == times.rule()).and_then(|old| Some((old, old.last_time.as_ref()?.0)));
    let Some((old, last)) = seen else { return anew() };
    if duration::since(now, last) > LONGEST_WAIT {
        look.events
            .push(Event::warning("ClockSetBack", format!("schedule {name}: {last} is to come yet, so it begins anew")));
        return anew();
    }
    let (due, more) = times.between(last, now, MOST_MISSED);
    let makes_up = schedule.missed == Some(Missed::All);
    let wanted = wanted(schedule.missed.unwrap_or_default(), &due, now);
    let mut new = old.clone();
    // The time up to which all is noted, and how many before it have no run.
    let (mut done, mut passed) = (last, 0);
    let mut noted = true;
    for time in &due {
        let start = Start::at(Kind::Schedule, name, *time, schedule.params.clone());
        match look.seen(&start) {
            // What is behind one that is to be made is noted when that one is.
            Some(_) if !noted => {}
            Some(run) => {
                look.tell(&format!("schedule {name}"), &run, &format!("for {time}"));
                new.last_run = Some(run);
                done = *time;
            }
            // Where one too many ends at once or ends another one, each of those that are made up for waits for a place. The end of a run is seen.
            None if makes_up && duration::since(*time, now).as_secs() > LATE && look.places() == Some(0) => break,
            None if wanted.contains(time) => {
                look.start(start);
                noted = false;
            }
            None if noted => {
                passed += 1;
                done = *time;
            }
            None => {}
        }
    }
    if done <= last {
        return Some(new);
    }
    if more || passed > 0 {
        look.events.push(missed(name, schedule, passed, more.then(|| due[0])));
    }
    new.last_time = Some(Time(done));
    new.next_time = times.after(done).map(Time);
    Some(new)
}

/// Those of the times that are due that get a run.
fn wanted(missed: Missed, due: &[Timestamp], now: Timestamp) -> &[Timestamp] {
    match missed {
        Missed::All => due,
        Missed::Last => &due[due.len().saturating_sub(1)..],
        Missed::Skip => {
            let late = due.iter().take_while(|time| duration::since(**time, now).as_secs() > LATE).count();
            &due[late..]
        }
    }
}

/// `before`: there were more, before this time.
fn missed(name: &str, schedule: &Schedule, passed: usize, before: Option<Timestamp>) -> Event {
    let missed = schedule.missed.unwrap_or_default();
    let times = match (passed, before) {
        (0, Some(first)) => format!("times before {first}"),
        (passed, Some(first)) => format!("{passed} times, and those before {first},"),
        (1, None) => "1 time".to_owned(),
        (passed, None) => format!("{passed} times"),
    };
    let most = if missed == Missed::All { format!(", {MOST_MISSED} at most") } else { String::new() };
    let message = format!("schedule {name}: {times} passed without a run; missed: {missed:?}{most}");
    Event::warning("MissedSchedule", message)
}
