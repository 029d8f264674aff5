//! Selection: which features say nothing, say the same as another, or say nothing of the target. Every verdict is kept with its figure.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use super::sample::{number, text};
use super::{FitError, Fitter};
use crate::features::op::Kind;
use crate::features::params::{Select, Selecting};
use crate::profile::correlate::Correlations;
use crate::types::ColumnType;

/// Features that are correlated with each other: each pair has sums of its own.
const MOST_CORRELATED: usize = 1000;
const CORRELATED: f64 = 0.95;
/// Up to so many different values each is one for mutual information; more are taken together in as many bins of equal share.
const VALUES: usize = 20;

impl Fitter<'_> {
    pub(super) async fn select(&mut self, step: usize, given: &Select) -> Result<(), FitError> {
        self.check(step, given)?;
        let names = self.pick(step, "select", given.columns.as_ref(), Some(Kind::Number))?;
        self.settle(&names).await?;
        match given.select {
            Selecting::Variance => self.by_variance(&names, given.threshold.unwrap_or(0.0)).await,
            Selecting::Correlation => self.by_correlation(step, &names, given.threshold.unwrap_or(CORRELATED)).await,
            Selecting::MutualInformation => self.by_information(&names, given).await,
        }
    }

    fn check(&self, step: usize, given: &Select) -> Result<(), FitError> {
        let wrong = |option: &'static str, reason: &str| Err(FitError::Step { step, option, reason: reason.into() });
        if given.threshold.is_some_and(|threshold| !threshold.is_finite() || threshold < 0.0) {
            return wrong("threshold", "expected a number, 0 or more");
        }
        match given.select {
            Selecting::Variance | Selecting::Correlation if given.k.is_some() => {
                wrong("k", "it goes with select: mutual_information; write threshold")
            }
            Selecting::Correlation if given.threshold.is_some_and(|threshold| threshold > 1.0) => {
                wrong("threshold", "a correlation is at most 1; expected a number from 0 to 1")
            }
            Selecting::MutualInformation if given.k.is_some() == given.threshold.is_some() => {
                wrong("k", "write either k, how many features stay, or threshold, the least information in nats")
            }
            Selecting::MutualInformation if given.k == Some(0) => {
                wrong("k", "expected a number of features, 1 or more")
            }
            Selecting::MutualInformation if self.target.is_none() => wrong(
                "select",
                "mutual_information needs the parameter target: the column that the features are to tell of",
            ),
            _ => Ok(()),
        }
    }

    async fn by_variance(&mut self, names: &[String], threshold: f64) -> Result<(), FitError> {
        for (name, figures) in names.iter().zip(self.sample().figures(names).await?) {
            let variance = if figures.std.is_finite() { figures.std * figures.std } else { 0.0 };
            // What rounding leaves of no variance at all is none.
            let variance = if figures.min >= figures.max { 0.0 } else { variance };
            let kept = variance > threshold;
            let than = if kept { "above" } else { "not above" };
            self.judge(
                name,
                "variance",
                Some(variance),
                kept,
                format!("its variance {variance:.6} is {than} {threshold}"),
            );
            if !kept {
                self.remove(name);
            }
        }
        Ok(())
    }

    async fn by_correlation(&mut self, step: usize, names: &[String], threshold: f64) -> Result<(), FitError> {
        if names.len() > MOST_CORRELATED {
            let found = names.len();
            let reason = format!("{found} features have too many pairs, and {MOST_CORRELATED} is the most; name fewer");
            return Err(FitError::Step { step, option: "columns", reason });
        }
        let means = self.sample().figures(names).await?.iter().map(|figures| figures.mean).collect();
        let mut correlations = Correlations::new(means);
        let values: Vec<String> =
            names.iter().enumerate().map(|(index, name)| format!("{} AS v{index}", number(name))).collect();
        self.sample()
            .each(&format!("SELECT {} FROM current", values.join(", ")), |batch| {
                let columns: Vec<Float64Array> =
                    batch.columns().iter().map(|column| column.as_primitive().clone()).collect();
                correlations.take(&columns);
            })
            .await?;
        let matrix = correlations.finish(names.to_vec(), 0);
        let mut kept: Vec<usize> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let strongest = kept
                .iter()
                .filter_map(|other| matrix.values[index][*other].map(|value| (*other, value)))
                .max_by(|(_, one), (_, other)| one.abs().total_cmp(&other.abs()));
            match strongest {
                Some((other, value)) if value.abs() > threshold => {
                    let reason = format!("its correlation with {} is {value:.4}, beyond {threshold}", names[other]);
                    self.judge(name, "correlation", Some(value), false, reason);
                    self.remove(name);
                }
                strongest => {
                    let reason = strongest.map_or("there is no other before it".to_owned(), |(other, value)| {
                        format!("its strongest correlation with one before it is {value:.4}, with {}", names[other])
                    });
                    self.judge(name, "correlation", strongest.map(|(_, value)| value), true, reason);
                    kept.push(index);
                }
            }
        }
        Ok(())
    }

    async fn by_information(&mut self, names: &[String], given: &Select) -> Result<(), FitError> {
        let Some((target, of)) = self.target.clone() else { return Ok(()) };
        let label = match of {
            ColumnType::String => format!("nullif({}, '')", text(&target)),
            ColumnType::Integer | ColumnType::Number | ColumnType::Boolean => self.binned(&target).await?,
            ColumnType::Date | ColumnType::Timestamp => text(&target),
        };
        let mut measured: Vec<(String, f64)> = Vec::new();
        for name in names {
            let feature = self.binned(name).await?;
            // What is missing is a value of its own.
            let rows = format!("SELECT coalesce({feature}, 'missing') AS f, {label} AS t FROM current");
            let mut counts = Vec::new();
            self.sample()
                .each(
                    &format!(
                        "SELECT f, t, count(*) AS n FROM ({rows}) WHERE t IS NOT NULL GROUP BY f, t ORDER BY f, t"
                    ),
                    |batch| {
                        let [f, t] = [0, 1].map(|index| cast(batch.column(index), &DataType::Utf8).ok());
                        let (Some(f), Some(t)) = (f, t) else { return };
                        let cells = f.as_string::<i32>().iter().zip(t.as_string::<i32>().iter());
                        for ((f, t), n) in cells.zip(batch.column(2).as_primitive::<Int64Type>().values()) {
                            counts.push((
                                f.unwrap_or_default().to_owned(),
                                t.unwrap_or_default().to_owned(),
                                *n as f64,
                            ));
                        }
                    },
                )
                .await?;
            measured.push((name.clone(), information(&counts)));
        }
        let mut order: Vec<usize> = (0..measured.len()).collect();
        // Of equal ones the first stays.
        order.sort_by(|one, other| measured[*other].1.total_cmp(&measured[*one].1).then(one.cmp(other)));
        let place: BTreeMap<usize, usize> = order.iter().enumerate().map(|(place, index)| (*index, place)).collect();
        for (index, (name, value)) in measured.iter().enumerate() {
            let place = place[&index] + 1;
            let (kept, reason) = match (given.k, given.threshold) {
                (Some(k), _) => (
                    place <= k as usize,
                    format!("its {value:.4} nats are number {place} of {}, and k is {k}", names.len()),
                ),
                (None, threshold) => {
                    let threshold = threshold.unwrap_or_default();
                    let kept = *value >= threshold;
                    let than = if kept { "not below" } else { "below" };
                    (kept, format!("its {value:.4} nats are {than} {threshold}"))
                }
            };
            self.judge(name, "mutual_information", Some(*value), kept, reason);
            if !kept {
                self.remove(name);
            }
        }
        Ok(())
    }

    /// A number column as text: its values where there are few, else the bin of equal share. Missing is NULL.
    async fn binned(&self, name: &str) -> Result<String, FitError> {
        let value = number(name);
        if self.sample().numbers(name, VALUES + 1).await?.values.len() <= VALUES {
            return Ok(format!("CAST({value} AS VARCHAR)"));
        }
        let present = self.sample().figures(&[name.to_owned()]).await?[0].present;
        let shares: Vec<f64> = (1..VALUES).map(|bin| bin as f64 / VALUES as f64).collect();
        let edges = self.sample().quantiles(name, present, &shares).await?;
        let bins: Vec<String> = edges
            .iter()
            .enumerate()
            .map(|(bin, edge)| format!("WHEN {value} < CAST({edge:e} AS DOUBLE) THEN '{bin}'"))
            .collect();
        Ok(format!("CASE WHEN {value} IS NULL THEN NULL {} ELSE 'last' END", bins.join(" ")))
    }
}

/// Mutual information of a table of counts, in nats, as `mutual_info_score`.
fn information(counts: &[(String, String, f64)]) -> f64 {
    let (mut rows, mut columns) = (BTreeMap::<&str, f64>::new(), BTreeMap::<&str, f64>::new());
    for (row, column, count) in counts {
        *rows.entry(row).or_default() += count;
        *columns.entry(column).or_default() += count;
    }
    let all: f64 = rows.values().sum();
    let cells = counts
        .iter()
        .map(|(row, column, count)| count / all * (count * all / (rows[row.as_str()] * columns[column.as_str()])).ln());
    cells.sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: &str, column: &str, count: f64) -> (String, String, f64) {
        (row.into(), column.into(), count)
    }

    #[test]
    fn mutual_information_is_that_of_scikit_learn() {
        // mutual_info_score([0]*4+[1]*4, [0,0,0,1,1,1,1,0])
        let found = information(&[cell("0", "0", 3.0), cell("0", "1", 1.0), cell("1", "0", 1.0), cell("1", "1", 3.0)]);
        assert!((found - 0.130_812_035_941_137).abs() < 1e-12, "{found}");
        // All of a coin's.
        let all = information(&[cell("a", "x", 5.0), cell("b", "y", 5.0)]);
        assert!((all - 2.0_f64.ln()).abs() < 1e-12);
        assert!(information(&[cell("a", "x", 5.0), cell("b", "x", 5.0)]).abs() < 1e-12);
    }
}
