//! Where each column's values are, where its counts are, and how it is counted.

use std::ops::Range;
use std::path::Path;

use millrace_contract::Counted;

use super::cells::MISSING;
use super::profile::{self, Binned, Column, millionths};
use crate::model::Signature;
use crate::tensor::{Data, Tensor, TensorSpec};

/// The outputs of a tabular model, as `docs/stage-contract.md` has them.
const LABEL: &str = "label";
const PROBABILITIES: &str = "probabilities";
const PREDICTION: &str = "prediction";
/// What stands before the columns: rows, and rows with something strange in them.
pub const ROWS: usize = 0;
pub const OUTLIERS: usize = 1;
pub const HEAD: usize = 2;
/// A column, and where its values and its counts are.
#[derive(Debug)]
pub struct Counter {
    pub name: String,
    importance: f64,
    binned: Binned,
    /// Which tensor, how many values a row of it has, and which of them it is.
    pub tensor: usize,
    width: usize,
    place: usize,
    /// Its first count: of strange values. One for each cell follows.
    first: usize,
}

#[derive(Debug)]
pub struct Predictions {
    counter: Counter,
    /// The output with a probability for each class, and the first of their sums.
    probabilities: Option<(usize, usize)>,
}

/// Values of a column that are missing, or outside of the profile.
#[derive(Debug, Default)]
pub struct Odd {
    pub missing: u64,
    pub strange: u64,
}

/// The features, and the predictions.
pub type Layout = (Vec<Counter>, Option<Predictions>);

/// Where everything is counted. `length` grows by what is needed.
pub fn layout(signature: &Signature, dir: &Path, length: &mut usize) -> Result<Layout, String> {
    if !signature.batched {
        return Err("the model is not tabular: its rows are not fixed numbers of values".to_owned());
    }
    let profile = profile::read(dir)?;
    let mut counter = |name: &str, column: &Column, (tensor, spec): (usize, &TensorSpec), width, place| {
        let binned = column.binned(spec.datatype)?;
        let first = *length;
        *length += 1 + binned.cells.len();
        let importance = if (0.0..=1.0).contains(&column.importance) { column.importance } else { 0.0 };
        Some(Counter { name: name.to_owned(), importance, binned, tensor, width, place, first })
    };
    let places: Vec<_> = signature.inputs.iter().enumerate().flat_map(|(tensor, spec)| places(tensor, spec)).collect();
    let columns = profile.features().into_iter().filter_map(|(name, column)| {
        let (_, tensor, width, place) = places.iter().find(|(of, ..)| of == name)?;
        counter(name, column, (*tensor, &signature.inputs[*tensor]), *width, *place)
    });
    let columns: Vec<Counter> = columns.collect();
    if columns.is_empty() {
        return Err("profile.json has bins of none of the model's inputs".to_owned());
    }
    let output = |name: &str| signature.outputs.iter().enumerate().find(|(_, spec)| spec.name == name);
    let predictions = profile.predictions.as_ref().and_then(|column| {
        [LABEL, PREDICTION].iter().find_map(|name| counter("predictions", column, output(name)?, 1, 0))
    });
    let predictions = predictions.map(|mut counter| {
        let classes = counter.binned.probabilities.len();
        let is_of_classes = |spec: &&TensorSpec| spec.shape == [-1, i64::try_from(classes).unwrap_or(-1)];
        let found = output(PROBABILITIES).filter(|(_, spec)| classes > 0 && is_of_classes(spec));
        let probabilities = found.map(|(tensor, _)| (tensor, *length));
        *length += probabilities.map_or(0, |_| classes);
        if probabilities.is_none() {
            counter.binned.probabilities.clear();
        }
        Predictions { counter, probabilities }
    });
    Ok((columns, predictions))
}

/// The features of an input: their names, the tensor, how many values a row has, and which of them it is.
fn places(tensor: usize, spec: &TensorSpec) -> Vec<(String, usize, usize, usize)> {
    let Some(width) = spec.width() else { return Vec::new() };
    spec.features(width).into_iter().enumerate().map(|(place, name)| (name, tensor, width, place)).collect()
}

impl Counter {
    pub fn count(&self, data: &Data, rows: Range<usize>, counts: &mut [u64], strange: &mut [bool]) -> Odd {
        let mut odd = Odd::default();
        for (row, is_strange) in rows.zip(strange) {
            let Some(found) = self.binned.cells.find(data, row * self.width + self.place) else { continue };
            counts[self.first + 1 + found.cell] += 1;
            odd.missing += u64::from(found.cell == MISSING);
            // Of categories that are not all named nobody can tell.
            if found.strange && !self.binned.partial {
                odd.strange += 1;
                *is_strange = true;
            }
        }
        counts[self.first] += odd.strange;
        odd
    }

    pub fn counted(&self, sums: &[u64]) -> Counted {
        let Binned { kind, cells, reference, partial, probabilities } = &self.binned;
        Counted {
            name: self.name.clone(),
            kind: *kind,
            importance: self.importance,
            reference: reference.clone(),
            counts: sums[self.first + 1..=self.first + cells.len()].to_vec(),
            strange: sums[self.first],
            partial: *partial,
            reference_probabilities: probabilities.clone(),
            probabilities: Vec::new(),
        }
    }
}

impl Predictions {
    pub fn count(&self, outputs: &[Tensor], rows: Range<usize>, counts: &mut [u64], scratch: &mut [bool]) {
        let Some(answers) = outputs.get(self.counter.tensor) else { return };
        self.counter.count(&answers.data, rows.clone(), counts, scratch);
        let Some((tensor, first)) = self.probabilities else { return };
        let classes = self.counter.binned.probabilities.len();
        let Some(Data::Fp32(values)) = outputs.get(tensor).map(|tensor| &tensor.data) else { return };
        let Some(values) = values.get(rows.start * classes..rows.end * classes) else { return };
        for row in values.chunks_exact(classes) {
            let sums = counts[first..first + classes].iter_mut();
            sums.zip(row).for_each(|(sum, value)| *sum += millionths(f64::from(*value)));
        }
    }

    pub fn counted(&self, sums: &[u64]) -> Counted {
        let counted = self.counter.counted(sums);
        let classes = counted.reference_probabilities.len();
        let probabilities = self.probabilities.and_then(|(_, first)| sums.get(first..first + classes));
        Counted { probabilities: probabilities.unwrap_or_default().to_vec(), ..counted }
    }
}
