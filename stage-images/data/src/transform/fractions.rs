//! How many rows each part gets. Pure arithmetic.

use super::params::Split;

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum FractionError {
    #[error("parameter split.{part}: found {found}, expected a number from 0 to 1")]
    OutOfRange { part: &'static str, found: f64 },
    #[error(
        "parameter split: train, validation and test add up to {found}, expected 1; leave train out to give it the rest"
    )]
    Sum { found: f64 },
    #[error("parameter split: no fraction is given; write test: 0.2, or train, validation and test")]
    Nothing,
    #[error("parameter split: stratify and time exclude each other; leave one out")]
    StratifyAndTime,
}

/// The parts in the order in which rows are given out.
pub const PARTS: [&str; 3] = ["train", "validation", "test"];

/// The fractions of train, validation and test. They add up to 1.
pub fn fractions(split: &Split) -> Result<[f64; 3], FractionError> {
    if split.stratify.is_some() && split.time.is_some() {
        return Err(FractionError::StratifyAndTime);
    }
    let given = [split.train, split.validation, split.test];
    if given.iter().all(Option::is_none) {
        return Err(FractionError::Nothing);
    }
    for (part, fraction) in PARTS.into_iter().zip(given) {
        if let Some(found) = fraction.filter(|fraction| !(0.0..=1.0).contains(fraction)) {
            return Err(FractionError::OutOfRange { part, found });
        }
    }
    let (validation, test) = (split.validation.unwrap_or(0.0), split.test.unwrap_or(0.0));
    let train = split.train.unwrap_or((1.0 - validation - test).max(0.0));
    let sum = train + validation + test;
    if (sum - 1.0).abs() > 1e-9 {
        return Err(FractionError::Sum { found: sum });
    }
    Ok([train, validation, test])
}

/// Rows for each part: whole numbers that add up to `rows`, each within one of its exact share (largest remainder, ties
/// to the earlier part).
pub fn counts(rows: u64, fractions: [f64; 3]) -> [u64; 3] {
    share_out(rows, fractions, fractions.map(|fraction| fraction * rows as f64))
}

/// Rows for each part of each stratum. Each count is within one of its exact share, and so is each part's total: the
/// rounding that one stratum leaves is carried to the next.
pub fn stratified_counts(strata: &[u64], fractions: [f64; 3]) -> Vec<[u64; 3]> {
    let mut rows = 0;
    let mut given = [0_u64; 3];
    strata
        .iter()
        .map(|stratum| {
            rows += stratum;
            // What each part should have had by now, less what it has: within one row of this stratum's share.
            let due: [f64; 3] = std::array::from_fn(|part| fractions[part] * rows as f64 - given[part] as f64);
            let counts = share_out(*stratum, fractions, due);
            for part in 0..3 {
                given[part] += counts[part];
            }
            counts
        })
        .collect()
}

/// Floors of the exact shares, and the rows that are left to the parts that are due most.
fn share_out(rows: u64, fractions: [f64; 3], due: [f64; 3]) -> [u64; 3] {
    // 0.1 + 0.2 is a little more than 0.3: a share that is whole but for rounding is whole.
    let exact = fractions.map(|fraction| {
        let share = fraction * rows as f64;
        if (share - share.round()).abs() < 1e-6 { share.round() } else { share }
    });
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are from 0 to the row count")]
    let mut counts = exact.map(|share| share.floor() as u64);
    let mut order: Vec<usize> = (0..3).filter(|part| exact[*part].fract() > 0.0).collect();
    order.sort_by(|a, b| (due[*b] - counts[*b] as f64).total_cmp(&(due[*a] - counts[*a] as f64)));
    let missing = rows.saturating_sub(counts.iter().sum());
    for part in order.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        counts[part] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(train: Option<f64>, validation: Option<f64>, test: Option<f64>) -> Split {
        Split { train, validation, test, ..Split::default() }
    }

    #[test]
    fn the_rest_goes_to_train_if_it_is_left_out() {
        assert_eq!(fractions(&split(None, None, Some(0.2))), Ok([0.8, 0.0, 0.2]));
        assert_eq!(fractions(&split(Some(0.6), Some(0.2), Some(0.2))), Ok([0.6, 0.2, 0.2]));
    }

    #[test]
    fn fractions_that_make_no_whole_are_refused() {
        assert_eq!(fractions(&split(None, None, None)), Err(FractionError::Nothing));
        assert!(matches!(fractions(&split(Some(0.6), None, Some(0.2))), Err(FractionError::Sum { .. })));
        assert!(matches!(fractions(&split(None, Some(0.7), Some(0.7))), Err(FractionError::Sum { .. })));
        let negative = fractions(&split(None, None, Some(-0.1))).unwrap_err().to_string();
        assert_eq!(negative, "parameter split.test: found -0.1, expected a number from 0 to 1");
        let both = Split { stratify: Some("a".into()), time: Some("b".into()), test: Some(0.5), ..Split::default() };
        assert_eq!(fractions(&both), Err(FractionError::StratifyAndTime));
    }

    #[test]
    fn counts_add_up_and_are_within_one_row_of_the_share() {
        for rows in 0..400 {
            for fractions in [[0.6, 0.2, 0.2], [0.7, 0.0, 0.3], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.0, 0.1, 0.9]] {
                let counts = counts(rows, fractions);
                assert_eq!(counts.iter().sum::<u64>(), rows);
                for part in 0..3 {
                    assert!((counts[part] as f64 - fractions[part] * rows as f64).abs() < 1.0, "{rows} {fractions:?}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_fraction_zero_gets_no_row() {
        assert_eq!(counts(7, [0.5, 0.0, 0.5])[1], 0);
        assert!(stratified_counts(&[1, 1, 1, 3], [0.5, 0.0, 0.5]).iter().all(|counts| counts[1] == 0));
    }

    #[test]
    fn strata_keep_their_shares_to_within_one_row_and_so_do_the_parts() {
        let strata: Vec<u64> = vec![1, 1, 2, 3, 5, 8, 13, 152, 68, 124, 1, 1, 1, 7];
        for fractions in [[0.6, 0.2, 0.2], [0.8, 0.0, 0.2], [0.34, 0.33, 0.33]] {
            let counts = stratified_counts(&strata, fractions);
            let mut totals = [0; 3];
            for (stratum, counts) in strata.iter().zip(&counts) {
                assert_eq!(counts.iter().sum::<u64>(), *stratum);
                for part in 0..3 {
                    assert!((counts[part] as f64 - fractions[part] * *stratum as f64).abs() < 1.0);
                    totals[part] += counts[part];
                }
            }
            let rows: u64 = strata.iter().sum();
            for part in 0..3 {
                assert!((totals[part] as f64 - fractions[part] * rows as f64).abs() < 2.0, "{totals:?} {fractions:?}");
            }
        }
    }
}
