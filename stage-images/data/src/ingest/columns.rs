//! Text values into typed Arrow columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::DataType;

use super::values;

/// A column that grows by one text value at a time.
pub enum ColumnBuilder {
    String(StringBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl ColumnBuilder {
    /// A builder for one of the types that `ColumnType::arrow` gives; text for any other.
    pub fn new(arrow: &DataType) -> Self {
        match arrow {
            DataType::Int64 => Self::Integer(Int64Builder::new()),
            DataType::Float64 => Self::Number(Float64Builder::new()),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(_, _) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(arrow.clone()))
            }
            _ => Self::String(StringBuilder::new()),
        }
    }

    pub fn push_null(&mut self) {
        match self {
            Self::String(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Number(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
        }
    }

    /// Appends a value; false, and nothing appended, if the text is no value of the column's type.
    pub fn push(&mut self, text: &str) -> bool {
        fn append<T>(value: Option<T>, mut to: impl FnMut(T)) -> bool {
            value.map(&mut to).is_some()
        }
        match self {
            Self::String(builder) => append(Some(text), |value| builder.append_value(value)),
            Self::Integer(builder) => append(values::integer(text), |value| builder.append_value(value)),
            Self::Number(builder) => append(values::number(text), |value| builder.append_value(value)),
            Self::Boolean(builder) => append(values::boolean(text), |value| builder.append_value(value)),
            Self::Date(builder) => append(values::date(text), |value| builder.append_value(value)),
            Self::Timestamp(builder) => append(values::timestamp(text), |value| builder.append_value(value)),
        }
    }

    /// The values so far as an array; the builder is empty again.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Self::String(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Number(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ColumnType;
    use arrow::array::Array;

    #[test]
    fn a_column_keeps_its_type_and_its_nulls() {
        for (column, good) in [
            (ColumnType::String, "x"),
            (ColumnType::Integer, "1"),
            (ColumnType::Number, "1.5"),
            (ColumnType::Boolean, "true"),
            (ColumnType::Date, "2026-11-21"),
            (ColumnType::Timestamp, "2026-11-21T00:00:00Z"),
        ] {
            let mut builder = ColumnBuilder::new(&column.arrow());
            assert!(builder.push(good));
            builder.push_null();
            let array = builder.finish();
            assert_eq!((array.len(), array.null_count()), (2, 1));
            assert_eq!(array.data_type(), &column.arrow());
        }
    }

    #[test]
    fn text_that_is_no_value_is_not_appended() {
        let mut builder = ColumnBuilder::new(&DataType::Int64);
        assert!(!builder.push("1.5"));
        assert_eq!(builder.finish().len(), 0);
    }
}
