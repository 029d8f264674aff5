//! The SQL by which columns are measured, and what it answers.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::measure::Asked;
use crate::types::ColumnType;

/// A column as an SQL name.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A number column as finite doubles. Doubles are ordered with NaN beyond infinity, so one comparison leaves out both.
pub fn number(column: &Asked) -> String {
    let double = format!("CAST({} AS DOUBLE)", quoted(&column.name));
    if column.arrow.is_floating() {
        format!("CASE WHEN abs({double}) <= {:e} THEN {double} END", f64::MAX)
    } else {
        double
    }
}

/// The different values of a number column in ascending order, as doubles (`v`), and how often each is there (`n`). What is
/// no floating number is grouped as it is: above 2^53 several integers are one double.
pub fn different(column: &Asked) -> String {
    let (own, double) =
        if column.arrow.is_floating() { (number(column), "k") } else { (quoted(&column.name), "CAST(k AS DOUBLE)") };
    let grouped = format!("SELECT k, count(*) AS n FROM (SELECT {own} AS k FROM data) WHERE k IS NOT NULL GROUP BY k");
    format!("SELECT {double} AS v, n FROM ({grouped}) ORDER BY v")
}

/// What is counted of a column in the pass over all of them.
pub fn counts(index: usize, column: &Asked) -> Vec<String> {
    let name = quoted(&column.name);
    // The function knows doubles, but not halves.
    let double = format!("CAST({name} AS DOUBLE)");
    let present = if column.arrow.is_floating() {
        format!("count(CASE WHEN NOT isnan({double}) THEN 1 END)")
    } else {
        format!("count({name})")
    };
    let mut counts = vec![format!("{present} AS present_{index}")];
    let mut add = |expression: String, name: &str| counts.push(format!("{expression} AS {name}_{index}"));
    let kind = ColumnType::of(&column.arrow);
    if kind.is_some() {
        add(format!("approx_distinct(CAST({name} AS VARCHAR))"), "distinct");
    }
    match kind {
        Some(ColumnType::Integer | ColumnType::Number) => {
            let number = number(column);
            for (function, name) in [("min", "min"), ("max", "max"), ("avg", "mean"), ("stddev", "std")] {
                add(format!("{function}({number})"), name);
            }
            if column.arrow.is_floating() {
                let infinite = format!("abs({double}) > {:e} AND NOT isnan({double})", f64::MAX);
                add(format!("count(CASE WHEN {infinite} THEN 1 END)"), "infinite");
            }
        }
        Some(ColumnType::Date | ColumnType::Timestamp) => {
            add(format!("min({name})"), "min");
            add(format!("max({name})"), "max");
        }
        Some(ColumnType::String) => {
            for (function, name_of) in [("min", "min_length"), ("max", "max_length"), ("avg", "mean_length")] {
                add(format!("{function}(character_length(CAST({name} AS VARCHAR)))"), name_of);
            }
        }
        Some(ColumnType::Boolean) | None => {}
    }
    counts
}

/// The row of an aggregation, by the names of its columns.
pub struct Answers(pub RecordBatch);

impl Answers {
    pub fn number(&self, name: &str) -> Option<f64> {
        let doubles = cast(self.0.column_by_name(name)?, &DataType::Float64).ok()?;
        let doubles = doubles.as_primitive::<Float64Type>();
        doubles.is_valid(0).then(|| doubles.value(0)).filter(|value| value.is_finite())
    }

    /// A count; 0 where nothing was counted.
    pub fn whole(&self, name: &str) -> u64 {
        let whole = self.0.column_by_name(name).and_then(|column| cast(column, &DataType::Int64).ok());
        whole.map_or(0, |column| column.as_primitive::<Int64Type>().value(0).unsigned_abs())
    }

    pub fn text(&self, name: &str) -> String {
        let text = self.0.column_by_name(name).and_then(|column| {
            ArrayFormatter::try_new(column, &FormatOptions::default()).ok().map(|texts| texts.value(0).to_string())
        });
        text.unwrap_or_default()
    }
}
