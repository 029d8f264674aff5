//! Runs a model over all rows and keeps what the metrics need: the truth, what was predicted, and to which slice each
//! row belongs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;

use super::features::{FeatureError, tensors};
use super::model::{Answer, Model, ModelError};
use super::signature::Kind;
use crate::dataset::{self, DatasetError};
use crate::say;
use crate::types::{ColumnType, word};

#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("failed to read the data")]
    Read(#[source] ArrowError),
    #[error(transparent)]
    Feature(#[from] FeatureError),
    #[error("{who}")]
    Model {
        who: &'static str,
        #[source]
        source: ModelError,
    },
    #[error("parameter {parameter}: the data has no column `{column}`; its columns are: {known}")]
    NoColumn { parameter: &'static str, column: String, known: String },
    #[error("the data has no rows")]
    NoRows,
    #[error("the target {column} has no value in row {row}; leave such rows out in the stage that prepares the data")]
    NoTruth { column: String, row: u64 },
    #[error("the target {column} is of type {found}, expected {expected}")]
    TargetType { column: String, found: String, expected: &'static str },
    #[error("the target {column} has labels that the {who} does not know: {labels}; its classes are: {classes}")]
    UnknownLabels { who: &'static str, column: String, labels: String, classes: String },
    #[error("the {who} predicted the label `{label}` in row {row}, which is none of its classes: {classes}")]
    StrangeLabel { who: &'static str, label: String, row: u64, classes: String },
    #[error("the {who} gave {found} in row {row}, expected {expected}")]
    NotFinite { who: &'static str, row: u64, found: f64, expected: &'static str },
}

/// A classifier's answers. Labels beyond the model's own classes (a champion may be older than the data's newest class)
/// come after them and have the probability 0.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    pub labels: Vec<String>,
    /// How many of the labels are the model's own.
    pub known: usize,
    pub truth: Vec<u32>,
    pub predicted: Vec<u32>,
    /// `known` for each row.
    pub probabilities: Option<Vec<f32>>,
}

#[derive(Clone, Debug, Default)]
pub struct Values {
    pub truth: Vec<f64>,
    pub predicted: Vec<f64>,
}

#[derive(Clone, Debug)]
pub enum Scored {
    Classes(Classes),
    Values(Values),
}

/// The values of a column, as text, and which one each row has.
#[derive(Clone, Debug)]
pub struct SliceColumn {
    pub name: String,
    pub values: Vec<String>,
    pub of_row: Vec<u32>,
}

/// Who is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Candidate,
    Champion,
}

impl Who {
    fn word(self) -> &'static str {
        match self {
            Self::Candidate => "model",
            Self::Champion => "champion",
        }
    }
}

/// Scores all rows of the table at `path`.
pub fn score(
    who: Who,
    model: &mut Model,
    path: &Path,
    target: &str,
    slices: &[String],
    batch_rows: usize,
) -> Result<(Scored, Vec<SliceColumn>), ScoreError> {
    let mut slicers: Vec<Slicer> = slices.iter().map(|name| Slicer::new(name)).collect();
    let mut scored = match &model.kind {
        Kind::Classifier { classes, probabilities, .. } => {
            Collector::Classes(ClassCollector::new(classes, *probabilities))
        }
        Kind::Regressor => Collector::Values(Values::default()),
    };
    let mut at = 0;
    for batch in dataset::batches(path, batch_rows)? {
        let batch = batch.map_err(ScoreError::Read)?;
        let rows = batch.num_rows();
        if rows == 0 {
            continue;
        }
        let truth = find(&batch, "target", target)?;
        if let Some(row) = (0..rows).find(|row| truth.is_null(*row)) {
            return Err(ScoreError::NoTruth { column: target.into(), row: at + row as u64 });
        }
        for slicer in &mut slicers {
            let column = find(&batch, "slices", &slicer.column.name)?.clone();
            slicer.take(&column)?;
        }
        let inputs = tensors(who.word(), at, &batch, &model.signature.inputs)?;
        let answer = model.score(at, rows, inputs).map_err(|source| ScoreError::Model { who: who.word(), source })?;
        match (&mut scored, answer) {
            (Collector::Classes(classes), Answer::Classes { labels, probabilities }) => {
                classes.take(who, at, target, truth, labels, probabilities)?;
            }
            (Collector::Values(values), Answer::Values(predicted)) => {
                take_values(who, at, target, truth, &predicted, values)?;
            }
            // A model's answers are of its own kind.
            (Collector::Classes(_), Answer::Values(_)) | (Collector::Values(_), Answer::Classes { .. }) => {}
        }
        at += rows as u64;
    }
    if at == 0 {
        return Err(ScoreError::NoRows);
    }
    let scored = match scored {
        Collector::Classes(classes) => Scored::Classes(classes.finish(who, target)?),
        Collector::Values(values) => Scored::Values(values),
    };
    Ok((scored, slicers.into_iter().map(|slicer| slicer.column).collect()))
}

enum Collector {
    Classes(ClassCollector),
    Values(Values),
}

struct ClassCollector {
    classes: Classes,
    index: HashMap<String, u32>,
    /// Labels of the target that are no classes of the model, with their rows.
    strange: BTreeMap<String, u64>,
}

impl ClassCollector {
    fn new(labels: &[String], probabilities: bool) -> Self {
        let index = (0..).zip(labels).map(|(index, label)| (label.clone(), index)).collect();
        let classes = Classes {
            labels: labels.to_vec(),
            known: labels.len(),
            probabilities: probabilities.then(Vec::new),
            ..Classes::default()
        };
        Self { classes, index, strange: BTreeMap::new() }
    }

    fn take(
        &mut self,
        who: Who,
        at: u64,
        target: &str,
        truth: &ArrayRef,
        labels: Option<Vec<String>>,
        probabilities: Option<Vec<f32>>,
    ) -> Result<(), ScoreError> {
        for label in label_texts(target, truth, &self.index)? {
            let index = if let Some(index) = self.index.get(&label) {
                *index
            } else {
                let index = u32::try_from(self.classes.labels.len()).unwrap_or(u32::MAX);
                self.classes.labels.push(label.clone());
                self.index.insert(label.clone(), index);
                index
            };
            if index as usize >= self.classes.known {
                *self.strange.entry(label).or_default() += 1;
            }
            self.classes.truth.push(index);
        }
        let known = self.classes.known;
        if let Some(probabilities) = &probabilities {
            if let Some(bad) = probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
                // Rounding in float32 may go a little beyond 1.
                let p = probabilities[bad];
                if !(-1e-5..=1.000_01).contains(&p) {
                    return Err(ScoreError::NotFinite {
                        who: who.word(),
                        row: at + (bad / known) as u64,
                        found: f64::from(p),
                        expected: "probabilities from 0 to 1",
                    });
                }
            }
        }
        match (labels, &probabilities) {
            (Some(labels), _) => {
                for (row, label) in labels.into_iter().enumerate() {
                    match self.index.get(&label).filter(|index| (**index as usize) < known) {
                        Some(index) => self.classes.predicted.push(*index),
                        None => {
                            return Err(ScoreError::StrangeLabel {
                                who: who.word(),
                                label: say::excerpt(&label, 60),
                                row: at + row as u64,
                                classes: say::names(&self.classes.labels[..known]),
                            });
                        }
                    }
                }
            }
            (None, Some(probabilities)) => {
                self.classes.predicted.extend(probabilities.chunks(known).map(largest));
            }
            (None, None) => {}
        }
        if let (Some(all), Some(more)) = (&mut self.classes.probabilities, probabilities) {
            all.extend(more.into_iter().map(|p| p.clamp(0.0, 1.0)));
        }
        Ok(())
    }

    fn finish(self, who: Who, target: &str) -> Result<Classes, ScoreError> {
        if who == Who::Candidate && !self.strange.is_empty() {
            let labels = self.strange.iter().map(|(label, rows)| format!("{} ({rows} rows)", say::excerpt(label, 60)));
            return Err(ScoreError::UnknownLabels {
                who: who.word(),
                column: target.into(),
                labels: say::names(labels),
                classes: say::names(&self.classes.labels[..self.classes.known]),
            });
        }
        Ok(self.classes)
    }
}

/// The first of the largest, as argmax has it.
fn largest(probabilities: &[f32]) -> u32 {
    let mut best = 0;
    for (index, p) in (0_u32..).zip(probabilities) {
        if *p > probabilities[best as usize] {
            best = index;
        }
    }
    best
}

/// The target's values as labels. Whole numbers that are stored as doubles, and booleans, are brought into the form that
/// the model's classes have.
fn label_texts(target: &str, truth: &ArrayRef, classes: &HashMap<String, u32>) -> Result<Vec<String>, ScoreError> {
    let wrong = || ScoreError::TargetType {
        column: target.into(),
        found: word(truth.data_type()),
        expected: "text, whole numbers or booleans, as the model's classes",
    };
    let texts = cast(truth, &DataType::Utf8).map_err(|_| wrong())?;
    let texts = texts.as_string::<i32>().iter().map(Option::unwrap_or_default);
    match ColumnType::of(truth.data_type()) {
        Some(ColumnType::String | ColumnType::Integer) => Ok(texts.map(ToOwned::to_owned).collect()),
        Some(ColumnType::Number) => Ok(texts.map(|text| text.strip_suffix(".0").unwrap_or(text).to_owned()).collect()),
        Some(ColumnType::Boolean) => {
            let forms = [["true", "false"], ["True", "False"], ["TRUE", "FALSE"], ["1", "0"]];
            let form = forms.into_iter().find(|form| form.iter().any(|word| classes.contains_key(*word)));
            let [yes, no] = form.unwrap_or(forms[0]);
            Ok(texts.map(|text| if text == "true" { yes } else { no }.to_owned()).collect())
        }
        Some(ColumnType::Date | ColumnType::Timestamp) | None => Err(wrong()),
    }
}

fn take_values(
    who: Who,
    at: u64,
    target: &str,
    truth: &ArrayRef,
    predicted: &[f64],
    into: &mut Values,
) -> Result<(), ScoreError> {
    let wrong = || ScoreError::TargetType { column: target.into(), found: word(truth.data_type()), expected: "number" };
    if !matches!(ColumnType::of(truth.data_type()), Some(ColumnType::Integer | ColumnType::Number)) {
        return Err(wrong());
    }
    let truth = cast(truth, &DataType::Float64).map_err(|_| wrong())?;
    for (row, truth) in (at..).zip(truth.as_primitive::<Float64Type>().values()) {
        if !truth.is_finite() {
            return Err(ScoreError::NoTruth { column: target.into(), row });
        }
        into.truth.push(*truth);
    }
    for (row, predicted) in (at..).zip(predicted) {
        if !predicted.is_finite() {
            let expected = "a finite number";
            return Err(ScoreError::NotFinite { who: who.word(), row, found: *predicted, expected });
        }
        into.predicted.push(*predicted);
    }
    Ok(())
}

struct Slicer {
    column: SliceColumn,
    index: HashMap<String, u32>,
}

impl Slicer {
    fn new(name: &str) -> Self {
        let column = SliceColumn { name: name.into(), values: Vec::new(), of_row: Vec::new() };
        Self { column, index: HashMap::new() }
    }

    fn take(&mut self, column: &ArrayRef) -> Result<(), ScoreError> {
        let texts = cast(column, &DataType::Utf8).map_err(ScoreError::Read)?;
        for text in texts.as_string::<i32>() {
            let text = text.unwrap_or("(missing)");
            let index = if let Some(index) = self.index.get(text) {
                *index
            } else {
                let index = u32::try_from(self.column.values.len()).unwrap_or(u32::MAX);
                self.column.values.push(text.to_owned());
                self.index.insert(text.to_owned(), index);
                index
            };
            self.column.of_row.push(index);
        }
        Ok(())
    }
}

fn find<'a>(batch: &'a RecordBatch, parameter: &'static str, column: &str) -> Result<&'a ArrayRef, ScoreError> {
    batch.column_by_name(column).ok_or_else(|| ScoreError::NoColumn {
        parameter,
        column: say::excerpt(column, 60),
        known: say::names(batch.schema().fields().iter().map(|field| field.name())),
    })
}
