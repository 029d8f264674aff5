//! The numbers are those of SciPy 1.17.1: `chi2_contingency([p, q], correction=False)`, `special.kolmogorov` of √(nm / (n + m)) times the
//! largest difference of the cumulative shares, and the PSI by NumPy with `stats.chi2.sf`, bins that are empty in both left out.

use crate::drift::{Figure, chi_square, ks, psi};

/// Reference, counts, then value and chance of PSI, KS and chi-squared.
type Case = (&'static [u64], &'static [u64], [(f64, f64); 3]);

const CASES: [Case; 3] = [
    (
        &[2, 20, 21, 19, 20, 20],
        &[3, 52, 48, 50, 49, 48],
        [
            (0.006_469_981_092_773_849, 0.993_224_383_562_357_5),
            (0.009_568_627_450_980_416, 1.0),
            (0.037_409_142_132_707_55, 0.992_391_592_443_783_7),
        ],
    ),
    (
        &[0, 100, 100, 100, 100],
        &[0, 10, 40, 150, 200],
        [
            (0.879_495_189_358_290_4, 6.776_872_496_534_344e-38),
            (0.375, 7.446_726_243_500_968e-25),
            (0.422_320_942_358_981_77, 9.970_269_230_956_826e-31),
        ],
    ),
    // A bin that the reference does not have.
    (
        &[5, 60, 40, 0],
        &[0, 30, 50, 20],
        [
            (2.019_684_163_506_551, 2.819_397_102_394_726_8e-22),
            (0.319_047_619_047_619_1, 5.921_931_467_845_154e-5),
            (0.419_119_762_909_572, 7.449_898_965_958_307e-8),
        ],
    ),
];

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-9 * expected.abs().max(1e-30)
}

#[test]
fn figures_are_those_of_scipy() {
    for (reference, counts, expected) in CASES {
        let found = [psi(reference, counts), ks(reference, counts), chi_square(reference, counts)];
        for (found, (value, chance)) in found.into_iter().zip(expected) {
            assert!(near(found.value, value) && near(found.chance, chance), "{found:?}, not {value} and {chance}");
        }
    }
}

#[test]
fn the_same_distribution_has_no_distance_and_nothing_has_none_either() {
    let none = Figure { value: 0.0, chance: 1.0 };
    for compare in [psi, ks, chi_square] {
        assert_eq!(compare(&[0, 10, 20, 30], &[0, 100, 200, 300]), none);
        for (reference, counts) in [(&[0_u64, 0], &[0_u64, 5]), (&[0, 5], &[0, 0]), (&[0, 5], &[0, 7])] {
            assert_eq!(compare(reference, counts), none, "{reference:?} {counts:?}");
        }
    }
}

#[test]
fn few_rows_of_the_same_distribution_may_be_far_off_by_chance() {
    // Ten rows, three more in one bin than expected.
    let found = psi(&[0, 50, 50, 50, 50], &[0, 5, 2, 2, 1]);
    assert!(found.value > 0.2 && found.chance > 0.001, "{found:?}");
}
