//! What is made of routers' reports.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::ScaleMetric;
use crate::autoscale::{Counted, History, Window};

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: u64) -> Timestamp {
    START + SignedDuration::from_secs(i64::try_from(seconds).unwrap())
}

/// A router that has had this many requests in flight all the time, each of a second.
fn counted(boot: u64, seconds: u64, flight: u64) -> Counted {
    Counted {
        boot,
        of: 1,
        at_us: seconds * 1_000_000,
        demand_us: flight * seconds * 1_000_000,
        arrived: flight * seconds + flight,
        in_flight: flight,
    }
}

fn window(history: &History, routers: &[&str], now: u64) -> Window {
    history.window(ScaleMetric::Concurrency, &routers.iter().copied().collect(), at(now))
}

#[test]
fn means_of_all_routers_are_added_and_a_minute_must_have_passed_for_its_own() {
    let mut history = History::new(at(0));
    for second in 1..=100 {
        history.heard("a", counted(1, second, 3), at(second));
        history.heard("b", counted(2, 1000 + second, 2), at(second));
        let seen = window(&history, &["a", "b"], second);
        assert!(seen.complete);
        assert!((seen.middle - 5.0).abs() < 1e-6, "{seen:?}");
        assert_eq!((seen.long.is_some(), seen.peak.is_some()), (second >= 46, second >= 60), "{second} {seen:?}");
        assert!(seen.long.is_none_or(|long| (long - 5.0).abs() < 1e-6), "{seen:?}");
    }
    let rate = history.window(ScaleMetric::RequestRate, &BTreeSet::from(["a", "b"]), at(100));
    assert!((rate.short - 5.0).abs() < 1e-6, "{rate:?}");
}

#[test]
fn a_router_that_is_not_heard_makes_it_incomplete_and_one_that_went_does_not() {
    let mut history = History::new(at(0));
    for second in 1..=10 {
        history.heard("a", counted(1, second, 1), at(second));
        if second <= 5 {
            history.heard("b", counted(1, second, 1), at(second));
        }
    }
    assert!(!window(&history, &["a", "b"], 10).complete);
    assert!(!window(&history, &["a", "new"], 10).complete);
    assert!(!window(&history, &[], 10).complete, "without routers nothing is known");
    history.keep(&BTreeSet::from(["a"]));
    let seen = window(&history, &["a"], 10);
    assert!(seen.complete && (seen.short - 1.0).abs() < 1e-6, "{seen:?}");
}

#[test]
fn a_router_that_began_anew_counts_from_zero() {
    let mut history = History::new(at(0));
    for second in 1..=10 {
        history.heard("a", counted(1, 1000 + second, 4), at(second));
    }
    for second in 11..=20 {
        history.heard("a", counted(2, second - 10, 1), at(second));
        let seen = window(&history, &["a"], second);
        assert!((seen.short - 1.0).abs() < 1e-6 && seen.idle.is_zero(), "{seen:?}");
    }
}

#[test]
fn idle_is_the_time_since_the_last_request_at_any_router_or_the_last_start() {
    let mut history = History::new(at(0));
    history.saw(1, at(0));
    let mut quiet = counted(1, 0, 0);
    for second in 1..=30 {
        quiet.at_us = second * 1_000_000;
        // One short request, between two looks.
        if second == 12 {
            quiet.arrived += 1;
            quiet.demand_us += 5;
        }
        history.heard("a", quiet, at(second));
        history.heard("b", Counted { boot: 9, at_us: second, ..Counted::default() }, at(second));
    }
    assert_eq!(window(&history, &["a", "b"], 30).idle, Duration::from_secs(18));
    // At zero routers are asked seldom: one that starts a pod has a request, whatever it said last.
    history.saw(0, at(31));
    history.saw(1, at(40));
    let seen = window(&history, &["a", "b"], 41);
    assert_eq!((seen.idle, seen.lowered), (Duration::from_secs(1), Some(at(31))));
}

#[test]
fn the_most_of_a_minute_is_remembered_and_forgotten() {
    let mut history = History::new(at(0));
    let mut demand = 0;
    for second in 1..=200 {
        let flight = if (90..=95).contains(&second) { 40 } else { 1 };
        demand += flight * 1_000_000;
        let counted =
            Counted { boot: 1, of: 1, at_us: second * 1_000_000, demand_us: demand, arrived: 1, in_flight: flight };
        history.heard("a", counted, at(second));
        let peak = window(&history, &["a"], second).peak;
        match second {
            0..60 => assert_eq!(peak, None),
            92..=155 => assert!(peak.unwrap() > 30.0, "{second} {peak:?}"),
            170.. => assert!(peak.unwrap() < 1.1, "{second} {peak:?}"),
            _ => {}
        }
    }
}

#[test]
fn memory_is_bounded_whatever_is_reported() {
    let mut history = History::new(at(0));
    for i in 0..10_000 {
        let counted = Counted { boot: 1, of: 1, at_us: i, demand_us: i, arrived: i, in_flight: 1 };
        history.heard("a", counted, START + SignedDuration::from_millis(i64::try_from(i).unwrap()));
    }
    let text = format!("{history:?}");
    assert!(text.matches("demand_us").count() <= 130, "{}", text.len());
    assert!(text.matches("slot").count() <= 13);
}

#[test]
fn what_a_revision_had_counted_before_it_is_a_part_of_the_sum_is_no_load() {
    let mut history = History::new(at(0));
    for second in 1..=60 {
        history.heard("a", counted(1, second, 2), at(second));
    }
    // A shadow's copies of an hour are callers' requests from now on.
    for second in 61..=70 {
        let now = counted(1, second, 2);
        let sum = Counted { of: 2, demand_us: now.demand_us + 3_600_000_000, arrived: now.arrived + 3600, ..now };
        history.heard("a", sum, at(second));
        let seen = window(&history, &["a"], second);
        assert!(seen.short <= 2.01 && seen.middle <= 2.01 && seen.complete, "{second} {seen:?}");
    }
}
