//! Which bin of the profile a value belongs to.

use std::collections::HashMap;

use crate::tensor::Data;

/// The first cell: rows without a value.
pub const MISSING: usize = 0;

/// The cells of a column.
#[derive(Debug, PartialEq)]
pub enum Cells {
    /// The edges of the bins: one more than there are bins, or a single one of a column with one value.
    Numbers(Vec<f64>),
    Texts(HashMap<String, usize>),
    /// Categories that are whole numbers, such as the labels of a classifier.
    Wholes(HashMap<i64, usize>),
}

/// Where a value belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub cell: usize,
    /// A number outside of the edges, or a category that is not named.
    pub strange: bool,
}

impl Found {
    const NO_VALUE: Self = Self { cell: MISSING, strange: false };
}

impl Cells {
    /// How many there are, the one for missing values among them, and of categories the one for all that are not named.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(edges) => 1 + edges.len().saturating_sub(1).max(1),
            Self::Texts(names) => names.len() + 2,
            Self::Wholes(names) => names.len() + 2,
        }
    }

    /// The cell of one value; `None` if there is no such value, or it is of another type than the column.
    pub fn find(&self, data: &Data, index: usize) -> Option<Found> {
        match self {
            Self::Numbers(edges) => Some(bin(edges, number(data, index)?)),
            Self::Texts(names) => {
                let Data::Bytes(values) = data else { return None };
                let value = values.get(index)?;
                if value.is_empty() {
                    return Some(Found::NO_VALUE);
                }
                Some(named(names.get(value).copied(), names.len()))
            }
            Self::Wholes(names) => Some(named(names.get(&whole(data, index)?).copied(), names.len())),
        }
    }
}

fn named(cell: Option<usize>, names: usize) -> Found {
    match cell {
        Some(cell) => Found { cell, strange: false },
        None => Found { cell: names + 1, strange: true },
    }
}

/// A bin has its lower edge, the last one both. What lies outside belongs to the first and the last bin.
fn bin(edges: &[f64], value: f64) -> Found {
    if value.is_nan() {
        return Found::NO_VALUE;
    }
    let (first, last) = (edges.first().copied().unwrap_or(value), edges.last().copied().unwrap_or(value));
    let bins = edges.len().saturating_sub(1).max(1);
    let reached = edges.partition_point(|edge| *edge <= value);
    Found { cell: reached.clamp(1, bins), strange: value < first || value > last }
}

#[allow(clippy::cast_precision_loss)]
fn number(data: &Data, index: usize) -> Option<f64> {
    match data {
        Data::Fp32(values) => values.get(index).map(|value| f64::from(*value)),
        Data::Fp64(values) => values.get(index).copied(),
        Data::Fp16(values) => values.get(index).map(|value| value.to_f64()),
        Data::Uint64(values) => values.get(index).map(|value| *value as f64),
        Data::Bytes(_) => None,
        other => whole(other, index).map(|value| value as f64),
    }
}

fn whole(data: &Data, index: usize) -> Option<i64> {
    match data {
        Data::Bool(values) => values.get(index).map(|value| i64::from(*value)),
        Data::Uint8(values) => values.get(index).map(|value| i64::from(*value)),
        Data::Uint16(values) => values.get(index).map(|value| i64::from(*value)),
        Data::Uint32(values) => values.get(index).map(|value| i64::from(*value)),
        Data::Int8(values) => values.get(index).map(|value| i64::from(*value)),
        Data::Int16(values) => values.get(index).map(|value| i64::from(*value)),
        Data::Int32(values) => values.get(index).map(|value| i64::from(*value)),
        Data::Int64(values) => values.get(index).copied(),
        Data::Uint64(_) | Data::Fp16(_) | Data::Fp32(_) | Data::Fp64(_) | Data::Bytes(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cell: usize, strange: bool) -> Found {
        Found { cell, strange }
    }

    #[test]
    fn a_bin_has_its_lower_edge_and_the_last_one_both() {
        let cells = Cells::Numbers(vec![1.0, 2.0, 4.0]);
        assert_eq!(cells.len(), 3);
        let values = [
            (f64::NAN, 0, false),
            (0.5, 1, true),
            (1.0, 1, false),
            (1.9, 1, false),
            (2.0, 2, false),
            (4.0, 2, false),
            (4.1, 2, true),
            (f64::INFINITY, 2, true),
            (f64::NEG_INFINITY, 1, true),
        ];
        let data = Data::Fp64(values.iter().map(|(value, ..)| *value).collect());
        for (index, (value, cell, strange)) in values.iter().enumerate() {
            assert_eq!(cells.find(&data, index), Some(found(*cell, *strange)), "{value}");
        }
        assert_eq!(cells.find(&data, values.len()), None);
        assert_eq!(cells.find(&Data::Bytes(vec!["1".into()]), 0), None);
        assert_eq!(cells.find(&Data::Uint8(vec![3]), 0), Some(found(2, false)));
    }

    #[test]
    fn a_column_of_one_value_has_one_bin() {
        let cells = Cells::Numbers(vec![3.0]);
        assert_eq!(cells.len(), 2);
        let data = Data::Fp32(vec![3.0, 2.0, 4.0]);
        assert_eq!([0, 1, 2].map(|i| cells.find(&data, i).unwrap()), [found(1, false), found(1, true), found(1, true)]);
    }

    #[test]
    fn a_category_without_a_name_is_strange_and_an_empty_text_is_missing() {
        let cells = Cells::Texts(HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
        assert_eq!(cells.len(), 4);
        let data = Data::Bytes(["b", "", "c"].map(str::to_owned).to_vec());
        assert_eq!(
            [0, 1, 2].map(|i| cells.find(&data, i).unwrap()),
            [found(2, false), found(0, false), found(3, true)]
        );
        let labels = Cells::Wholes(HashMap::from([(0, 1), (1, 2)]));
        assert_eq!(labels.find(&Data::Int64(vec![1]), 0), Some(found(2, false)));
        assert_eq!(labels.find(&Data::Int64(vec![7]), 0), Some(found(3, true)));
        assert_eq!(labels.find(&Data::Fp32(vec![1.0]), 0), None);
    }
}
