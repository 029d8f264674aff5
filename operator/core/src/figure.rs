//! Figures for people: a few digits, and as many more as tell different ones apart.

use std::collections::BTreeSet;

/// Digits that a figure has at least and at most.
pub const FEWEST: usize = 4;
const MOST: usize = 6;
/// More than a double has: nothing is rounded away.
const ALL: usize = 17;

/// A number with at most so many significant digits, without zeros at its end.
#[must_use]
pub fn rounded(number: f64, digits: usize) -> String {
    if digits >= ALL || !number.is_finite() || (number.fract() == 0.0 && number.abs() < 1e9) {
        return number.to_string();
    }
    let scientific = format!("{number:.*e}", digits.saturating_sub(1));
    // The largest doubles would be rounded to infinity.
    let back: f64 = scientific.parse().ok().filter(|back: &f64| back.is_finite()).unwrap_or(number);
    if (1e-4..1e9).contains(&back.abs()) { back.to_string() } else { format!("{back:e}") }
}

/// How many digits make different numbers look different.
#[must_use]
pub fn told_apart(numbers: impl Iterator<Item = f64>) -> usize {
    let numbers: Vec<f64> = numbers.collect();
    let distinct = |digits: usize| numbers.iter().map(|number| rounded(*number, digits)).collect::<BTreeSet<_>>().len();
    let all = distinct(ALL);
    (FEWEST..=MOST).find(|digits| distinct(*digits) == all).unwrap_or(ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_few_digits() {
        for (number, expected) in [
            (0.982_189_840_113_337_4, "0.9822"),
            (0.9, "0.9"),
            (344.0, "344"),
            (12_345.678, "12350"),
            (0.000_012_345_6, "1.235e-5"),
            (-1.5, "-1.5"),
            (1e300, "1e300"),
            (f64::MIN, "-1.7976931348623157e308"),
            (0.0, "0"),
        ] {
            assert_eq!(rounded(number, FEWEST), expected);
        }
    }

    #[test]
    fn different_numbers_look_different() {
        assert_eq!(told_apart([0.9, 0.9651, 0.9].into_iter()), 4);
        assert_eq!(told_apart([0.9, 0.899_99].into_iter()), 5);
        assert_eq!(told_apart([0.9, 0.899_999_999_9].into_iter()), ALL);
        assert_eq!(rounded(0.899_999_999_9, ALL), "0.8999999999");
    }
}
