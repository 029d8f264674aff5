//! What Prometheus answers to the routers becomes a load.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_routes::QueryStats;

use crate::api::{Percentile, ScaleMetric};
use crate::autoscale::{Blind, Config, Counted, Follow, History, State, Window, decide};

const ROUTERS: [&str; 2] = ["a", "b"];

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn answer(value: f64, age_s: u64) -> QueryStats {
    QueryStats { value: Some(value), age_ms: Some(age_s * 1000), errors: 0, problem: None }
}

/// Both routers say this of the query; no request is anywhere.
fn hear(history: &mut History, second: i64, said: [Option<&QueryStats>; 2]) {
    for (router, said) in ROUTERS.into_iter().zip(said) {
        let counted = Counted { boot: 1, at_us: u64::try_from(second).unwrap() * 1_000_000, ..Counted::default() };
        history.heard(router, counted, at(second));
        history.answered(router, "q", said, at(second));
    }
}

fn look(history: &History, second: i64) -> Window {
    let query = Some("q".to_owned());
    let follow = Follow { metric: ScaleMetric::Prometheus, percentile: Percentile::P95, query };
    history.look(&follow, &BTreeSet::from(ROUTERS), at(second))
}

fn chosen(window: &Window, replicas: i32) -> i32 {
    let config = Config {
        min: 0,
        max: 20,
        metric: ScaleMetric::Prometheus,
        target: Some(10.0),
        to_zero_after: Duration::from_secs(30),
        percentile: Percentile::P95,
    };
    decide(&config, window, State { replicas, available: replicas }, at(100_000)).replicas
}

#[test]
fn the_newest_answer_counts_up_at_once_and_down_after_a_minute() {
    let mut history = History::new(at(0));
    hear(&mut history, 1, [Some(&answer(35.0, 1)), None]);
    let window = look(&history, 1);
    assert_eq!((window.short, window.peak, chosen(&window, 1)), (35.0, None, 4));
    hear(&mut history, 2, [Some(&answer(35.0, 2)), Some(&answer(95.0, 0))]);
    assert_eq!(chosen(&look(&history, 2), 4), 10);
    // A tenth above is noise.
    hear(&mut history, 3, [Some(&answer(104.0, 0)), None]);
    assert_eq!(chosen(&look(&history, 3), 10), 10);
    for second in 4..120 {
        let age = u64::try_from(second % 10).unwrap();
        hear(&mut history, second, [Some(&answer(20.0, age)), None]);
        let window = look(&history, second);
        assert_eq!(chosen(&window, 10), if second <= 63 { 10 } else { 5 }, "{second} {window:?}");
    }
}

#[test]
fn at_zero_it_stays_until_there_is_something_and_goes_back_after_a_time_of_nothing() {
    let mut history = History::new(at(0));
    for second in 1..=100 {
        let said = answer(if second == 50 { 1.0 } else { 0.0 }, 0);
        hear(&mut history, second, [Some(&said), Some(&said)]);
        let window = look(&history, second);
        assert_eq!(chosen(&window, 0), i32::from(second == 50), "{second} {window:?}");
        // The query was heard of first in the first second.
        let stays = second < 31 || (50..80).contains(&second);
        assert_eq!(chosen(&window, 1), i32::from(stays), "{second} {window:?}");
    }
}

#[test]
fn without_an_answer_the_number_stays_whatever_it_is() {
    let mut history = History::new(at(0));
    let early = look(&history, 1).blind.unwrap();
    assert!(early.early, "{early:?}");
    let refused = QueryStats { errors: 1, problem: Some("refused".to_owned()), ..QueryStats::default() };
    hear(&mut history, 2, [Some(&refused), None]);
    let window = look(&history, 2);
    assert_eq!(window.blind, Some(Blind { why: "refused".to_owned(), early: false }));
    assert_eq!([0, 7, 30].map(|replicas| chosen(&window, replicas)), [0, 7, 20], "max holds");
    // An answer is one for a while, and one without a number is none.
    hear(&mut history, 10, [Some(&QueryStats { errors: 3, ..answer(95.0, 44) }), None]);
    assert_eq!(chosen(&look(&history, 10), 1), 10);
    hear(&mut history, 12, [Some(&QueryStats { errors: 3, ..answer(95.0, 46) }), None]);
    assert!(look(&history, 12).blind.is_some());
    let nothing = QueryStats { value: None, problem: Some("the answer has no sample".to_owned()), ..answer(0.0, 0) };
    hear(&mut history, 20, [Some(&nothing), None]);
    assert_eq!(look(&history, 20).blind.unwrap().why, "the answer has no sample");
    // Nobody says anything any more.
    assert!(look(&history, 500).blind.is_some_and(|blind| !blind.early));
}

#[test]
fn the_first_answer_after_a_time_without_takes_nothing_away() {
    let mut history = History::new(at(0));
    for second in 1..=100 {
        hear(&mut history, second, [Some(&answer(95.0, 0)), None]);
    }
    // Prometheus was away; what is done at a time was done all the while.
    for second in 101..=400 {
        let age = u64::try_from(second - 100).unwrap();
        hear(&mut history, second, [Some(&QueryStats { errors: 9, ..answer(95.0, age) }), None]);
    }
    assert!(look(&history, 400).blind.is_some());
    for second in 401..=480 {
        hear(&mut history, second, [Some(&answer(0.0, 0)), None]);
        let window = look(&history, second);
        assert_eq!(window.peak.is_some(), second >= 461, "{second} {window:?}");
        // Nothing for thirty seconds, which are counted from the first answer on.
        assert_eq!(chosen(&window, 10), if second < 431 { 10 } else { 0 }, "{second} {window:?}");
    }
}

#[test]
fn the_lag_of_a_stream_is_followed_in_the_same_way() {
    let mut history = History::new(at(0));
    let follow =
        Follow { metric: ScaleMetric::QueueLag, percentile: Percentile::P95, query: Some("stream".to_owned()) };
    let look = |history: &History, second| history.look(&follow, &BTreeSet::from(ROUTERS), at(second));
    let config = Config {
        min: 0,
        max: 20,
        metric: ScaleMetric::QueueLag,
        target: Some(100.0),
        to_zero_after: Duration::from_secs(30),
        percentile: Percentile::P95,
    };
    let decided = |window: &Window, replicas: i32, second: i64| {
        decide(&config, window, State { replicas, available: replicas }, at(second))
    };
    let blind = decided(&look(&history, 1), 0, 1);
    assert_eq!(
        (blind.replicas, blind.why.as_str()),
        (0, "the routers have not asked the brokers how many messages wait yet: the number stays at 0")
    );
    let mut second = 1;
    let mut hear = |history: &mut History, lag: f64| {
        second += 1;
        for router in ROUTERS {
            let counted = Counted { boot: 1, at_us: u64::try_from(second).unwrap() * 1_000_000, ..Counted::default() };
            history.heard(router, counted, at(second));
            history.answered(router, "stream", Some(&answer(lag, 0)), at(second));
        }
        second
    };
    let now = hear(&mut history, 250.0);
    let up = decided(&look(&history, now), 0, now);
    assert_eq!((up.replicas, up.why.as_str()), (3, "QueueLag 250.0 now, target 100: 3 pods"));
    let mut now = hear(&mut history, 0.0);
    assert_eq!(decided(&look(&history, now), 3, now).replicas, 3, "not before a minute with less");
    for _ in 0..70 {
        now = hear(&mut history, 0.0);
    }
    let down = decided(&look(&history, now), 3, now);
    assert_eq!((down.replicas, down.why.as_str()), (0, "no request for 30s: 0 pods"));
}
