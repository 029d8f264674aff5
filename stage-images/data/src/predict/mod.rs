//! `predict`: scores a table with a model, for what does not have to be asked one by one. What the model says is what a served one answers.
//!
//! The table is scored in pieces, as many at a time as there are threads and memory for. Several pods may each score a part of it.

mod columns;
mod memory;
mod params;
mod pieces;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use columns::{Columns, ColumnsError};
use memory::{AtOnce, VALUE_BYTES, at_once};
pub use params::Params;
use pieces::{Opened, Piece};

use crate::dataset::DatasetError;
use crate::model::features::{FeatureError, tensors};
use crate::model::{Model, ModelError};
use crate::params::ParamsError;
use crate::sink::{FolderSink, SinkError};
use crate::workplace::{Workplace, WorkplaceError};
use crate::{engine, limits, say};

#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    #[error(transparent)]
    Params(#[from] ParamsError),
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("the model cannot be opened")]
    Open(#[source] ModelError),
    #[error("the model cannot score the data")]
    Score(#[source] ModelError),
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    #[error(transparent)]
    Feature(#[from] FeatureError),
    #[error("failed to read {file}")]
    Read {
        file: String,
        #[source]
        source: ArrowError,
    },
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// Rows that are scored at once if nothing else is said.
const BATCH_ROWS: usize = 4096;

/// Runs the stage.
pub fn run(params: &Params, place: &Workplace) -> Result<(), PredictError> {
    let part = params.part()?;
    let to = place.output("data")?;
    let files = pieces::open(place.input("data")?)?;
    let folder = place.input("model")?;
    let model = open(folder)?;
    let Some(first) = files.first() else { return Ok(()) };
    let columns = Columns::plan(params, first.schema(), &model)?;
    for file in &files[1..] {
        columns.check(&file.path.display().to_string(), file.schema())?;
    }
    let pieces = pieces::pieces(&files, part);
    let batch_rows = params.batch_size.map_or(BATCH_ROWS, |rows| rows.get() as usize);
    let row_bytes = row_bytes(&files, &columns, &model);
    let AtOnce { workers, batch_rows } =
        at_once(limits::memory_bytes(), engine::threads(), model.bytes, row_bytes, batch_rows);
    let workers = workers.min(pieces.len());
    let started = Instant::now();
    if pieces.is_empty() {
        // A table, or a part of one, without rows is one, too.
        FolderSink::create(to, &columns.schema)?.finish()?;
    }
    let task = Task { files: &files, pieces: &pieces, columns: &columns, batch_rows, to };
    let rows = task.score_all(model, folder, workers)?;
    let seconds = started.elapsed().as_secs_f64();
    let speed = rows as f64 / seconds.max(1e-9);
    place.write_result("rows", &json!(rows))?;
    place.write_numbers(
        "metrics.json",
        &BTreeMap::from([("rows".to_owned(), rows as f64), ("rows_per_second".to_owned(), speed.round())]),
    )?;
    say::line(format!("{rows} rows in {seconds:.1} s, {} columns", columns.schema.fields().len()));
    Ok(())
}

/// The threads of the runtime score rows of a batch apart only where there are many; pieces are scored apart always.
fn open(folder: &Path) -> Result<Model, PredictError> {
    Model::open_with(folder, None, 1).map_err(PredictError::Open)
}

/// Whether a column of the data is read.
fn needed(column: &str, columns: &Columns, model: &Model) -> bool {
    columns.kept.iter().any(|kept| kept == column) || model.signature.inputs.iter().any(|input| input.name == column)
}

/// What a row takes in a batch: so much for each value, and what the files say of their size, which texts may have.
fn row_bytes(files: &[Opened], columns: &Columns, model: &Model) -> u64 {
    let values = (model.signature.inputs.len() + columns.schema.fields().len()) as u64;
    let stored = files.iter().map(|file| file.row_bytes(|column| needed(column, columns, model))).max();
    values * VALUE_BYTES + stored.unwrap_or_default()
}

struct Task<'a> {
    files: &'a [Opened],
    pieces: &'a [Piece],
    columns: &'a Columns,
    batch_rows: usize,
    to: &'a Path,
}

impl Task<'_> {
    /// Scores all pieces. Of several errors the one of the earliest piece is told, whoever met it first.
    fn score_all(&self, model: Model, folder: &Path, workers: usize) -> Result<u64, PredictError> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let errors: Mutex<Vec<(usize, PredictError)>> = Mutex::default();
        let first = Mutex::new(Some(model));
        let work = || {
            let fail = |number: usize, error: PredictError| {
                failed.store(true, Ordering::Relaxed);
                errors.lock().unwrap_or_else(PoisonError::into_inner).push((number, error));
            };
            let own = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut model = match own.map_or_else(|| open(folder), Ok) {
                Ok(model) => model,
                Err(error) => return fail(0, error),
            };
            while !failed.load(Ordering::Relaxed) {
                let Some(piece) = self.pieces.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if let Err(error) = self.score(piece, &mut model) {
                    fail(piece.number, error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        let mut errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        errors.sort_by_key(|(number, _)| *number);
        match errors.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.pieces.iter().map(|piece| piece.rows).sum()),
        }
    }

    fn score(&self, piece: &Piece, model: &mut Model) -> Result<(), PredictError> {
        let file = &self.files[piece.file];
        let name = || file.path.display().to_string();
        let opened = File::open(&file.path).map_err(|source| DatasetError::Read { path: file.path.clone(), source })?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(opened, file.metadata.clone());
        let roots = file.schema().fields().iter().enumerate();
        let roots = roots.filter(|(_, field)| needed(field.name(), self.columns, model));
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|(index, _)| index));
        let reader = builder
            .with_projection(mask)
            .with_row_groups(piece.groups.clone())
            .with_batch_size(self.batch_rows)
            .build()
            .map_err(|source| DatasetError::Damaged { path: file.path.clone(), source })?;
        let mut sink = FolderSink::part(self.to, piece.number, &self.columns.schema)?;
        let mut at = piece.from;
        for batch in reader {
            let batch = batch.map_err(|source| PredictError::Read { file: name(), source })?;
            let rows = batch.num_rows();
            if rows == 0 {
                continue;
            }
            let inputs = tensors("model", at, &batch, &model.signature.inputs)?;
            let answer = model.score(at, rows, inputs).map_err(PredictError::Score)?;
            sink.write(&self.columns.assemble(&batch, answer)?)?;
            at += rows as u64;
        }
        sink.finish()?;
        Ok(())
    }
}
