//! What of a table a person should look at. Pure.

use super::correlate::Matrix;
use super::measure::{Column, What};
use crate::types::ColumnType;

/// From which correlation on a pair is told, if nothing else is said.
pub const CORRELATED: f64 = 0.95;
/// From which share of missing values on a column is told.
const MOSTLY_MISSING: f64 = 0.5;
/// Text with more different values than this, in more than half of its rows, names the rows more than it groups them.
const MANY_VALUES: u64 = 50;

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A word for programs.
    pub kind: &'static str,
    pub columns: Vec<String>,
    pub message: String,
}

/// All warnings: the columns' in their order, then the pairs', then the table's.
pub fn warnings(
    columns: &[Column],
    matrix: &Matrix,
    correlated: f64,
    rows: u64,
    duplicates: Option<u64>,
) -> Vec<Warning> {
    let mut all: Vec<Warning> = columns.iter().flat_map(|column| of_column(column, rows)).collect();
    for (row, first) in matrix.columns.iter().enumerate() {
        for (column, second) in matrix.columns.iter().enumerate().skip(row + 1) {
            let Some(found) = matrix.values[row][column].filter(|found| found.abs() >= correlated) else { continue };
            all.push(Warning {
                kind: "correlated",
                columns: vec![first.clone(), second.clone()],
                message: format!("{first} and {second} say nearly the same: their correlation is {found:.3}"),
            });
        }
    }
    if let Some(duplicates) = duplicates.filter(|duplicates| *duplicates > 0) {
        let message = format!("{duplicates} of {rows} rows are the same as an earlier one");
        all.push(Warning { kind: "duplicates", columns: Vec::new(), message });
    }
    all
}

fn of_column(column: &Column, rows: u64) -> Vec<Warning> {
    let Column { name, arrow, present, infinite, distinct, what } = column;
    let mut all = Vec::new();
    let mut add = |kind: &'static str, message: String| {
        all.push(Warning { kind, columns: vec![name.clone()], message });
    };
    let missing = rows - present;
    if rows > 0 && *present == 0 {
        add("empty", format!("{name} has no value in any row"));
    } else if missing as f64 > MOSTLY_MISSING * rows as f64 {
        add("missing", format!("{name} has no value in {missing} of {rows} rows"));
    }
    if *infinite > 0 {
        add("infinite", format!("{name} is infinite in {infinite} rows, which are left out of its figures"));
    }
    let different = distinct.map_or(0, |distinct| distinct.count);
    if different == 1 && *present > 1 {
        let value = match what {
            What::Numbers(numbers) => numbers.min.to_string(),
            What::Words { top, .. } => top.first().map(|top| top.0.clone()).unwrap_or_default(),
            What::Times([only, _]) => only.clone(),
            What::Nothing => String::new(),
        };
        add("constant", format!("{name} has one value only: {value}"));
    }
    let is_text = ColumnType::of(arrow) == Some(ColumnType::String);
    if is_text && different > MANY_VALUES && different as f64 > 0.5 * *present as f64 {
        add("cardinality", format!("{name} has {different} different values in {present} rows"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::measure::Distinct;
    use super::*;
    use arrow::datatypes::DataType;

    fn text(present: u64, different: u64) -> Column {
        Column {
            name: "c".into(),
            arrow: DataType::Utf8,
            present,
            infinite: 0,
            distinct: Some(Distinct { count: different, exact: true }),
            what: What::Words { top: vec![("x".into(), 1)], lengths: None },
        }
    }

    fn kinds(column: Column) -> Vec<&'static str> {
        warnings(&[column], &Matrix::default(), CORRELATED, 1000, Some(0)).iter().map(|warning| warning.kind).collect()
    }

    #[test]
    fn a_column_is_told_for_what_is_odd_of_it() {
        assert_eq!(kinds(text(1000, 3)), Vec::<&str>::new());
        assert_eq!(kinds(text(0, 0)), ["empty"]);
        assert_eq!(kinds(text(499, 3)), ["missing"]);
        assert_eq!(kinds(text(500, 3)), Vec::<&str>::new());
        assert_eq!(kinds(text(1000, 1)), ["constant"]);
        assert_eq!(kinds(text(1000, 501)), ["cardinality"]);
        assert_eq!(kinds(Column { infinite: 2, ..text(1000, 3) }), ["infinite"]);
    }

    #[test]
    fn a_pair_is_told_once_and_from_the_bound_on() {
        let matrix = Matrix {
            columns: ["a", "b", "c"].map(Into::into).to_vec(),
            values: vec![
                vec![Some(1.0), Some(-0.97), None],
                vec![Some(-0.97), Some(1.0), Some(0.5)],
                vec![None, Some(0.5), Some(1.0)],
            ],
            left_out: 0,
        };
        let found = warnings(&[], &matrix, CORRELATED, 10, Some(2));
        assert_eq!(found.iter().map(|warning| warning.kind).collect::<Vec<_>>(), ["correlated", "duplicates"]);
        assert_eq!(found[0].columns, ["a", "b"]);
        assert_eq!(warnings(&[], &matrix, 0.98, 10, None), []);
    }
}
