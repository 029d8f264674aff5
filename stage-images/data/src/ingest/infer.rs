//! What a text column's values are, over all rows: the narrowest type that holds every one of them.

use arrow::datatypes::DataType;

use super::values::{boolean, date, integer, number, timestamp};
use crate::types::ColumnType;

/// Types that can still hold every value seen.
#[allow(clippy::struct_excessive_bools, reason = "each is a type of its own")]
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    boolean: bool,
    integer: bool,
    number: bool,
    date: bool,
    timestamp: bool,
    seen: bool,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { boolean: true, integer: true, number: true, date: true, timestamp: true, seen: false }
    }
}

impl Candidates {
    pub fn see(&mut self, value: &str) {
        self.seen = true;
        // A column of text is settled after its first value; the parsers below are what inference costs.
        self.boolean = self.boolean && boolean(value).is_some();
        self.integer = self.integer && integer(value).is_some() && !is_code(value);
        self.number = self.number && number(value).is_some() && !is_code(value) && !is_long_integer(value);
        self.date = self.date && date(value).is_some();
        self.timestamp = self.timestamp && timestamp(value).is_some();
    }

    pub fn result(self) -> ColumnType {
        match self {
            Self { seen: false, .. } => ColumnType::String,
            Self { boolean: true, .. } => ColumnType::Boolean,
            Self { integer: true, .. } => ColumnType::Integer,
            Self { number: true, .. } => ColumnType::Number,
            Self { date: true, .. } => ColumnType::Date,
            Self { timestamp: true, .. } => ColumnType::Timestamp,
            _ => ColumnType::String,
        }
    }
}

/// `007` is a code, not seven: as a number it would lose its zeros.
fn is_code(value: &str) -> bool {
    let digits = value.trim_start_matches('-');
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// An integer beyond 64 bits would lose digits as a double.
fn is_long_integer(value: &str) -> bool {
    value.len() > 18
        && value.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit())
        && integer(value).is_none()
}

/// The Arrow type of each column, from what was declared and what was seen.
pub fn settle(declared: Option<ColumnType>, candidates: Candidates) -> DataType {
    declared.unwrap_or_else(|| candidates.result()).arrow()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(values: &[&str]) -> ColumnType {
        let mut candidates = Candidates::default();
        for value in values {
            candidates.see(value);
        }
        candidates.result()
    }

    #[test]
    fn the_narrowest_type_that_holds_every_value_wins() {
        for (values, expected) in [
            (&["true", "FALSE"][..], ColumnType::Boolean),
            (&["0", "1"], ColumnType::Integer),
            (&["-1", "+9223372036854775807"], ColumnType::Integer),
            (&["1", "2.5", "1e-3"], ColumnType::Number),
            (&["2026-11-21", "1999-01-31"], ColumnType::Date),
            (&["2026-11-21", "2026-11-21 10:00:00"], ColumnType::Timestamp),
            (&["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.5+02:00"], ColumnType::Timestamp),
            (&["1", "x"], ColumnType::String),
            (&["true", "1"], ColumnType::String),
            (&[], ColumnType::String),
        ] {
            assert_eq!(inferred(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_a_number_would_damage_stays_text() {
        assert_eq!(inferred(&["007", "012"]), ColumnType::String);
        assert_eq!(inferred(&["12345678901234567890"]), ColumnType::String);
        assert_eq!(inferred(&["inf", "1"]), ColumnType::String);
        assert_eq!(inferred(&["1e999"]), ColumnType::String);
        assert_eq!(inferred(&["0", "0.5", "-0.5"]), ColumnType::Number);
    }

    #[test]
    fn dates_that_are_not_in_the_calendar_are_text() {
        assert_eq!(inferred(&["2026-02-30"]), ColumnType::String);
        assert_eq!(inferred(&["20261121"]), ColumnType::Integer);
    }
}
