//! The times of a schedule.

use std::fmt;
use std::sync::LazyLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::api::Schedule;
use crate::expr;

const UTC: &str = "UTC";

/// What is wrong with a schedule, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pipeline) enum Fault {
    Cron(String),
    Zone(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(message) | Self::Zone(message) => f.write_str(message),
        }
    }
}

/// The times of a schedule in its zone.
pub(in crate::pipeline) struct Times {
    cron: Cron,
    zone: TimeZone,
    rule: String,
}

/// In the program, so that nothing is read from files.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The times of a schedule.
pub(in crate::pipeline) fn of_schedule(schedule: &Schedule) -> Result<Times, Fault> {
    let name = schedule.time_zone.as_deref().unwrap_or(UTC);
    let zone = ZONES.get(name).map_err(|_| Fault::Zone(no_zone(name)))?;
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(&schedule.cron).map_err(|error| Fault::Cron(no_cron(&schedule.cron, &error)))?;
    Ok(Times { cron, zone, rule: format!("{} {name}", schedule.cron.trim()) })
}

fn no_zone(name: &str) -> String {
    let known: Vec<String> = ZONES.available().map(|zone| zone.as_str().to_owned()).collect();
    match expr::nearest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("`{name}` is no time zone: did you mean `{meant}`?"),
        None => format!("`{name}` is no time zone: write one of the tz database, such as Europe/Berlin or UTC"),
    }
}

fn no_cron(text: &str, error: &croner::errors::CronError) -> String {
    format!(
        "`{text}` is no schedule ({}): write minute, hour, day of the month, month and day of the week, such as `0 3 * * *` for every day at three",
        error.to_string().trim_end_matches('.')
    )
}

/// Days of a month, in a leap year.
fn longest(month: u16) -> u16 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Times {
    /// What it is, in one line: with another one a schedule begins anew.
    pub(super) fn rule(&self) -> &str {
        &self.rule
    }

    /// No month has such a day. Said without a search, which would go through thousands of years.
    pub(in crate::pipeline) fn never_come(&self) -> bool {
        let pattern = &self.cron.pattern;
        let plain = pattern.is_dow_wildcard() && !pattern.is_dom_wildcard() && !pattern.days.has_modifiers();
        let first = pattern.days.values().into_iter().min().unwrap_or_default();
        plain && pattern.months.values().into_iter().all(|month| first > longest(month))
    }

    /// The first time after this one; none if there is none in thousands of years.
    pub(in crate::pipeline) fn after(&self, time: Timestamp) -> Option<Timestamp> {
        self.next(time, false)
    }

    /// The first time that is not before this one.
    pub(super) fn from(&self, time: Timestamp) -> Option<Timestamp> {
        self.next(time, true)
    }

    fn next(&self, time: Timestamp, inclusive: bool) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&time.to_zoned(self.zone.clone()), inclusive).ok()?;
        Some(found.timestamp())
    }

    /// Times after `last`, up to `now`, oldest first: the last so many of them, and whether there were more.
    pub(super) fn between(&self, last: Timestamp, now: Timestamp, most: usize) -> (Vec<Timestamp>, bool) {
        let mut times = Vec::new();
        let (mut at, mut inclusive) = (now, true);
        while let Some(time) = self.before(at, inclusive).filter(|time| *time > last) {
            if times.len() == most {
                times.reverse();
                return (times, true);
            }
            times.push(time);
            (at, inclusive) = (time, false);
        }
        times.reverse();
        (times, false)
    }

    fn before(&self, time: Timestamp, inclusive: bool) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&time.to_zoned(self.zone.clone()), inclusive).ok()?;
        Some(found.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cron: &str, zone: &str) -> Times {
        let schedule = Schedule { cron: cron.to_owned(), time_zone: Some(zone.to_owned()), ..Schedule::default() };
        of_schedule(&schedule).unwrap_or_else(|fault| panic!("{cron}: {fault}"))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The next so many times after one.
    fn after(cron: &str, zone: &str, start: &str, count: usize) -> Vec<String> {
        let times = times(cron, zone);
        let next = |time: &Timestamp| times.after(*time);
        std::iter::successors(next(&at(start)), next).take(count).map(|time| time.to_string()).collect()
    }

    #[test]
    fn a_day_has_three_oclock_in_its_zone_in_summer_and_in_winter() {
        // Berlin goes back on 2026-10-25.
        let found = after("0 3 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3);
        assert_eq!(found, ["2026-10-24T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"]);
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_comes_right_after_and_one_that_comes_twice_counts_once() {
        // Berlin goes forward on 2026-03-29 at 02:00 to 03:00.
        let found = after("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(found, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let found = after("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn an_interval_goes_on_through_both() {
        let found = after("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4);
        assert_eq!(
            found,
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"]
        );
        let found = after("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 3);
        assert_eq!(found, ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]);
    }

    #[test]
    fn what_lies_between_is_what_comes_one_after_the_other() {
        let (start, end) = ("2026-03-20T00:00:00Z", "2026-11-05T00:00:00Z");
        for cron in [
            "30 2 * * *",
            "*/20 * * * *",
            "15 1,2,3 * * *",
            "0 2 29 3 *",
            "5 2 L * *",
            "0 0 * * mon-fri",
            "*/7 2 * * *",
        ] {
            for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"] {
                let times = times(cron, zone);
                let mut forward = Vec::new();
                let mut time = at(start);
                while let Some(next) = times.after(time).filter(|next| *next <= at(end)) {
                    forward.push(next);
                    time = next;
                }
                let (back, more) = times.between(at(start), at(end), 100_000);
                assert_eq!((back == forward, more), (true, false), "{cron} {zone}");
                let (last, more) = times.between(at(start), at(end), 1);
                assert_eq!((last.last(), more), (forward.last(), forward.len() > 1), "{cron} {zone}");
            }
        }
    }

    #[test]
    fn what_is_no_schedule_is_told_with_what_to_write() {
        let fault = |cron: &str, zone: &str| {
            let schedule = Schedule { cron: cron.to_owned(), time_zone: Some(zone.to_owned()), ..Schedule::default() };
            of_schedule(&schedule).err().map(|fault| fault.to_string()).unwrap_or_default()
        };
        for cron in ["", "* * * *", "61 * * * *", "0 0 * * * *", "@fortnightly", "a b c d e", "0 3 * * * 2027"] {
            let told = fault(cron, "UTC");
            assert!(told.contains("is no schedule") && told.contains("`0 3 * * *`"), "{cron}: {told}");
        }
        assert_eq!(fault("@daily", "Europe/Berln"), "`Europe/Berln` is no time zone: did you mean `Europe/Berlin`?");
        assert!(fault("@daily", "Local").contains("is no time zone"));
        assert_eq!(fault("@daily", "Europe/Berlin"), "");
    }

    #[test]
    fn a_list_or_range_goes_by_the_clock() {
        let found = after("0 2,14 * * *", "Europe/Berlin", "2026-10-24T20:00:00Z", 3);
        assert_eq!(found, ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T13:00:00Z"]);
        let found = after("0 2,14 * * *", "Europe/Berlin", "2026-03-28T20:00:00Z", 2);
        assert_eq!(found, ["2026-03-29T12:00:00Z", "2026-03-30T00:00:00Z"]);
    }

    #[test]
    fn a_day_that_no_month_has_never_comes() {
        for (cron, never) in [
            ("0 0 30 2 *", true),
            ("0 0 31 2,4,6,9,11 *", true),
            ("0 0 30,31 feb *", true),
            ("0 0 29 2 *", false),
            ("0 0 31 2,3 *", false),
            ("0 0 30 2 mon", false),
            ("0 0 L 2 *", false),
            ("0 0 * 2 *", false),
        ] {
            let times = times(cron, "UTC");
            assert_eq!(times.never_come(), never, "{cron}");
            assert_eq!(times.after(at("2026-01-01T00:00:00Z")).is_none(), never, "{cron}");
        }
    }
}
