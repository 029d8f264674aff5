//! Table columns into a model's input tensors: `FP32` for numbers (missing is NaN), `BYTES` for text (missing is empty).

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use ort::session::SessionInputValue;
use ort::value::Tensor as OrtTensor;

use super::signature::Tensor;
use crate::say;
use crate::types::{ColumnType, word};

#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error("the data has no column `{column}`, which the {who} needs; its columns are: {known}")]
    Missing { who: &'static str, column: String, known: String },
    #[error(
        "column {column} is of type {found}, but the {who} needs {expected}; cast it in the stage that prepares the data"
    )]
    Type { who: &'static str, column: String, found: String, expected: &'static str },
    #[error(
        "column {column}, row {row}: there is no value, but the {who} takes {datatype}, which has no missing value; fill it in the stage that prepares the data"
    )]
    Null { who: &'static str, column: String, row: u64, datatype: &'static str },
    #[error(
        "column {column}: the {who} takes {datatype} of shape {shape:?}, expected FP32, FP64, INT32, INT64, BOOL or BYTES of shape [-1, 1]"
    )]
    Unsupported { who: &'static str, column: String, datatype: String, shape: Vec<i64> },
    #[error("column {column}: the values cannot be given to the {who}: {reason}")]
    Convert { who: &'static str, column: String, reason: String },
}

/// The tensors for a batch. `who` is the model in messages; `from` is the number of the batch's first row.
pub fn tensors(
    who: &'static str,
    from: u64,
    batch: &RecordBatch,
    inputs: &[Tensor],
) -> Result<Vec<(String, SessionInputValue<'static>)>, FeatureError> {
    inputs
        .iter()
        .map(|input| {
            let column = batch.column_by_name(&input.name).ok_or_else(|| FeatureError::Missing {
                who,
                column: input.name.clone(),
                known: say::names(batch.schema().fields().iter().map(|field| field.name())),
            })?;
            Ok((input.name.clone(), tensor(who, from, column, input)?))
        })
        .collect()
}

fn tensor(
    who: &'static str,
    from: u64,
    column: &ArrayRef,
    input: &Tensor,
) -> Result<SessionInputValue<'static>, FeatureError> {
    let rows = i64::try_from(column.len()).unwrap_or(i64::MAX);
    let shape = match input.shape.as_slice() {
        [_, 1] => vec![rows, 1],
        [_] => vec![rows],
        _ => return Err(unsupported(who, input)),
    };
    let convert =
        |error: ort::Error| FeatureError::Convert { who, column: input.name.clone(), reason: say::one_line(&error) };
    match input.datatype.as_str() {
        "FP32" => {
            let numbers = numeric(who, column, input, &DataType::Float32)?;
            let numbers: Vec<f32> =
                numbers.as_primitive::<Float32Type>().iter().map(|number| number.unwrap_or(f32::NAN)).collect();
            Ok(OrtTensor::from_array((shape, numbers)).map_err(convert)?.into())
        }
        "FP64" => {
            let numbers = numeric(who, column, input, &DataType::Float64)?;
            let numbers: Vec<f64> =
                numbers.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN)).collect();
            Ok(OrtTensor::from_array((shape, numbers)).map_err(convert)?.into())
        }
        "INT64" => {
            let numbers = whole(who, from, column, input, &DataType::Int64, "INT64")?;
            Ok(OrtTensor::from_array((shape, numbers.as_primitive::<Int64Type>().values().to_vec()))
                .map_err(convert)?
                .into())
        }
        "INT32" => {
            let numbers = whole(who, from, column, input, &DataType::Int32, "INT32")?;
            Ok(OrtTensor::from_array((shape, numbers.as_primitive::<Int32Type>().values().to_vec()))
                .map_err(convert)?
                .into())
        }
        "BOOL" => {
            if column.data_type() != &DataType::Boolean {
                return Err(wrong_type(who, column, input, "boolean"));
            }
            not_null(who, from, column, input, "BOOL")?;
            let booleans: Vec<bool> = column.as_boolean().values().iter().collect();
            Ok(OrtTensor::from_array((shape, booleans)).map_err(convert)?.into())
        }
        "BYTES" => {
            let texts = texts(who, column, input)?;
            let texts: Vec<String> =
                texts.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect();
            let tensor = OrtTensor::from_string_array((shape, texts.as_slice())).map_err(convert)?;
            Ok(tensor.into())
        }
        _ => Err(unsupported(who, input)),
    }
}

fn numeric(who: &'static str, column: &ArrayRef, input: &Tensor, to: &DataType) -> Result<ArrayRef, FeatureError> {
    match ColumnType::of(column.data_type()) {
        Some(ColumnType::Integer | ColumnType::Number | ColumnType::Boolean) => convert(who, column, input, to),
        // A column that is missing in every row has no type of its own.
        _ if column.logical_null_count() == column.len() => convert(who, column, input, to),
        _ => Err(wrong_type(who, column, input, "number")),
    }
}

fn whole(
    who: &'static str,
    from: u64,
    column: &ArrayRef,
    input: &Tensor,
    to: &DataType,
    datatype: &'static str,
) -> Result<ArrayRef, FeatureError> {
    if !matches!(ColumnType::of(column.data_type()), Some(ColumnType::Integer | ColumnType::Boolean)) {
        return Err(wrong_type(who, column, input, "integer"));
    }
    not_null(who, from, column, input, datatype)?;
    let converted = convert(who, column, input, to)?;
    if converted.null_count() > 0 {
        let reason = format!("a value is too large for {datatype}");
        return Err(FeatureError::Convert { who, column: input.name.clone(), reason });
    }
    Ok(converted)
}

/// Text as it is; whole numbers and booleans as their text. A fraction has no one text, so it is refused.
fn texts(who: &'static str, column: &ArrayRef, input: &Tensor) -> Result<ArrayRef, FeatureError> {
    match ColumnType::of(column.data_type()) {
        Some(ColumnType::String | ColumnType::Integer | ColumnType::Boolean | ColumnType::Date) => {
            convert(who, column, input, &DataType::Utf8)
        }
        _ if column.logical_null_count() == column.len() => convert(who, column, input, &DataType::Utf8),
        _ => Err(wrong_type(who, column, input, "string")),
    }
}

fn convert(who: &'static str, column: &ArrayRef, input: &Tensor, to: &DataType) -> Result<ArrayRef, FeatureError> {
    cast(column, to).map_err(|error| FeatureError::Convert {
        who,
        column: input.name.clone(),
        reason: say::one_line(&error),
    })
}

fn not_null(
    who: &'static str,
    from: u64,
    column: &ArrayRef,
    input: &Tensor,
    datatype: &'static str,
) -> Result<(), FeatureError> {
    match (0..column.len()).find(|row| column.is_null(*row)) {
        None => Ok(()),
        Some(row) => Err(FeatureError::Null { who, column: input.name.clone(), row: from + row as u64, datatype }),
    }
}

fn wrong_type(who: &'static str, column: &ArrayRef, input: &Tensor, expected: &'static str) -> FeatureError {
    FeatureError::Type { who, column: input.name.clone(), found: word(column.data_type()), expected }
}

fn unsupported(who: &'static str, input: &Tensor) -> FeatureError {
    FeatureError::Unsupported {
        who,
        column: input.name.clone(),
        datatype: input.datatype.clone(),
        shape: input.shape.clone(),
    }
}
