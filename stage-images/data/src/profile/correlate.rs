//! Pearson's correlation of every pair of number columns, over the rows in which both have a value, in one pass.

use std::cmp::Ordering;

use arrow::array::{Array, Float64Array};

/// The sums of each pair. Values are taken relative to their column's mean, so that little is lost where that is large.
#[derive(Debug)]
pub struct Correlations {
    means: Vec<f64>,
    pairs: Vec<Sums>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    rows: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

/// Correlations of columns, each with each. None where a column has no spread in the rows that the two share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    pub columns: Vec<String>,
    pub values: Vec<Vec<Option<f64>>>,
    /// Number columns that are beyond the bound.
    pub left_out: usize,
}

impl Correlations {
    pub fn new(means: Vec<f64>) -> Self {
        let pairs = vec![Sums::default(); means.len() * means.len().saturating_sub(1) / 2];
        Self { means, pairs }
    }

    /// Takes a batch: a column of doubles for each mean.
    pub fn take(&mut self, columns: &[Float64Array]) {
        let mut pair = 0;
        for (position, (first, x_mean)) in columns.iter().zip(&self.means).enumerate() {
            for (second, y_mean) in columns.iter().zip(&self.means).skip(position + 1) {
                self.pairs[pair].take(first, *x_mean, second, *y_mean);
                pair += 1;
            }
        }
    }

    pub fn finish(&self, columns: Vec<String>, left_out: usize) -> Matrix {
        let count = columns.len();
        let found: Vec<Option<f64>> = self.pairs.iter().map(Sums::correlation).collect();
        // Where the pairs of a column with those after it begin.
        let start = |first: usize| first * (2 * count - first - 1) / 2;
        let value = |row: usize, column: usize| match row.cmp(&column) {
            Ordering::Less => found[start(row) + column - row - 1],
            Ordering::Equal => Some(1.0),
            Ordering::Greater => found[start(column) + row - column - 1],
        };
        let values = (0..count).map(|row| (0..count).map(|column| value(row, column)).collect()).collect();
        Matrix { columns, values, left_out }
    }
}

impl Sums {
    fn take(&mut self, first: &Float64Array, x_mean: f64, second: &Float64Array, y_mean: f64) {
        for row in 0..first.len() {
            if first.is_null(row) || second.is_null(row) {
                continue;
            }
            let (x, y) = (first.value(row) - x_mean, second.value(row) - y_mean);
            self.rows += 1.0;
            self.x += x;
            self.y += y;
            self.xx += x * x;
            self.yy += y * y;
            self.xy += x * y;
        }
    }

    fn correlation(&self) -> Option<f64> {
        let Self { rows, x, y, xx, yy, xy } = *self;
        let (spread_x, spread_y) = (xx - x * x / rows, yy - y * y / rows);
        // What rounding leaves of no spread at all is no spread.
        if rows < 2.0 || spread_x <= 1e-12 * xx || spread_y <= 1e-12 * yy {
            return None;
        }
        let correlation = (xy - x * y / rows) / (spread_x.sqrt() * spread_y.sqrt());
        correlation.is_finite().then(|| correlation.clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(columns: &[Vec<Option<f64>>], means: Vec<f64>) -> Matrix {
        let arrays: Vec<Float64Array> = columns.iter().map(|column| column.iter().copied().collect()).collect();
        let mut correlations = Correlations::new(means);
        // In two batches.
        let halves =
            |from: usize, to: usize| arrays.iter().map(|array| array.slice(from, to - from)).collect::<Vec<_>>();
        let rows = arrays[0].len();
        correlations.take(&halves(0, 2));
        correlations.take(&halves(2, rows));
        correlations.finish(columns.iter().map(|_| "c".to_owned()).collect(), 0)
    }

    #[test]
    fn pairs_are_correlated_as_numpy_does_over_the_rows_that_both_have() {
        let x = vec![Some(1.0), Some(2.0), Some(3.0), Some(4.0), None];
        let y = vec![Some(2.0), Some(1.0), Some(4.0), Some(3.0), Some(100.0)];
        let found = matrix(&[x.clone(), y, x.iter().map(|x| x.map(|x| -2.0 * x)).collect()], vec![2.5, 2.5, -5.0]);
        assert!((found.values[0][1].unwrap() - 0.6).abs() < 1e-12);
        assert!((found.values[2][0].unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(found.values[1][1], Some(1.0));
    }

    #[test]
    fn a_large_mean_costs_no_figures() {
        let x: Vec<Option<f64>> = (0..5).map(|row| Some(1e9 + f64::from(row))).collect();
        let y: Vec<Option<f64>> = [3.0, 1.0, 2.0, 5.0, 4.0].into_iter().map(|y| Some(1e12 + y)).collect();
        // numpy.corrcoef(range(5), [3, 1, 2, 5, 4])
        let found = matrix(&[x, y], vec![1e9 + 2.0, 1e12 + 3.0]);
        assert!((found.values[0][1].unwrap() - 0.6).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_column_of_one_value_is_not_correlated_with_anything() {
        let found = matrix(&[vec![Some(0.1); 7], (0..7).map(|x| Some(f64::from(x))).collect()], vec![0.1, 3.0]);
        assert_eq!(found.values[0][1], None);
    }
}
