//! `features`: learns of training rows how columns become features, and applies that to tables. What is learned is an artifact: a
//! description, and an ONNX graph that takes raw columns, which `train-tabular` puts before its model.
//!
//! Tables go through that same graph, so that a table's features and a served model's are the same.

mod apply;
mod fit;
mod graph;
mod onnx;
mod op;
mod params;
mod report;
mod state;
mod steps;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use serde_json::json;

use apply::{Applier, ApplyError};
use fit::{FitError, Workshop, fit};
pub use params::Params;
use params::{Step, Write};
use state::{GRAPH, State, StateError};
use steps::steps;
use window::{WindowError, Windowed};

use crate::dataset::{self, DatasetError};
use crate::engine::{self, EngineError};
use crate::params::ParamsError;
use crate::say;
use crate::sink::{FolderSink, SinkError};
use crate::types::ColumnType;
use crate::workplace::{Workplace, WorkplaceError, write_file};

/// The inputs that are tables. Each becomes an output of its name.
const TABLES: [&str; 4] = ["train", "validation", "test", "data"];

#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    #[error(
        "the stage has neither the input `train`, to learn of, nor the input `features`, to apply; give it one of them"
    )]
    NoInput,
    #[error(
        "parameter {option}: the input `features` says how features are made; leave the parameter out, or the input"
    )]
    Fitted { option: &'static str },
    #[error("the stage has the input `features` and no table; give it one of `data`, `train`, `validation`, `test`")]
    NoTable,
    #[error("parameter steps is missing: a list like [{{impute: median}}, {{encode: onehot}}]")]
    NoSteps,
    #[error(
        "the input `{table}`: it has no column `{column}`, which the features are made of ({asked}); its columns are: {known}"
    )]
    Missing { table: String, column: String, asked: String, known: String },
    #[error(
        "the input `{table}`: making its windows needs more memory than the stage has; raise resources.limits.memory"
    )]
    Memory {
        table: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("the input `{table}`: failed to make its windows")]
    Windows {
        table: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("failed to make a temporary folder")]
    Temporary(#[source] std::io::Error),
    #[error("the input `{table}`")]
    Apply {
        table: String,
        #[source]
        source: Box<ApplyError>,
    },
    #[error(transparent)]
    Params(#[from] ParamsError),
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// Runs the stage.
pub async fn run(params: &Params, place: &Workplace) -> Result<(), FeaturesError> {
    let tables: Vec<&str> = TABLES.into_iter().filter(|table| place.optional_input(table).is_some()).collect();
    // First of all: a missing output should not be told after an hour.
    for table in &tables {
        place.output(table)?;
    }
    let temporary = tempfile::tempdir().map_err(FeaturesError::Temporary)?;
    let context = engine::start_ordered()?;
    let shop = Shop { params, place, context: &context, temporary: temporary.path() };
    let rows = match place.optional_input("features") {
        Some(fitted) => shop.apply_fitted(fitted, &tables).await?,
        None => shop.fit(&tables).await?,
    };
    for (table, count) in rows {
        place.write_result(&format!("{table}_rows"), &json!(count))?;
        say::line(format!("{table}: {count} rows"));
    }
    Ok(())
}

/// What a run works with.
struct Shop<'a> {
    params: &'a Params,
    place: &'a Workplace,
    context: &'a SessionContext,
    temporary: &'a Path,
}

impl Shop<'_> {
    async fn apply_fitted(&self, fitted: &Path, tables: &[&str]) -> Result<Vec<(String, u64)>, FeaturesError> {
        let Params { steps, target, keep, remainder, write: _ } = self.params;
        for (given, option) in [
            (steps.is_some(), "steps"),
            (target.is_some(), "target"),
            (keep.is_some(), "keep"),
            (remainder.is_some(), "remainder"),
        ] {
            if given {
                return Err(FeaturesError::Fitted { option });
            }
        }
        if tables.is_empty() {
            return Err(FeaturesError::NoTable);
        }
        let state = State::read(fitted)?;
        let graph = fitted.join(GRAPH);
        let mut rows = Vec::new();
        for table in tables {
            let raw = self.with_windows(table, &state.windows).await?;
            rows.push(((*table).to_owned(), self.write(table, &raw, &state, &graph)?));
        }
        Ok(rows)
    }

    async fn fit(&self, tables: &[&str]) -> Result<Vec<(String, u64)>, FeaturesError> {
        let train = self.place.optional_input("train").ok_or(FeaturesError::NoInput)?;
        let (features, report) = (self.place.output("features")?, self.place.output("report")?);
        let steps = steps(self.params.steps.as_ref().ok_or(FeaturesError::NoSteps)?)?;
        let windows = plan_windows(&steps, &dataset::schema(train)?)?;
        let raw = self.with_windows("train", &windows).await?;
        let (work, schema) = (self.temporary.join("fit"), dataset::schema(&raw)?);
        let workshop = Workshop { context: self.context, source: &raw, temporary: &work };
        std::fs::create_dir_all(&work).map_err(FeaturesError::Temporary)?;
        let numbered: Vec<(usize, Step)> = steps.into_iter().enumerate().collect();
        let state = fit(workshop, self.params, &numbered, windows, &schema).await?;
        let graph = graph::build(&state.inputs, &state.ops, &state.outputs);
        state.write(features, &graph)?;
        write_file(&report.join("report.html"), report::html(&state).as_bytes())?;
        state.say();
        let mut rows = Vec::new();
        for table in tables {
            // The training rows with their windows are there already.
            let raw = if *table == "train" { raw.clone() } else { self.with_windows(table, &state.windows).await? };
            rows.push(((*table).to_owned(), self.write(table, &raw, &state, &features.join(GRAPH))?));
        }
        let dropped = state.selection.iter().filter(|judged| !judged.kept).count();
        self.place.write_numbers(
            "metrics.json",
            &BTreeMap::from([
                ("rows".to_owned(), state.rows as f64),
                ("columns".to_owned(), state.inputs.len() as f64),
                ("features".to_owned(), state.outputs.len() as f64),
                ("dropped".to_owned(), dropped as f64),
            ]),
        )?;
        Ok(rows)
    }

    /// The table of an input with its windows: the input itself where there are none.
    async fn with_windows(&self, table: &str, windows: &[Windowed]) -> Result<PathBuf, FeaturesError> {
        let path = self.place.input(table)?;
        let schema = dataset::schema(path)?;
        let needed = windows.iter().flat_map(|window| window.by.iter().chain([&window.order, &window.column]));
        has(table, &schema, needed)?;
        if windows.is_empty() {
            return Ok(path.to_path_buf());
        }
        let to = self.temporary.join(format!("windows-{table}"));
        let failed = |source: DataFusionError| {
            let (table, source) = (table.to_owned(), Box::new(source));
            match source.find_root() {
                DataFusionError::ResourcesExhausted(_) => FeaturesError::Memory { table, source },
                _ => FeaturesError::Windows { table, source },
            }
        };
        self.context.deregister_table("data").map_err(failed)?;
        let frame = dataset::open(self.context, path).await?;
        self.context.register_table("data", frame.into_view()).map_err(failed)?;
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let frame = engine::query(self.context, &window::sql(&columns, windows)).await.map_err(failed)?;
        let mut sink = FolderSink::create(&to, frame.schema().as_arrow())?;
        let mut stream = frame.execute_stream().await.map_err(failed)?;
        while let Some(batch) = stream.next().await {
            sink.write(&batch.map_err(failed)?)?;
        }
        sink.finish()?;
        Ok(to)
    }

    /// Writes the output of a table.
    fn write(&self, table: &str, raw: &Path, state: &State, graph: &Path) -> Result<u64, FeaturesError> {
        let to = self.place.output(table)?;
        if self.params.write == Some(Write::Raw) {
            let mut sink = FolderSink::create(to, &dataset::schema(raw)?)?;
            for batch in dataset::batches(raw, 8192)? {
                sink.write(&batch.map_err(|source| apply_error(table, ApplyError::Read(source)))?)?;
            }
            return Ok(sink.finish()?);
        }
        has(table, &dataset::schema(raw)?, state.inputs.iter().map(|input| &input.name))?;
        let mut applier =
            Applier::open(graph, &state.inputs, &state.outputs).map_err(|source| apply_error(table, source))?;
        applier.transform(raw, &state.kept, to).map_err(|source| apply_error(table, source))
    }
}

fn apply_error(table: &str, source: ApplyError) -> FeaturesError {
    FeaturesError::Apply { table: table.to_owned(), source: Box::new(source) }
}

/// The windows of the steps, which stand before all others.
fn plan_windows(steps: &[Step], schema: &Schema) -> Result<Vec<Windowed>, WindowError> {
    let known: Vec<(String, Option<ColumnType>)> =
        schema.fields().iter().map(|field| (field.name().clone(), ColumnType::of(field.data_type()))).collect();
    let mut taken: BTreeSet<String> = known.iter().map(|(name, _)| name.clone()).collect();
    let (mut windows, mut others) = (Vec::new(), false);
    for (step, what) in steps.iter().enumerate() {
        let Step::Window(window) = what else {
            others = true;
            continue;
        };
        if others {
            return Err(WindowError::TooLate { step });
        }
        let made = window::plan(step, window, &known, &taken)?;
        taken.extend(made.iter().map(|made| made.name.clone()));
        windows.extend(made);
    }
    Ok(windows)
}

/// Whether a table has the columns that are needed.
fn has<'n>(table: &str, schema: &Schema, names: impl Iterator<Item = &'n String>) -> Result<(), FeaturesError> {
    let needed: BTreeSet<&String> = names.collect();
    match needed.iter().find(|name| schema.field_with_name(name).is_err()) {
        None => Ok(()),
        Some(name) => Err(FeaturesError::Missing {
            table: table.to_owned(),
            column: say::excerpt(name, 60),
            asked: say::names(&needed),
            known: say::names(schema.fields().iter().map(|field| field.name())),
        }),
    }
}
