//! What several pods counted, and what of it is believed.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use millrace_contract::{Counted, DriftCounts};

use super::{categories, counts, numbers};
use crate::drift::{Heard, Unbelievable, checked};

const HOUR: Duration = Duration::from_hours(1);

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

fn said(rows: u64, cells: &[u64]) -> DriftCounts {
    let predictions = Counted {
        reference_probabilities: vec![500_000, 500_000],
        probabilities: vec![rows * 400_000, rows * 600_000],
        ..categories("predictions", 0.0, &[0, 50, 50, 0], &[0, rows, 0, 0])
    };
    let feature = Counted { strange: 1, ..numbers("x", 1.0, &[0, 50, 50], cells) };
    DriftCounts { outliers: 1, predictions: Some(predictions), ..counts(rows, vec![feature]) }
}

#[test]
fn the_counts_of_pods_add_up() {
    let mut heard = Heard::new(at(0));
    heard.heard("a", said(10, &[0, 4, 6]), at(1));
    heard.heard("b", said(20, &[1, 19, 0]), at(1));
    heard.heard("a", said(12, &[0, 5, 7]), at(2));
    let sum = heard.sum(HOUR, at(2)).unwrap();
    assert_eq!((sum.rows, sum.outliers), (32, 2));
    assert_eq!((sum.features[0].counts.as_slice(), sum.features[0].strange), ([1, 24, 7].as_slice(), 2));
    let predictions = sum.predictions.unwrap();
    assert_eq!(predictions.counts, [0, 32, 0, 0]);
    assert_eq!(predictions.probabilities, [32 * 400_000, 32 * 600_000]);
    assert_eq!(sum.features[0].reference, [0, 50, 50]);
}

#[test]
fn a_pod_that_has_gone_counts_until_the_window_has_passed() {
    let mut heard = Heard::new(at(0));
    heard.heard("gone", said(10, &[0, 4, 6]), at(10));
    heard.heard("there", said(5, &[0, 5, 0]), at(69));
    heard.forget(HOUR, at(69));
    assert_eq!(heard.sum(HOUR, at(69)).unwrap().rows, 15);
    assert_eq!(heard.sum(HOUR, at(70)).unwrap().rows, 5);
    assert_eq!(heard.sum(HOUR, at(200)).unwrap().rows, 0, "nobody answers any more");
}

#[test]
fn before_anybody_answered_nothing_is_known_for_a_window() {
    let heard = Heard::new(at(0));
    assert_eq!(heard.sum(HOUR, at(59)), None);
    assert_eq!(heard.sum(HOUR, at(60)).unwrap().rows, 0);
}

#[test]
fn what_another_profile_counted_is_not_added() {
    let mut heard = Heard::new(at(0));
    let mut other = said(100, &[0, 50, 50]);
    other.features[0].reference = vec![0, 1, 99];
    heard.heard("other", other, at(1));
    heard.heard("a", said(10, &[0, 4, 6]), at(2));
    assert_eq!(heard.sum(HOUR, at(2)).unwrap().rows, 10);
}

#[test]
fn memory_ends_however_many_pods_there_are() {
    let mut heard = Heard::new(at(0));
    for pod in 0..1000 {
        heard.heard(&format!("pod-{pod}"), said(1, &[0, 1, 0]), at(pod));
    }
    assert_eq!(heard.sum(Duration::from_hours(1000), at(1000)).unwrap().rows, 16);
}

#[test]
fn only_an_answer_whose_numbers_can_be_is_believed() {
    let right = said(10, &[0, 4, 6]);
    assert_eq!(checked(right.clone(), "m", "3"), Ok(right.clone()));
    assert!(matches!(checked(right.clone(), "m", "4"), Err(Unbelievable::Other { .. })));
    assert!(matches!(checked(right.clone(), "n", "3"), Err(Unbelievable::Other { .. })));
    let wrong: [fn(&mut DriftCounts); 14] = [
        |said| said.rows = u64::MAX,
        |said| said.outliers = 11,
        |said| said.features = vec![numbers("x", 0.0, &[0, 1], &[0, 0]); 201],
        |said| said.features.push(said.features[0].clone()),
        |said| said.features[0].name = "x".repeat(257),
        |said| said.features[0].name = "a\nb".to_owned(),
        |said| said.features[0].importance = -0.1,
        |said| said.features[0].reference = vec![1],
        |said| said.features[0].counts.push(0),
        |said| said.features[0].reference[1] = u64::MAX,
        |said| said.features[0].counts[1] = 7,
        |said| said.features[0].strange = 11,
        |said| said.predictions.as_mut().unwrap().probabilities[0] = 10_100_000,
        |said| said.predictions.as_mut().unwrap().probabilities.clear(),
    ];
    for (i, change) in wrong.iter().enumerate() {
        let mut said = right.clone();
        change(&mut said);
        assert!(checked(said, "m", "3").is_err(), "change {i} is believed");
    }
    let long = DriftCounts { nothing: Some("x".repeat(5000)), ..counts(0, Vec::new()) };
    assert!(checked(long, "m", "3").unwrap().nothing.unwrap().len() <= 512);
}

#[test]
fn pods_that_never_answer_are_not_rows_that_never_came() {
    let mut heard = Heard::new(at(0));
    assert_eq!(heard.sum(HOUR, at(61)).map(|sum| sum.rows), Some(0), "there was no pod to ask");
    heard.missed();
    assert_eq!(heard.sum(HOUR, at(61)), None);
    heard.heard("a", said(10, &[0, 4, 6]), at(62));
    heard.missed();
    assert_eq!(heard.sum(HOUR, at(200)).map(|sum| sum.rows), Some(0));
}
