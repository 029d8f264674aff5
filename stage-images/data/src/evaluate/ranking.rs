//! Metrics of scores: area under the ROC curve, log loss, and the points of the curves.
//!
//! `ROC-AUC` is the Mann-Whitney statistic with half a point for a tie, which is the trapezoid under the curve (Hanley and
//! `McNeil` 1982). Log loss is the mean of -ln p of the true class, with p kept from 0 and 1 by a double's epsilon, as
//! scikit-learn 1.8 does for doubles.

/// One row's score and whether it is positive, sorted by score.
fn sorted(scores: &[f64], positive: &[bool]) -> Vec<(f64, bool)> {
    let mut pairs: Vec<(f64, bool)> = scores.iter().copied().zip(positive.iter().copied()).collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    pairs
}

#[allow(clippy::float_cmp, reason = "a tie is the same score, to the bit")]
fn tied(a: &(f64, bool), b: &(f64, bool)) -> bool {
    a.0 == b.0
}

/// The area under the ROC curve; none if all rows are positive or none is.
pub fn roc_auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let pairs = sorted(scores, positive);
    let positives = positive.iter().filter(|positive| **positive).count() as u128;
    let negatives = pairs.len() as u128 - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    // Twice the count of pairs in the right order, in whole numbers: no rounding before the one division.
    let (mut twice, mut below) = (0_u128, 0_u128);
    for tie in pairs.chunk_by(tied) {
        let here = tie.iter().filter(|(_, positive)| *positive).count() as u128;
        let negatives_here = tie.len() as u128 - here;
        twice += here * (2 * below + negatives_here);
        below += negatives_here;
    }
    #[allow(clippy::cast_precision_loss, reason = "the quotient has the precision of a double")]
    Some(twice as f64 / (2 * positives * negatives) as f64)
}

/// Averages of one-against-the-rest areas: plain, and weighted by how many rows have the label. A label that no row has,
/// or all rows have, has no area; the plain average is then not defined. In the weighted one a label without rows has
/// no weight.
pub fn average_auc(areas: &[Option<f64>], support: &[u64]) -> (Option<f64>, Option<f64>) {
    let plain = areas.iter().copied().sum::<Option<f64>>().map(|sum| sum / areas.len() as f64);
    let total: u64 = support.iter().sum();
    let weighted = areas
        .iter()
        .zip(support)
        .map(|(area, rows)| if *rows == 0 { Some(0.0) } else { area.map(|area| area * *rows as f64) })
        .sum::<Option<f64>>()
        .filter(|_| total > 0)
        .map(|sum| sum / total as f64);
    (plain, weighted)
}

/// The mean of -ln of the probability of the true class.
pub fn log_loss(of_truth: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let rows = of_truth.len();
    let sum: f64 = of_truth.map(|p| -p.clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()).sum();
    (rows > 0).then(|| sum / rows as f64)
}

/// A curve's points, x and y from 0 to 1.
pub type Points = Vec<(f64, f64)>;

/// False positive rate and true positive rate from the highest threshold to the lowest.
pub fn roc_curve(scores: &[f64], positive: &[bool]) -> Points {
    let (mut right, mut wrong) = (0_usize, 0_usize);
    let all_right = positive.iter().filter(|positive| **positive).count();
    let all_wrong = positive.len() - all_right;
    if all_right == 0 || all_wrong == 0 {
        return Vec::new();
    }
    let mut points = vec![(0.0, 0.0)];
    for tie in sorted(scores, positive).chunk_by(tied).rev() {
        right += tie.iter().filter(|(_, positive)| *positive).count();
        wrong += tie.iter().filter(|(_, positive)| !*positive).count();
        points.push((wrong as f64 / all_wrong as f64, right as f64 / all_right as f64));
    }
    points
}

/// Recall and precision from the highest threshold to the lowest.
pub fn precision_recall_curve(scores: &[f64], positive: &[bool]) -> Points {
    let all_right = positive.iter().filter(|positive| **positive).count();
    if all_right == 0 {
        return Vec::new();
    }
    let (mut right, mut taken) = (0_usize, 0_usize);
    let mut points = vec![(0.0, 1.0)];
    for tie in sorted(scores, positive).chunk_by(tied).rev() {
        right += tie.iter().filter(|(_, positive)| *positive).count();
        taken += tie.len();
        points.push((right as f64 / all_right as f64, right as f64 / taken as f64));
    }
    points
}

/// Mean score and share of positives in ten bins of equal width; bins without rows are left out (scikit-learn's
/// `calibration_curve`, strategy `uniform`).
pub fn calibration(scores: &[f64], positive: &[bool]) -> Points {
    const BINS: usize = 10;
    let mut bins = [(0.0, 0_usize, 0_usize); BINS];
    for (score, positive) in scores.iter().zip(positive) {
        // A score on an edge belongs to the bin below it.
        let bin = (0..BINS).find(|bin| *score <= (*bin + 1) as f64 / BINS as f64).unwrap_or(BINS - 1);
        bins[bin].0 += score;
        bins[bin].1 += usize::from(*positive);
        bins[bin].2 += 1;
    }
    bins.iter()
        .filter(|(_, _, rows)| *rows > 0)
        .map(|(sum, positives, rows)| (sum / *rows as f64, *positives as f64 / *rows as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_count_half() {
        assert_eq!(roc_auc(&[0.5, 0.5], &[true, false]), Some(0.5));
        assert_eq!(roc_auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
    }

    #[test]
    fn one_class_alone_has_no_area() {
        assert_eq!(roc_auc(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(average_auc(&[Some(1.0), None], &[4, 0]), (None, Some(1.0)));
        assert!(roc_curve(&[0.1], &[true]).is_empty());
    }

    #[test]
    fn a_certain_mistake_costs_what_epsilon_costs() {
        let loss = log_loss([0.0].into_iter()).unwrap();
        assert!((loss - 36.043_653_389_117_15).abs() < 1e-9, "{loss}");
        assert_eq!(log_loss(std::iter::empty()), None);
    }

    #[test]
    fn curves_end_where_everything_is_taken() {
        let (scores, positive) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        assert_eq!(roc_curve(&scores, &positive).last(), Some(&(1.0, 1.0)));
        assert_eq!(precision_recall_curve(&scores, &positive).last(), Some(&(1.0, 0.5)));
        assert_eq!(calibration(&[0.05, 0.95], &[false, true]), vec![(0.05, 0.0), (0.95, 1.0)]);
    }
}
