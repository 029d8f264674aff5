//! How far two distributions over the same bins are from each other, and how likely chance alone makes them so.
//!
//! Both are counts: of the training rows, and of the rows of a window. A bin that is empty in both says nothing.

use statrs::function::gamma::gamma_ur;

/// What an empty bin's share counts as in the PSI, whose logarithm has no value for 0.
const EMPTY: f64 = 0.0001;
/// Below this the series of the Kolmogorov distribution needs many terms to say 1.
const SMALLEST: f64 = 0.2;
const TERMS: i32 = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub value: f64,
    /// The probability of so large a value, or a larger one, if both are samples of one distribution. Approximate, as the tests are that
    /// it comes from.
    pub chance: f64,
}

impl Figure {
    /// Nothing to compare.
    const NONE: Self = Self { value: 0.0, chance: 1.0 };
}

/// The population stability index, Σ (q − p) ln(q / p) over the shares p of the reference and q of the window (Siddiqi, *Credit Risk
/// Scorecards*, 2006). Where there is no drift, PSI / (1/n + 1/m) is about chi-squared distributed with one degree less than there are
/// bins (Yurdakul and Naranjo, *Statistical properties of the population stability index*, Journal of Risk Model Validation 14(4), 2020).
#[must_use]
pub fn psi(reference: &[u64], counts: &[u64]) -> Figure {
    let (n, m) = (total(reference), total(counts));
    let degrees = bins(reference, counts).count().saturating_sub(1);
    if n == 0.0 || m == 0.0 || degrees == 0 {
        return Figure::NONE;
    }
    let share = |count: f64, all: f64| if count == 0.0 { EMPTY } else { count / all };
    let value = bins(reference, counts).map(|(p, q)| (share(p, n), share(q, m))).map(|(p, q)| (q - p) * (q / p).ln());
    let value = value.sum();
    Figure { value, chance: chi_square_tail(degrees, value / (1.0 / n + 1.0 / m)) }
}

/// The statistic of the Kolmogorov-Smirnov test of two samples, the largest difference of the cumulative shares, for bins in their order.
/// Within a bin nothing is seen, so it is at most that of the values themselves, and the chance at least theirs. The chance is the
/// limit for many rows (Smirnov, *Table for estimating the goodness of fit of empirical distributions*, 1948).
#[must_use]
pub fn ks(reference: &[u64], counts: &[u64]) -> Figure {
    let (n, m) = (total(reference), total(counts));
    if n == 0.0 || m == 0.0 {
        return Figure::NONE;
    }
    let (mut below, mut value) = ((0.0, 0.0), 0.0_f64);
    for (p, q) in bins(reference, counts) {
        below = (below.0 + p, below.1 + q);
        value = value.max((below.0 / n - below.1 / m).abs());
    }
    Figure { value, chance: kolmogorov_tail((n * m / (n + m)).sqrt() * value) }
}

/// Cramér's V, √(χ² / (n + m)), of the chi-squared test of homogeneity: χ² = Σ (observed − expected)² / expected over both rows of the
/// table of counts, expected from its sums (Pearson 1900; Cramér, *Mathematical Methods of Statistics*, 1946, §21.9 and §30.6).
#[must_use]
pub fn chi_square(reference: &[u64], counts: &[u64]) -> Figure {
    let (n, m) = (total(reference), total(counts));
    let degrees = bins(reference, counts).count().saturating_sub(1);
    if n == 0.0 || m == 0.0 || degrees == 0 {
        return Figure::NONE;
    }
    let terms = bins(reference, counts).flat_map(|(p, q)| {
        let of = |observed: f64, row: f64| {
            let expected = (p + q) * row / (n + m);
            (observed - expected).powi(2) / expected
        };
        [of(p, n), of(q, m)]
    });
    let statistic: f64 = terms.sum();
    Figure { value: (statistic / (n + m)).sqrt(), chance: chi_square_tail(degrees, statistic) }
}

fn total(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}

/// Pairs of counts of the bins that are not empty in both.
fn bins<'a>(reference: &'a [u64], counts: &'a [u64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    let pairs = reference.iter().zip(counts).filter(|(p, q)| **p > 0 || **q > 0);
    pairs.map(|(p, q)| (*p as f64, *q as f64))
}

fn chi_square_tail(degrees: usize, statistic: f64) -> f64 {
    if statistic <= 0.0 {
        return 1.0;
    }
    gamma_ur(degrees as f64 / 2.0, statistic / 2.0).clamp(0.0, 1.0)
}

/// 2 Σ (−1)^(k−1) exp(−2 k² x²).
fn kolmogorov_tail(x: f64) -> f64 {
    if x < SMALLEST {
        return 1.0;
    }
    let term = |k: i32| (if k % 2 == 1 { 2.0 } else { -2.0 }) * (-2.0 * f64::from(k * k) * x * x).exp();
    (1..=TERMS).map(term).sum::<f64>().clamp(0.0, 1.0)
}
