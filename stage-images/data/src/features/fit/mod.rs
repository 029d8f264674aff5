//! Fits: goes through the steps in order and learns of the training rows what each needs.
//!
//! A step sees what the steps before it made of the rows. Where it has to measure a column that they changed, the rows are taken through the
//! graph so far into a table on disk, and measured there: what is learned is learned of the values that the served model will see.

mod begin;
mod categories;
mod interact;
mod means;
mod numbers;
mod sample;
mod select;
mod words;

use std::collections::BTreeSet;
use std::path::Path;

use arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

use sample::Sample;

use super::apply::{Applier, ApplyError};
use super::graph::build;
use super::op::{Column, Kind, Op, prune};
use super::params::{AllOf, Columns, Params, Remainder, Step};
use super::state::{Judged, State};
use super::window::Windowed;
use crate::dataset::{self, DatasetError};
use crate::say;
use crate::types::ColumnType;

/// More features than this is a mistake in a step, or a model that nobody can serve.
const MOST_FEATURES: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error("parameter {option}: the data has no column `{column}`; its columns are: {known}")]
    NoColumn { option: &'static str, column: String, known: String },
    #[error("parameter target: `{column}` is of type {found}, of which nothing can be learned")]
    Target { column: String, found: String },
    #[error("parameter keep: `{column}` is the target, which stays anyway; leave it out of keep")]
    KeepsTarget { column: String },
    #[error("parameter steps[{step}].{option}: {reason}")]
    Step { step: usize, option: &'static str, reason: String },
    #[error("the input `train` has no rows; there is nothing to learn from")]
    NoRows,
    #[error(
        "the input `train`: column {column} has {count} infinite values (or beyond the range of FP32); make them NULL or filter them in the stage before"
    )]
    Infinite { column: String, count: u64 },
    #[error("no feature is left; the steps and their selection drop all columns: {dropped}")]
    Nothing { dropped: String },
    #[error(
        "learning the features needs more memory than the stage has; raise resources.limits.memory, or name fewer columns"
    )]
    Memory(#[source] Box<DataFusionError>),
    #[error("failed to read the training rows")]
    Read(#[source] Box<DataFusionError>),
    #[error("failed to write to the temporary folder")]
    Temporary(#[source] std::io::Error),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl From<DataFusionError> for FitError {
    fn from(source: DataFusionError) -> Self {
        match source.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory(Box::new(source)),
            _ => Self::Read(Box::new(source)),
        }
    }
}

/// Where the fit works: an engine, the training rows (with their windows), and a folder of its own.
pub struct Workshop<'a> {
    pub context: &'a SessionContext,
    pub source: &'a Path,
    pub temporary: &'a Path,
}

/// Learns all steps.
pub async fn fit(
    workshop: Workshop<'_>,
    params: &Params,
    steps: &[(usize, Step)],
    windows: Vec<Windowed>,
    schema: &Schema,
) -> Result<State, FitError> {
    let mut fitter = Fitter::begin(workshop, params, schema).await?;
    for (step, what) in steps {
        fitter.step(*step, what).await?;
    }
    fitter.finish(params, windows)
}

struct Fitter<'a> {
    workshop: Workshop<'a>,
    rows: u64,
    target: Option<(String, ColumnType)>,
    kept: Vec<String>,
    raw: Vec<Column>,
    /// The columns as they are at this step.
    columns: Vec<Column>,
    ops: Vec<Op>,
    /// What has changed since the rows were last taken through the graph.
    changed: BTreeSet<String>,
    /// The raw columns that a step named.
    named: BTreeSet<String>,
    selection: Vec<Judged>,
    tables: usize,
}

impl<'a> Fitter<'a> {
    async fn step(&mut self, step: usize, what: &Step) -> Result<(), FitError> {
        match what {
            Step::Impute(impute) => self.impute(step, impute).await,
            Step::Scale(scale) => self.scale(step, scale).await,
            Step::Bin(bin) => self.bin(step, bin).await,
            Step::Encode(encode) => self.encode(step, encode).await,
            Step::Count(count) => self.count(step, count).await,
            Step::Interact(interact) => self.interact(step, interact),
            Step::Select(select) => self.select(step, select).await,
            Step::Drop(dropping) => {
                let names = Some(Columns::Names(dropping.drop.clone()));
                for name in self.pick(step, "drop", names.as_ref(), None)? {
                    self.judge(&name, "drop", None, false, format!("steps[{step}] says so"));
                    self.remove(&name);
                }
                Ok(())
            }
            // They were made before all else.
            Step::Window(_) => Ok(()),
        }
    }

    fn finish(mut self, params: &Params, windows: Vec<Windowed>) -> Result<State, FitError> {
        if params.remainder == Some(Remainder::Drop) {
            self.columns.retain(|column| column.from.iter().any(|from| self.named.contains(from)));
        }
        if self.columns.is_empty() {
            let dropped = say::names(self.selection.iter().map(|judged| &judged.feature));
            return Err(FitError::Nothing { dropped });
        }
        let (ops, needed) = prune(&self.ops, &self.columns);
        let inputs = self.raw.into_iter().filter(|column| needed.contains(&column.name)).collect();
        let target = self.target.map(|(name, _)| name);
        let (rows, kept, outputs, selection) = (self.rows, self.kept, self.columns, self.selection);
        Ok(State { rows, target, kept, windows, inputs, ops, outputs, selection, ..State::new() })
    }

    fn sample(&self) -> Sample<'a> {
        Sample(self.workshop.context)
    }

    fn of_kind(&self, kind: Kind) -> Vec<String> {
        self.columns.iter().filter(|column| column.kind == kind).map(|column| column.name.clone()).collect()
    }

    fn kind(&self, name: &str) -> Kind {
        self.columns.iter().find(|column| column.name == name).map_or(Kind::Number, |column| column.kind)
    }

    /// The columns of a step, in the order in which they are named, or that they have.
    fn pick(
        &mut self,
        step: usize,
        verb: &'static str,
        asked: Option<&Columns>,
        wanted: Option<Kind>,
    ) -> Result<Vec<String>, FitError> {
        let wrong = |reason: String| FitError::Step { step, option: "columns", reason };
        let of = |kind: Option<Kind>| -> Vec<String> {
            let fits = |column: &&Column| kind.is_none_or(|kind| kind == column.kind);
            self.columns.iter().filter(fits).map(|column| column.name.clone()).collect()
        };
        let names = match asked {
            None => of(wanted),
            Some(Columns::All(AllOf::Numeric)) => of(Some(Kind::Number)),
            Some(Columns::All(AllOf::Text)) => of(Some(Kind::Text)),
            Some(Columns::Names(names)) => names.clone(),
        };
        if names.is_empty() {
            let kind = wanted.map_or("any kind", Kind::word);
            return Err(wrong(format!("there is no column of {kind} at this step; leave the step out")));
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(wrong(format!("`{}` is named twice; name each column once", say::excerpt(name, 60))));
            }
            let Some(column) = self.columns.iter().find(|column| column.name == *name) else {
                return Err(wrong(self.absent(name)));
            };
            if let Some(wanted) = wanted.filter(|wanted| *wanted != column.kind) {
                let hint = if wanted == Kind::Number { "encode it in a step before" } else { "name columns of text" };
                let found = column.kind.word();
                return Err(wrong(format!("`{name}` is {found}, and {verb} takes {}; {hint}", wanted.word())));
            }
            // Whoever looks at all columns to leave some out does not ask for the rest.
            if !matches!(verb, "select" | "drop") {
                self.named.extend(column.from.iter().cloned());
            }
        }
        Ok(names)
    }

    fn absent(&self, name: &String) -> String {
        let shown = say::excerpt(name, 60);
        if self.target.as_ref().is_some_and(|(target, _)| target == name) {
            return format!("`{shown}` is the target, which is no feature; leave it out");
        }
        if self.kept.contains(name) {
            return format!(
                "`{shown}` is only kept and no feature: its type is none that a model takes, or `keep` names it"
            );
        }
        if let Some(judged) = self.selection.iter().find(|judged| !judged.kept && judged.feature == *name) {
            return format!("`{shown}` was left out before this step: {}", judged.reason);
        }
        let known = say::names(self.columns.iter().map(|column| &column.name));
        format!("there is no column `{shown}` at this step; its columns are: {known}")
    }

    /// Adds an operation, and refuses names that are there already.
    fn push(&mut self, step: usize, op: Op) -> Result<(), FitError> {
        op.follow(&mut self.columns);
        let wrong = |reason: String| FitError::Step { step, option: "columns", reason };
        let mut seen: BTreeSet<&str> = self.kept.iter().map(String::as_str).collect();
        for column in &self.columns {
            if !seen.insert(&column.name) {
                let name = say::excerpt(&column.name, 60);
                return Err(wrong(format!("two columns would be named `{name}`; rename one in the stage before")));
            }
        }
        if self.columns.len() > MOST_FEATURES {
            let found = self.columns.len();
            return Err(wrong(format!(
                "there would be {found} features, and {MOST_FEATURES} is the most; name fewer columns"
            )));
        }
        self.changed.extend(op.writes().into_iter().map(ToOwned::to_owned));
        self.ops.push(op);
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        self.columns.retain(|column| column.name != name);
    }

    fn judge(&mut self, feature: &str, by: &str, value: Option<f64>, kept: bool, reason: String) {
        self.selection.push(Judged { feature: feature.into(), by: by.into(), value, kept, reason });
    }

    async fn register(&self, table: &Path) -> Result<(), FitError> {
        let context = self.workshop.context;
        context.deregister_table("current")?;
        let frame = dataset::open(context, table).await?;
        context.register_table("current", frame.into_view())?;
        Ok(())
    }

    /// Takes the rows through the graph so far if one of these columns has changed since that was done.
    async fn settle(&mut self, columns: &[String]) -> Result<(), FitError> {
        if !columns.iter().any(|column| self.changed.contains(column)) {
            return Ok(());
        }
        let (ops, needed) = prune(&self.ops, &self.columns);
        let inputs: Vec<Column> = self.raw.iter().filter(|column| needed.contains(&column.name)).cloned().collect();
        let folder = |number: usize| self.workshop.temporary.join(format!("table-{number}"));
        let (old, new) = (folder(self.tables), folder(self.tables + 1));
        let graph = self.workshop.temporary.join("graph.onnx");
        std::fs::write(&graph, build(&inputs, &ops, &self.columns)).map_err(FitError::Temporary)?;
        let target: Vec<String> = self.target.iter().map(|(name, _)| name.clone()).collect();
        Applier::open(&graph, &inputs, &self.columns)?.transform(self.workshop.source, &target, &new)?;
        self.register(&new).await?;
        if self.tables > 0 {
            std::fs::remove_dir_all(old).map_err(FitError::Temporary)?;
        }
        self.tables += 1;
        self.changed.clear();
        Ok(())
    }
}
