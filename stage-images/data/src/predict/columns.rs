//! The columns of the result: those of the data that are kept, and those that the model adds.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::params::Params;
use crate::model::signature::Kind;
use crate::model::{Answer, Model, largest};
use crate::say;
use crate::types::word;

#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    #[error("parameter keep: the data has no column `{column}`; its columns are: {known}")]
    NoColumn { column: String, known: String },
    #[error("parameter keep: `{column}` is named twice; name each column once")]
    NamedTwice { column: String },
    #[error(
        "the data has a column `{column}`, which is the name of one that the model adds; leave it out of the parameter keep, which now has: {kept}"
    )]
    Taken { column: String, kept: String },
    #[error(
        "the data has no column `{column}`, which the model takes: its signature asks for {asked}; the data's columns are: {known}"
    )]
    Missing { column: String, asked: String, known: String },
    #[error(
        "{file}: column {column} is of type {found}, but in the first file it is {expected}; the files of a table have the same columns"
    )]
    OtherType { file: String, column: String, found: String, expected: String },
    #[error(
        "{file}: there is no column `{column}`, which the first file has; the files of a table have the same columns"
    )]
    NotThere { file: String, column: String },
    #[error("failed to put the result together")]
    Assemble(#[source] ArrowError),
}

/// The column that has the label, or the number.
pub const PREDICTION: &str = "prediction";

/// What is written.
#[derive(Debug)]
pub struct Columns {
    pub schema: SchemaRef,
    /// Those that are kept, by name.
    pub kept: Vec<String>,
    classes: Option<Vec<String>>,
    probabilities: bool,
}

impl Columns {
    /// The result's columns for data of a schema.
    pub fn plan(params: &Params, data: &Schema, model: &Model) -> Result<Self, ColumnsError> {
        let known = || say::names(data.fields().iter().map(|field| field.name()));
        for input in &model.signature.inputs {
            if data.field_with_name(&input.name).is_err() {
                let asked = model.signature.inputs.iter().map(|input| format!("{} ({})", input.name, input.datatype));
                return Err(ColumnsError::Missing {
                    column: say::excerpt(&input.name, 60),
                    asked: say::names(asked),
                    known: known(),
                });
            }
        }
        let kept = match &params.keep {
            Some(kept) => kept.clone(),
            None => data.fields().iter().map(|field| field.name().clone()).collect(),
        };
        let mut fields: Vec<Arc<Field>> = Vec::new();
        for (index, name) in kept.iter().enumerate() {
            if kept[..index].contains(name) {
                return Err(ColumnsError::NamedTwice { column: say::excerpt(name, 60) });
            }
            let (_, field) = data
                .fields()
                .find(name)
                .ok_or_else(|| ColumnsError::NoColumn { column: say::excerpt(name, 60), known: known() })?;
            fields.push(field.clone());
        }
        let classes = match &model.kind {
            Kind::Classifier { classes, .. } => Some(classes.clone()),
            Kind::Regressor => None,
        };
        let can = matches!(model.kind, Kind::Classifier { probabilities: true, .. });
        let columns = Self {
            schema: Arc::new(Schema::empty()),
            kept,
            classes,
            probabilities: can && params.probabilities.unwrap_or(true),
        };
        for field in columns.added(model) {
            if columns.kept.contains(field.name()) {
                let kept = say::names(&columns.kept);
                return Err(ColumnsError::Taken { column: field.name().clone(), kept });
            }
            fields.push(field);
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), ..columns })
    }

    fn added(&self, model: &Model) -> Vec<Arc<Field>> {
        let Some(classes) = &self.classes else {
            return vec![Arc::new(Field::new(PREDICTION, DataType::Float32, true))];
        };
        let label = model.signature.outputs.iter().find(|output| output.name == "label");
        let label = if label.is_some_and(|label| label.datatype == "INT64") { DataType::Int64 } else { DataType::Utf8 };
        let mut added = vec![Arc::new(Field::new(PREDICTION, label, true))];
        if self.probabilities {
            let of = |class: &String| Arc::new(Field::new(format!("probability_{class}"), DataType::Float32, true));
            added.extend(classes.iter().map(of));
        }
        added
    }

    /// Whether another file of the table has what the first has.
    pub fn check(&self, file: &str, data: &Schema) -> Result<(), ColumnsError> {
        for name in &self.kept {
            let (_, expected) = self.schema.fields().find(name).unzip();
            let Ok(found) = data.field_with_name(name) else {
                return Err(ColumnsError::NotThere { file: file.into(), column: say::excerpt(name, 60) });
            };
            if let Some(expected) = expected.filter(|expected| expected.data_type() != found.data_type()) {
                return Err(ColumnsError::OtherType {
                    file: file.into(),
                    column: say::excerpt(name, 60),
                    found: word(found.data_type()),
                    expected: word(expected.data_type()),
                });
            }
        }
        Ok(())
    }

    /// A batch of the result.
    pub fn assemble(&self, data: &RecordBatch, answer: Answer) -> Result<RecordBatch, ColumnsError> {
        let mut columns: Vec<ArrayRef> =
            self.kept.iter().filter_map(|name| data.column_by_name(name).cloned()).collect();
        match answer {
            Answer::Values(values) => columns.push(Arc::new(Float32Array::from(values))),
            Answer::Classes { labels, probabilities } => {
                let classes = self.classes.as_deref().unwrap_or_default();
                let labels = labels.unwrap_or_else(|| {
                    let rows = probabilities.as_deref().unwrap_or_default().chunks(classes.len().max(1));
                    rows.map(|row| classes[largest(row) as usize].clone()).collect()
                });
                columns.push(self.labels(labels));
                let probabilities = probabilities.filter(|_| self.probabilities).unwrap_or_default();
                if self.probabilities {
                    columns.extend((0..classes.len()).map(|class| -> ArrayRef {
                        let of_class = probabilities.iter().skip(class).step_by(classes.len());
                        Arc::new(of_class.copied().collect::<Float32Array>())
                    }));
                }
            }
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(ColumnsError::Assemble)
    }

    fn labels(&self, labels: Vec<String>) -> ArrayRef {
        let whole = self.schema.field_with_name(PREDICTION).is_ok_and(|field| field.data_type() == &DataType::Int64);
        if whole {
            // They were whole numbers before they were text.
            Arc::new(labels.iter().map(|label| label.parse().ok()).collect::<Int64Array>())
        } else {
            Arc::new(StringArray::from(labels))
        }
    }
}
