//! `evaluate`: scores a model on a table, and the champion on the same rows; writes metrics for the gate and a report for
//! people.

mod figures;
#[cfg(test)]
mod golden;
mod labels;
mod params;
mod ranking;
mod report;
mod residual;
mod score;
mod scorecard;
mod tally;

use std::path::Path;

pub use params::Params;
use report::{Judged, Report};
use score::{ScoreError, Scored, Who};
use scorecard::{IN_STATUS, Metrics};

use crate::model::signature::Kind;
use crate::model::{Model, ModelError};
use crate::say;
use crate::workplace::{Workplace, WorkplaceError};

#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error("the model cannot be opened")]
    Model(#[source] ModelError),
    #[error("the champion cannot be opened")]
    Champion(#[source] ModelError),
    #[error(transparent)]
    Score(#[from] ScoreError),
    #[error("parameter positive: the model has no class `{label}`; its classes are: {classes}")]
    Positive { label: String, classes: String },
    #[error(
        "the model is a {model}, but the champion is a {champion}: they cannot be compared; leave the input champion out"
    )]
    OtherTask { model: &'static str, champion: &'static str },
}

/// Rows that are scored at once if nothing else is said.
const BATCH_ROWS: usize = 4096;

/// Runs the stage.
pub fn run(params: &Params, place: &Workplace) -> Result<(), EvaluateError> {
    let report_folder = place.output("report")?;
    let data = place.input("data")?;
    let mut model = Model::open(place.input("model")?, params.task).map_err(EvaluateError::Model)?;
    let champion = match place.optional_input("champion") {
        Some(path) => Some(Model::open(path, None).map_err(EvaluateError::Champion)?),
        None => None,
    };
    if let Some(champion) = &champion {
        comparable(&model, champion)?;
    }
    let positive = positive(params, &model.kind)?;
    let candidate = judge(Who::Candidate, &mut model, params, data, positive)?;
    let champion = match champion {
        Some(mut champion) => {
            let positive = champion_positive(&candidate, positive, &champion.kind);
            Some(judge(Who::Champion, &mut champion, params, data, positive)?)
        }
        None => None,
    };
    place.write_numbers("metrics.json", &in_status(&candidate.metrics))?;
    if let Some(champion) = &champion {
        place.write_numbers("champion.json", &in_status(&champion.metrics))?;
    }
    Report { target: &params.target, positive, candidate: &candidate, champion: champion.as_ref() }
        .write(report_folder)?;
    print(&candidate.metrics, champion.as_ref().map(|champion| &champion.metrics));
    Ok(())
}

fn judge(
    who: Who,
    model: &mut Model,
    params: &Params,
    data: &Path,
    positive: Option<usize>,
) -> Result<Judged, EvaluateError> {
    let batch_rows = params.batch_size.map_or(BATCH_ROWS, |rows| rows.get() as usize);
    let slices = params.slices.as_deref().unwrap_or_default();
    let (scored, columns) = score::score(who, model, data, &params.target, slices, batch_rows)?;
    // A label that the champion does not know makes three labels of two.
    let positive = positive.filter(|_| matches!(&scored, Scored::Classes(classes) if classes.labels.len() == 2));
    let mut metrics = scorecard::metrics(&scored, positive);
    let slices = scorecard::slice_tables(&scored, &columns, positive);
    if !slices.is_empty() {
        metrics.insert("slice_gap".into(), slices.iter().map(|table| table.gap).fold(0.0, f64::max));
    }
    Ok(Judged { scored, metrics, slices })
}

/// The index of the positive class where there are two.
fn positive(params: &Params, kind: &Kind) -> Result<Option<usize>, EvaluateError> {
    let Kind::Classifier { classes, .. } = kind else { return Ok(None) };
    match &params.positive {
        Some(label) => match classes.iter().position(|class| *class == label.0) {
            Some(index) => Ok(Some(index).filter(|_| classes.len() == 2)),
            None => Err(EvaluateError::Positive { label: say::excerpt(&label.0, 60), classes: say::names(classes) }),
        },
        None => Ok((classes.len() == 2).then_some(1)),
    }
}

/// The same label among the champion's classes.
fn champion_positive(candidate: &Judged, positive: Option<usize>, champion: &Kind) -> Option<usize> {
    let (Scored::Classes(classes), Kind::Classifier { classes: own, .. }) = (&candidate.scored, champion) else {
        return None;
    };
    let label = &classes.labels[positive?];
    own.iter().position(|class| class == label).filter(|_| own.len() == 2)
}

fn comparable(model: &Model, champion: &Model) -> Result<(), EvaluateError> {
    let word = |kind: &Kind| match kind {
        Kind::Classifier { .. } => "classifier",
        Kind::Regressor => "regressor",
    };
    let (model, champion) = (word(&model.kind), word(&champion.kind));
    if model == champion { Ok(()) } else { Err(EvaluateError::OtherTask { model, champion }) }
}

fn in_status(metrics: &Metrics) -> Metrics {
    metrics
        .iter()
        .filter(|(name, _)| IN_STATUS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), *value))
        .collect()
}

fn print(candidate: &Metrics, champion: Option<&Metrics>) {
    let header = if champion.is_some() { "               candidate   champion" } else { "               candidate" };
    say::line(header);
    for (name, value) in in_status(candidate) {
        let other = champion.and_then(|champion| champion.get(&name)).map(|other| format!("  {other:>9.4}"));
        say::line(format!("{name:<14} {value:>9.4}{}", other.unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_of_two_models_fit_into_a_status() {
        // The longest that a double can print as, for every name.
        let metrics: Metrics = IN_STATUS
            .iter()
            .filter(|name| !["rmse", "mae", "r2", "max_error"].contains(name))
            .map(|name| ((*name).to_owned(), if *name == "rows" { 1e9 } else { 0.123_456_789_012_345_67 }))
            .collect();
        let text = serde_json::json!({"metrics": metrics, "champion": metrics}).to_string();
        assert!(text.len() <= millrace_contract::FACTS_LIMIT, "{} bytes", text.len());
    }
}
