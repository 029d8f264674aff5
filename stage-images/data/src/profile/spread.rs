//! How values are spread: quantiles, a histogram, and the values that come most often. Pure, fed value by value.

use std::collections::BTreeSet;

/// The shares below the quantiles that are told.
pub const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
const BINS: usize = 20;
const MOST_VALUES: usize = 10;

/// Exact quantiles of values that come in ascending order, each with how often it is there. Between two values they are
/// interpolated, as NumPy does by default (definition 7 of Hyndman and Fan 1996).
#[derive(Debug)]
pub struct Quantiles {
    values: u64,
    seen: u64,
    /// The ranks below and above each quantile, and the values there.
    ranks: [[u64; 2]; 5],
    at: [[f64; 2]; 5],
}

impl Quantiles {
    /// For so many values in all.
    pub fn new(values: u64) -> Self {
        let last = values.saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is from 0 to the count")]
        let ranks = QUANTILES.map(|share| {
            let below = (share * last as f64).floor() as u64;
            [below, (below + 1).min(last)]
        });
        Self { values, seen: 0, ranks, at: [[f64::NAN; 2]; 5] }
    }

    pub fn take(&mut self, value: f64, count: u64) {
        let here = self.seen..self.seen + count;
        for (ranks, at) in self.ranks.iter().zip(&mut self.at) {
            for (rank, at) in ranks.iter().zip(at) {
                if here.contains(rank) {
                    *at = value;
                }
            }
        }
        self.seen = here.end;
    }

    pub fn finish(&self) -> [f64; 5] {
        let last = self.values.saturating_sub(1) as f64;
        std::array::from_fn(|index| {
            let [low, high] = self.at[index];
            let part = QUANTILES[index] * last - self.ranks[index][0] as f64;
            low + (high - low) * part
        })
    }
}

/// Counts in bins of equal width. The last one holds its upper edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub low: f64,
    pub high: f64,
    pub counts: Vec<u64>,
}

impl Histogram {
    pub fn new(low: f64, high: f64) -> Self {
        Self { low, high, counts: vec![0; if low < high { BINS } else { 1 }] }
    }

    pub fn take(&mut self, value: f64, count: u64) {
        let bins = self.counts.len();
        // Halved: the distance of two doubles may be more than a double holds.
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
        let bin = if bins == 1 { 0 } else { ((share * bins as f64) as usize).min(bins - 1) };
        self.counts[bin] += count;
    }

    /// The edges of the bins, one more than there are bins.
    pub fn edges(&self) -> Vec<f64> {
        let bins = self.counts.len();
        let edge = |bin: usize| {
            let share = bin as f64 / bins as f64;
            self.low * (1.0 - share) + self.high * share
        };
        (0..=bins).map(edge).collect()
    }
}

/// The values that come most often; of equally many the first in order.
#[derive(Debug, Default)]
pub struct Top(BTreeSet<(std::cmp::Reverse<u64>, String)>);

impl Top {
    pub fn take(&mut self, value: &str, count: u64) {
        let full = self.0.len() == MOST_VALUES;
        let smaller = |last: &(std::cmp::Reverse<u64>, String)| (last.0.0, value) < (count, last.1.as_str());
        if full && !self.0.last().is_some_and(smaller) {
            return;
        }
        self.0.insert((std::cmp::Reverse(count), value.to_owned()));
        if self.0.len() > MOST_VALUES {
            self.0.pop_last();
        }
    }

    pub fn finish(self) -> Vec<(String, u64)> {
        self.0.into_iter().map(|(count, value)| (value, count.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 2, 3, 10], [.05, .25, .5, .75, .95])
        let mut quantiles = Quantiles::new(5);
        for (value, count) in [(1.0, 1), (2.0, 2), (3.0, 1), (10.0, 1)] {
            quantiles.take(value, count);
        }
        for (found, expected) in quantiles.finish().into_iter().zip([1.2, 2.0, 2.0, 3.0, 8.6]) {
            assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        }
        let mut one = Quantiles::new(1);
        one.take(7.0, 1);
        assert_eq!(one.finish().map(f64::to_bits), [7.0; 5].map(f64::to_bits));
    }

    #[test]
    fn every_value_is_in_one_bin_and_the_largest_in_the_last() {
        let mut histogram = Histogram::new(0.0, 10.0);
        for value in [0.0, 0.49, 0.5, 9.99, 10.0] {
            histogram.take(value, 2);
        }
        assert_eq!(histogram.counts.iter().sum::<u64>(), 10);
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[19]), (4, 2, 4));
        assert_eq!(histogram.edges().len(), 21);
        let mut same = Histogram::new(3.0, 3.0);
        same.take(3.0, 5);
        assert_eq!(same.counts, [5]);
        let mut widest = Histogram::new(f64::MIN, f64::MAX);
        widest.take(f64::MAX, 1);
        assert_eq!(widest.counts[19], 1);
    }

    #[test]
    fn the_most_frequent_values_are_kept_in_an_order_that_does_not_depend_on_when_they_come() {
        let mut values: Vec<(String, u64)> = (0..30).map(|number| (format!("v{number:02}"), number % 7)).collect();
        let top = |values: &[(String, u64)]| {
            let mut top = Top::default();
            for (value, count) in values {
                top.take(value, *count);
            }
            top.finish()
        };
        let once = top(&values);
        assert_eq!(once.len(), MOST_VALUES);
        assert_eq!(once[0], ("v06".to_owned(), 6));
        assert_eq!(once[4], ("v05".to_owned(), 5));
        values.reverse();
        assert_eq!(top(&values), once);
    }
}
