//! From reports to verdicts.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_routes::{Histogram, ModelStats, Outcome, RevisionStats, ShadowStats, Stats};

use super::{Answers, Asked, Counts, Measured, Rows, Step, Tally, judge};
use crate::api::{Analysis, AnalysisMetric, Verdict};
use crate::deployment::Live;

fn step() -> Step {
    let asked = vec![Asked { metric: AnalysisMetric::ErrorRate, samples: 100, compares: false }];
    Step { generation: 7, step: 1, candidate: "new".to_owned(), stable: "old".to_owned(), asked, asks: BTreeMap::new() }
}

fn revision(success: u64, errors: u64) -> RevisionStats {
    RevisionStats {
        outcomes: BTreeMap::from([
            (Outcome::Success, success),
            (Outcome::ServerError, errors),
            (Outcome::ClientLeft, 1000),
            (Outcome::Refused, 1000),
        ]),
        duration: Histogram { buckets: BTreeMap::from([(1000, success)]), sum_us: success },
        shadow: ShadowStats { agreed: success, ..ShadowStats::default() },
        ..RevisionStats::default()
    }
}

/// `new` and `old`: successes and errors since the router's start.
fn stats(generation: u64, boot: u64, at_us: u64, new: (u64, u64), old: (u64, u64)) -> Stats {
    let revisions = [("new", new), ("old", old)].map(|(name, (ok, bad))| (name.to_owned(), revision(ok, bad)));
    let model = ModelStats { generation, revisions: BTreeMap::from(revisions), ..ModelStats::default() };
    Stats { pod: "r".to_owned(), boot, at_us, models: BTreeMap::from([("m".to_owned(), model)]) }
}

fn ended(tally: &Tally) -> [(u64, u64); 2] {
    let Measured { candidate, stable, .. } = tally.measured();
    [(candidate.ended, candidate.failed), (stable.ended, stable.failed)]
}

#[test]
fn what_came_after_the_step_was_in_force_is_counted_of_every_router() {
    let now = Timestamp::UNIX_EPOCH;
    let mut tally = Tally::new(step(), now);
    tally.heard("a", "m", &stats(7, 1, 10, (5, 5), (100, 0)), now);
    assert_eq!(ended(&tally), [(0, 0), (0, 0)]);
    tally.heard("a", "m", &stats(7, 1, 20, (15, 6), (200, 0)), now);
    tally.heard("b", "m", &stats(6, 9, 10, (0, 0), (10, 0)), now);
    tally.heard("b", "m", &stats(7, 9, 20, (1, 0), (20, 0)), now);
    tally.heard("b", "m", &stats(7, 9, 30, (2, 0), (30, 3)), now);
    assert_eq!(ended(&tally), [(12, 1), (113, 3)]);
    assert_eq!(tally.measured().candidate.duration.count(), 11);
    assert_eq!(tally.measured().candidate.shadow.agreed, 11);
}

#[test]
fn a_router_that_starts_anew_or_has_other_routes_begins_from_nothing() {
    let now = Timestamp::UNIX_EPOCH;
    let mut tally = Tally::new(step(), now);
    tally.heard("a", "m", &stats(7, 1, 10, (0, 0), (0, 0)), now);
    tally.heard("a", "m", &stats(7, 1, 20, (10, 0), (0, 0)), now);
    tally.heard("a", "m", &stats(7, 2, 5, (50, 0), (0, 0)), now);
    tally.heard("a", "m", &stats(7, 2, 9, (51, 0), (0, 0)), now);
    tally.heard("a", "m", &stats(8, 2, 20, (90, 0), (0, 0)), now);
    tally.heard("a", "m", &stats(7, 2, 30, (95, 0), (0, 0)), now);
    tally.heard("a", "m", &stats(7, 2, 40, (99, 0), (0, 0)), now);
    assert_eq!(ended(&tally)[0], (15, 0));
}

#[test]
fn the_last_minutes_decide_in_a_long_step() {
    let mut now = Timestamp::UNIX_EPOCH;
    let mut tally = Tally::new(step(), now);
    for second in 0..3600 {
        tally.heard("a", "m", &stats(7, 1, second, (second * 10, 0), (0, 0)), now);
        now += SignedDuration::from_secs(1);
    }
    let (count, _) = ended(&tally)[0];
    assert!((3000..=6000).contains(&count), "{count}");
    // Where little comes, a part is as long as it takes to say something.
    let mut tally = Tally::new(step(), now);
    for minute in 0..600 {
        tally.heard("a", "m", &stats(7, 1, minute, (minute, 0), (0, 0)), now);
        now += SignedDuration::from_mins(1);
        assert!(minute < 101 || ended(&tally)[0].0 >= 100, "{minute}: {:?}", ended(&tally));
    }
}

fn judged(analysis: Analysis, candidate: Counts, stable: Counts) -> (Verdict, String) {
    let measured =
        Measured { step: step(), since: Timestamp::UNIX_EPOCH, candidate, stable, answers: Answers::default() };
    let all = judge(&BTreeMap::from([("x".to_owned(), analysis)]), Some(&measured), Live::default(), &Rows::default());
    (all[0].verdict, all[0].message.clone())
}

fn counts(ended: u64, failed: u64) -> Counts {
    Counts { ended, failed, ..Counts::default() }
}

#[test]
fn limits_are_what_may_just_be() {
    let max = |max| Analysis { max: Some(max), ..Analysis::default() };
    assert_eq!(judged(max(0.05), counts(100, 5), counts(0, 0)).0, Verdict::Passed);
    let (verdict, message) = judged(max(0.05), counts(100, 6), counts(0, 0));
    assert_eq!((verdict, message.as_str()), (Verdict::Failed, "ErrorRate 0.06 over 100 requests, more than max 0.05"));
    assert_eq!(judged(max(0.05), counts(99, 99), counts(0, 0)), (Verdict::Inconclusive, "99 of 100 requests".into()));
    assert_eq!(
        judge(&BTreeMap::from([("x".to_owned(), max(1.0))]), None, Live::default(), &Rows::default())[0].verdict,
        Verdict::Inconclusive
    );
    let min = Analysis { metric: Some(AnalysisMetric::Agreement), min: Some(0.5), ..Analysis::default() };
    let shadow = |agreed, failed| Counts {
        shadow: ShadowStats { agreed, failed, dropped: 10_000, ..ShadowStats::default() },
        ..Counts::default()
    };
    assert_eq!(judged(min.clone(), shadow(50, 50), counts(0, 0)).0, Verdict::Passed);
    assert_eq!(judged(min, shadow(49, 51), counts(0, 0)).0, Verdict::Failed);
}

#[test]
fn beside_no_error_at_all_one_in_as_many_is_taken_for_what_stable_may_have() {
    let ratio = Analysis { max_ratio_to_stable: Some(2.0), ..Analysis::default() };
    // None of 1000 may be 1 of 1000.
    assert_eq!(judged(ratio.clone(), counts(1000, 2), counts(1000, 0)).0, Verdict::Passed);
    assert_eq!(judged(ratio.clone(), counts(1000, 3), counts(1000, 0)).0, Verdict::Failed);
    assert_eq!(judged(ratio.clone(), counts(100, 20), counts(1000, 100)).0, Verdict::Passed);
    assert_eq!(judged(ratio.clone(), counts(100, 21), counts(1000, 100)).0, Verdict::Failed);
    assert_eq!(judged(ratio, counts(1000, 3), counts(99, 0)).0, Verdict::Inconclusive);
}

#[test]
fn a_latency_is_right_within_a_fifth_and_moves_with_the_rank() {
    let of = |pairs: &[(u64, u64)]| Counts {
        duration: Histogram { buckets: pairs.iter().copied().collect(), sum_us: 0 },
        ..Counts::default()
    };
    let figure = |counts: &Counts, metric| counts.figure(metric).unwrap();
    let all = of(&[(8192, 50), (9742, 50)]);
    let p50 = figure(&all, AnalysisMetric::LatencyP50);
    let p90 = figure(&all, AnalysisMetric::LatencyP90);
    let p99 = figure(&all, AnalysisMetric::LatencyP99);
    assert!((8.19 - p50).abs() < 0.01 && p50 < p90 && p90 < p99 && p99 < 9.742, "{p50} {p90} {p99}");
    assert_eq!(counts(5, 0).figure(AnalysisMetric::LatencyP50), None);
}

#[test]
fn what_a_router_makes_up_is_bounded() {
    let mut made_up = revision(1, 0);
    made_up.duration.buckets = (0..10_000).map(|i| (i, u64::MAX / 20_000)).collect();
    made_up.outcomes.insert(Outcome::Success, u64::MAX);
    let counts = Counts::of(&made_up);
    assert!(counts.duration.buckets.len() <= 256);
    let mut sum = counts.clone();
    sum.add(&counts);
    assert_eq!(sum.ended, u64::MAX);
}
