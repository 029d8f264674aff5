//! What is said of the counts of a window.

use millrace_contract::{Counted, DriftCounts};

use super::{categories, counts, numbers};
use crate::api::{ConditionStatus, Drift, DriftMethod};
use crate::drift::{Asked, Judged, judge};

const EVEN: [u64; 5] = [0, 250, 250, 250, 250];
const SKEWED: [u64; 5] = [0, 50, 150, 350, 450];

fn said(drift: &Drift, counts: &DriftCounts) -> Judged {
    judge(&Asked::from(drift), counts)
}

fn two_features() -> DriftCounts {
    let mass = Counted { strange: 100, ..numbers("mass", 0.3, &EVEN, &SKEWED) };
    let sex = categories("sex", 0.1, &[10, 490, 500, 0], &[20, 480, 500, 0]);
    DriftCounts { outliers: 110, ..counts(1000, vec![sex, mass]) }
}

#[test]
fn a_feature_that_moved_is_named_with_its_figure_and_its_importance() {
    let Judged { status, reason, message, figures } = said(&Drift::default(), &two_features());
    assert_eq!((status, reason), (ConditionStatus::True, "Drifted"));
    assert_eq!(
        message,
        "1 of 2 features has drifted, 0.75 of the importance (PSI: mass 0.5242); threshold 0.2, 1000 rows in the last 1h"
    );
    assert_eq!((figures.samples, figures.share, figures.drifted, figures.compared), (1000, Some(0.75), 1, 2));
    assert_eq!(figures.outliers, Some(0.11));
    let [mass, sex] = figures.features.as_slice() else { panic!("{figures:?}") };
    assert_eq!(
        (mass.name.as_str(), mass.drifted, mass.out_of_range, mass.new_categories),
        ("mass", true, Some(0.1), None)
    );
    assert_eq!((sex.name.as_str(), sex.drifted, sex.missing, sex.reference_missing), ("sex", false, 0.02, 0.01));
    assert_eq!((sex.out_of_range, sex.new_categories), (None, Some(0.0)));
}

#[test]
fn without_drift_the_largest_figure_is_named() {
    let drift = Drift { threshold: Some(1.0), ..Drift::default() };
    let Judged { status, reason, message, figures } = said(&drift, &two_features());
    assert_eq!((status, reason), (ConditionStatus::False, "NoDrift"));
    assert!(message.starts_with("none of 2 features has drifted (largest PSI: mass 0.5242); threshold 1"), "{message}");
    assert_eq!((figures.share, figures.drifted), (Some(0.0), 0));
}

#[test]
fn a_column_that_goes_missing_has_drifted() {
    let counts = counts(1000, vec![numbers("mass", 1.0, &[10, 495, 495], &[500, 250, 250])]);
    for method in [DriftMethod::PSI, DriftMethod::KS, DriftMethod::ChiSquare] {
        let drift = Drift { method: Some(method), ..Drift::default() };
        let figures = said(&drift, &counts).figures;
        assert_eq!((figures.features[0].drifted, figures.features[0].missing), (true, 0.5), "{method:?}");
    }
}

#[test]
fn too_few_rows_and_no_profile_say_nothing() {
    let few = DriftCounts { rows: 499, ..two_features() };
    let Judged { status, reason, message, figures } = said(&Drift::default(), &few);
    assert_eq!((status, reason, figures.samples), (ConditionStatus::Unknown, "NotEnoughSamples", 499));
    assert_eq!(message, "the model was asked for fewer than 500 rows in the last 1h");
    assert_eq!((figures.share, figures.features.len()), (None, 0));
    assert_eq!(said(&Drift { min_samples: Some(499), ..Drift::default() }, &few).status, ConditionStatus::True);
    let none = DriftCounts { nothing: Some("the model has no profile.json".to_owned()), ..counts(0, Vec::new()) };
    let Judged { status, reason, message, .. } = said(&Drift::default(), &none);
    assert_eq!((status, reason), (ConditionStatus::Unknown, "NoProfile"));
    assert_eq!(message, "the model server has nothing to compare with: the model has no profile.json");
}

#[test]
fn what_chance_may_make_is_no_drift() {
    // A PSI above 0.2 of ten rows.
    let counts = counts(10, vec![numbers("mass", 1.0, &[0, 50, 50, 50, 50], &[0, 5, 2, 2, 1])]);
    let Judged { status, figures, .. } = said(&Drift { min_samples: Some(10), ..Drift::default() }, &counts);
    assert!(figures.features[0].value > 0.2, "{figures:?}");
    assert_eq!(status, ConditionStatus::False);
}

#[test]
fn only_the_features_that_are_asked_for_are_compared() {
    let drift = |name: &str| Drift { features: vec![name.to_owned()], ..Drift::default() };
    let figures = said(&drift("sex"), &two_features()).figures;
    assert_eq!((figures.compared, figures.drifted, figures.share), (1, 0, Some(0.0)));
    let Judged { status, reason, message, .. } = said(&drift("mas"), &two_features());
    assert_eq!((status, reason), (ConditionStatus::Unknown, "UnknownFeature"));
    assert!(message.contains("has \"mas\"") && message.contains("write names of its profile, sex, mass"), "{message}");
}

#[test]
fn answers_that_moved_are_drift_too() {
    let labels = Counted {
        reference_probabilities: vec![500_000, 500_000],
        probabilities: vec![800 * 1_000_000, 200 * 1_000_000],
        ..categories("predictions", 0.0, &[0, 500, 500, 0], &[0, 900, 100, 0])
    };
    let same = numbers("mass", 1.0, &EVEN, &EVEN);
    let counts = DriftCounts { predictions: Some(labels), ..counts(1000, vec![same]) };
    let Judged { status, message, figures, .. } = said(&Drift::default(), &counts);
    assert_eq!(status, ConditionStatus::True);
    let predictions = figures.predictions.unwrap();
    assert_eq!((predictions.drifted, predictions.probability_shift, predictions.out_of_range), (true, Some(0.3), None));
    assert_eq!((figures.share, figures.drifted), (Some(0.0), 0));
    assert!(message.contains("; the predictions have drifted (0.8789)"), "{message}");
}

#[test]
fn without_any_importance_every_feature_counts_the_same() {
    let features = vec![numbers("a", 0.0, &EVEN, &SKEWED), numbers("b", 0.0, &EVEN, &EVEN)];
    assert_eq!(said(&Drift::default(), &counts(1000, features)).figures.share, Some(0.5));
}

#[test]
fn of_many_features_fifty_are_listed_and_five_are_named() {
    let features = (0..120).map(|i| numbers(&format!("f{i:03}"), 0.0, &EVEN, if i < 60 { &SKEWED } else { &EVEN }));
    let Judged { message, figures, .. } = said(&Drift::default(), &counts(1000, features.collect()));
    assert_eq!((figures.drifted, figures.compared, figures.features.len()), (60, 120, 50));
    assert!(message.contains("f004 0.5242, …)") && !message.contains("f005"), "{message}");
}
