//! `validate`: checks a table against expectations, writes a report, and fails if one that must hold does not.

mod check;
mod judge;
mod params;
mod predicate;
mod report;

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;

use check::{Check, CheckError};
use judge::JudgeError;
pub use params::Params;
use params::Severity;

use crate::dataset::{self, DatasetError};
use crate::engine::{self, EngineError};
use crate::say;
use crate::workplace::{Workplace, WorkplaceError, write_file};

#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    #[error("parameter expectations: the list is empty; write at least one expectation")]
    Nothing,
    #[error("parameter expectations: number {number} {what}", what = say::one_line(source))]
    Expectation { number: usize, source: CheckError },
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("failed to make the table `data`")]
    Table(#[source] Box<DataFusionError>),
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error("{failed} of {all} checks failed: {names}")]
    Failed { failed: usize, all: usize, names: String },
}

/// Runs the stage. The report is written whether the checks pass or not.
pub async fn run(params: &Params, place: &Workplace) -> Result<(), ValidateError> {
    let checks = checks(params)?;
    let report_folder = place.output("report")?;
    let context = engine::start()?;
    let data = dataset::open(&context, place.input("data")?).await?;
    context
        .register_table("data", data.clone().into_view())
        .map_err(|source| ValidateError::Table(Box::new(source)))?;
    let (verdicts, rows) = judge::judge(&context, &data, &checks, jiff::Timestamp::now()).await?;

    let json = format!("{:#}\n", report::as_json(&verdicts, rows));
    write_file(&report_folder.join("report.json"), json.as_bytes())?;
    write_file(&report_folder.join("report.html"), report::as_html(&verdicts, rows).as_bytes())?;
    let count =
        |severity: Severity| verdicts.iter().filter(|verdict| !verdict.passed && verdict.severity == severity).count();
    place.write_numbers(
        "metrics.json",
        &BTreeMap::from([
            ("checks".to_owned(), verdicts.len() as f64),
            ("failed".to_owned(), count(Severity::Error) as f64),
            ("warnings".to_owned(), count(Severity::Warn) as f64),
            ("rows".to_owned(), rows as f64),
        ]),
    )?;
    for line in report::lines(&verdicts) {
        say::line(line);
    }
    let failed: Vec<&str> = verdicts
        .iter()
        .filter(|verdict| !verdict.passed && verdict.severity == Severity::Error)
        .map(|verdict| verdict.name.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(ValidateError::Failed { failed: failed.len(), all: verdicts.len(), names: failed.join("; ") })
}

fn checks(params: &Params) -> Result<Vec<Check>, ValidateError> {
    if params.expectations.is_empty() {
        return Err(ValidateError::Nothing);
    }
    let number = |(index, expectation)| {
        Check::try_from(expectation).map_err(|source| ValidateError::Expectation { number: index + 1, source })
    };
    params.expectations.iter().enumerate().map(number).collect()
}
