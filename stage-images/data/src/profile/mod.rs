//! `profile`: describes a table for people who do not know it yet, and for later stages by its figures.

pub mod correlate;
mod figures;
mod measure;
mod params;
pub mod query;
mod report;
mod spread;
mod warn;

use std::collections::BTreeMap;

use datafusion::error::DataFusionError;

use measure::{Asked, Measure};
pub use params::Params;
use report::Profile;

use crate::dataset::{self, DatasetError};
use crate::engine::{self, EngineError};
use crate::say;
use crate::types::ColumnType;
use crate::workplace::{Workplace, WorkplaceError, write_file};

/// Columns that are described if none are named: a page with more is read by nobody.
const MOST_COLUMNS: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("parameter correlated: found {found}, expected a number from 0 to 1")]
    Correlated { found: f64 },
    #[error("parameter columns: the list is empty; leave it out to describe all columns")]
    NoColumns,
    #[error("parameter columns: `{column}` is named twice; name each column once")]
    NamedTwice { column: String },
    #[error("parameter columns: the data has no column `{column}`; its columns are: {known}")]
    NoColumn { column: String, known: String },
    #[error(
        "describing the data needs more memory than the stage has; raise resources.limits.memory, or name fewer columns"
    )]
    Memory(#[source] Box<DataFusionError>),
    #[error("failed to read the data")]
    Read(#[source] Box<DataFusionError>),
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl From<DataFusionError> for ProfileError {
    fn from(source: DataFusionError) -> Self {
        match source.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory(Box::new(source)),
            _ => Self::Read(Box::new(source)),
        }
    }
}

/// Runs the stage.
pub async fn run(params: &Params, place: &Workplace) -> Result<(), ProfileError> {
    let correlated = params.correlated.unwrap_or(warn::CORRELATED);
    if !(0.0..=1.0).contains(&correlated) {
        return Err(ProfileError::Correlated { found: correlated });
    }
    let report_folder = place.output("report")?;
    let context = engine::start()?;
    let data = dataset::open(&context, place.input("data")?).await?;
    let all: Vec<Asked> = data
        .schema()
        .fields()
        .iter()
        .map(|field| Asked { name: field.name().clone(), arrow: field.data_type().clone() })
        .collect();
    let asked = chosen(params, &all)?;
    context.register_table("data", data.into_view())?;
    let profile = describe(&Measure(&context), &all, &asked, correlated).await?;

    let json = format!("{:#}\n", profile.as_json());
    write_file(&report_folder.join("profile.json"), json.as_bytes())?;
    write_file(&report_folder.join("report.html"), profile.as_html().as_bytes())?;
    let mut metrics = BTreeMap::from([
        ("rows".to_owned(), profile.rows as f64),
        ("columns".to_owned(), profile.table_columns as f64),
        ("missing_share".to_owned(), profile.missing_share()),
        ("warnings".to_owned(), profile.warnings.len() as f64),
    ]);
    metrics.extend(profile.duplicates.as_ref().ok().map(|duplicates| ("duplicates".to_owned(), *duplicates as f64)));
    place.write_numbers("metrics.json", &metrics)?;
    say::line(format!("{} rows, {} columns", profile.rows, profile.table_columns));
    for warning in &profile.warnings {
        say::line(format!("WARN  {}", say::excerpt(&warning.message, 200)));
    }
    Ok(())
}

async fn describe(
    measure: &Measure<'_>,
    all: &[Asked],
    asked: &[Asked],
    correlated: f64,
) -> Result<Profile, ProfileError> {
    let rows = measure.rows().await?;
    let columns = measure.columns(asked).await?;
    let matrix = measure.correlations(&columns).await?;
    let duplicates = duplicates(measure, all, rows).await?;
    let warnings = warn::warnings(&columns, &matrix, correlated, rows, duplicates.as_ref().ok().copied());
    Ok(Profile { rows, table_columns: all.len(), duplicates, columns, matrix, warnings })
}

/// The number of duplicate rows, or why it is not known. The rest of the report is worth having without it.
async fn duplicates(measure: &Measure<'_>, all: &[Asked], rows: u64) -> Result<Result<u64, String>, ProfileError> {
    if let Some(column) = all.iter().find(|column| ColumnType::of(&column.arrow).is_none()) {
        return Ok(Err(format!("{} is of type {}, which is not compared", column.name, column.arrow)));
    }
    let names: Vec<String> = all.iter().map(|column| column.name.clone()).collect();
    match measure.duplicates(&names, rows).await.map_err(ProfileError::from) {
        Ok(duplicates) => Ok(Ok(duplicates)),
        Err(ProfileError::Memory(_)) => Ok(Err("it needs more memory than the stage has".into())),
        Err(error) => Err(error),
    }
}

fn chosen(params: &Params, all: &[Asked]) -> Result<Vec<Asked>, ProfileError> {
    let Some(wanted) = &params.columns else { return Ok(all.iter().take(MOST_COLUMNS).cloned().collect()) };
    if wanted.is_empty() {
        return Err(ProfileError::NoColumns);
    }
    let mut chosen: Vec<Asked> = Vec::with_capacity(wanted.len());
    for name in wanted {
        if chosen.iter().any(|column| column.name == *name) {
            return Err(ProfileError::NamedTwice { column: say::excerpt(name, 60) });
        }
        let column = all.iter().find(|column| column.name == *name).ok_or_else(|| ProfileError::NoColumn {
            column: say::excerpt(name, 60),
            known: say::names(all.iter().map(|column| &column.name)),
        })?;
        chosen.push(column.clone());
    }
    Ok(chosen)
}
