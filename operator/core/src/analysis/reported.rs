//! The verdict on a live metric: what a pipeline's `report` stage brought when labels had come.

use super::answers::Answer;
use super::judge::rounded;
use super::outside;
use crate::api::{Analysis, AnalysisStatus, LiveMetrics};
use crate::deployment::Live;

pub(super) fn judge(name: &str, analysis: &Analysis, metric: &str, live: Live<'_>) -> AnalysisStatus {
    let compares = analysis.compares();
    let (candidate, stable) = (answer(metric, live, live.candidate), answer(metric, live, live.stable));
    let samples = live.candidate.and_then(|live| live.samples).unwrap_or_default();
    let counted = u64::try_from(samples).unwrap_or_default();
    let says = format!("live {metric} is");
    let (verdict, message) = outside::verdict(analysis, &candidate, &stable, counted, &says);
    AnalysisStatus {
        name: name.to_owned(),
        verdict,
        value: candidate.value.map(rounded),
        stable: stable.value.filter(|_| compares).map(rounded),
        samples,
        message,
        ..AnalysisStatus::default()
    }
}

fn answer(metric: &str, all: Live<'_>, live: Option<&LiveMetrics>) -> Answer {
    let value = live.and_then(|live| live.metrics.get(metric)).copied();
    let why = match live {
        None => all.lacks(),
        Some(live) => format!("MLPipelineRun {} reported no {metric}", live.run),
    };
    Answer { value, problem: value.is_none().then_some(why), ..Answer::default() }
}
