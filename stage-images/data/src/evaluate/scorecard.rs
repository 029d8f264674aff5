//! All metrics of one model on a set of rows.

use std::collections::BTreeMap;

use super::ranking::{average_auc, log_loss, roc_auc};
use super::residual::residuals;
use super::score::{Classes, Scored, SliceColumn, Values};
use super::tally::Confusion;

/// Metrics by name. What is not defined on these rows is not in it.
pub type Metrics = BTreeMap<String, f64>;

/// The metrics that go into the run's status: with those of the champion they must stay below 1 KiB.
pub const IN_STATUS: [&str; 16] = [
    "rows",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "f1_micro",
    "f1_macro",
    "f1_weighted",
    "roc_auc",
    "roc_auc_weighted",
    "log_loss",
    "rmse",
    "mae",
    "r2",
    "max_error",
    "slice_gap",
];

/// The metrics of the rows of one value of a column.
#[derive(Clone, Debug)]
pub struct Slice {
    pub value: String,
    pub metrics: Metrics,
}

/// The slices of a column, worst first, and how far the worst is from the best.
#[derive(Clone, Debug)]
pub struct SliceTable {
    pub column: String,
    pub slices: Vec<Slice>,
    /// Values beyond the largest ones, which are not told apart.
    pub left_out: usize,
    pub gap: f64,
}

/// A column is told apart into at most this many values, those with the most rows.
const MOST_SLICES: usize = 50;

/// The metric by which slices are compared: accuracy, or RMSE.
pub fn compared(scored: &Scored) -> &'static str {
    match scored {
        Scored::Classes(_) => "accuracy",
        Scored::Values(_) => "rmse",
    }
}

pub fn metrics(scored: &Scored, positive: Option<usize>) -> Metrics {
    match scored {
        Scored::Classes(classes) => classification(classes, positive),
        Scored::Values(values) => regression(values),
    }
}

/// `positive` is the index of the positive label if the problem is binary. Precision, recall and F1 are then that
/// label's, else the plain averages over the labels (macro).
pub fn classification(classes: &Classes, positive: Option<usize>) -> Metrics {
    let confusion = Confusion::count(classes.labels.len(), &classes.truth, &classes.predicted);
    let plain = confusion.macro_average();
    let (micro, weighted) = (confusion.micro_average(), confusion.weighted_average());
    let main = positive.map(|label| confusion.label(label));
    let mut metrics = Metrics::from(
        [
            ("rows", confusion.rows() as f64),
            ("accuracy", confusion.accuracy()),
            ("precision", main.map_or(plain.precision, |label| label.precision)),
            ("recall", main.map_or(plain.recall, |label| label.recall)),
            ("f1", main.map_or(plain.f1, |label| label.f1)),
            ("precision_macro", plain.precision),
            ("recall_macro", plain.recall),
            ("f1_macro", plain.f1),
            ("precision_micro", micro.precision),
            ("recall_micro", micro.recall),
            ("f1_micro", micro.f1),
            ("precision_weighted", weighted.precision),
            ("recall_weighted", weighted.recall),
            ("f1_weighted", weighted.f1),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            metrics.insert(name.into(), value);
        }
    };
    if classes.probabilities.is_some() {
        put(
            "log_loss",
            log_loss((0..classes.truth.len()).map(|row| classes.probability(row, classes.truth[row] as usize))),
        );
        if let Some(positive) = positive {
            put("roc_auc", classes.auc(positive));
        } else {
            let areas: Vec<Option<f64>> = (0..classes.labels.len()).map(|label| classes.auc(label)).collect();
            let support: Vec<u64> = (0..classes.labels.len()).map(|label| confusion.label(label).support).collect();
            let (plain, weighted) = average_auc(&areas, &support);
            put("roc_auc", plain);
            put("roc_auc_weighted", weighted);
        }
    }
    metrics
}

pub fn regression(values: &Values) -> Metrics {
    let mut metrics = Metrics::from([("rows".to_owned(), values.truth.len() as f64)]);
    if let Some(residuals) = residuals(&values.truth, &values.predicted) {
        metrics.insert("rmse".into(), residuals.rmse);
        metrics.insert("mae".into(), residuals.mae);
        metrics.insert("max_error".into(), residuals.max_error);
        metrics.extend(residuals.r2.map(|r2| ("r2".to_owned(), r2)));
    }
    metrics
}

/// The metrics for each value of each column.
pub fn slice_tables(scored: &Scored, columns: &[SliceColumn], positive: Option<usize>) -> Vec<SliceTable> {
    let by = compared(scored);
    columns
        .iter()
        .map(|column| {
            let mut rows = vec![Vec::new(); column.values.len()];
            for (row, value) in column.of_row.iter().enumerate() {
                rows[*value as usize].push(row);
            }
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_by_key(|value| (std::cmp::Reverse(rows[*value].len()), &column.values[*value]));
            let left_out = order.len().saturating_sub(MOST_SLICES);
            order.truncate(MOST_SLICES);
            let slice = |value: usize| Slice {
                value: column.values[value].clone(),
                metrics: metrics(&scored.subset(&rows[value]), positive),
            };
            let mut slices: Vec<Slice> = order.into_iter().map(slice).collect();
            let key = |slice: &Slice| {
                let value = slice.metrics.get(by).copied().unwrap_or_default();
                // Worst first: the least accuracy, the largest error.
                if by == "rmse" { -value } else { value }
            };
            slices.sort_by(|a, b| key(a).total_cmp(&key(b)));
            let gap = match (slices.first(), slices.last()) {
                (Some(worst), Some(best)) => key(best) - key(worst),
                _ => 0.0,
            };
            SliceTable { column: column.name.clone(), slices, left_out, gap }
        })
        .collect()
}

impl Scored {
    fn subset(&self, rows: &[usize]) -> Self {
        match self {
            Self::Classes(classes) => {
                let known = classes.known;
                let probabilities = classes
                    .probabilities
                    .as_ref()
                    .map(|all| rows.iter().flat_map(|row| &all[row * known..(row + 1) * known]).copied().collect());
                Self::Classes(Classes {
                    labels: classes.labels.clone(),
                    known,
                    truth: rows.iter().map(|row| classes.truth[*row]).collect(),
                    predicted: rows.iter().map(|row| classes.predicted[*row]).collect(),
                    probabilities,
                })
            }
            Self::Values(values) => Self::Values(Values {
                truth: rows.iter().map(|row| values.truth[*row]).collect(),
                predicted: rows.iter().map(|row| values.predicted[*row]).collect(),
            }),
        }
    }
}

impl Classes {
    /// What the model gave a label in a row; 0 for labels that it does not know.
    pub fn probability(&self, row: usize, label: usize) -> f64 {
        match &self.probabilities {
            Some(all) if label < self.known => f64::from(all[row * self.known + label]),
            _ => 0.0,
        }
    }

    /// A label's scores, and which rows have it.
    pub fn against_rest(&self, label: usize) -> (Vec<f64>, Vec<bool>) {
        let scores = (0..self.truth.len()).map(|row| self.probability(row, label)).collect();
        (scores, self.truth.iter().map(|truth| *truth as usize == label).collect())
    }

    fn auc(&self, label: usize) -> Option<f64> {
        let (scores, positive) = self.against_rest(label);
        roc_auc(&scores, &positive)
    }
}
