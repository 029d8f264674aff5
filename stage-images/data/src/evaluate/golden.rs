//! The metrics against scikit-learn's on random and on odd cases: ties, labels that are absent from the truth, from the
//! predictions or from both, one class alone, certain mistakes, a single row. The vectors are made by
//! `tests/golden/make.py`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::score::{Classes, Values};
use super::scorecard::{Metrics, classification, regression};

#[derive(Deserialize)]
struct ClassificationCase {
    classes: usize,
    positive: Option<usize>,
    truth: Vec<u32>,
    predicted: Vec<u32>,
    probabilities: Vec<f32>,
    expected: BTreeMap<String, Option<f64>>,
}

#[derive(Deserialize)]
struct RegressionCase {
    /// As text: `serde_json` may miss the last bit of a double, and that is 1e-8 of a residual at 100,000.
    truth: Vec<String>,
    predicted: Vec<String>,
    expected: BTreeMap<String, Option<f64>>,
}

fn doubles(texts: &[String]) -> Vec<f64> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn compare(case: usize, found: &Metrics, expected: &BTreeMap<String, Option<f64>>) {
    for (name, expected) in expected {
        match (found.get(name), expected) {
            (Some(found), Some(expected)) => assert!(
                (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
                "case {case}, {name}: {found}, expected {expected}"
            ),
            (None, None) => {}
            (found, expected) => panic!("case {case}, {name}: {found:?}, expected {expected:?}"),
        }
    }
    let strange: Vec<&String> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
    assert!(strange.is_empty(), "case {case}: {strange:?} are not checked");
}

#[test]
fn classification_metrics_equal_those_of_scikit_learn() {
    let cases: Vec<ClassificationCase> =
        serde_json::from_str(include_str!("../../tests/golden/classification.json")).unwrap();
    assert!(cases.len() >= 100);
    for (number, case) in cases.into_iter().enumerate() {
        let classes = Classes {
            labels: (0..case.classes).map(|label| label.to_string()).collect(),
            known: case.classes,
            truth: case.truth,
            predicted: case.predicted,
            probabilities: Some(case.probabilities),
        };
        compare(number, &classification(&classes, case.positive), &case.expected);
    }
}

#[test]
fn regression_metrics_equal_those_of_scikit_learn() {
    let cases: Vec<RegressionCase> = serde_json::from_str(include_str!("../../tests/golden/regression.json")).unwrap();
    assert!(cases.len() >= 50);
    for (number, case) in cases.into_iter().enumerate() {
        compare(
            number,
            &regression(&Values { truth: doubles(&case.truth), predicted: doubles(&case.predicted) }),
            &case.expected,
        );
    }
}
