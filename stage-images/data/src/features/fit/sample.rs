//! What is asked of the training rows: one query for figures of many columns, one for each column's values. The engine groups and sorts on
//! disk what memory does not hold, and nothing here keeps more than the answers.
//!
//! Numbers are narrowed to float32 first, as the graph sees them. A missing number is NULL or NaN, a missing text NULL or empty.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use crate::engine;
use crate::profile::query::{Answers, quoted};

/// Columns that one query counts.
const AT_ONCE: usize = 50;

/// The table `current` of an engine.
pub struct Sample<'a>(pub &'a SessionContext);

/// Figures of a number column.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Rows that have a value.
    pub present: u64,
    pub infinite: u64,
    pub mean: f64,
    /// Divided by the count, as `StandardScaler` does.
    pub std: f64,
    pub min: f64,
    pub max: f64,
}

/// How often each value is there, most often first, and of equally many the first in order.
pub struct Counts<T> {
    pub values: Vec<(T, u64)>,
    /// How many different values there are, those that were not fetched too.
    pub different: u64,
}

/// A number column as doubles without missing ones.
pub fn number(name: &str) -> String {
    let double = double(name);
    format!("CASE WHEN NOT isnan({double}) THEN {double} END")
}

fn double(name: &str) -> String {
    format!("CAST(CAST({} AS REAL) AS DOUBLE)", quoted(name))
}

/// A text column without missing ones.
pub fn text(name: &str) -> String {
    format!("coalesce(CAST({} AS VARCHAR), '')", quoted(name))
}

impl Sample<'_> {
    pub async fn rows(&self) -> Result<u64, DataFusionError> {
        Ok(Answers(self.one("SELECT count(*) AS rows FROM current").await?).whole("rows"))
    }

    pub async fn figures(&self, columns: &[String]) -> Result<Vec<Figures>, DataFusionError> {
        let mut all = Vec::with_capacity(columns.len());
        for some in columns.chunks(AT_ONCE) {
            let asked = some.iter().enumerate().flat_map(|(index, name)| {
                let (value, double) = (number(name), double(name));
                [
                    format!("count({value}) AS present_{index}"),
                    format!(
                        "count(CASE WHEN abs({double}) > {:e} AND NOT isnan({double}) THEN 1 END) AS infinite_{index}",
                        f32::MAX
                    ),
                    format!("avg({value}) AS mean_{index}"),
                    format!("stddev_pop({value}) AS std_{index}"),
                    format!("min({value}) AS min_{index}"),
                    format!("max({value}) AS max_{index}"),
                ]
            });
            let asked: Vec<String> = asked.collect();
            let answers = Answers(self.one(&format!("SELECT {} FROM current", asked.join(", "))).await?);
            for index in 0..some.len() {
                let figure = |name: &str| answers.number(&format!("{name}_{index}")).unwrap_or(f64::NAN);
                all.push(Figures {
                    present: answers.whole(&format!("present_{index}")),
                    infinite: answers.whole(&format!("infinite_{index}")),
                    mean: figure("mean"),
                    std: figure("std"),
                    min: figure("min"),
                    max: figure("max"),
                });
            }
        }
        Ok(all)
    }

    /// Rows that have a text, for each column.
    pub async fn texts(&self, columns: &[String]) -> Result<Vec<u64>, DataFusionError> {
        let mut all = Vec::with_capacity(columns.len());
        for some in columns.chunks(AT_ONCE) {
            let asked =
                some.iter().enumerate().map(|(index, name)| format!("count(nullif({}, '')) AS n_{index}", text(name)));
            let asked: Vec<String> = asked.collect();
            let answers = Answers(self.one(&format!("SELECT {} FROM current", asked.join(", "))).await?);
            all.extend((0..some.len()).map(|index| answers.whole(&format!("n_{index}"))));
        }
        Ok(all)
    }

    /// Exact quantiles of a column with so many values, interpolated as NumPy does by default.
    pub async fn quantiles(&self, column: &str, present: u64, shares: &[f64]) -> Result<Vec<f64>, DataFusionError> {
        let value = number(column);
        let query = format!(
            "SELECT v, count(*) AS n FROM (SELECT {value} AS v FROM current) WHERE v IS NOT NULL GROUP BY v ORDER BY v"
        );
        let mut quantiles = Quantiles::new(present, shares);
        self.each(&query, |batch| {
            let counts = batch.column(1).as_primitive::<Int64Type>().values();
            for (value, count) in batch.column(0).as_primitive::<Float64Type>().values().iter().zip(counts) {
                quantiles.take(*value, count.unsigned_abs());
            }
        })
        .await?;
        Ok(quantiles.finish())
    }

    /// The numbers that come most often, at most so many.
    pub async fn numbers(&self, column: &str, most: usize) -> Result<Counts<f64>, DataFusionError> {
        let value = number(column);
        let all =
            format!("SELECT v, count(*) AS n FROM (SELECT {value} AS v FROM current) WHERE v IS NOT NULL GROUP BY v");
        let mut values = Vec::new();
        self.each(&format!("{all} ORDER BY n DESC, v LIMIT {most}"), |batch| {
            let counts = batch.column(1).as_primitive::<Int64Type>().values();
            let numbers = batch.column(0).as_primitive::<Float64Type>().values();
            values.extend(numbers.iter().copied().zip(counts.iter().map(|count| count.unsigned_abs())));
        })
        .await?;
        Ok(Counts { different: self.different(values.len(), most, &all).await?, values })
    }

    /// The texts that come most often, at most so many. The empty one is what is missing.
    pub async fn words(&self, column: &str, most: usize) -> Result<Counts<String>, DataFusionError> {
        let value = text(column);
        let all = format!("SELECT v, count(*) AS n FROM (SELECT {value} AS v FROM current) GROUP BY v");
        let values = self.counted(&format!("{all} ORDER BY n DESC, v LIMIT {most}")).await?;
        Ok(Counts { different: self.different(values.len(), most, &all).await?, values })
    }

    /// Texts and how often they are there, as a query has them in its first two columns.
    pub async fn counted(&self, query: &str) -> Result<Vec<(String, u64)>, DataFusionError> {
        let mut values = Vec::new();
        let mut failed = None;
        self.each(query, |batch| match cast(batch.column(0), &DataType::Utf8) {
            Ok(texts) => {
                let counts = batch.column(1).as_primitive::<Int64Type>().values();
                let texts = texts.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned());
                values.extend(texts.zip(counts.iter().map(|count| count.unsigned_abs())));
            }
            Err(error) => failed = Some(error),
        })
        .await?;
        failed.map_or(Ok(values), |error| Err(error.into()))
    }

    async fn different(&self, fetched: usize, most: usize, all: &str) -> Result<u64, DataFusionError> {
        if fetched < most {
            return Ok(fetched as u64);
        }
        Ok(Answers(self.one(&format!("SELECT count(*) AS different FROM ({all})")).await?).whole("different"))
    }

    /// The only row of a query's result.
    pub async fn one(&self, query: &str) -> Result<RecordBatch, DataFusionError> {
        let batches = engine::query(self.0, query).await?.collect().await?;
        let row = batches.into_iter().find(|batch| batch.num_rows() > 0);
        row.ok_or_else(|| DataFusionError::Internal("an aggregation gave no row".into()))
    }

    pub async fn each(&self, query: &str, mut take: impl FnMut(&RecordBatch)) -> Result<(), DataFusionError> {
        let mut stream = engine::query(self.0, query).await?.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            take(&batch?);
        }
        Ok(())
    }
}

/// Quantiles of values that come in ascending order, each with how often it is there (definition 7 of Hyndman and Fan 1996).
struct Quantiles {
    seen: u64,
    /// For each share: the rank below it, how far the quantile is above that, and the values at this rank and the next.
    asked: Vec<(u64, f64, [f64; 2])>,
    last: u64,
}

impl Quantiles {
    fn new(present: u64, shares: &[f64]) -> Self {
        let last = present.saturating_sub(1);
        let asked = shares.iter().map(|share| {
            let rank = share * last as f64;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is from 0 to the count")]
            let below = (rank.floor() as u64).min(last);
            (below, rank - below as f64, [f64::NAN; 2])
        });
        Self { seen: 0, asked: asked.collect(), last }
    }

    fn take(&mut self, value: f64, count: u64) {
        let here = self.seen..self.seen + count;
        for (below, _, values) in &mut self.asked {
            for (rank, place) in [*below, (*below + 1).min(self.last)].into_iter().zip(values) {
                if here.contains(&rank) {
                    *place = value;
                }
            }
        }
        self.seen = here.end;
    }

    fn finish(self) -> Vec<f64> {
        self.asked.into_iter().map(|(_, part, [low, high])| low + (high - low) * part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 2, 3, 10], [0, .25, .5, .9, 1])
        let mut quantiles = Quantiles::new(5, &[0.0, 0.25, 0.5, 0.9, 1.0]);
        for (value, count) in [(1.0, 1), (2.0, 2), (3.0, 1), (10.0, 1)] {
            quantiles.take(value, count);
        }
        for (found, expected) in quantiles.finish().into_iter().zip([1.0, 2.0, 2.0, 7.2, 10.0]) {
            assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        }
    }
}
