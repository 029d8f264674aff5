//! The counts of one model, and what is said of them.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::DriftCounts;

use super::layout::{Counter, HEAD, OUTLIERS, Predictions, ROWS, layout};
use super::window::Window;
use crate::metrics::{FeatureCounters, Metrics};
use crate::model::Signature;
use crate::tensor::Tensor;

/// Nobody has asked for so long, or for a window if that is longer: it counts no more.
const LONGEST_SILENCE: Duration = Duration::from_mins(15);

/// Counts while somebody asks for them.
#[derive(Debug)]
pub struct Watch {
    columns: Vec<Counter>,
    predictions: Option<Predictions>,
    /// Why there is nothing to count.
    nothing: Option<String>,
    /// Numbers of a window.
    length: usize,
    is_on: AtomicBool,
    model: String,
    metrics: Arc<Metrics>,
    /// One for each column, once somebody has asked.
    counters: OnceLock<Vec<FeatureCounters>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    window: Option<Window>,
    asked: Option<Instant>,
    /// Which rows of a batch have something strange in them.
    strange: Vec<bool>,
}

/// Rows that were served: those of the inputs in `rows`; their outputs begin at the row `answered`.
#[derive(Debug)]
pub struct Served<'a> {
    pub inputs: &'a [Tensor],
    pub outputs: &'a [Tensor],
    pub rows: Range<usize>,
    pub answered: usize,
}

impl Watch {
    /// What can be counted of the model of this name in this folder.
    pub fn of(model: &str, signature: &Signature, dir: &Path, metrics: Arc<Metrics>) -> Self {
        let mut length = HEAD;
        let (columns, predictions, nothing) = match layout(signature, dir, &mut length) {
            Ok((columns, predictions)) => (columns, predictions, None),
            Err(nothing) => (Vec::new(), None, Some(nothing)),
        };
        Self {
            columns,
            predictions,
            nothing,
            length,
            is_on: AtomicBool::new(false),
            model: model.to_owned(),
            metrics,
            counters: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Counts rows that have been answered.
    pub fn count(&self, served: &Served<'_>, now: Instant) {
        if !self.is_on() || served.rows.is_empty() {
            return;
        }
        let State { window, asked, strange } = &mut *self.lock();
        let Some(kept) = window.as_mut() else { return };
        let silence = asked.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        if silence > kept.length.max(LONGEST_SILENCE) {
            *window = None;
            self.is_on.store(false, Ordering::Relaxed);
            return;
        }
        let counts = kept.now(now);
        strange.clear();
        strange.resize(served.rows.len(), false);
        counts[ROWS] += served.rows.len() as u64;
        let counters = self.counters.get_or_init(|| {
            self.columns.iter().map(|column| self.metrics.feature(&self.model, &column.name)).collect()
        });
        for (column, counters) in self.columns.iter().zip(counters) {
            let Some(tensor) = served.inputs.get(column.tensor) else { continue };
            let found = column.count(&tensor.data, served.rows.clone(), counts, strange);
            // Most batches have neither.
            for (counter, more) in [(&counters.missing, found.missing), (&counters.outside, found.strange)] {
                if more > 0 {
                    counter.inc_by(more);
                }
            }
        }
        counts[OUTLIERS] += strange.iter().filter(|is| **is).count() as u64;
        if let Some(predictions) = &self.predictions {
            let answered = served.answered..served.answered + served.rows.len();
            predictions.count(served.outputs, answered, counts, strange);
        }
    }

    /// What was counted in the last `length`. The first who asks, or asks for another length, lets it begin.
    pub fn counts(&self, model: &str, version: &str, length: Duration, now: Instant) -> DriftCounts {
        let named = DriftCounts { model: model.to_owned(), version: version.to_owned(), ..DriftCounts::default() };
        if self.nothing.is_some() {
            return DriftCounts { nothing: self.nothing.clone(), ..named };
        }
        let sums = {
            let mut state = self.lock();
            state.asked = Some(now);
            if state.window.as_ref().is_none_or(|window| window.length != length) {
                state.window = Some(Window::new(length, self.length, now));
                self.is_on.store(true, Ordering::Relaxed);
            }
            state.window.as_mut().map(|window| window.sums(now)).unwrap_or_default()
        };
        let predictions = self.predictions.as_ref().map(|predictions| predictions.counted(&sums));
        DriftCounts {
            rows: sums[ROWS],
            outliers: sums[OUTLIERS],
            features: self.columns.iter().map(|column| column.counted(&sums)).collect(),
            predictions,
            ..named
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
