//! From figures and limits to verdicts.

use std::collections::BTreeMap;

use super::drifted::{self, Rows};
use super::{Asked, Measured, outside, reported};
use crate::api::{Analysis, AnalysisMetric, AnalysisStatus, Verdict};
use crate::deployment::Live;

/// Where the spec says nothing.
const MIN_SAMPLES: u32 = 100;

/// What the analyses need of what routers count to say something.
#[must_use]
pub fn asked(analyses: &BTreeMap<String, Analysis>) -> Vec<Asked> {
    let asked = analyses.values().filter_map(|analysis| {
        let metric = analysis.metric.filter(|metric| *metric != AnalysisMetric::Drift)?;
        Some(Asked { metric, samples: needed(analysis), compares: analysis.compares() })
    });
    asked.collect()
}

fn needed(analysis: &Analysis) -> u64 {
    u64::from(analysis.min_samples.unwrap_or(MIN_SAMPLES))
}

/// Judges every analysis. Without `measured` nothing was counted yet. `rows` is what the servers of the revision that comes counted.
#[must_use]
pub fn judge(
    analyses: &BTreeMap<String, Analysis>,
    measured: Option<&Measured>,
    live: Live<'_>,
    rows: &Rows<'_>,
) -> Vec<AnalysisStatus> {
    let judged = analyses.iter().map(|(name, analysis)| match (&analysis.prometheus, &analysis.live) {
        (Some(_), _) => outside::judge(name, analysis, measured),
        (None, Some(metric)) => reported::judge(name, analysis, metric, live),
        (None, None) if analysis.metric == Some(AnalysisMetric::Drift) => drifted::judge(name, analysis, rows),
        (None, None) => one(name, analysis, analysis.metric.unwrap_or_default(), measured),
    });
    judged.collect()
}

fn one(name: &str, analysis: &Analysis, metric: AnalysisMetric, measured: Option<&Measured>) -> AnalysisStatus {
    let needed = needed(analysis);
    let samples = measured.map_or(0, |measured| measured.candidate.samples(metric));
    let compares = analysis.compares();
    let of_stable = measured.map_or(0, |measured| measured.stable.samples(metric));
    let value = measured.and_then(|measured| measured.candidate.figure(metric));
    let stable = measured.and_then(|measured| measured.stable.figure(metric)).filter(|_| compares);
    let status = |verdict, message| AnalysisStatus {
        name: name.to_owned(),
        verdict,
        value: value.map(rounded),
        stable: stable.map(rounded),
        samples: i64::try_from(samples).unwrap_or(i64::MAX),
        message,
        ..AnalysisStatus::default()
    };
    let Some(figure) = value.filter(|_| samples >= needed) else {
        return status(Verdict::Inconclusive, format!("{samples} of {needed} requests"));
    };
    let head = format!("{} {} over {samples} requests", metric.as_str(), shown(metric, figure));
    if let Some(max) = analysis.max.filter(|max| figure > *max) {
        return status(Verdict::Failed, format!("{head}, more than max {}", shown(metric, max)));
    }
    if let Some(min) = analysis.min.filter(|min| figure < *min) {
        return status(Verdict::Failed, format!("{head}, less than min {}", shown(metric, min)));
    }
    let mut held = Vec::new();
    held.extend(analysis.max.map(|max| format!("max {}", shown(metric, max))));
    held.extend(analysis.min.map(|min| format!("min {}", shown(metric, min))));
    if let Some(ratio) = analysis.max_ratio_to_stable {
        let Some(stable) = stable.filter(|_| of_stable >= needed) else {
            return status(Verdict::Inconclusive, format!("{of_stable} of {needed} requests of the promoted revision"));
        };
        // The least that could have been seen: none of a hundred is not none of all.
        let least = if metric == AnalysisMetric::ErrorRate { 1.0 / of_stable as f64 } else { 0.0 };
        let beside = format!("{ratio} times the promoted revision's {}", shown(metric, stable));
        if figure > ratio * stable.max(least) {
            return status(Verdict::Failed, format!("{head}, more than {beside}"));
        }
        held.push(format!("at most {beside}"));
    }
    status(Verdict::Passed, format!("{head} ({})", held.join(", ")))
}

/// A share as it is, a time with its unit.
fn shown(metric: AnalysisMetric, figure: f64) -> String {
    let unit = if metric.quantile().is_some() { " ms" } else { "" };
    format!("{}{unit}", rounded(figure))
}

/// Four digits behind the point: more says nothing.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}
