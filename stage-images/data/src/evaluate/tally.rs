//! Metrics of predicted labels: accuracy, precision, recall and F1. As scikit-learn 1.8 defines them
//! (`precision_recall_fscore_support`): a quotient without a divisor is 0, and the labels that count are those that are
//! true or predicted somewhere.

/// How often each pair of true and predicted label came: rows are true, columns predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    pub labels: usize,
    counts: Vec<u64>,
}

/// Metrics of one label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelScore {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Rows that have the label.
    pub support: u64,
    /// Rows that were given the label.
    pub predicted: u64,
}

/// Averages over labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl Confusion {
    pub fn count(labels: usize, truth: &[u32], predicted: &[u32]) -> Self {
        let mut counts = vec![0; labels * labels];
        for (truth, predicted) in truth.iter().zip(predicted) {
            counts[*truth as usize * labels + *predicted as usize] += 1;
        }
        Self { labels, counts }
    }

    pub fn at(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * self.labels + predicted]
    }

    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn accuracy(&self) -> f64 {
        let right = (0..self.labels).map(|label| self.at(label, label)).sum();
        quotient(right, self.rows())
    }

    pub fn label(&self, label: usize) -> LabelScore {
        let right = self.at(label, label);
        let support = (0..self.labels).map(|predicted| self.at(label, predicted)).sum();
        let predicted = (0..self.labels).map(|truth| self.at(truth, label)).sum();
        LabelScore {
            precision: quotient(right, predicted),
            recall: quotient(right, support),
            // 2 TP / (2 TP + FP + FN): the form that scikit-learn computes.
            f1: quotient(2 * right, support + predicted),
            support,
            predicted,
        }
    }

    /// Labels that are true or predicted in some row.
    fn there(&self) -> Vec<LabelScore> {
        (0..self.labels).map(|label| self.label(label)).filter(|score| score.support + score.predicted > 0).collect()
    }

    pub fn macro_average(&self) -> Average {
        let there = self.there();
        mean(&there, |_| 1.0)
    }

    /// Weighted by how many rows have the label.
    pub fn weighted_average(&self) -> Average {
        let there = self.there();
        mean(&there, |score| score.support as f64)
    }

    /// Over all decisions together. With one label a row this is the accuracy.
    pub fn micro_average(&self) -> Average {
        let accuracy = self.accuracy();
        Average { precision: accuracy, recall: accuracy, f1: accuracy }
    }
}

fn mean(scores: &[LabelScore], weight: impl Fn(&LabelScore) -> f64) -> Average {
    let total: f64 = scores.iter().map(&weight).sum();
    let of = |value: fn(&LabelScore) -> f64| {
        if total == 0.0 { 0.0 } else { scores.iter().map(|score| weight(score) * value(score)).sum::<f64>() / total }
    };
    Average { precision: of(|score| score.precision), recall: of(|score| score.recall), f1: of(|score| score.f1) }
}

fn quotient(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_nobody_has_or_gets_is_not_averaged() {
        let confusion = Confusion::count(3, &[0, 0, 1, 1], &[0, 0, 1, 0]);
        assert!((confusion.macro_average().recall - 0.75).abs() < 1e-12);
        assert_eq!(confusion.label(2), LabelScore { precision: 0.0, recall: 0.0, f1: 0.0, support: 0, predicted: 0 });
    }

    #[test]
    fn no_rows_give_zeros() {
        let none = Confusion::count(2, &[], &[]);
        assert_eq!((none.accuracy(), none.macro_average().f1, none.weighted_average().f1), (0.0, 0.0, 0.0));
    }
}
