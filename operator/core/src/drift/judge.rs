//! What follows from the counts of a window.

use millrace_contract::{Counted, CountedKind, DriftCounts, MILLIONTHS};

use super::Asked;
use super::figure::{Figure, chi_square, ks, psi};
use crate::api::{ConditionStatus, DriftMethod, DriftStatus, FeatureDrift, PredictionDrift};
use crate::clip::clip;
use crate::duration;
use crate::figure::{FEWEST, rounded};

/// What chance makes less often than this is no chance.
const CHANCE: f64 = 0.001;
/// Features that the status has at most.
const LISTED: usize = 50;
/// Features that a message names at most, and bytes of each.
const NAMED: usize = 5;
const LONGEST_NAME: usize = 64;
/// Figures have so many decimals.
const DECIMALS: f64 = 10_000.0;

/// The condition `Drifted`, and the figures but for whose and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub status: ConditionStatus,
    pub reason: &'static str,
    pub message: String,
    pub figures: DriftStatus,
}

/// Judges the counts of one window. `counts` were checked.
#[must_use]
pub fn judge(asked: &Asked<'_>, counts: &DriftCounts) -> Judged {
    let samples = i64::try_from(counts.rows).unwrap_or(i64::MAX);
    let figures = DriftStatus { samples, ..DriftStatus::default() };
    let unknown =
        |reason, message| Judged { status: ConditionStatus::Unknown, reason, message, figures: figures.clone() };
    if let Some(why) = &counts.nothing {
        return unknown("NoProfile", format!("the model server has nothing to compare with: {why}"));
    }
    if counts.rows < asked.min_samples {
        let window = duration::format(asked.window);
        let message = format!("the model was asked for fewer than {} rows in the last {window}", asked.min_samples);
        return unknown("NotEnoughSamples", message);
    }
    let known = |name: &&String| counts.features.iter().any(|counted| counted.name == **name);
    if let Some(name) = asked.features.iter().find(|name| !known(name)) {
        return unknown("UnknownFeature", unknown_feature(name, counts));
    }
    let chosen = |counted: &&Counted| asked.features.is_empty() || asked.features.contains(&counted.name);
    let mut features: Vec<FeatureDrift> =
        counts.features.iter().filter(chosen).map(|counted| feature(asked, counted)).collect();
    features
        .sort_by(|a, b| b.drifted.cmp(&a.drifted).then(b.value.total_cmp(&a.value)).then_with(|| a.name.cmp(&b.name)));
    let predictions = counts.predictions.as_ref().map(|counted| prediction(asked, counted, counts.rows));
    let drifted = features.iter().filter(|feature| feature.drifted).count();
    let compared = features.len();
    let share = share(&features);
    let any = drifted > 0 || predictions.as_ref().is_some_and(|predictions| predictions.drifted);
    let message = message(asked, &features, predictions.as_ref(), share, counts.rows);
    features.truncate(LISTED);
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    Judged {
        status: if any { ConditionStatus::True } else { ConditionStatus::False },
        reason: if any { "Drifted" } else { "NoDrift" },
        message,
        figures: DriftStatus {
            share: Some(tidy(share)),
            drifted: count(drifted),
            compared: count(compared),
            outliers: Some(part(counts.outliers, counts.rows)),
            features,
            predictions,
            ..figures
        },
    }
}

fn feature(asked: &Asked<'_>, counted: &Counted) -> FeatureDrift {
    let (value, drifted) = figure(asked, counted);
    let missing = |counts: &[u64]| part(counts.first().copied().unwrap_or_default(), counts.iter().sum());
    let strange = part(counted.strange, counted.counts.iter().skip(1).sum());
    let (out_of_range, new_categories) = match counted.kind {
        CountedKind::Numeric => (Some(strange), None),
        CountedKind::Categorical => (None, (!counted.partial).then_some(strange)),
    };
    FeatureDrift {
        name: counted.name.clone(),
        value,
        drifted,
        importance: tidy(counted.importance),
        missing: missing(&counted.counts),
        reference_missing: missing(&counted.reference),
        out_of_range,
        new_categories,
    }
}

fn prediction(asked: &Asked<'_>, counted: &Counted, rows: u64) -> PredictionDrift {
    let (value, drifted) = figure(asked, counted);
    let is_number = counted.kind == CountedKind::Numeric;
    let probabilities = counted.probabilities.iter().zip(&counted.reference_probabilities);
    let shifts = probabilities.map(|(sum, mean)| (*sum as f64 / rows.max(1) as f64 - *mean as f64).abs() / MILLIONTHS);
    PredictionDrift {
        value,
        drifted,
        out_of_range: is_number.then(|| part(counted.strange, counted.counts.iter().skip(1).sum())),
        probability_shift: shifts.max_by(f64::total_cmp).map(tidy),
    }
}

/// The figure of the method, and whether it is too large and no chance.
fn figure(asked: &Asked<'_>, counted: &Counted) -> (f64, bool) {
    let compare = match (asked.method, counted.kind) {
        (DriftMethod::PSI, _) => psi,
        (DriftMethod::KS, CountedKind::Numeric) => ks,
        // Categories have no order.
        (DriftMethod::KS, CountedKind::Categorical) | (DriftMethod::ChiSquare, _) => chi_square,
    };
    let Figure { value, chance } = compare(&counted.reference, &counted.counts);
    (tidy(value), value > asked.threshold && chance < CHANCE)
}

/// The drifted part of the importance; where no feature has any, of the features.
fn share(features: &[FeatureDrift]) -> f64 {
    let total: f64 = features.iter().map(|feature| feature.importance).sum();
    let weight = |feature: &FeatureDrift| if total > 0.0 { feature.importance } else { 1.0 };
    let all: f64 = features.iter().map(weight).sum();
    let drifted: f64 = features.iter().filter(|feature| feature.drifted).map(weight).sum();
    if all > 0.0 { drifted / all } else { 0.0 }
}

fn message(
    asked: &Asked<'_>,
    features: &[FeatureDrift],
    predictions: Option<&PredictionDrift>,
    share: f64,
    rows: u64,
) -> String {
    let method = asked.method.as_str();
    let figures = |drifted: bool| {
        let which = features.iter().filter(move |feature| feature.drifted == drifted);
        let named = which.map(|feature| format!("{} {}", clip(&feature.name, LONGEST_NAME), short(feature.value)));
        named.take(if drifted { NAMED } else { 1 }).collect::<Vec<_>>().join(", ")
    };
    let (drifted, compared) = (features.iter().filter(|feature| feature.drifted).count(), features.len());
    let mut text = match (drifted, compared) {
        (_, 0) => "no feature is compared".to_owned(),
        (0, _) => format!("none of {compared} features has drifted (largest {method}: {})", figures(false)),
        _ => {
            let more = if drifted > NAMED { ", …" } else { "" };
            let share = short(tidy(share));
            let have = if drifted == 1 { "has" } else { "have" };
            format!(
                "{drifted} of {compared} features {have} drifted, {share} of the importance ({method}: {}{more})",
                figures(true)
            )
        }
    };
    if let Some(predictions) = predictions {
        let have = if predictions.drifted { "have" } else { "have not" };
        text = format!("{text}; the predictions {have} drifted ({})", short(predictions.value));
    }
    format!("{text}; threshold {}, {rows} rows in the last {}", short(asked.threshold), duration::format(asked.window))
}

fn unknown_feature(name: &str, counts: &DriftCounts) -> String {
    let names: Vec<String> = counts.features.iter().take(20).map(|counted| clip(&counted.name, LONGEST_NAME)).collect();
    let more = if counts.features.len() > names.len() { ", …" } else { "" };
    format!(
        "spec.monitoring.drift.features has \"{}\", which the model server does not compare: write names of its profile, {}{more}",
        clip(name, LONGEST_NAME),
        names.join(", ")
    )
}

fn short(number: f64) -> String {
    rounded(number, FEWEST)
}

/// Digits that say nothing would be news all the time.
fn tidy(number: f64) -> f64 {
    (number * DECIMALS).round() / DECIMALS
}

fn part(some: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { tidy(some as f64 / all as f64) }
}
