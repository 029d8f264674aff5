//! The column types that parameters name, and the Arrow types behind them.

use arrow::datatypes::{DataType, TimeUnit};
use serde::Deserialize;

/// A column's type, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    String,
    Integer,
    Number,
    Boolean,
    Date,
    Timestamp,
}

impl ColumnType {
    /// The type that `ingest` writes. Timestamps are microseconds in UTC.
    pub fn arrow(self) -> DataType {
        match self {
            Self::String => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// What an Arrow type is in these words; none for what they have no word for (lists, structs, binary).
    pub fn of(arrow: &DataType) -> Option<Self> {
        match arrow {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Self::String),
            DataType::Dictionary(_, value) => Self::of(value),
            DataType::Boolean => Some(Self::Boolean),
            DataType::Date32 | DataType::Date64 => Some(Self::Date),
            DataType::Timestamp(_, _) => Some(Self::Timestamp),
            other if other.is_integer() => Some(Self::Integer),
            DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => Some(Self::Number),
            other if other.is_floating() => Some(Self::Number),
            _ => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
        }
    }
}

/// An Arrow type in words, for messages.
pub fn word(arrow: &DataType) -> String {
    ColumnType::of(arrow).map_or_else(|| arrow.to_string(), |known| known.word().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_ingest_writes_is_read_back_as_the_same_word() {
        for column in [
            ColumnType::String,
            ColumnType::Integer,
            ColumnType::Number,
            ColumnType::Boolean,
            ColumnType::Date,
            ColumnType::Timestamp,
        ] {
            assert_eq!(ColumnType::of(&column.arrow()), Some(column));
        }
    }
}
