//! Labels, true and predicted, as numbers: the index of the model's class.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::score::{Classes, ScoreError, Who};
use crate::model::largest;
use crate::say;
use crate::types::{ColumnType, word};

/// Gathers a classifier's answers, batch by batch.
pub struct ClassCollector {
    classes: Classes,
    index: HashMap<String, u32>,
    /// Labels of the target that are no classes of the model, with their rows.
    strange: BTreeMap<String, u64>,
}

impl ClassCollector {
    pub fn new(labels: &[String], probabilities: bool) -> Self {
        let index = (0..).zip(labels).map(|(index, label)| (label.clone(), index)).collect();
        let classes = Classes {
            labels: labels.to_vec(),
            known: labels.len(),
            probabilities: probabilities.then(Vec::new),
            ..Classes::default()
        };
        Self { classes, index, strange: BTreeMap::new() }
    }

    pub fn take(
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
        // Rounding in float32 may go a little beyond 1.
        let is_probability = |p: &f32| (-1e-5..=1.000_01).contains(p);
        let bad = probabilities.iter().flatten().enumerate().find(|(_, p)| !is_probability(p));
        if let Some((place, p)) = bad {
            return Err(ScoreError::NotFinite {
                who: who.word(),
                row: at + (place / known) as u64,
                found: f64::from(*p),
                expected: "probabilities from 0 to 1",
            });
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

    pub fn finish(self, who: Who, target: &str) -> Result<Classes, ScoreError> {
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
